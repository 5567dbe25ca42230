//! The projector: reads the log in order and keeps the read models, each event counting exactly once.
//!
//! ```text
//! lease ─► checkpoints ─► batch in order ─► fold in memory ─► one statement: rows + checkpoints ─► waiters
//! ```
//!
//! The statement writes only if the checkpoints are where this process left them. A process that lost its turn
//! therefore writes nothing, whatever it believes; the lease merely keeps two from trying all the time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::postgres::{PgConnection, PgListener};
use sqlx::{FromRow, PgPool};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use uuid::Uuid;

use super::fact::{Fact, NotUnderstood};
use super::model::{FoldError, Model};
use super::statement::Statement;
use crate::clock::Clock;
use crate::event_store::appender::CHANNEL;
use crate::event_store::reader::entries_after;

/// Events folded and written at once.
const BATCH: i64 = 1_000;
/// The same when the read models are far behind: the more an entity changes within a batch, the less is written.
const FAR_BEHIND: i64 = 4_000;
/// How long a process that has stopped answering keeps others from taking over.
const LEASE: Duration = Duration::from_secs(5);
/// How often the log and the checkpoints are looked at when nobody has said that there is something new.
const POLL: Duration = Duration::from_millis(200);
/// The pause after a failure.
const BACK_OFF: Duration = Duration::from_millis(500);

/// How far the read models of a cell are, and whether something holds them up.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Progress {
    /// The position up to which every read model is written.
    pub position: i64,
    /// Why they do not move, if they do not.
    pub failure: Option<String>,
}

/// The handle through which commands wait for their effect and health checks look.
#[derive(Debug, Clone)]
pub struct Projections {
    progress: watch::Receiver<Progress>,
}

/// The read models did not come so far in time.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the read models are at {at}, not yet at {wanted}")]
pub struct Lagging {
    /// How far they are.
    pub at: i64,
    /// How far they should be.
    pub wanted: i64,
}

impl Projections {
    /// Waits until every read model has taken the event at `position`.
    ///
    /// # Errors
    /// [`Lagging`] after `limit`.
    pub async fn reached(&self, position: i64, limit: Duration) -> Result<(), Lagging> {
        let mut progress = self.progress.clone();
        let reached = progress.wait_for(|progress| progress.position >= position);
        match tokio::time::timeout(limit, reached).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(Lagging { at: self.progress.borrow().position, wanted: position }),
        }
    }

    /// How far they are.
    #[must_use]
    pub fn progress(&self) -> Progress {
        self.progress.borrow().clone()
    }
}

/// Why a round came to nothing.
#[derive(Debug, thiserror::Error)]
enum RoundError {
    #[error(transparent)]
    Database(#[from] sqlx::Error),
    #[error(transparent)]
    Fold(#[from] FoldError),
    #[error(transparent)]
    NotUnderstood(#[from] NotUnderstood),
}

/// A batch that is ready to be written.
struct Batch {
    statement: Statement,
    from: i64,
    to: i64,
    /// Every projection takes part in it.
    everybody: bool,
    /// It is as large as it may be, so there will be more.
    full: bool,
}

/// What there is to write.
enum Prepared {
    Batch(Batch),
    /// There is nothing new.
    Idle(i64),
    /// Another process writes; it is here.
    Elsewhere(i64),
}

/// What a round did.
enum Round {
    /// Wrote up to here; there may be more.
    Wrote(i64),
    /// There is nothing new.
    Idle(i64),
    /// Another process writes; it is here.
    Elsewhere(i64),
}

/// Feeds the read models of one cell.
pub struct Projector {
    pool: PgPool,
    cell: Arc<str>,
    clock: Clock,
    models: Vec<Box<dyn Model>>,
    owner: Uuid,
    leased_until: Option<Instant>,
    /// Where this process left the checkpoints; what the models remember holds only there.
    left_at: Option<i64>,
    /// Which making of each read model they remember; a rebuild that took over is another one.
    generations: BTreeMap<String, i64>,
    /// The batch after that, if it was made ready while that was written.
    next: Option<Batch>,
    progress: watch::Sender<Progress>,
}

impl Projector {
    /// Starts the projector of a cell. It ends when `stop` says so.
    #[must_use]
    pub fn start(
        pool: PgPool,
        cell: Arc<str>,
        clock: Clock,
        models: Vec<Box<dyn Model>>,
        head: watch::Receiver<i64>,
        stop: watch::Receiver<bool>,
    ) -> (Projections, JoinHandle<()>) {
        let (progress, watched) = watch::channel(Progress::default());
        let owner = Uuid::from_u128(u128::from_be_bytes(random()));
        let projector = Self {
            pool,
            cell,
            clock,
            models,
            owner,
            leased_until: None,
            left_at: None,
            generations: BTreeMap::new(),
            next: None,
            progress,
        };
        let task = tokio::spawn(projector.run(head, stop));
        (Projections { progress: watched }, task)
    }

    async fn run(mut self, mut head: watch::Receiver<i64>, mut stop: watch::Receiver<bool>) {
        let news = Arc::new(Notify::new());
        let listener = tokio::spawn(listen(self.pool.clone(), Arc::clone(&news)));
        while !*stop.borrow() {
            let pause = match self.round().await {
                Ok(Round::Wrote(position)) => {
                    self.report(position, None);
                    continue;
                }
                Ok(Round::Idle(position) | Round::Elsewhere(position)) => {
                    self.report(position, None);
                    POLL
                }
                Err(error) => {
                    self.forget();
                    let position = self.progress.borrow().position;
                    if self.report(position, Some(error.to_string())) {
                        tracing::error!(%error, position, "the read models stopped at {position}: {error}");
                    }
                    BACK_OFF
                }
            };
            tokio::select! {
                _ = head.changed() => {}
                () = news.notified() => {}
                _ = stop.changed() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
        listener.abort();
        if self.leased_until.is_some() {
            let _ = sqlx::query("update projector_lease set lease_until = '-infinity' where cell = $1 and owner = $2")
                .bind(&*self.cell)
                .bind(self.owner)
                .execute(&self.pool)
                .await;
        }
    }

    /// Tells whoever waits. True if that was news.
    fn report(&self, position: i64, failure: Option<String>) -> bool {
        metrics::gauge!("projection_position").set(position as f64);
        metrics::gauge!("projection_failed").set(f64::from(u8::from(failure.is_some())));
        let next = Progress { position, failure };
        self.progress.send_if_modified(|progress| {
            let news = *progress != next;
            *progress = next;
            news
        })
    }

    fn forget(&mut self) {
        self.leased_until = None;
        self.left_at = None;
        self.next = None;
        for model in &mut self.models {
            model.forget();
        }
    }

    /// One batch: made ready, unless it is already, and written. If it is full, the next one is made ready meanwhile;
    /// otherwise the next one does better to wait for what is still to come.
    async fn round(&mut self) -> Result<Round, RoundError> {
        let batch = match self.next.take() {
            Some(batch) => batch,
            None => match self.prepare().await? {
                Prepared::Batch(batch) => batch,
                Prepared::Idle(position) => return Ok(Round::Idle(position)),
                Prepared::Elsewhere(position) => return Ok(Round::Elsewhere(position)),
            },
        };
        let Batch { statement, from, to, everybody, full } = batch;
        let following = everybody && full;
        let writing = tokio::spawn(write(self.pool.clone(), statement));
        let next = if following { self.prepare_after(to).await } else { Ok(None) };
        let written = writing.await.map_err(|ended| sqlx::Error::Io(std::io::Error::other(ended)))??;
        if !written {
            self.forget();
            return Ok(Round::Elsewhere(from));
        }
        match next {
            Ok(next) => {
                self.left_at = Some(to);
                self.next = next;
            }
            // What is written is written. The next round meets the failure again, and reports it.
            Err(_) => self.forget(),
        }
        Ok(Round::Wrote(if everybody { to } else { self.progress.borrow().position }))
    }

    /// Takes the lease if it has to, looks where the checkpoints are, reads and folds.
    async fn prepare(&mut self) -> Result<Prepared, RoundError> {
        let mut connection = self.pool.acquire().await?;
        if !self.hold_lease(&mut connection).await? {
            return Ok(Prepared::Elsewhere(self.lowest_checkpoint(&mut connection).await?));
        }
        let checkpoints = self.checkpoints(&mut connection).await?;
        let from = checkpoints.iter().map(|at| at.position).min().unwrap_or(0);
        let generations = checkpoints.iter().map(|at| (at.projection.clone(), at.generation)).collect();
        if self.left_at != Some(from) || self.generations != generations {
            self.models.iter_mut().for_each(|model| model.forget());
        }
        self.generations = generations;
        // Projections that are behind the others catch up first, alone, and no further than to them.
        let ahead = checkpoints.iter().map(|at| at.position).filter(|position| *position > from).min();
        let limit = ahead.map_or(BATCH, |ahead| BATCH.min(ahead - from));
        let members: Vec<String> =
            checkpoints.into_iter().filter(|at| at.position == from).map(|at| at.projection).collect();
        let batch = self.fold(&mut connection, &members, from, limit).await?;
        Ok(batch.map_or(Prepared::Idle(from), Prepared::Batch))
    }

    /// The batch after one that is being written: the checkpoints will be at `from`, or it will not be written.
    async fn prepare_after(&mut self, from: i64) -> Result<Option<Batch>, RoundError> {
        let mut connection = self.pool.acquire().await?;
        if !self.hold_lease(&mut connection).await? {
            return Ok(None);
        }
        let everybody: Vec<String> = self.models.iter().map(|model| model.name().to_owned()).collect();
        self.fold(&mut connection, &everybody, from, FAR_BEHIND).await
    }

    /// Reads up to `limit` events after `from`, which is where the checkpoints of `members` are, and folds them.
    async fn fold(
        &mut self,
        connection: &mut PgConnection,
        members: &[String],
        from: i64,
        limit: i64,
    ) -> Result<Option<Batch>, RoundError> {
        let entries = entries_after(&mut *connection, from, limit).await?;
        let full = entries.len() >= usize::try_from(limit).unwrap_or(usize::MAX);
        let Some(to) = entries.last().map(|entry| entry.recorded.position) else { return Ok(None) };
        let mut facts = Vec::with_capacity(entries.len());
        for entry in entries {
            facts.extend(Fact::of_entry(entry)?);
        }
        let generations = members.iter().map(|name| self.generations.get(name).copied().unwrap_or(0)).collect();
        let mut statement = conditional(members, generations, from, to, self.clock.now())?;
        for model in self.models.iter_mut().filter(|model| members.iter().any(|name| name == model.name())) {
            model.fold(connection, &facts, &mut statement).await?;
        }
        Ok(Some(Batch { statement, from, to, everybody: members.len() == self.models.len(), full }))
    }

    /// Whether this process is the one that writes, for the time being.
    async fn hold_lease(&mut self, connection: &mut PgConnection) -> sqlx::Result<bool> {
        let now = Instant::now();
        if self.leased_until.is_some_and(|until| now + LEASE / 2 < until) {
            return Ok(true);
        }
        let held = sqlx::query(
            "update projector_lease set owner = $2, lease_until = now() + make_interval(secs => $3)
             where cell = $1 and (owner = $2 or lease_until < now())",
        )
        .bind(&*self.cell)
        .bind(self.owner)
        .bind(LEASE.as_secs_f64())
        .execute(connection)
        .await?
        .rows_affected()
            == 1;
        self.leased_until = held.then(|| now + LEASE);
        Ok(held)
    }

    /// The checkpoint of every registered projection; one that never ran is at 0.
    async fn checkpoints(&self, connection: &mut PgConnection) -> sqlx::Result<Vec<Checkpoint>> {
        let names: Vec<&str> = self.models.iter().map(|model| model.name()).collect();
        let known = read_checkpoints(connection, &names).await?;
        if known.len() == names.len() {
            return Ok(known);
        }
        sqlx::query(
            "insert into projection_checkpoints (projection, position, updated_at)
             select unnest($1::text[]), 0, $2 on conflict do nothing",
        )
        .bind(&names)
        .bind(self.clock.now())
        .execute(&mut *connection)
        .await?;
        read_checkpoints(connection, &names).await
    }

    async fn lowest_checkpoint(&self, connection: &mut PgConnection) -> sqlx::Result<i64> {
        let checkpoints = self.checkpoints(connection).await?;
        Ok(checkpoints.into_iter().map(|at| at.position).min().unwrap_or(0))
    }
}

/// Where a projection is, and which making of its read model that is.
#[derive(FromRow)]
struct Checkpoint {
    projection: String,
    position: i64,
    generation: i64,
}

async fn read_checkpoints(connection: &mut PgConnection, names: &[&str]) -> sqlx::Result<Vec<Checkpoint>> {
    sqlx::query_as("select projection, position, generation from projection_checkpoints where projection = any($1)")
        .bind(names)
        .fetch_all(connection)
        .await
}

/// The statement that moves the checkpoints from `from` to `to`; whatever is added to it over `ok` is written only if
/// they are there, and the read models are those that were read.
fn conditional(
    projections: &[String],
    generations: Vec<i64>,
    from: i64,
    to: i64,
    now: DateTime<Utc>,
) -> Result<Statement, FoldError> {
    let mut statement = Statement::default();
    let [names, from, to, now] =
        [statement.bind(projections)?, statement.bind(from)?, statement.bind(to)?, statement.bind(now)?];
    let generations = statement.bind(generations)?;
    statement.part(
        "mine",
        format_args!(
            "select projection from projection_checkpoints
             where projection = any({names}) and position = {from}
                 and generation = ({generations}::bigint[])[array_position({names}, projection)]
             order by projection for update"
        ),
    );
    statement.part("ok", format_args!("select 1 as ok where (select count(*) from mine) = cardinality({names})"));
    statement.part(
        "moved",
        format_args!(
            "update projection_checkpoints c set position = {to}, updated_at = {now} from ok
             where c.projection = any({names}) returning 1"
        ),
    );
    Ok(statement)
}

/// Writes the rows and moves the checkpoints. False: they were elsewhere, nothing is written.
async fn write(pool: PgPool, statement: Statement) -> sqlx::Result<bool> {
    let (text, arguments) = statement.ending("select count(*) from moved");
    let moved: i64 = sqlx::query_scalar_with(&text, arguments).fetch_one(&pool).await?;
    Ok(moved > 0)
}

/// Passes on what other processes announce; a hint, so that a failure costs no more than the poll's delay.
async fn listen(pool: PgPool, news: Arc<Notify>) {
    loop {
        let listened = async {
            let mut listener = PgListener::connect_with(&pool).await?;
            listener.listen(CHANNEL).await?;
            loop {
                listener.recv().await?;
                news.notify_one();
            }
        };
        let result: sqlx::Result<()> = listened.await;
        if let Err(error) = result {
            tracing::debug!(%error, "not listening for news: {error}");
        }
        tokio::time::sleep(BACK_OFF).await;
    }
}

/// Chance for the name of this process; all zero if the machine has none, which only costs a contested lease.
fn random() -> [u8; 16] {
    let mut bytes = [0; 16];
    let _ = aws_lc_rs::rand::fill(&mut bytes);
    bytes
}
