//! A window that moves on by slices: what is counted now, and what was counted in the slices before.

use std::collections::VecDeque;
use std::sync::Arc;

use super::Counted;
use super::summary::{Frozen, Summary};

/// How far back is looked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Window {
    /// A minute, and up to a slice of ten seconds more.
    Minute,
    /// An hour, and up to a slice of five minutes more.
    Hour,
}

impl Window {
    /// The seconds of a slice.
    fn slice(self) -> u64 {
        match self {
            Self::Minute => 10,
            Self::Hour => 300,
        }
    }

    /// How many slices are looked at besides the one that is not over.
    fn slices(self) -> u64 {
        match self {
            Self::Minute => 6,
            Self::Hour => 12,
        }
    }

    /// How long it is, so many seconds after the beginning.
    pub(super) fn seconds(self, now: u64) -> u64 {
        let slice = self.slice();
        now.min(self.slices() * slice + now % slice)
    }

    /// The name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Minute => "minute",
            Self::Hour => "hour",
        }
    }
}

/// What was counted in the last hour.
#[derive(Debug)]
pub(super) struct Sliding {
    live: Summary<Counted>,
    minute: Slices,
    /// The slices of the minute that are over, since the slice of the hour began.
    since: Summary<Counted>,
    hour: Slices,
}

/// Slices that are over, by their numbers.
#[derive(Debug)]
struct Slices {
    window: Window,
    /// The one that is not over.
    number: u64,
    over: VecDeque<(u64, Arc<Frozen<Counted>>)>,
}

impl Sliding {
    /// With so many counters for each slice.
    pub(super) fn new(size: usize) -> Self {
        Self {
            live: Summary::new(size),
            minute: Slices::new(Window::Minute),
            since: Summary::new(size),
            hour: Slices::new(Window::Hour),
        }
    }

    /// What is counted now, so many seconds after the beginning.
    pub(super) fn live(&mut self, now: u64) -> &mut Summary<Counted> {
        self.go_on(now);
        &mut self.live
    }

    /// The slices of a window.
    pub(super) fn parts(&mut self, window: Window, now: u64) -> Vec<Arc<Frozen<Counted>>> {
        self.go_on(now);
        let live = self.live.copy();
        let (slices, since) = match window {
            Window::Minute => (&self.minute, None),
            Window::Hour => (&self.hour, Some(self.since.copy())),
        };
        let over = slices.over.iter().map(|(_, slice)| Arc::clone(slice));
        over.chain([live]).chain(since).collect()
    }

    /// Ends the slices that are over by now.
    fn go_on(&mut self, now: u64) {
        if !self.minute.is_over(now) {
            return;
        }
        // Slices of an hour end with one of a minute.
        let slice = Arc::new(self.live.take());
        self.since.absorb(&slice);
        self.minute.push(slice, now);
        if self.hour.is_over(now) {
            let slice = Arc::new(self.since.take());
            self.hour.push(slice, now);
        }
    }
}

impl Slices {
    fn new(window: Window) -> Self {
        Self {
            window,
            number: 0,
            over: VecDeque::new(),
        }
    }

    fn is_over(&self, now: u64) -> bool {
        now / self.window.slice() > self.number
    }

    /// Puts the slice that is over to the others, and forgets those that are too old.
    fn push(&mut self, slice: Arc<Frozen<Counted>>, now: u64) {
        self.over.push_back((self.number, slice));
        self.number = now / self.window.slice();
        let first = self.number.saturating_sub(self.window.slices());
        self.over.retain(|(number, _)| *number >= first);
    }
}
