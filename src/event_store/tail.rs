//! The end of the log as this process has written it: who reads right behind the appender need not ask the database
//! for what has just been handed to it.
//!
//! Only what is stored comes here, in the order of the log and without a gap. Where another process has written in
//! between, or more has come than is kept, there is nothing to be had, and the log is read as ever.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::reader::Entry;

/// Events kept at most.
const MOST: usize = 4_096;
/// Bytes of payloads kept at most.
const BYTES: usize = 8 << 20;
/// Events that may wait for the reader without the writer giving way.
const FREE: usize = 1_024;
/// For so many events more, the writer waits a millisecond.
const PER_MILLISECOND: usize = 192;
/// A reader who has not asked for so long is not there.
const READS: Duration = Duration::from_secs(2);

/// The handle of those who read.
#[derive(Debug, Clone)]
pub struct Tail {
    kept: Arc<Mutex<Kept>>,
    head: watch::Receiver<i64>,
}

/// The handle of the one who writes.
pub(super) struct TailWriter {
    kept: Arc<Mutex<Kept>>,
    head: watch::Sender<i64>,
}

/// Entries whose positions follow each other.
#[derive(Debug, Default)]
struct Kept {
    entries: VecDeque<Entry>,
    bytes: usize,
    /// When somebody asked for them last.
    asked: Option<Instant>,
}

impl Tail {
    pub(super) fn new() -> (TailWriter, Self) {
        let kept = Arc::<Mutex<Kept>>::default();
        let (sender, head) = watch::channel(0);
        (TailWriter { kept: Arc::clone(&kept), head: sender }, Self { kept, head })
    }

    /// The position of the last event that this process has written; moves after each commit.
    #[must_use]
    pub fn head(&self) -> watch::Receiver<i64> {
        self.head.clone()
    }

    /// Where that is now.
    #[must_use]
    pub fn position(&self) -> i64 {
        *self.head.borrow()
    }

    /// Takes up to `most` events that follow `position`, in order; none if the one right after it is not here. What lies
    /// before is let go: one reader, at the end of the log, is who this is for.
    #[must_use]
    pub fn take_after(&self, position: i64, most: usize) -> Option<Vec<Entry>> {
        let mut kept = lock(&self.kept);
        kept.asked = Some(Instant::now());
        let passed = kept.entries.iter().take_while(|entry| entry.recorded.position <= position).count();
        kept.take(passed);
        if kept.entries.front()?.recorded.position != position + 1 {
            return None;
        }
        Some(kept.take(most))
    }
}

impl TailWriter {
    pub(super) fn subscribe(&self) -> watch::Receiver<i64> {
        self.head.subscribe()
    }

    /// How long the writer should wait, so that the reader comes after it: the longer, the more waits to be read; not at
    /// all if nobody reads.
    pub(super) fn giving_way(&self) -> Duration {
        let kept = lock(&self.kept);
        if kept.asked.is_none_or(|asked| asked.elapsed() > READS) {
            return Duration::ZERO;
        }
        Duration::from_millis((kept.entries.len().saturating_sub(FREE) / PER_MILLISECOND) as u64)
    }

    /// What was stored, in order, and where the log ends with it.
    pub(super) fn push(&self, entries: Vec<Entry>, head: i64) {
        if let Some(first) = entries.first().map(|entry| entry.recorded.position) {
            let mut kept = lock(&self.kept);
            if kept.entries.back().is_some_and(|last| last.recorded.position + 1 != first) {
                *kept = Kept { asked: kept.asked, ..Kept::default() };
            }
            kept.bytes += entries.iter().map(|entry| entry.payload.len()).sum::<usize>();
            kept.entries.extend(entries);
            while kept.entries.len() > MOST || kept.bytes > BYTES {
                kept.take(1);
            }
        }
        self.head.send_if_modified(|position| {
            let moved = *position != head;
            *position = head;
            moved
        });
    }
}

impl Kept {
    fn take(&mut self, count: usize) -> Vec<Entry> {
        let taken: Vec<Entry> = self.entries.drain(..count.min(self.entries.len())).collect();
        self.bytes -= taken.iter().map(|entry| entry.payload.len()).sum::<usize>();
        taken
    }
}

fn lock(kept: &Mutex<Kept>) -> MutexGuard<'_, Kept> {
    kept.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use chrono::Utc;
    use proptest::prelude::*;
    use serde_json::Value;
    use uuid::Uuid;

    use super::*;
    use crate::aggregates::ids::TenantId;
    use crate::event_store::Recorded;

    fn entry(position: i64, bytes: usize) -> Entry {
        let recorded = Recorded {
            tenant_id: TenantId::Business(1),
            aggregate_type: "Lead".into(),
            aggregate_id: "TNT-001:LED-001".into(),
            sequence: 1,
            position,
            tenant_position: position,
            event_id: Uuid::nil(),
            event_type: "LeadCaptured".into(),
            event_version: "1".into(),
            payload: Value::Null,
            metadata: HashMap::new(),
            occurred_at: chrono::DateTime::<Utc>::default(),
            recorded_at: chrono::DateTime::<Utc>::default(),
            hash: Vec::new(),
        };
        Entry { recorded, payload: "x".repeat(bytes) }
    }

    fn positions(entries: &[Entry]) -> Vec<i64> {
        entries.iter().map(|entry| entry.recorded.position).collect()
    }

    #[test]
    fn what_is_large_is_not_kept_for_long() {
        let (writer, tail) = Tail::new();
        for position in 1..=20 {
            writer.push(vec![entry(position, 1 << 20)], position);
        }
        assert!(tail.take_after(0, 100).is_none());
        assert_eq!(positions(&tail.take_after(12, 100).unwrap()), [13, 14, 15, 16, 17, 18, 19, 20]);
        assert_eq!(lock(&tail.kept).bytes, 0);
    }

    #[test]
    fn the_writer_gives_way_to_a_reader_that_is_behind_and_to_nobody_else() {
        let (writer, tail) = Tail::new();
        writer.push((1..=3_000).map(|position| entry(position, 1)).collect(), 3_000);
        assert_eq!(writer.giving_way(), Duration::ZERO, "nobody reads");
        assert!(tail.take_after(0, 100).is_some());
        let behind = writer.giving_way();
        assert!(behind > Duration::ZERO);
        writer.push((3_001..=20_000).map(|position| entry(position, 1)).collect(), 20_000);
        let far_behind = writer.giving_way();
        assert!(far_behind > behind && far_behind <= Duration::from_millis(16), "{far_behind:?}");
        assert!(tail.take_after(19_000, 10).is_some());
        assert_eq!(writer.giving_way(), Duration::ZERO, "less is left than may wait");
    }

    proptest! {
        /// Whatever is written, by us or by others in between, and however it is read: what is taken follows what was
        /// asked for, without a gap, and is what was written there.
        #[test]
        fn what_is_taken_always_follows_without_a_gap(
            steps in prop::collection::vec((0_i64..3, 1_i64..2_000, 0_i64..3_000, 1_usize..3_000), 1..30),
        ) {
            let (writer, tail) = Tail::new();
            let mut head = 0;
            for (others, ours, back, most) in steps {
                head += others;
                writer.push((head + 1..=head + ours).map(|position| entry(position, 1)).collect(), head + ours);
                head += ours;
                prop_assert_eq!(*tail.head().borrow(), head);
                let from = (head - back).max(0);
                if let Some(taken) = tail.take_after(from, most) {
                    let count = i64::try_from(taken.len()).unwrap();
                    prop_assert!(count > 0 && taken.len() <= most);
                    prop_assert_eq!(positions(&taken), (from + 1..=from + count).collect::<Vec<_>>());
                    prop_assert!(taken.len() == most || from + count == head);
                } else {
                    // Nothing is there, or others have written at the place.
                    prop_assert!(lock(&tail.kept).entries.front().is_none_or(|entry| entry.recorded.position > from + 1));
                }
                prop_assert!(lock(&tail.kept).entries.len() <= MOST);
            }
        }
    }
}
