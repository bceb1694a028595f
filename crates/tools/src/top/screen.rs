//! Draws the report on a screen of any size: alarms in red, facts, the rules, and below them the hottest and the most
//! denied buckets, side by side if the screen is wide.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Text};
use ratatui::widgets::{Cell, Paragraph, Row, Table as Grid};

use super::report::{Align, Report, Table};

/// Minimum width for two tables side by side.
const WIDE: u16 = 130;

/// Minimum width for all columns of a table.
const NARROW: u16 = 100;

/// Whether the screen has colors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Colors {
    Some,
    None,
}

impl Colors {
    fn alarm(self) -> Style {
        match self {
            Self::Some => Style::new()
                .fg(Color::White)
                .bg(Color::Red)
                .add_modifier(Modifier::BOLD),
            Self::None => Style::new().add_modifier(Modifier::REVERSED),
        }
    }

    fn title(self) -> Style {
        let bold = Style::new().add_modifier(Modifier::BOLD);
        match self {
            Self::Some => bold.fg(Color::Cyan),
            Self::None => bold,
        }
    }
}

/// The contents of a screen.
#[derive(Debug)]
pub(super) struct Screen<'s> {
    pub(super) report: &'s Report,
    /// Error of the last query.
    pub(super) error_line: Option<&'s str>,
    pub(super) is_paused: bool,
    pub(super) colors: Colors,
}

impl Screen<'_> {
    /// Draws the whole frame.
    pub(super) fn draw(&self, frame: &mut Frame<'_>) {
        let Self { report, colors, .. } = *self;
        let alarms: Vec<Line<'_>> = self
            .error_line
            .into_iter()
            .chain(report.alarms.iter().map(String::as_str))
            .map(|alarm| Line::styled(format!(" {alarm} "), colors.alarm()))
            .collect();
        let facts: Vec<Line<'_>> = report
            .facts
            .iter()
            .map(|fact| Line::raw(fact.as_str()))
            .collect();
        let [alarms_at, facts_at, tables_at, keys_at] = Layout::vertical([
            Constraint::Length(height(alarms.len())),
            Constraint::Length(height(facts.len())),
            Constraint::Fill(1),
            Constraint::Length(1),
        ])
        .areas(frame.area());
        frame.render_widget(Paragraph::new(alarms), alarms_at);
        frame.render_widget(Paragraph::new(facts), facts_at);
        self.draw_tables(frame, tables_at);
        frame.render_widget(self.keys(), keys_at);
    }

    fn draw_tables(&self, frame: &mut Frame<'_>, area: Rect) {
        let report = self.report;
        if area.width >= WIDE {
            let [rules, below] =
                Layout::vertical([Constraint::Fill(1), Constraint::Fill(1)]).areas(area);
            self.draw_table(frame, &report.rules, rules);
            let tables = [&report.hottest, &report.denied];
            self.draw_all(
                frame,
                Layout::horizontal,
                tables.into_iter().chain(&report.would_deny),
                below,
            );
            return;
        }
        let tables = [&report.rules, &report.hottest, &report.denied];
        let tables = tables.into_iter().chain(&report.would_deny);
        self.draw_all(frame, Layout::vertical, tables, area);
    }

    /// Draws tables in equal parts of an area.
    fn draw_all<'t>(
        &self,
        frame: &mut Frame<'_>,
        layout: impl Fn(Vec<Constraint>) -> Layout,
        tables: impl Iterator<Item = &'t Table>,
        area: Rect,
    ) {
        let tables: Vec<_> = tables.collect();
        let mut parts = layout(vec![Constraint::Fill(1); tables.len()]);
        if area.width >= WIDE {
            parts = parts.spacing(2);
        }
        for (table, &area) in tables.into_iter().zip(parts.split(area).iter()) {
            self.draw_table(frame, table, area);
        }
    }

    fn draw_table(&self, frame: &mut Frame<'_>, table: &Table, area: Rect) {
        let [title, body] =
            Layout::vertical([Constraint::Length(1), Constraint::Fill(1)]).areas(area);
        frame.render_widget(
            Line::styled(table.title.as_str(), self.colors.title()),
            title,
        );
        // The second column is the least important one.
        let is_narrow = area.width < NARROW;
        let is_here = |at: &usize| !(is_narrow && *at == 1);
        let here: Vec<usize> = (0..table.columns.len()).filter(is_here).collect();
        let widths = here.iter().map(|&at| match table.columns[at].width {
            Some(width) => Constraint::Length(width),
            None => Constraint::Fill(1),
        });
        let cell = |at: usize, text: &str| {
            let text = Text::raw(text.to_owned());
            Cell::from(match table.columns[at].align {
                Align::Left => text.left_aligned(),
                Align::Right => text.right_aligned(),
            })
        };
        let head = Row::new(here.iter().map(|&at| cell(at, table.columns[at].name)));
        // Rows outside the screen are skipped.
        let seen = table.rows.iter().take(usize::from(body.height));
        let rows = seen.map(|row| Row::new(here.iter().map(|&at| cell(at, &row[at]))));
        let head = head.style(Style::new().add_modifier(Modifier::UNDERLINED));
        frame.render_widget(
            Grid::new(rows, widths.collect::<Vec<_>>()).header(head),
            body,
        );
    }

    fn keys(&self) -> Line<'static> {
        let paused = if self.is_paused { "  PAUSED" } else { "" };
        Line::raw(format!(
            "q quit  m minute  h hour  s sort  p pause  r refresh{paused}"
        ))
    }
}

fn height(lines: usize) -> u16 {
    u16::try_from(lines).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::super::report::tests::{sample, view};
    use super::*;

    /// The lines of a screen of this size, and whether it has colors.
    fn drawn(width: u16, height: u16, colors: Colors) -> (Vec<String>, bool) {
        let report = Report::new(&view(), Some(&sample(100, 0, 0)), &sample(102, 100, 8));
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        let screen = Screen {
            report: &report,
            error_line: Some("no answer"),
            is_paused: true,
            colors,
        };
        terminal.draw(|frame| screen.draw(frame)).unwrap();
        let buffer = terminal.backend().buffer();
        let is_colored = buffer
            .content()
            .iter()
            .any(|cell| cell.fg != Color::Reset || cell.bg != Color::Reset);
        let lines = buffer.content().chunks(usize::from(width));
        let lines = lines.map(|line| line.iter().map(|cell| cell.symbol()).collect::<String>());
        (
            lines.map(|line| line.trim_end().to_owned()).collect(),
            is_colored,
        )
    }

    #[test]
    fn eighty_by_twenty_four_shows_everything() {
        let (lines, is_colored) = drawn(80, 24, Colors::Some);
        let text = lines.join("\n");
        assert!(is_colored);
        assert_eq!(lines[0], " no answer");
        assert!(
            lines[1].starts_with(" degraded: Redis is unavailable"),
            "{text}"
        );
        assert!(
            lines[2].starts_with(" the latest configuration was rejected"),
            "{text}"
        );
        assert!(lines[3].starts_with("ratekeeper 0.1.0 on host"), "{text}");
        for shown in [
            "rules: 2, by rate",
            "shop.client",
            "hottest of the last minute: 1,234,567 hits in total, plus or minus 3",
            "rk:shop|client=\\u{9b}2J",
            "most denied of the last minute",
            "rk:shop|client=x",
        ] {
            assert!(text.contains(shown), "{shown}\n{text}");
        }
        assert_eq!(
            lines[23],
            "q quit  m minute  h hour  s sort  p pause  r refresh  PAUSED"
        );
        let rule = lines
            .iter()
            .find(|line| line.starts_with("shop.client"))
            .unwrap();
        assert!(
            rule.split_whitespace()
                .eq(["shop.client", "50", "4.0", "100", "8"]),
            "{rule}"
        );
    }

    #[test]
    fn wide_screens_have_tables_side_by_side() {
        let (lines, _) = drawn(160, 40, Colors::Some);
        let below = lines
            .iter()
            .find(|line| line.starts_with("hottest"))
            .unwrap();
        assert!(below.contains("most denied"), "{below}");
        assert!(
            lines.iter().any(|line| line.contains("token bucket")),
            "{lines:?}"
        );
    }

    #[test]
    fn no_size_is_too_small_and_colors_are_not_needed() {
        for (width, height) in [(1, 1), (10, 3), (80, 5), (300, 2), (40, 100)] {
            let (lines, is_colored) = drawn(width, height, Colors::None);
            assert_eq!(lines.len(), usize::from(height));
            assert!(!is_colored);
        }
    }
}
