//! Where time comes in: nothing else asks the system for the hour.
//!
//! Times are cut to the microsecond, which is what `PostgreSQL` keeps: a time reads back as it was written.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, SubsecRound, Utc};
use uuid::{NoContext, Timestamp, Uuid};

/// Tells the time: the system's, or one that a test moves by hand.
#[derive(Debug, Clone)]
pub struct Clock {
    source: Source,
}

#[derive(Debug, Clone)]
enum Source {
    System,
    /// Microseconds since 1970; shared by all clones.
    Manual(Arc<AtomicI64>),
}

impl Clock {
    /// The clock of the machine.
    #[must_use]
    pub fn system() -> Self {
        Self { source: Source::System }
    }

    /// A clock that stands at `start` until it is moved.
    #[must_use]
    pub fn manual(start: DateTime<Utc>) -> Self {
        Self { source: Source::Manual(Arc::new(AtomicI64::new(start.timestamp_micros()))) }
    }

    /// The time, to the microsecond.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this is the edge where time comes in")]
    pub fn now(&self) -> DateTime<Utc> {
        match &self.source {
            Source::System => Utc::now().trunc_subsecs(6),
            Source::Manual(micros) => {
                DateTime::from_timestamp_micros(micros.load(Ordering::SeqCst)).unwrap_or_default()
            }
        }
    }

    /// Moves a manual clock and all its clones forward; a system clock goes its own way.
    pub fn advance(&self, by: Duration) {
        if let Source::Manual(micros) = &self.source {
            micros.fetch_add(i64::try_from(by.as_micros()).unwrap_or(i64::MAX), Ordering::SeqCst);
        }
    }
}

/// The last id given out, so that the next one is greater.
static LAST: Mutex<u128> = Mutex::new(0);

/// The bits of a version 7 UUID below its milliseconds.
const BELOW_MILLISECONDS: u32 = 80;

/// The low bits of a UUID that hold nothing but chance, whatever its version.
const CHANCE: u128 = (1 << 62) - 1;

/// A `UUIDv7` of that time (RFC 9562), no secret; within the process each is greater than the one before, as long as
/// time does not go backwards.
#[must_use]
pub fn new_event_id(now: DateTime<Utc>) -> Uuid {
    let milliseconds = u128::try_from(now.timestamp_millis()).unwrap_or(0);
    let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
    // Within a millisecond, chance alone would not rise, and costs a call of the kernel: count on from the last one
    // instead. The version and variant bits stay as they are unless 2^62 ids are asked for in that millisecond.
    if milliseconds == *last >> BELOW_MILLISECONDS && *last & CHANCE != CHANCE {
        *last += 1;
    } else {
        let seconds = u64::try_from(now.timestamp()).unwrap_or(0);
        *last = Uuid::new_v7(Timestamp::from_unix(NoContext, seconds, now.timestamp_subsec_nanos())).as_u128();
    }
    Uuid::from_u128(*last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manual_clock_stands_until_it_is_moved_and_takes_its_clones_along() {
        let start = DateTime::from_timestamp_micros(1_700_000_000_123_456).unwrap();
        let clock = Clock::manual(start);
        let other = clock.clone();
        assert_eq!(other.now(), start);
        clock.advance(Duration::from_secs(60));
        assert_eq!(other.now(), start + chrono::TimeDelta::seconds(60));
    }

    #[test]
    fn the_system_clock_is_cut_to_the_microsecond() {
        assert_eq!(Clock::system().now().timestamp_subsec_nanos() % 1_000, 0);
    }

    #[test]
    fn ids_of_one_moment_rise_and_carry_its_time() {
        // A time that no other test uses: the last id is the process's.
        let now = DateTime::from_timestamp_micros(4_102_444_800_001_000).unwrap();
        let ids: Vec<_> = (0..5_000).map(|_| new_event_id(now)).collect();
        assert!(ids.is_sorted_by(|a, b| a < b));
        assert!(ids.iter().all(|id| id.get_version_num() == 7 && id.get_variant() == uuid::Variant::RFC4122));
        assert_eq!(ids[0].as_u128() >> BELOW_MILLISECONDS, 4_102_444_800_001);
    }
}
