//! The screen that goes on: asks again and again, obeys keys, and leaves the terminal as it was, whichever way it ends.

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
use super::screen::{Colours, Screen};
use crate::harmless::plain;

/// What a key means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wish {
    Quit,
    Look(Window),
    Sort,
    Pause,
    Ask,
    /// The screen has another size, or the key means nothing: draw.
    Draw,
}

/// What is known so far.
struct Watch {
    view: View,
    before: Option<Sample>,
    now: Sample,
    report: Report,
    trouble: Option<String>,
    is_paused: bool,
    colours: Colours,
    /// Between two questions that nobody asked for.
    every: Duration,
    /// What was wished while the server was being asked.
    wishes: VecDeque<Wish>,
}

/// The most wishes that wait; who holds a key down means no more than that.
const MAX_WISHES: usize = 16;

/// Leaves the screen when it is dropped.
struct OnScreen(DefaultTerminal);

impl OnScreen {
    /// Enters the screen; a panic leaves it, too.
    fn enter() -> io::Result<Self> {
        Ok(Self(ratatui::try_init()?))
    }
}

impl Drop for OnScreen {
    fn drop(&mut self) {
        // A terminal that is gone need not be restored.
        let _ = self.0.show_cursor();
        let _ = ratatui::try_restore();
        let _ = io::stdout().flush();
    }
}

/// Shows what a server does until somebody quits.
pub(super) async fn watch(
    client: &Client,
    view: View,
    every: Duration,
    colours: Colours,
) -> anyhow::Result<()> {
    // What is wrong from the start is told as by any command.
    let now = Sample::ask(client, view.window).await?;
    let report = Report::new(&view, None, &now);
    let mut watch = Watch {
        view,
        before: None,
        now,
        report,
        trouble: None,
        is_paused: false,
        colours,
        every,
        wishes: VecDeque::new(),
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
        let waiting = watch.wishes.pop_front();
        let wish = tokio::select! {
            biased;
            wish = ready(waiting.unwrap_or(Wish::Draw)), if waiting.is_some() => wish,
            key = keys.next() => match key {
                Some(event) => wish(&event?),
                None => Wish::Quit,
            },
            _ = ticks.tick() => match watch.is_paused {
                true => Wish::Draw,
                false => Wish::Ask,
            },
            _ = terminate.recv() => Wish::Quit,
            _ = interrupt.recv() => Wish::Quit,
            _ = hang_up.recv() => Wish::Quit,
        };
        if wish == Wish::Quit {
            return Ok(());
        }
        if !watch.fulfil(client, wish, &mut keys).await? {
            return Ok(());
        }
    }
}

/// What an event of the terminal means.
fn wish(event: &Event) -> Wish {
    let Event::Key(KeyEvent {
        code,
        modifiers,
        kind: KeyEventKind::Press | KeyEventKind::Repeat,
        ..
    }) = event
    else {
        return Wish::Draw;
    };
    let is_control = modifiers.contains(KeyModifiers::CONTROL);
    match code {
        KeyCode::Char('c' | 'd') if is_control => Wish::Quit,
        _ if is_control => Wish::Draw,
        KeyCode::Char('q' | 'Q') | KeyCode::Esc => Wish::Quit,
        KeyCode::Char('m' | 'M') => Wish::Look(Window::Minute),
        KeyCode::Char('h' | 'H') => Wish::Look(Window::Hour),
        KeyCode::Char('s' | 'S') => Wish::Sort,
        KeyCode::Char('p' | 'P' | ' ') => Wish::Pause,
        KeyCode::Char('r' | 'R') => Wish::Ask,
        _ => Wish::Draw,
    }
}

impl Watch {
    fn screen(&self) -> Screen<'_> {
        Screen {
            report: &self.report,
            trouble: self.trouble.as_deref(),
            is_paused: self.is_paused,
            colours: self.colours,
        }
    }

    /// Does what is wished; whether to go on.
    async fn fulfil(
        &mut self,
        client: &Client,
        wish: Wish,
        keys: &mut EventStream,
    ) -> anyhow::Result<bool> {
        match wish {
            Wish::Quit => return Ok(false),
            Wish::Draw => return Ok(true),
            Wish::Pause => {
                self.is_paused = !self.is_paused;
                return Ok(true);
            }
            Wish::Sort => {
                self.view.sort = self.view.sort.next();
                self.report = Report::new(&self.view, self.before.as_ref(), &self.now);
                return Ok(true);
            }
            Wish::Look(window) => self.view.window = window,
            Wish::Ask => {}
        }
        let asking = Sample::ask(client, self.view.window);
        tokio::pin!(asking);
        // Who wants to leave does not wait for a server that is slow.
        let answer = loop {
            tokio::select! {
                answer = &mut asking => break answer,
                key = keys.next() => match key.transpose()?.as_ref().map(self::wish) {
                    None | Some(Wish::Quit) => return Ok(false),
                    Some(wish) if self.wishes.len() < MAX_WISHES => self.wishes.push_back(wish),
                    Some(_) => {}
                },
            }
        };
        self.hear(answer);
        Ok(true)
    }

    /// Takes an answer over, or why there is none: what was known stays on the screen then.
    fn hear(&mut self, answer: anyhow::Result<Sample>) {
        let reported = answer.map(|now| {
            // Over a moment, a rate says nothing: who asks at once is told of the time before, too.
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
                self.trouble = None;
            }
            Err(error) => {
                let error = plain(&format!("{error:#}"));
                self.trouble = Some(format!("what is below is old: {error}"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_mean_what_the_last_line_says() {
        let press = |code, modifiers| wish(&Event::Key(KeyEvent::new(code, modifiers)));
        let key = |char| press(KeyCode::Char(char), KeyModifiers::NONE);
        assert_eq!(key('q'), Wish::Quit);
        assert_eq!(press(KeyCode::Esc, KeyModifiers::NONE), Wish::Quit);
        assert_eq!(press(KeyCode::Char('c'), KeyModifiers::CONTROL), Wish::Quit);
        assert_eq!(key('m'), Wish::Look(Window::Minute));
        assert_eq!(key('h'), Wish::Look(Window::Hour));
        assert_eq!(
            (key('s'), key('p'), key('r')),
            (Wish::Sort, Wish::Pause, Wish::Ask)
        );
        assert_eq!(key('x'), Wish::Draw);
        assert_eq!(wish(&Event::Resize(80, 24)), Wish::Draw);
    }
}
