//! How far a run is, for whoever watches.

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use indicatif::{ProgressBar, ProgressStyle};

/// A bar with rate and time left, on standard error; nothing where nobody watches.
pub struct Progress {
    bar: ProgressBar,
    /// The parts of the run and when each began.
    parts: Mutex<Vec<(String, Instant)>>,
}

impl Progress {
    /// A bar that people see.
    #[must_use]
    pub fn shown() -> Self {
        Self { bar: ProgressBar::no_length(), parts: Mutex::default() }
    }

    /// No bar.
    #[must_use]
    pub fn hidden() -> Self {
        Self { bar: ProgressBar::hidden(), parts: Mutex::default() }
    }

    /// Begins a part of the run that has so many things to do.
    pub(super) fn part(&self, what: &str, things: u64) {
        let template = "{msg:<22} {wide_bar} {pos}/{len}  {per_sec}  {eta} left";
        if let Ok(style) = ProgressStyle::with_template(template) {
            self.bar.set_style(style);
        }
        self.bar.reset();
        self.bar.set_length(things);
        self.bar.set_position(0);
        self.bar.set_message(what.to_owned());
        self.parts.lock().unwrap_or_else(PoisonError::into_inner).push((what.to_owned(), Instant::now()));
    }

    /// How long each part took so far, in milliseconds.
    pub(super) fn parts(&self) -> Vec<(String, i64)> {
        let parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        let ends = parts.iter().skip(1).map(|(_, begun)| *begun).chain([Instant::now()]);
        let took = |begun: &Instant, end: Instant| i64::try_from((end - *begun).as_millis()).unwrap_or(i64::MAX);
        parts.iter().zip(ends).map(|((what, begun), end)| (what.clone(), took(begun, end))).collect()
    }

    /// So many things were done.
    pub(super) fn done(&self, things: u64) {
        self.bar.inc(things);
    }

    pub(super) fn planned(&self, rows: usize) {
        self.bar.inc(u64::try_from(rows).unwrap_or(0));
    }

    /// Takes the bar away.
    pub(super) fn end(&self) {
        self.bar.finish_and_clear();
    }
}
