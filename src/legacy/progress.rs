//! How far a run is, for whoever watches.

use indicatif::{ProgressBar, ProgressStyle};

/// A bar with rate and time left, on standard error; nothing where nobody watches.
pub struct Progress {
    bar: ProgressBar,
}

impl Progress {
    /// A bar that people see.
    #[must_use]
    pub fn shown() -> Self {
        Self { bar: ProgressBar::no_length() }
    }

    /// No bar.
    #[must_use]
    pub fn hidden() -> Self {
        Self { bar: ProgressBar::hidden() }
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
