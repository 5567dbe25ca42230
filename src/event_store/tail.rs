//! The end of the log as this process has written it: who reads right behind the appender need not ask the database
//! for what has just been handed to it.
//!
//! Only what is stored comes here, in the order of the log and without a gap. Where another process has written in
//! between, or more has come than is kept, there is nothing to be had, and the log is read as ever.

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, watch};

use super::reader::Entry;

/// Events kept at most.
const MOST: usize = 4_096;
/// Bytes of payloads kept at most.
const BYTES: usize = 8 << 20;
/// Events that may wait for the reader without the writer giving way: less than the reader takes at once, so that the
/// writer goes on evenly while what waits goes up and down by that much.
const FREE: usize = 256;
/// Two thirds of how many come to wait when the writer is faster than the reader.
const LEVEL: usize = 384;
/// The longest that the writer waits before a batch.
const LONGEST: Duration = Duration::from_millis(50);
/// The same if the batch before came in bulk: its batches are full without waiting, and a reader who is far behind takes
/// more at once.
const LONGEST_IN_BULK: Duration = Duration::from_millis(16);
/// What an event is taken to take the reader, in seconds, before that is known.
const AT_FIRST: f64 = 0.0001;
/// A reader who has not asked for so long is not there.
const READS: Duration = Duration::from_secs(2);

/// The handle of those who read.
#[derive(Debug, Clone)]
pub struct Tail {
    kept: Arc<Mutex<Kept>>,
    head: watch::Receiver<i64>,
    reached: Arc<Notify>,
}

/// The handle of the one who writes.
pub(super) struct TailWriter {
    kept: Arc<Mutex<Kept>>,
    head: watch::Sender<i64>,
    reached: Arc<Notify>,
}

/// Entries whose positions follow each other.
#[derive(Debug, Default)]
struct Kept {
    entries: VecDeque<Entry>,
    bytes: usize,
    pace: Pace,
    /// Where the reader waits for the head to come.
    goal: Option<i64>,
}

/// How fast events are read, and how fast they are written.
#[derive(Debug, Clone, Copy, Default)]
struct Pace {
    /// When somebody asked for events last.
    asked: Option<Instant>,
    /// What an event takes the reader, in seconds, of late.
    per_event: Option<f64>,
    /// When the last batch was begun, and how many events it had.
    begun: Option<Instant>,
    written: usize,
}

impl Tail {
    pub(super) fn new() -> (TailWriter, Self) {
        let kept = Arc::<Mutex<Kept>>::default();
        let (sender, head) = watch::channel(0);
        let reached = Arc::<Notify>::default();
        let writer = TailWriter { kept: Arc::clone(&kept), head: sender, reached: Arc::clone(&reached) };
        (writer, Self { kept, head, reached })
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

    /// Waits until this process has written the event at `position`, and is woken by none before it: that would cost the
    /// writer as much as it costs the reader. For one reader at a time.
    pub async fn reached(&self, position: i64) {
        loop {
            let mut reached = pin!(self.reached.notified());
            reached.as_mut().enable();
            {
                let mut kept = lock(&self.kept);
                if self.position() >= position {
                    return;
                }
                kept.goal = Some(position);
            }
            reached.await;
        }
    }

    /// Takes up to `most` events that follow `position`, in order; none if the one right after it is not here. What lies
    /// before is let go: one reader, at the end of the log, is who this is for.
    #[must_use]
    pub fn take_after(&self, position: i64, most: usize) -> Option<Vec<Entry>> {
        self.take_at(Instant::now(), position, most)
    }

    fn take_at(&self, now: Instant, position: i64, most: usize) -> Option<Vec<Entry>> {
        let mut kept = lock(&self.kept);
        kept.pace.asked = Some(now);
        let passed = kept.entries.iter().take_while(|entry| entry.recorded.position <= position).count();
        kept.take(passed);
        let follows = kept.entries.front().is_some_and(|entry| entry.recorded.position == position + 1);
        follows.then(|| kept.take(most))
    }

    /// Whether somebody in this process reads what it writes.
    pub(super) fn is_read(&self) -> bool {
        lock(&self.kept).pace.is_read(Instant::now())
    }

    /// The reader has dealt with so many events, wherever they came from, and has worked so long on them: how long it
    /// rested meanwhile does not count. A few at once tell nothing of how fast it is when many wait.
    pub fn dealt_with(&self, events: usize, worked: Duration) {
        if events >= FREE {
            lock(&self.kept).pace.learn(events, worked);
        }
    }
}

impl TailWriter {
    /// How long the writer should wait before the next batch, so that it does not run away from the reader: what the
    /// reader takes for the batch before, more the more waits to be read, less the time that has passed since it was
    /// begun. Not at all if little waits or nobody reads.
    pub(super) fn giving_way(&self, in_bulk: bool) -> Duration {
        self.giving_way_at(Instant::now(), if in_bulk { LONGEST_IN_BULK } else { LONGEST })
    }

    fn giving_way_at(&self, now: Instant, longest: Duration) -> Duration {
        let mut kept = lock(&self.kept);
        let waiting = kept.entries.len();
        let due = kept.pace.due(now, waiting).clamp(now, now + longest);
        kept.pace.begun = Some(due);
        due - now
    }

    /// What was stored, in order, and where the log ends with it.
    pub(super) fn push(&self, entries: Vec<Entry>, head: i64) {
        let mut kept = lock(&self.kept);
        kept.add(entries);
        self.head.send_if_modified(|position| {
            let moved = *position != head;
            *position = head;
            moved
        });
        // With the lock: whoever names a goal looks at the head with it, too.
        let reached = kept.goal.take_if(|goal| *goal <= head).is_some();
        drop(kept);
        if reached {
            self.reached.notify_waiters();
        }
    }
}

impl Pace {
    fn learn(&mut self, events: usize, worked: Duration) {
        let per_event = worked.as_secs_f64() / events as f64;
        self.per_event = Some(self.per_event.map_or(per_event, |before| (3.0 * before + per_event) / 4.0));
    }

    fn is_read(&self, now: Instant) -> bool {
        self.asked.is_some_and(|asked| now.duration_since(asked) <= READS)
    }

    /// When the next batch is due.
    fn due(&self, now: Instant, waiting: usize) -> Instant {
        let (Some(begun), true) = (self.begun, self.is_read(now) && waiting > FREE) else { return now };
        let per_event = self.per_event.unwrap_or(AT_FIRST);
        // A little faster than the reader below half as much again as the level, a little slower above.
        let pace = 0.9 + 0.2 * (waiting as f64 / LEVEL as f64 - 1.0);
        let cycle = self.written as f64 * per_event * pace;
        Duration::try_from_secs_f64(cycle).ok().and_then(|cycle| begun.checked_add(cycle)).unwrap_or(now)
    }
}

impl Kept {
    /// Keeps what follows what is kept, or that alone.
    fn add(&mut self, entries: Vec<Entry>) {
        let Some(first) = entries.first().map(|entry| entry.recorded.position) else { return };
        self.pace.written = entries.len();
        if self.entries.back().is_some_and(|last| last.recorded.position + 1 != first) {
            self.entries.clear();
            self.bytes = 0;
        }
        self.bytes += entries.iter().map(|entry| entry.payload.len()).sum::<usize>();
        self.entries.extend(entries);
        while self.entries.len() > MOST || self.bytes > BYTES {
            self.take(1);
        }
    }

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
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::{Context, Wake, Waker};

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
    fn the_writer_is_as_fast_as_a_reader_that_is_behind() {
        const MILLISECOND: Duration = Duration::from_millis(1);
        let (writer, tail) = Tail::new();
        let mut now = Instant::now();
        let mut head = 0;
        let mut write = |now: Instant| {
            let pause = writer.giving_way_at(now, LONGEST);
            writer.push((head + 1..=head + 100).map(|position| entry(position, 1)).collect(), head + 100);
            head += 100;
            pause
        };
        for _ in 0..30 {
            assert_eq!(write(now), Duration::ZERO, "nobody reads");
        }
        // A reader who takes a fifth of a millisecond for an event.
        let mut read = 0;
        let mut pauses = Vec::new();
        let begun = now;
        for round in 1..=30 {
            let taken = tail.take_at(now, read, 500).unwrap().len();
            read += i64::try_from(taken).unwrap();
            while now < begun + round * 100 * MILLISECOND {
                let pause = write(now);
                pauses.push(pause);
                now += pause.max(MILLISECOND);
            }
            tail.dealt_with(taken, 100 * MILLISECOND);
        }
        // It takes twenty milliseconds for a batch, and so does the writer once that is known.
        let last = pauses.iter().rev().take(10).sum::<Duration>() / 10;
        assert!(pauses.iter().all(|pause| *pause <= LONGEST));
        assert!((17 * MILLISECOND..=25 * MILLISECOND).contains(&last), "{last:?}");
        let far = now + 2 * READS;
        assert_eq!(write(far), Duration::ZERO, "who has not asked for long is not there");
    }

    /// What the writer does in steady state beside a reader who rests between its batches, or whose pauses are too short to
    /// be slept: time passes only by what it does itself.
    fn pauses(worked: Duration, slept_from: Duration) -> Vec<Duration> {
        let (writer, tail) = Tail::new();
        let (mut now, mut head, mut read) = (Instant::now(), 0, 0);
        let mut begun = Vec::new();
        for _ in 0..60 {
            let pause = writer.giving_way_at(now, LONGEST);
            now += if pause < slept_from { Duration::ZERO } else { pause };
            begun.push(now);
            now += Duration::from_micros(100);
            writer.push((head + 1..=head + 500).map(|position| entry(position, 1)).collect(), head + 500);
            head += 500;
            // As many as were written, so that as many wait as ever.
            if head > 1_000 {
                let taken = tail.take_at(now, read, 500).unwrap().len();
                read += i64::try_from(taken).unwrap();
                tail.dealt_with(taken, worked);
            } else {
                let _ = tail.take_at(now, 0, 0);
            }
        }
        begun.windows(2).map(|two| two[1] - two[0]).collect()
    }

    #[test]
    fn a_reader_who_rests_is_taken_to_be_as_fast_as_it_works() {
        let pauses = pauses(Duration::from_millis(10), Duration::ZERO);
        let last = pauses.iter().rev().take(10).sum::<Duration>() / 10;
        // A thousand wait, and it takes ten milliseconds for five hundred, whatever it did in between.
        assert!((Duration::from_millis(9)..=Duration::from_millis(13)).contains(&last), "{last:?}");
    }

    #[test]
    fn a_pause_too_short_to_be_slept_is_made_up_for_by_the_next() {
        const MILLISECOND: Duration = Duration::from_millis(1);
        let slept = pauses(Duration::from_micros(600), Duration::ZERO);
        let skipped = pauses(Duration::from_micros(600), MILLISECOND);
        assert!(skipped.iter().any(|pause| *pause < slept[50]), "some are skipped");
        let whole = |pauses: &[Duration]| pauses.iter().rev().take(40).sum::<Duration>();
        assert!(whole(&skipped).abs_diff(whole(&slept)) <= MILLISECOND, "{slept:?} {skipped:?}");
    }

    #[test]
    fn the_writer_does_not_wait_for_a_reader_that_is_not_behind() {
        let (writer, tail) = Tail::new();
        let now = Instant::now();
        for head in 1..=FREE {
            let head = i64::try_from(head).unwrap();
            assert_eq!(writer.giving_way_at(now, LONGEST), Duration::ZERO);
            writer.push(vec![entry(head, 1)], head);
        }
        assert!(tail.take_at(now, 0, 10).is_some());
        assert!(tail.take_at(now + READS, 10, 10).is_some());
        assert_eq!(writer.giving_way_at(now + READS, LONGEST), Duration::ZERO, "no more waits than may");
    }

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    proptest! {
        /// Whatever is written, the reader is woken once, by what it waits for, and by nothing before that.
        #[test]
        fn whoever_waits_for_a_place_is_woken_there_and_not_before(
            steps in prop::collection::vec(0_i64..40, 1..40), goals in prop::collection::vec(0_i64..400, 1..5),
        ) {
            let (writer, tail) = Tail::new();
            let mut steps = steps.into_iter();
            let mut head = 0;
            for goal in goals {
                let woken = Arc::<Woken>::default();
                let waker = Waker::from(Arc::clone(&woken));
                let mut context = Context::from_waker(&waker);
                let mut waiting = pin!(tail.reached(goal));
                let mut ready = waiting.as_mut().poll(&mut context).is_ready();
                prop_assert_eq!(ready, head >= goal);
                while !ready {
                    // Whoever is not woken any more goes away.
                    let Some(step) = steps.next() else { break };
                    head += step;
                    writer.push((head - step + 1..=head).map(|position| entry(position, 1)).collect(), head);
                    prop_assert_eq!(woken.0.load(Ordering::Relaxed), usize::from(head >= goal));
                    ready = head >= goal && waiting.as_mut().poll(&mut context).is_ready();
                    prop_assert_eq!(ready, head >= goal);
                }
            }
        }

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
