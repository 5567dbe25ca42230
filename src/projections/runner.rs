//! The projector: reads the log in order and keeps the read models, each event counting exactly once.
//!
//! ```text
//! lease ─► where everybody stands ─► whose turn ─► batch in order ─► fold in memory ─► one statement ─► waiters
//!                                                                                  └─► large: and one beside it
//! ```
//!
//! The statement writes only if the checkpoints are where this process left them. A process that lost its turn
//! therefore writes nothing, whatever it believes; the lease merely keeps two from trying all the time.
//!
//! | what goes wrong | what is done |
//! |---|---|
//! | a fold refuses an event | its entity is parked with what follows of it; the rest goes on |
//! | many are refused at once, or one that no entity can be parked for | that projection stops; the others go on |
//! | the database refuses a batch | it is halved until the event is found, which is then refused |
//! | the database fails | everybody tries again |
//!
//! Whoever stands right behind this process's own appender gets the events from there, and everybody is taken to stand
//! where this process left them until the statement, another process's announcement or the clock says otherwise: so
//! a batch at the end of the log is one round trip.
//!
//! Turns go round between projections that stand at different positions, and between the main line and the lanes of
//! tenants that have more than a batch waiting: whoever does not stand behind such a tenant waits for one batch.

mod refusal;
mod surroundings;
mod turns;

use std::collections::{BTreeMap, HashMap};
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::{JoinAll, join_all};
use sqlx::pool::PoolConnection;
use sqlx::postgres::PgConnection;
use sqlx::{PgPool, Postgres};
use tokio::sync::watch;
use tokio::task::{JoinError, JoinHandle};
use tokio::time::Instant;
use uuid::Uuid;

use refusal::panicked;
use surroundings::{listen, random};
use turns::last_of_each;

use super::fact::Told;
use super::gauges::Gauges;
use super::model::{Batch, FoldError, Model, Poison};
use super::progress::{Known, Progress, Projections};
use super::standing::{Lane, Line, MOVED, Member, Place, Standing, step};
use super::statement::Statement;
use super::written::Written;
use crate::aggregates::ids::TenantId;
use crate::clock::Clock;
use crate::event_store::reader::{Entry, entries_between, entries_of};
use crate::event_store::tail::Tail;
use crate::event_store::{Cell, in_time, is_refusal};

/// Events folded and written at once.
const BATCH: i64 = 1_000;
/// The same when the read models are far behind: the more an entity changes within a batch, the less is written.
const FAR_BEHIND: i64 = 4_000;
/// How much of the log the main line looks through at once for events of tenants that have no lane.
const WINDOW: i64 = 50_000;
/// The most of the log that is looked through to find out who has moved; beyond, each tenant is looked up when asked.
const MOVES: i64 = 10_000;
/// How long a process that has stopped answering keeps others from taking over.
const LEASE: Duration = Duration::from_secs(5);
/// How often the log and the checkpoints are looked at when nobody has said that there is something new.
const POLL: Duration = Duration::from_millis(200);
/// The same while another process writes them and somebody waits here: nobody says when that has come so far.
const POLL_FOR_WAITERS: Duration = Duration::from_millis(5);
/// How long events that nobody waits for may wait for others: a batch costs much the same however small it is, and takes
/// a core from the appender meanwhile.
const LINGER: Duration = Duration::from_millis(100);
/// The same as long as other processes write, too: whether somebody waits there is not known here.
const LINGER_FOR_OTHERS: Duration = Duration::from_millis(10);
/// How long a process that has written is expected to write again.
const OTHERS: Duration = Duration::from_secs(2);
/// So many are a batch that does not wait for more, and that is made ready while the one before is written.
const ENOUGH: i64 = 64;
/// Fewer wait until they are so many.
const PLENTY: i64 = 256;
/// A batch of so many events is worth a second statement for what is written beside: more than one statement can take
/// is waiting then. Before that, the second one only takes a core from the appender.
const BESIDE: usize = 1_000;
/// The pause after a failure.
const BACK_OFF: Duration = Duration::from_millis(500);
/// How often a projection that has stopped is tried again.
const AGAIN: Duration = Duration::from_secs(5);

/// What came of a statement, and the connection that it was written over.
type Ended = (sqlx::Result<bool>, PoolConnection<Postgres>);

/// Why a round came to nothing.
#[derive(Debug, thiserror::Error)]
enum RoundError {
    #[error(transparent)]
    Database(#[from] sqlx::Error),
    #[error("a statement cannot be written down: {0}")]
    Encode(sqlx::error::BoxDynError),
    /// A projection cannot go on from where it is.
    #[error("{} has stopped: {reason}", member.name)]
    Stopped { member: Member, reason: String },
}

impl From<sqlx::error::BoxDynError> for RoundError {
    fn from(error: sqlx::error::BoxDynError) -> Self {
        Self::Encode(error)
    }
}

/// What writes a batch: one statement or, on connections of their own at the same time, one for those projections too that
/// are [written beside](Model::is_beside) the others. Each moves the checkpoints of its own.
type Statements = Vec<Statement>;

/// What statements do if they are written.
struct Step {
    members: Vec<Member>,
    line: Line,
    events: usize,
    /// How far each tenant comes in its own history.
    tenants: HashMap<TenantId, i64>,
    /// Every projection takes part in it.
    everybody: bool,
    /// It is as large as it may be, so there will be more.
    full: bool,
    /// Some entity is set aside.
    parks: bool,
    /// The rows that somebody waits for.
    rows: Vec<Written>,
}

/// What there is to do.
enum Prepared {
    Batch(Box<(Statements, Step)>),
    /// There is nothing new.
    Idle,
    /// Another process writes.
    Elsewhere,
    /// Things are different now: look again.
    Again,
}

/// What a round did.
enum Round {
    /// There may be more to do.
    More,
    /// There is nothing new.
    Rest,
    /// Another process writes.
    Elsewhere,
}

/// Feeds the read models of one cell.
pub struct Projector {
    pool: PgPool,
    /// How long it waits for the database.
    patience: Duration,
    /// Those that it works over, the one for the first statement last, as long as they work: whatever the server keeps
    /// for a session is warm there.
    connections: Vec<PoolConnection<Postgres>>,
    cell: Arc<str>,
    clock: Clock,
    models: Vec<Box<dyn Model>>,
    owner: Uuid,
    leased_until: Option<Instant>,
    /// Where everybody stands, as far as this process knows, and where the log ends.
    standings: Vec<Standing>,
    head: i64,
    /// When that was looked up; none if it may be different now.
    looked: Option<Instant>,
    /// What this process has appended last.
    tail: Tail,
    /// The last position that a process has announced.
    announced: watch::Receiver<i64>,
    /// When events were found last that this process has not at hand.
    others: Option<Instant>,
    /// Where this process left each projection; what its model remembers holds only there.
    left: HashMap<String, Place>,
    /// Since when it has worked without a rest for the main line to come forward.
    since: Instant,
    /// The batch after the last one, if it was made ready while that was written.
    next: Option<Box<(Statements, Step)>>,
    /// Counts the turns between those who stand at different positions, and between the main line and the lanes.
    turns: (usize, usize),
    /// How many events at once, after the database refused some.
    careful: Option<i64>,
    /// When each projection that has stopped was tried last.
    tried: HashMap<String, Instant>,
    /// The position up to which it is known how far each tenant is.
    moved_to: i64,
    progress: watch::Sender<Progress>,
    known: Arc<Known>,
    gauges: Gauges,
}

impl Projector {
    /// Starts the projector of a cell. It ends when `stop` says so.
    #[must_use]
    pub fn start(
        cell: &Cell,
        clock: Clock,
        models: Vec<Box<dyn Model>>,
        tail: Tail,
        stop: watch::Receiver<bool>,
    ) -> (Projections, JoinHandle<()>) {
        let Cell { name, patience, projector: pool, .. } = cell.clone();
        let (progress, watched) = watch::channel(Progress::default());
        let known = Arc::new(Known::default());
        let (announcing, announced) = watch::channel(0);
        let listener = tokio::spawn(listen(pool.clone(), announcing));
        let projector = Self {
            pool,
            patience,
            connections: Vec::new(),
            cell: name,
            clock,
            models,
            owner: Uuid::from_u128(u128::from_be_bytes(random())),
            leased_until: None,
            standings: Vec::new(),
            head: 0,
            looked: None,
            tail,
            announced,
            others: None,
            left: HashMap::new(),
            since: Instant::now(),
            next: None,
            turns: (0, 0),
            careful: None,
            tried: HashMap::new(),
            moved_to: -1,
            progress,
            known: Arc::clone(&known),
            gauges: Gauges::default(),
        };
        let task = tokio::spawn(async move {
            let known = Arc::clone(&projector.known);
            projector.run(stop).await;
            known.hang_up();
            listener.abort();
        });
        (Projections { progress: watched, known }, task)
    }

    async fn run(mut self, mut stop: watch::Receiver<bool>) {
        let (mut head, mut announced) = (self.tail.head(), self.announced.clone());
        while !*stop.borrow() {
            let (pause, elsewhere) = match self.round().await {
                Ok(Round::More) => {
                    self.report(None);
                    tokio::select! {
                        () = self.linger() => {}
                        _ = stop.changed() => {}
                    }
                    continue;
                }
                Ok(round @ (Round::Rest | Round::Elsewhere)) => {
                    self.report(None);
                    (POLL, matches!(round, Round::Elsewhere))
                }
                Err(RoundError::Stopped { member, reason }) => {
                    match in_time(self.patience, self.stopped(&member, &reason)).await {
                        Ok(()) => continue,
                        Err(error) => (self.failed(&error.into()), false),
                    }
                }
                Err(error) => (self.failed(&error), false),
            };
            tokio::select! {
                _ = head.changed() => {}
                Ok(()) = announced.changed() => {}
                _ = stop.changed() => {}
                () = self.look_for_waiters(), if elsewhere => {}
                () = tokio::time::sleep(pause) => {}
            }
            self.since = Instant::now();
        }
        if self.leased_until.is_some() {
            let release =
                sqlx::query("update projector_lease set lease_until = '-infinity' where cell = $1 and owner = $2")
                    .bind(&*self.cell)
                    .bind(self.owner)
                    .execute(&self.pool);
            let _ = in_time(self.patience, release).await;
        }
    }

    /// Until it is time to look whether another process has written what somebody waits for here.
    async fn look_for_waiters(&self) {
        self.known.wanted().await;
        tokio::time::sleep(POLL_FOR_WAITERS).await;
    }

    /// Lets a little come together, as long as nobody waits for it and it is less than a batch.
    async fn linger(&mut self) {
        self.head = self.head.max(self.tail.position());
        let lowest = self.lowest();
        if self.head - lowest >= ENOUGH {
            return;
        }
        let others = self.others.is_some_and(|found| found.elapsed() < OTHERS);
        let (known, tail) = (self.head, &self.tail);
        let mut announced = self.announced.clone();
        tokio::select! {
            () = self.known.wanted() => {}
            () = tail.reached(lowest + PLENTY) => {}
            // What this process announces it has written before.
            Ok(_) = announced.wait_for(|announced| *announced > known.max(tail.position())) => {}
            () = tokio::time::sleep(if others { LINGER_FOR_OTHERS } else { LINGER }) => {}
        }
        self.since = Instant::now();
    }

    fn failed(&mut self, error: &RoundError) -> Duration {
        self.forget();
        let position = self.progress.borrow().position;
        if self.report(Some(error.to_string())) {
            tracing::error!(%error, position, "the read models stopped at {position}: {error}");
        }
        BACK_OFF
    }

    /// Tells whoever waits. True if that was news.
    fn report(&mut self, failure: Option<String>) -> bool {
        if failure.is_some() || self.progress.borrow().failure.is_some() {
            self.gauges.show(&self.standings, self.head, failure.is_some());
        }
        let mut lanes: BTreeMap<TenantId, i64> = BTreeMap::new();
        for (tenant, lane) in self.standings.iter().flat_map(|standing| &standing.place.lanes) {
            let at = lanes.entry(*tenant).or_insert(lane.position);
            *at = lane.position.min(*at);
        }
        let stopped =
            self.standings.iter().filter_map(|standing| Some((standing.name.clone(), standing.stopped.clone()?)));
        let next = Progress { position: self.lowest(), lanes, stopped: stopped.collect(), failure };
        let news = self.progress.send_if_modified(|progress| {
            let news = *progress != next;
            progress.clone_from(&next);
            news
        });
        self.known.tell(&next);
        news
    }

    /// The position of the last in the line of registered projections.
    fn lowest(&self) -> i64 {
        self.standings.iter().map(|standing| standing.place.position).min().unwrap_or(0)
    }

    fn forget(&mut self) {
        self.leased_until = None;
        self.forget_rows();
    }

    fn forget_rows(&mut self) {
        self.looked = None;
        self.next = None;
        self.left.clear();
        self.known.written.forget();
        for model in &mut self.models {
            model.forget();
        }
    }

    /// One batch: made ready, unless it is already, and written. The next one is made ready meanwhile as soon as enough has
    /// come for it.
    async fn round(&mut self) -> Result<Round, RoundError> {
        let patience = self.patience;
        let (statements, mut step) = match in_time(patience, self.next_batch()).await? {
            Prepared::Batch(batch) => *batch,
            Prepared::Again => return Ok(Round::More),
            Prepared::Idle => return Ok(Round::Rest),
            Prepared::Elsewhere => return Ok(Round::Elsewhere),
        };
        let mut writing = pin!(self.begin_to_write(statements).await?);
        let (next, written) = tokio::select! {
            biased;
            () = self.enough_after(&step) => (in_time(patience, self.prepare_after(&step)).await, writing.await),
            written = &mut writing => (Ok(None), written),
        };
        // If a part is written and another is not, then those of the one are ahead of those of the other: all is looked up
        // again, as if none were.
        match self.written(written) {
            Ok(true) => {}
            Ok(false) => {
                // Somebody is elsewhere than thought: rebuilt, unparked, or another process's.
                self.forget();
                return Ok(Round::More);
            }
            Err(error) if is_refusal(&error) => {
                self.forget_rows();
                return self.refused(step, &error).await;
            }
            Err(error) => return Err(error.into()),
        }
        self.careful = self.careful.map(|most| most * 2).filter(|most| *most < BATCH);
        self.made(&step);
        self.known.written.add(std::mem::take(&mut step.rows));
        if step.parks {
            in_time(patience, self.look_at_parked()).await?;
        }
        match next {
            Ok(next) => self.next = next,
            // What is written is written. The next round meets the failure again, and reports it.
            Err(_) => self.forget_rows(),
        }
        Ok(Round::More)
    }

    /// Until a batch's worth of events follows those of `step`: at once if it is full.
    async fn enough_after(&self, step: &Step) {
        let (Line::Main { to, .. }, false) = (&step.line, step.full) else { return };
        self.tail.reached(to + ENOUGH).await;
    }

    async fn begin_to_write(&mut self, statements: Statements) -> sqlx::Result<JoinAll<JoinHandle<Ended>>> {
        // All of them before any is on its way: none goes on unwatched because there is no connection for the next.
        let mut ready = Vec::with_capacity(statements.len());
        for statement in statements {
            ready.push((statement, self.own_connection().await?));
        }
        let patience = self.patience;
        let write = |(statement, mut connection): (Statement, PoolConnection<Postgres>)| {
            tokio::spawn(async move {
                let written = in_time(patience, write(&mut connection, statement)).await;
                (written, connection)
            })
        };
        let writing = join_all(ready.into_iter().map(write));
        // They go on their way before anything else is computed on this thread.
        tokio::task::yield_now().await;
        Ok(writing)
    }

    /// Whether all of it is written; the first error, if there is one.
    fn written(&mut self, writings: Vec<Result<Ended, JoinError>>) -> sqlx::Result<bool> {
        let mut outcome = Ok(true);
        let mut connections = Vec::with_capacity(writings.len());
        for ended in writings {
            let (written, connection) = ended.map_err(|ended| sqlx::Error::Io(std::io::Error::other(ended)))?;
            if written.is_ok() {
                connections.push(connection);
            }
            outcome = match (outcome, written) {
                (Ok(all), Ok(this)) => Ok(all && this),
                (Err(error), _) | (Ok(_), Err(error)) => Err(error),
            };
        }
        connections.reverse();
        self.connections.append(&mut connections);
        outcome
    }

    /// The batch that was made ready ahead, unless that would let somebody wait behind a tenant who has much to read.
    async fn next_batch(&mut self) -> Result<Prepared, RoundError> {
        if let Some(batch) = self.next.take() {
            let step = &batch.1;
            let (&Line::Main { to, .. }, true) = (&step.line, step.full) else { return Ok(Prepared::Batch(batch)) };
            let mut connection = self.own_connection().await?;
            let crowding = self.crowding(&mut connection, &step.tenants, to).await?;
            self.connections.push(connection);
            if crowding.is_empty() {
                return Ok(Prepared::Batch(batch));
            }
            self.forget_rows();
        }
        self.prepare().await
    }

    async fn prepare(&mut self) -> Result<Prepared, RoundError> {
        let mut connection = self.own_connection().await?;
        let prepared = self.prepare_over(&mut connection).await;
        if prepared.is_ok() {
            self.connections.push(connection);
        }
        prepared
    }

    /// The next connection to work over; it is put back once it has worked. One over which something failed is closed: the
    /// pool would wait for an answer before it takes it back.
    async fn own_connection(&mut self) -> sqlx::Result<PoolConnection<Postgres>> {
        if let Some(connection) = self.connections.pop() {
            return Ok(connection);
        }
        let mut connection = self.pool.acquire().await?;
        connection.close_on_drop();
        Ok(connection)
    }

    /// Takes the lease if it has to, looks where everybody stands, and makes the batch ready of whoever's turn it is.
    async fn prepare_over(&mut self, connection: &mut PgConnection) -> Result<Prepared, RoundError> {
        let mine = self.hold_lease(connection).await?;
        if !mine || !self.knows() {
            self.look(connection).await?;
        }
        if !mine {
            return Ok(Prepared::Elsewhere);
        }
        let Some((members, place)) = self.whose_turn() else { return Ok(Prepared::Idle) };
        let lane = self.lane_whose_turn(&place);
        if let Some((tenant, from)) = lane {
            let entries = entries_of(&mut *connection, tenant, from.tenant_position, self.most(BATCH)).await?;
            let found = entries.len();
            let entries: Vec<Entry> =
                entries.into_iter().take_while(|entry| entry.recorded.position <= place.position).collect();
            // Fewer than there may be, or some beyond the main line: there are no more before it.
            let ends = entries.len() < found || (found as u64) < self.most(BATCH).unsigned_abs();
            let to = entries.last().map_or(from, |entry| Lane {
                position: entry.recorded.position,
                tenant_position: entry.recorded.tenant_position,
            });
            let line = Line::Lane { tenant, from, to, main: place.position, ends };
            return self.fold(connection, members, line, entries, !ends, None).await;
        }
        // Those who are behind others come no further than to them, to go on together.
        let ahead =
            self.standings.iter().map(|standing| standing.place.position).filter(|at| *at > place.position).min();
        let but_for: Vec<String> = place.lanes.keys().map(ToString::to_string).collect();
        let mut last = ahead.unwrap_or(i64::MAX);
        if !but_for.is_empty() {
            last = last.min(self.head).min(place.position + WINDOW);
        }
        let most = self.most(BATCH);
        let from = place.position;
        let at_hand =
            if last == i64::MAX { self.tail.take_after(from, usize::try_from(most).unwrap_or(0)) } else { None };
        let entries = match at_hand {
            Some(entries) => entries,
            None => self.read_log(connection, (from, last), &but_for, most).await?,
        };
        let full = (entries.len() as u64) >= most.unsigned_abs();
        if full && ahead.is_none() && self.careful.is_none() {
            let seen = last_of_each(&entries);
            let to = entries.last().map_or(from, |entry| entry.recorded.position);
            let crowding = self.crowding(connection, &seen, to).await?;
            if !crowding.is_empty() {
                self.open_lanes(connection, members, from, &entries, &crowding).await?;
                return Ok(Prepared::Again);
            }
        }
        let to = match entries.last() {
            Some(entry) if full || but_for.is_empty() => entry.recorded.position,
            _ if but_for.is_empty() => return Ok(Prepared::Idle),
            _ => last,
        };
        let line = Line::Main { from, to, but_for };
        self.fold(connection, members, line, entries, full, None).await
    }

    /// The batch after one that is being written: everybody will be where that leads, or it will not be written. Only
    /// where nothing else can come in between.
    async fn prepare_after(&mut self, step: &Step) -> Result<Option<Box<(Statements, Step)>>, RoundError> {
        let Line::Main { to: from, but_for, .. } = &step.line else { return Ok(None) };
        if !step.everybody || !but_for.is_empty() || self.careful.is_some() {
            return Ok(None);
        }
        let mut connection = self.own_connection().await?;
        let prepared = self.prepare_after_over(&mut connection, step, *from).await;
        if prepared.is_ok() {
            self.connections.push(connection);
        }
        prepared
    }

    async fn prepare_after_over(
        &mut self,
        connection: &mut PgConnection,
        step: &Step,
        from: i64,
    ) -> Result<Option<Box<(Statements, Step)>>, RoundError> {
        if !self.hold_lease(connection).await? {
            return Ok(None);
        }
        let (entries, most) = match self.tail.take_after(from, usize::try_from(BATCH).unwrap_or_default()) {
            Some(entries) => (entries, BATCH),
            None => (self.read_log(connection, (from, i64::MAX), &[], FAR_BEHIND).await?, FAR_BEHIND),
        };
        let Some(to) = entries.last().map(|entry| entry.recorded.position) else { return Ok(None) };
        let full = (entries.len() as u64) >= most.unsigned_abs();
        if full && !self.crowding(connection, &last_of_each(&entries), to).await?.is_empty() {
            return Ok(None);
        }
        let line = Line::Main { from, to, but_for: Vec::new() };
        match self.fold(connection, step.members.clone(), line, entries, full, None).await? {
            Prepared::Batch(batch) => Ok(Some(batch)),
            Prepared::Idle | Prepared::Elsewhere | Prepared::Again => Ok(None),
        }
    }

    /// Events that this process has not at hand, because others wrote them or it has come to them late.
    async fn read_log(
        &mut self,
        connection: &mut PgConnection,
        between: (i64, i64),
        but_for: &[String],
        most: i64,
    ) -> sqlx::Result<Vec<Entry>> {
        self.others = Some(Instant::now());
        entries_between(connection, between, but_for, most).await
    }

    /// How many events at once, of `most`.
    fn most(&self, most: i64) -> i64 {
        self.careful.map_or(most, |careful| careful.min(most))
    }

    /// Folds a batch for the members.
    async fn fold(
        &mut self,
        connection: &mut PgConnection,
        members: Vec<Member>,
        line: Line,
        entries: Vec<Entry>,
        full: bool,
        refused: Option<&Poison>,
    ) -> Result<Prepared, RoundError> {
        let (tenants, events) = (last_of_each(&entries), entries.len());
        let refused = refused.and_then(|poison| Some((entries.first()?.recorded.position, poison)));
        let told: Vec<Told> = entries.into_iter().map(Told::of_entry).collect();
        let now = self.clock.now();
        let everybody = members.len() == self.models.len();
        let beside = |member: &Member| self.models.iter().any(|model| model.is_beside() && model.name() == member.name);
        let (apart, together): (Vec<Member>, Vec<Member>) =
            members.iter().cloned().partition(|member| everybody && events >= BESIDE && beside(member));
        let mut parts = Vec::new();
        for group in [together, apart].into_iter().filter(|group| !group.is_empty()) {
            let statement = step(&group, &line, now)?;
            parts.push((group, statement));
        }
        let (mut parks, mut rows) = (false, Vec::new());
        let awaited = self.known.is_awaited();
        let alike = are_alike(&told);
        for model in &mut self.models {
            let Some(member) = members.iter().find(|member| member.name == model.name()) else { continue };
            let Some((_, statement)) = parts.iter_mut().find(|(group, _)| group.contains(member)) else { continue };
            let batch = Batch { told: &told, refused, now, awaited, alike };
            let folded = AssertUnwindSafe(model.fold(connection, batch, statement)).catch_unwind().await;
            match folded.unwrap_or_else(|panic| Err(FoldError::Stopped(panicked(&*panic)))) {
                Ok(folded) => {
                    parks |= folded.parked > 0;
                    rows.extend(folded.rows);
                }
                Err(FoldError::Database(error)) => return Err(error.into()),
                Err(error) => {
                    return Err(RoundError::Stopped { member: member.clone(), reason: error.to_string() });
                }
            }
        }
        let step = Step { members, line, events, tenants, everybody, full, parks, rows };
        let statements = parts.into_iter().map(|(_, statement)| statement).collect();
        Ok(Prepared::Batch(Box::new((statements, step))))
    }

    /// A step was written.
    fn made(&mut self, step: &Step) {
        match &step.line {
            Line::Main { from, to, .. } => {
                self.move_members(&step.members, |place| place.position = *to);
                // How fast this goes, turns of lanes included; where some catch up with others, that is nobody's pace.
                if step.everybody {
                    self.tail.dealt_with(step.events, self.since.elapsed());
                }
                self.since = Instant::now();
                if step.everybody && self.moved_to == *from {
                    self.moved_to = *to;
                    self.known.advance(step.tenants.clone());
                }
            }
            Line::Lane { tenant, to, ends, .. } => {
                self.move_members(&step.members, |place| {
                    if *ends {
                        place.lanes.remove(tenant);
                        place.generation += 1;
                    } else {
                        place.lanes.insert(*tenant, *to);
                    }
                });
                if step.everybody {
                    self.known.advance(step.tenants.clone());
                }
            }
        }
    }

    fn move_members(&mut self, members: &[Member], moved: impl Fn(&mut Place)) {
        for standing in &mut self.standings {
            if members.iter().any(|member| member.name == standing.name) {
                moved(&mut standing.place);
                if standing.stopped.take().is_some() {
                    tracing::info!(projection = standing.name, "{} goes on", standing.name);
                }
                self.left.insert(standing.name.clone(), standing.place.clone());
            }
        }
    }
}

/// Whether all of these are about one type of aggregate.
fn are_alike(told: &[Told]) -> bool {
    let mut types = told.iter().filter_map(Told::recorded).map(|recorded| &recorded.aggregate_type);
    let first = types.next();
    types.all(|other| Some(other) == first)
}

/// Writes the rows and moves the checkpoints. False: they were elsewhere, nothing is written.
async fn write(connection: &mut PgConnection, statement: Statement) -> sqlx::Result<bool> {
    let (text, arguments) = statement.ending(MOVED);
    let moved: i64 = sqlx::query_scalar_with(&text, arguments).fetch_one(connection).await?;
    Ok(moved > 0)
}
