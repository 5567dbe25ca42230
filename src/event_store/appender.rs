//! The one way into the log: whatever commands are waiting are written in one transaction.
//!
//! ```text
//! commands ─► bounded queue ─► fair over tenants ─► batch ─► one statement ─► answers, new head
//! ```
//!
//! The statement moves the cell's head row on from where this process knows it, even if there is no event in the
//! batch. If that is still where it is, then everything else this process knows of the log (heads, hashes, counters, versions) is true too and
//! one round trip stores the whole batch. If it is not, another process wrote: nothing is stored, what was
//! known is forgotten, and the batch is taken again under the head row's lock, where every command is checked
//! against the database and those that conflict fail alone. If the database refuses what is to be stored, the batch is
//! halved until the command is found that it refuses, and the others are stored.
//!
//! When the read models of this process fall behind, batches wait a few milliseconds for them: more commands share
//! one, and what is read does not become older and older.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use sqlx::pool::PoolConnection;
use sqlx::{PgPool, Postgres};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use super::append::{Append, AppendError, Appended};
use super::batch::{Known, Outcome, write_at_once, write_locked};
use super::cell::{Cell, in_time, is_lost, is_refusal};
use super::stream::StreamId;
use super::tail::{Tail, TailWriter};
use crate::aggregates::ids::TenantId;
use crate::clock::Clock;

/// Commands that may wait before further ones are turned away.
const QUEUE: usize = 4_096;
/// Commands of all that is appended in bulk that may wait at once: the rest of the queue is everybody else's.
const BULK: usize = QUEUE / 2;
/// Commands written in one transaction at most.
const BATCH_COMMANDS: usize = 512;
/// Events written in one transaction at most, unless a single command has more.
const BATCH_EVENTS: usize = 1_000;
/// Times a batch is taken again after another process got in between, before its commands fail.
const ATTEMPTS: usize = 5;

/// How long a batch is taken again after its connection was lost.
const PATIENCE: Duration = Duration::from_secs(10);
/// The pause before each time.
const RECONNECT_EVERY: Duration = Duration::from_millis(50);

/// The shortest pause between two batches: the clock of the runtime counts milliseconds.
const SHORTEST: Duration = Duration::from_millis(1);

/// The channel on which other processes hear that there is something new.
pub const CHANNEL: &str = "devhub_log";
/// The pause between two announcements.
const ANNOUNCE_EVERY: Duration = Duration::from_millis(10);
/// The same while the read models are written here: nobody elsewhere reads what is announced to write them.
const ANNOUNCE_SELDOM: Duration = Duration::from_millis(100);

/// What is waiting.
pub(super) struct Job {
    pub ask: Ask,
    pub answer: oneshot::Sender<Result<Answer, AppendError>>,
    /// If it came in bulk.
    bulk: Option<Bulk>,
}

/// That something came with others of which it may build on some.
struct Bulk {
    series: Arc<Series>,
    /// Gives the place in the queue back.
    _place: OwnedSemaphorePermit,
}

/// What came in bulk together: the streams of what was refused of it.
///
/// Nothing more of it is written to those. That it fits where the stream stands now is no reason: somebody else may have
/// brought it there, in place of what it builds on.
#[derive(Default)]
struct Series(Mutex<HashSet<StreamId>>);

impl Series {
    fn refused(&self) -> MutexGuard<'_, HashSet<StreamId>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Job {
    /// Whether it came in bulk: decided beforehand and not to be decided again, so that only the exact reason for
    /// a refusal is of use.
    pub fn in_bulk(&self) -> bool {
        self.bulk.is_some()
    }

    /// What tells those that came in bulk together from others, as long as one of them is not answered.
    pub fn series(&self) -> Option<usize> {
        self.bulk.as_ref().map(|bulk| Arc::as_ptr(&bulk.series).addr())
    }

    /// The stream that something was refused for earlier that came in bulk together with this, if this builds on it.
    pub fn lacks<'a>(&self, append: &'a Append) -> Option<&'a StreamId> {
        let refused = self.bulk.as_ref()?.series.refused();
        append.builds_on().find(|stream| refused.contains(stream))
    }

    /// The streams that nothing more of what came together with this is written to, after such an answer.
    pub fn closes(&self, answer: &Result<Answer, AppendError>) -> impl Iterator<Item = &StreamId> {
        let refused = match (&self.ask, answer) {
            // It is there already, and so is what the others build on.
            (_, Err(AppendError::KeyUsed)) => None,
            (Ask::Append(append), Err(_)) => Some(append.writes_to()),
            _ => None,
        };
        refused.into_iter().flatten()
    }

    fn answer(self, answer: Result<Answer, AppendError>) {
        if let Some(bulk) = &self.bulk {
            bulk.series.refused().extend(self.closes(&answer).cloned());
        }
        // A waiter that went away had its command stored all the same.
        let _ = self.answer.send(answer);
    }
}

pub(super) enum Ask {
    Append(Box<Append>),
    /// The next numbers of a kind, for ids that stand inside a payload.
    Numbers {
        tenant: TenantId,
        kind: &'static str,
        count: u32,
    },
    /// That no number of a kind below this is given any more.
    Reserve {
        tenant: TenantId,
        kind: &'static str,
        at_least: u32,
    },
}

impl Ask {
    pub fn tenant(&self) -> TenantId {
        match self {
            Self::Append(append) => append.tenant,
            Self::Numbers { tenant, .. } | Self::Reserve { tenant, .. } => *tenant,
        }
    }

    fn events(&self) -> usize {
        match self {
            Self::Append(append) => append.writes.iter().map(|write| write.events.len()).sum(),
            Self::Numbers { .. } | Self::Reserve { .. } => 0,
        }
    }
}

pub(super) enum Answer {
    Appended(Appended),
    First(i64),
    Reserved,
}

/// The handle that commands use.
#[derive(Clone)]
pub struct Appender {
    queue: mpsc::Sender<Job>,
    bulk: Arc<Semaphore>,
    tail: Tail,
}

impl Appender {
    /// Starts the task that writes the cell's log. It ends when every handle is gone and the queue is empty.
    #[must_use]
    pub fn start(cell: &Cell, clock: Clock) -> (Self, tokio::task::JoinHandle<()>) {
        let Cell { name, patience, appender: pool, .. } = cell.clone();
        let (queue, jobs) = mpsc::channel(QUEUE);
        let (written, tail) = Tail::new();
        // Ends with the writer, which holds the other end of the channel.
        tokio::spawn(announce(pool.clone(), patience, tail.clone()));
        let writer = Writer { pool, patience, connection: None, cell: name, clock, known: Known::default(), written };
        let task = tokio::spawn(writer.run(jobs));
        (Self { queue, bulk: Arc::new(Semaphore::new(BULK)), tail }, task)
    }

    /// Stores one command's outcome.
    ///
    /// # Errors
    /// [`AppendError`]: nothing was stored, except that after [`AppendError::Store`] it may have been.
    pub async fn append(&self, append: Append) -> Result<Appended, AppendError> {
        appended(self.ask(Ask::Append(Box::new(append))).await)
    }

    /// Stores many commands' outcomes, and says of each, in the order given, what came of it. Those of one tenant
    /// are stored in that order, so one may build on another (`expected`) before that is answered; if that other
    /// is refused, so is all that follows for its streams. What is there already, under the same event ids, is not
    /// stored again, and is answered as it was then: whoever was stopped may begin again.
    ///
    /// As much of it waits in the queue as fills the batches, and the rest waits for a place: others come in
    /// between, none is turned away for it. What was begun is finished even if the future is dropped.
    pub async fn append_all(&self, appends: Vec<Append>) -> Vec<Result<Appended, AppendError>> {
        let mut answers = Vec::with_capacity(appends.len());
        let series = Arc::<Series>::default();
        for append in appends {
            let (answer, answered) = oneshot::channel();
            // Neither can fail before the appender has stopped, and then the dropped answer says so.
            if let Ok(place) = Arc::clone(&self.bulk).acquire_owned().await {
                let bulk = Some(Bulk { series: Arc::clone(&series), _place: place });
                let job = Job { ask: Ask::Append(Box::new(append)), answer, bulk };
                let _ = self.queue.send(job).await;
            }
            answers.push(answered);
        }
        let mut outcomes = Vec::with_capacity(answers.len());
        for answered in answers {
            outcomes.push(appended(answered.await.unwrap_or(Err(AppendError::Stopped))));
        }
        outcomes
    }

    /// Takes `count` numbers of `kind` for `tenant` and returns the first. They are never given again.
    ///
    /// # Errors
    /// [`AppendError`] if the store cannot be reached.
    pub async fn numbers(&self, tenant: TenantId, kind: &'static str, count: u32) -> Result<u32, AppendError> {
        match self.ask(Ask::Numbers { tenant, kind, count }).await? {
            Answer::First(first) => u32::try_from(first).map_err(|_| AppendError::Overloaded),
            Answer::Appended(_) | Answer::Reserved => Err(AppendError::Stopped),
        }
    }

    /// Sees to it that no number of `kind` below `at_least` is given any more.
    ///
    /// # Errors
    /// [`AppendError`] if the store cannot be reached.
    pub async fn reserve_numbers(
        &self,
        tenant: TenantId,
        kind: &'static str,
        at_least: u32,
    ) -> Result<(), AppendError> {
        self.ask(Ask::Reserve { tenant, kind, at_least }).await.map(drop)
    }

    async fn ask(&self, ask: Ask) -> Result<Answer, AppendError> {
        let (answer, answered) = oneshot::channel();
        self.queue.try_send(Job { ask, answer, bulk: None }).map_err(|refused| match refused {
            mpsc::error::TrySendError::Full(_) => AppendError::Overloaded,
            mpsc::error::TrySendError::Closed(_) => AppendError::Stopped,
        })?;
        answered.await.map_err(|_| AppendError::Stopped)?
    }

    /// What this process has written last.
    #[must_use]
    pub fn tail(&self) -> &Tail {
        &self.tail
    }
}

/// What an append was answered.
fn appended(answer: Result<Answer, AppendError>) -> Result<Appended, AppendError> {
    match answer? {
        Answer::Appended(appended) => Ok(appended),
        Answer::First(_) | Answer::Reserved => Err(AppendError::Stopped),
    }
}

/// Tells other processes that there is something new: at most once a pause, outside of any append, since a
/// notification takes a lock of the whole server. A hint only; every reader also polls.
async fn announce(pool: PgPool, patience: Duration, tail: Tail) {
    let mut head = tail.head();
    while head.changed().await.is_ok() {
        let position = *head.borrow_and_update();
        // Nobody waits for the disk: what is announced is stored already.
        let told = sqlx::query("select set_config('synchronous_commit', 'off', true), pg_notify($1, $2)")
            .bind(CHANNEL)
            .bind(position.to_string())
            .execute(&pool);
        if let Err(error) = in_time(patience, told).await {
            tracing::debug!(%error, "other processes were not told of position {position}: {error}");
        }
        tokio::time::sleep(if tail.is_read() { ANNOUNCE_SELDOM } else { ANNOUNCE_EVERY }).await;
    }
}

struct Writer {
    pool: PgPool,
    /// How long it waits for the database to take a batch.
    patience: Duration,
    /// The one that it writes on, as long as that works: whatever the server keeps for a session is warm there.
    connection: Option<PoolConnection<Postgres>>,
    cell: Arc<str>,
    clock: Clock,
    known: Known,
    written: TailWriter,
}

impl Writer {
    async fn run(mut self, mut jobs: mpsc::Receiver<Job>) {
        let mut waiting = Waiting::default();
        // Whether the last batch was of several commands, and whether it came in bulk.
        let (mut company, mut in_bulk) = (false, false);
        loop {
            if waiting.is_empty() {
                match jobs.recv().await {
                    Some(job) => waiting.push(job),
                    None => return,
                }
            }
            let pause = self.written.giving_way(in_bulk);
            // A shorter one cannot be slept; the next is longer by it.
            if pause >= SHORTEST {
                tokio::time::sleep(pause).await;
            }
            waiting.take_in(&mut jobs);
            // Whoever was answered with the last batch is about to come again: the first of them alone would make a
            // batch that costs nearly what one of all of them does.
            let mut before = 0;
            while company && waiting.len() > before {
                before = waiting.len();
                tokio::task::yield_now().await;
                waiting.take_in(&mut jobs);
            }
            let batch = waiting.take();
            metrics::histogram!("appender_batch_commands").record(batch.len() as f64);
            company = batch.len() > 1;
            in_bulk = batch.iter().any(Job::in_bulk);
            // What cannot be stored together is stored in parts, one after the other.
            let mut parts = vec![batch];
            while let Some(part) = parts.pop() {
                if let Some((first, second)) = self.write(part).await {
                    parts.extend([second, first]);
                }
            }
        }
    }

    /// Writes a batch and answers each command in it; or nothing is stored or answered, because the database refuses what one
    /// of them would store, and both halves are to be written on their own.
    ///
    /// If the connection is lost, the batch may have been stored without our hearing of it. Its statement moves the head
    /// from where it was, or does nothing: what comes next in the log shows whether it did, and once the head has moved, what
    /// may still be under way comes to nothing. So the batch is taken again, and its commands fail only if it was stored.
    ///
    /// A database that does not answer is a connection that is lost, too. Its session may live on somewhere and store the
    /// batch later: by then the head has moved, or we wait for its lock and see what it did.
    async fn write(&mut self, mut jobs: Vec<Job>) -> Option<(Vec<Job>, Vec<Job>)> {
        let mut locked = false;
        let mut lost: Option<Lost> = None;
        let mut attempts = 0;
        while attempts < ATTEMPTS {
            let now = self.clock.now();
            let began_at = lost.as_ref().and_then(|lost| lost.began_at);
            match self.try_to_write(&mut jobs, (locked, began_at), now).await {
                Ok(Outcome::Stored { answers, entries }) => {
                    for (job, answer) in jobs.into_iter().zip(answers) {
                        job.answer(answer);
                    }
                    self.written.push(entries, self.known.position());
                    return None;
                }
                Ok(Outcome::TakeTheLock) => {
                    metrics::counter!("appender_locked_batches_total").increment(1);
                    self.known.forget();
                    locked = true;
                    attempts += 1;
                }
                Ok(Outcome::StoredBefore) => {
                    self.known.forget();
                    break;
                }
                Err(error) if is_lost(&error) => {
                    tracing::warn!(%error, commands = jobs.len(), "the connection was lost with a batch on it: {error}");
                    let began_at = self.known.head().or(began_at);
                    let since = lost.map_or_else(Instant::now, |lost| lost.since);
                    lost = Some(Lost { since, began_at, error: Arc::new(error) });
                    self.known.forget();
                    locked = true;
                    if since.elapsed() > PATIENCE {
                        break;
                    }
                    // The others that the pool keeps are lost, too, and a server that starts refuses at first.
                    tokio::time::sleep(RECONNECT_EVERY).await;
                }
                // If an earlier try were under way still, it would be all of it.
                Err(error) if is_refusal(&error) && jobs.len() > 1 && lost.is_none() => {
                    self.known.forget();
                    tracing::debug!(%error, commands = jobs.len(), "a batch is taken in parts: {error}");
                    let second = jobs.split_off(jobs.len() / 2);
                    return Some((jobs, second));
                }
                Err(error) => {
                    self.known.forget();
                    tracing::error!(%error, commands = jobs.len(), "the event store did not take a batch: {error}");
                    let error = match error {
                        sqlx::Error::PoolTimedOut if began_at.is_none() => AppendError::Unreachable,
                        error => AppendError::from(error),
                    };
                    refuse(jobs, &error);
                    return None;
                }
            }
        }
        let error = match lost {
            Some(Lost { began_at: None, .. }) => AppendError::Unreachable,
            Some(Lost { error, .. }) => AppendError::Store(error),
            None => AppendError::Overloaded,
        };
        refuse(jobs, &error);
        None
    }

    /// Tries once. After a failure the connection is not used again.
    async fn try_to_write(
        &mut self,
        jobs: &mut [Job],
        (locked, began_at): (bool, Option<i64>),
        now: DateTime<Utc>,
    ) -> sqlx::Result<Outcome> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => {
                let mut connection = self.pool.acquire().await?;
                // The pool would wait for an answer before it takes one back that broke.
                connection.close_on_drop();
                connection
            }
        };
        let (cell, known) = (&self.cell, &mut self.known);
        let outcome = if locked {
            in_time(self.patience, write_locked(&mut connection, cell, known, (jobs, began_at), now)).await?
        } else {
            in_time(self.patience, write_at_once(&mut connection, cell, known, jobs, now)).await?
        };
        self.connection = Some(connection);
        Ok(outcome)
    }
}

/// A connection that was lost with a batch on it.
struct Lost {
    since: Instant,
    /// Where the head was that the batch would have moved; none if it had not come to that.
    began_at: Option<i64>,
    error: Arc<sqlx::Error>,
}

fn refuse(jobs: Vec<Job>, error: &AppendError) {
    for job in jobs {
        job.answer(Err(error.clone()));
    }
}

/// What waits, taken turn by turn over the tenants, so that nobody's burst is everybody's wait.
#[derive(Default)]
struct Waiting {
    by_tenant: HashMap<TenantId, VecDeque<Job>>,
    turns: VecDeque<TenantId>,
    len: usize,
}

impl Waiting {
    fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn len(&self) -> usize {
        self.len
    }

    /// Takes in what is in the queue.
    fn take_in(&mut self, jobs: &mut mpsc::Receiver<Job>) {
        while self.len < QUEUE {
            match jobs.try_recv() {
                Ok(job) => self.push(job),
                Err(_) => break,
            }
        }
    }

    fn push(&mut self, job: Job) {
        let tenant = job.ask.tenant();
        let queue = self.by_tenant.entry(tenant).or_default();
        if queue.is_empty() {
            self.turns.push_back(tenant);
        }
        queue.push_back(job);
        self.len += 1;
    }

    fn take(&mut self) -> Vec<Job> {
        let mut batch = Vec::new();
        let mut events = 0;
        while batch.len() < BATCH_COMMANDS && events < BATCH_EVENTS {
            let Some(tenant) = self.turns.pop_front() else { break };
            let Some(queue) = self.by_tenant.get_mut(&tenant) else { continue };
            if let Some(job) = queue.pop_front() {
                events += job.ask.events();
                batch.push(job);
                self.len -= 1;
            }
            if queue.is_empty() {
                self.by_tenant.remove(&tenant);
            } else {
                self.turns.push_back(tenant);
            }
        }
        batch
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(tenant: u32) -> Job {
        let ask = Ask::Numbers { tenant: TenantId::Business(tenant), kind: "LED", count: 1 };
        Job { ask, answer: oneshot::channel().0, bulk: None }
    }

    #[test]
    fn tenants_take_turns() {
        let mut waiting = Waiting::default();
        for _ in 0..1_000 {
            waiting.push(job(1));
        }
        waiting.push(job(2));
        waiting.push(job(3));
        let batch = waiting.take();
        assert_eq!(batch.len(), BATCH_COMMANDS);
        let first: Vec<_> = batch.iter().take(3).map(|job| job.ask.tenant()).collect();
        assert_eq!(first, [TenantId::Business(1), TenantId::Business(2), TenantId::Business(3)]);
        assert_eq!(waiting.len(), 1_002 - BATCH_COMMANDS);
    }
}
