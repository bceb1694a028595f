//! The interactive screen: queries periodically, reacts to keys, and always restores the terminal.

use std::collections::VecDeque;
use std::future::ready;
use std::io::{self, Write as _};
use std::time::Duration;

use crossterm::event::{Event, EventStream, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use futures_util::StreamExt as _;
use ratatui::DefaultTerminal;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{MissedTickBehavior, interval};

use super::client::Client;
use super::report::{Report, View};
use super::sample::{Sample, Window};
use super::screen::{Colors, Screen};
use crate::harmless::plain;

/// An action of the user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    Quit,
    Look(Window),
    Sort,
    Pause,
    Ask,
    /// Draw again: the size has changed, or the key has no meaning.
    Draw,
}

/// State of the screen.
struct Watch {
    view: View,
    before: Option<Sample>,
    now: Sample,
    report: Report,
    error_line: Option<String>,
    is_paused: bool,
    colors: Colors,
    /// Time between two periodic queries.
    every: Duration,
    /// Actions that arrived during a query.
    pending: VecDeque<Action>,
}

/// Maximum number of pending actions; further ones, as from a key that is held down, are dropped.
const MAX_PENDING: usize = 16;

/// Restores the terminal when it is dropped.
struct OnScreen(DefaultTerminal);

impl OnScreen {
    /// Enters the alternate screen; a panic leaves it as well.
    fn enter() -> io::Result<Self> {
        Ok(Self(ratatui::try_init()?))
    }
}

impl Drop for OnScreen {
    fn drop(&mut self) {
        // Errors are ignored: the terminal may be gone.
        let _ = self.0.show_cursor();
        let _ = ratatui::try_restore();
        let _ = io::stdout().flush();
    }
}

/// Shows a server until the user quits.
pub(super) async fn watch(
    client: &Client,
    view: View,
    every: Duration,
    colors: Colors,
) -> anyhow::Result<()> {
    // An error in the first query is printed like that of any command.
    let now = Sample::ask(client, view.window).await?;
    let report = Report::new(&view, None, &now);
    let mut watch = Watch {
        view,
        before: None,
        now,
        report,
        error_line: None,
        is_paused: false,
        colors,
        every,
        pending: VecDeque::new(),
    };
    let (mut terminate, mut interrupt, mut hang_up) = (
        signal(SignalKind::terminate())?,
        signal(SignalKind::interrupt())?,
        signal(SignalKind::hangup())?,
    );
    let mut screen = OnScreen::enter()?;
    let mut keys = EventStream::new();
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks.reset();
    loop {
        screen.0.draw(|frame| watch.screen().draw(frame))?;
        let waiting = watch.pending.pop_front();
        let action = tokio::select! {
            biased;
            action = ready(waiting.unwrap_or(Action::Draw)), if waiting.is_some() => action,
            key = keys.next() => match key {
                Some(event) => action(&event?),
                None => Action::Quit,
            },
            _ = ticks.tick() => match watch.is_paused {
                true => Action::Draw,
                false => Action::Ask,
            },
            _ = terminate.recv() => Action::Quit,
            _ = interrupt.recv() => Action::Quit,
            _ = hang_up.recv() => Action::Quit,
        };
        if action == Action::Quit {
            return Ok(());
        }
        if !watch.perform(client, action, &mut keys).await? {
            return Ok(());
        }
    }
}

/// Returns the action of a terminal event.
fn action(event: &Event) -> Action {
    let Event::Key(KeyEvent {
        code,
        modifiers,
        kind: KeyEventKind::Press | KeyEventKind::Repeat,
        ..
    }) = event
    else {
        return Action::Draw;
    };
    let is_control = modifiers.contains(KeyModifiers::CONTROL);
    match code {
        KeyCode::Char('c' | 'd') if is_control => Action::Quit,
        _ if is_control => Action::Draw,
        KeyCode::Char('q' | 'Q') | KeyCode::Esc => Action::Quit,
        KeyCode::Char('m' | 'M') => Action::Look(Window::Minute),
        KeyCode::Char('h' | 'H') => Action::Look(Window::Hour),
        KeyCode::Char('s' | 'S') => Action::Sort,
        KeyCode::Char('p' | 'P' | ' ') => Action::Pause,
        KeyCode::Char('r' | 'R') => Action::Ask,
        _ => Action::Draw,
    }
}

impl Watch {
    fn screen(&self) -> Screen<'_> {
        Screen {
            report: &self.report,
            error_line: self.error_line.as_deref(),
            is_paused: self.is_paused,
            colors: self.colors,
        }
    }

    /// Performs an action; returns whether to continue.
    async fn perform(
        &mut self,
        client: &Client,
        action: Action,
        keys: &mut EventStream,
    ) -> anyhow::Result<bool> {
        match action {
            Action::Quit => return Ok(false),
            Action::Draw => return Ok(true),
            Action::Pause => {
                self.is_paused = !self.is_paused;
                return Ok(true);
            }
            Action::Sort => {
                self.view.sort = self.view.sort.next();
                self.report = Report::new(&self.view, self.before.as_ref(), &self.now);
                return Ok(true);
            }
            Action::Look(window) => self.view.window = window,
            Action::Ask => {}
        }
        let query = Sample::ask(client, self.view.window);
        tokio::pin!(query);
        // Quitting does not wait for a slow server.
        let answer = loop {
            tokio::select! {
                answer = &mut query => break answer,
                key = keys.next() => match key.transpose()?.as_ref().map(self::action) {
                    None | Some(Action::Quit) => return Ok(false),
                    Some(action) if self.pending.len() < MAX_PENDING => self.pending.push_back(action),
                    Some(_) => {}
                },
            }
        };
        self.show(answer);
        Ok(true)
    }

    /// Shows the result of a query; after an error, the last report stays on the screen.
    fn show(&mut self, answer: anyhow::Result<Sample>) {
        let reported = answer.map(|now| {
            // A rate over a very short time is meaningless, so a manual refresh keeps the earlier sample.
            let half = self.every.as_secs_f64() / 2.0;
            let is_moment = now
                .seconds_since(&self.now)
                .is_some_and(|seconds| seconds < half);
            let before = match is_moment {
                true => self.before.take(),
                false => Some(self.now.clone()),
            };
            let report = Report::new(&self.view, before.as_ref(), &now);
            (before, now, report)
        });
        match reported {
            Ok((before, now, report)) => {
                (self.before, self.now, self.report) = (before, now, report);
                self.error_line = None;
            }
            Err(error) => {
                let error = plain(&format!("{error:#}"));
                self.error_line = Some(format!("outdated: {error}"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_match_the_last_line() {
        let press = |code, modifiers| action(&Event::Key(KeyEvent::new(code, modifiers)));
        let key = |char| press(KeyCode::Char(char), KeyModifiers::NONE);
        assert_eq!(key('q'), Action::Quit);
        assert_eq!(press(KeyCode::Esc, KeyModifiers::NONE), Action::Quit);
        assert_eq!(
            press(KeyCode::Char('c'), KeyModifiers::CONTROL),
            Action::Quit
        );
        assert_eq!(key('m'), Action::Look(Window::Minute));
        assert_eq!(key('h'), Action::Look(Window::Hour));
        assert_eq!(
            (key('s'), key('p'), key('r')),
            (Action::Sort, Action::Pause, Action::Ask)
        );
        assert_eq!(key('x'), Action::Draw);
        assert_eq!(action(&Event::Resize(80, 24)), Action::Draw);
    }
}
