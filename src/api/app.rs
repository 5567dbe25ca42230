//! What every handler works with: the store, the read models, access, time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use sqlx::PgPool;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::authentication::LastKnown;
use super::caller::Caller;
use super::limits::{Limiter, RateLimits};
use super::lookup::Records;
use super::readers::Readers;
use super::standing::Standings;
use super::{Problem, system};
use crate::access::Access;
use crate::access::secrets::{MasterKey, Purpose};
use crate::aggregates::ids::TenantId;
use crate::clock::Clock;
use crate::event_store::reader::{cell_position, tenant_position};
use crate::event_store::{Database, EventStore, TenantScope};
use crate::gather::Gather;
use crate::projections::{self, Projections, Projector, rebuild, search, verify};

/// Who issues access tokens and whom they are for.
const ISSUER: &str = "devhub";

/// Everything that a handler needs; cheap to clone.
#[derive(Clone)]
pub struct App(Arc<Parts>);

/// What [`App`] shares.
pub struct Parts {
    /// The pools.
    pub database: Database,
    /// The log.
    pub store: EventStore,
    /// The read models.
    pub projections: Projections,
    /// Sign-in, sessions, keys.
    pub access: Access,
    /// The time.
    pub clock: Clock,
    /// Rate limits.
    pub limiter: Limiter,
    /// Who is calling, asked for all who call at once.
    pub standings: Gather<Standings>,
    /// What sessions stood for the last time.
    pub last_known: LastKnown,
    /// Single records, asked for all who read one of the same business and kind.
    pub records: Gather<Records>,
    /// Over which lists, and what happened in one business, are read.
    pub readers: Readers,
    /// Over which the founder reads what happened anywhere.
    pub founder_readers: Readers,
    /// Seals cursors.
    pub cursor_key: [u8; 32],
}

impl std::ops::Deref for App {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}

/// The tasks behind an [`App`]: the appender and the projector.
pub struct Tasks {
    stop: watch::Sender<bool>,
    appender: JoinHandle<()>,
    projector: JoinHandle<()>,
    housekeeping: JoinHandle<()>,
}

impl Tasks {
    /// Lets what was begun be finished, then ends. Every [`App`] must be gone, or the appender goes on waiting
    /// for commands; after `limit` it is ended anyway.
    pub async fn stop(mut self, limit: Duration) {
        let _ = self.stop.send(true);
        self.housekeeping.abort();
        let ended = tokio::time::timeout(limit, async {
            let _ = (&mut self.projector).await;
            let _ = (&mut self.appender).await;
        });
        if ended.await.is_err() {
            self.projector.abort();
            self.appender.abort();
            tracing::warn!("some commands were still waiting when the server stopped");
        }
    }
}

impl App {
    /// Opens the log, starts the projector and everything else on a database that is up to date.
    ///
    /// # Errors
    /// If the keys cannot be loaded.
    pub async fn start(
        database: Database,
        clock: Clock,
        master: MasterKey,
        limits: RateLimits,
    ) -> anyhow::Result<(Self, Tasks)> {
        let access = Access::start(database.platform.clone(), clock.clone(), master, ISSUER, ISSUER).await?;
        Self::with(database, clock, access, limits).await
    }

    /// The same for work beside the server, in which nobody signs in: without the master key, which only a server needs.
    ///
    /// # Errors
    /// If the operating system has no random bytes.
    pub async fn start_without_keys(database: Database, clock: Clock) -> anyhow::Result<(Self, Tasks)> {
        let access = Access::without_keys(database.platform.clone(), clock.clone(), ISSUER, ISSUER)?;
        Self::with(database, clock, access, RateLimits::default()).await
    }

    async fn with(
        database: Database,
        clock: Clock,
        access: Access,
        limits: RateLimits,
    ) -> anyhow::Result<(Self, Tasks)> {
        let cell = database.cell_of(TenantId::Platform).clone();
        // What nobody reads is no reason not to serve.
        if let Err(error) = rebuild::clean_up(&cell, &clock).await {
            tracing::warn!(%error, "what rebuilds have left was not thrown away: {error}");
        }
        let (store, appender) = EventStore::open(&cell, clock.clone());
        let (stop, stopping) = watch::channel(false);
        let (projections, projector) =
            Projector::start(&cell, clock.clone(), projections::all(), store.tail(), stopping);
        let cursor_key = access.master.key_for(Purpose::Cursors)?;
        let limiter = Limiter::new(limits);
        let standings = Gather::new(Standings::new(&cell.sign_in, clock.clone()), STANDING_DESKS);
        let records = Gather::new(Records::new(&cell.request), RECORD_DESKS);
        let readers = Readers::new(&cell.request);
        let founder_readers = Readers::new(&cell.founder);
        let app = Self(Arc::new(Parts {
            database,
            store,
            projections,
            access,
            clock,
            limiter,
            standings,
            last_known: LastKnown::default(),
            records,
            readers,
            founder_readers,
            cursor_key,
        }));
        let parts = Arc::downgrade(&app.0);
        let housekeeping = tokio::spawn(async move {
            let signing = sign_searched(parts.clone());
            tokio::select! { () = housekeep(parts) => {} () = signing => {} () = system::upkeep() => {} }
        });
        Ok((app, Tasks { stop, appender, projector, housekeeping }))
    }

    /// The position of the last event that this process stored.
    #[must_use]
    pub fn head(&self) -> i64 {
        *self.store.head().borrow()
    }

    /// What day it is, in UTC.
    #[must_use]
    pub fn today(&self) -> chrono::NaiveDate {
        self.clock.now().date_naive()
    }

    /// Reads the rows of the caller's tenant, and of no other.
    #[must_use]
    pub fn reader(&self, caller: &Caller) -> &PgPool {
        &self.database.cell_of(caller.tenant()).request
    }

    /// The position in a tenant's history up to which whatever is read from now on includes everything. The last of
    /// the registered projections counts; it is never too high.
    ///
    /// # Errors
    /// The database's.
    pub async fn position(&self, scope: TenantScope) -> Result<i64, Problem> {
        let tenant = scope.tenant();
        if let Some(position) = self.projections.position_of(tenant) {
            return Ok(position);
        }
        let progress = self.projections.progress();
        let pool = &self.database.cell_of(tenant).request;
        let position = tenant_position(pool, scope, progress.of(tenant)).await?;
        self.projections.remember(tenant, &progress, position);
        Ok(position)
    }

    /// Waits until the read models have taken the event at `position` of a tenant's history.
    ///
    /// # Errors
    /// `projection_lagging` after two seconds.
    pub async fn seen(&self, scope: TenantScope, position: i64) -> Result<(), Problem> {
        let tenant = scope.tenant();
        if self.projections.position_of(tenant).is_some_and(|known| known >= position) || position <= 0 {
            return Ok(());
        }
        let deadline = tokio::time::Instant::now() + PATIENCE;
        let mut progress = self.projections.watch();
        let pool = &self.database.cell_of(tenant).request;
        loop {
            progress.mark_unchanged();
            if let Some(stored) = cell_position(pool, scope, position).await? {
                let left = deadline.saturating_duration_since(tokio::time::Instant::now());
                let reached = self.projections.reached_of(tenant, stored, left).await;
                return reached.map_err(|_| Problem::projection_lagging());
            }
            // Nobody has stored it yet: whatever is stored next may be it.
            match tokio::time::timeout_at(deadline, progress.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) | Err(_) => return Err(Problem::projection_lagging()),
            }
        }
    }

    /// Waits until what stands of a tenant up to `position` of the cell's log can be read.
    ///
    /// # Errors
    /// `projection_lagging` after two seconds.
    pub async fn readable(&self, tenant: TenantId, position: i64) -> Result<(), Problem> {
        self.projections.reached_of(tenant, position, PATIENCE).await.map_err(|_| Problem::projection_lagging())
    }
}

/// Connections over which is asked who is calling: while one asks, the next question is gathered.
const STANDING_DESKS: usize = 2;
/// Connections over which single records are read.
const RECORD_DESKS: usize = 4;
/// How long an answer waits for the read models.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often it is looked whether there is something to sign for those who search.
const UNSIGNED: Duration = Duration::from_secs(5);
/// The same if there was, and may be more.
const SIGNED: Duration = Duration::from_secs(1);
/// How many times as long as it took that rests, at least.
const SIGNING_RESTS: u32 = 9;
/// How often what is over is removed.
const HOUSEKEEPING: Duration = Duration::from_secs(300);
/// How long a stored answer is kept.
const ANSWERS_KEPT_DAYS: i32 = 7;

async fn housekeep(parts: std::sync::Weak<Parts>) {
    if let Some(parts) = parts.upgrade() {
        measure(&parts).await;
    }
    loop {
        tokio::time::sleep(HOUSEKEEPING).await;
        let Some(parts) = parts.upgrade() else { return };
        if let Err(error) = parts.access.tidy().await {
            tracing::warn!(%error, "old sessions were not removed: {error}");
        }
        for cell in parts.database.cells() {
            let removed = sqlx::query("delete from idempotency_keys where created_at < $1 - make_interval(days => $2)")
                .bind(parts.clock.now())
                .bind(ANSWERS_KEPT_DAYS)
                .execute(&cell.appender)
                .await;
            if let Err(error) = removed {
                tracing::warn!(%error, "old answers were not removed: {error}");
            }
            if let Err(error) = verify::tidy(&cell.replayer, parts.clock.now()).await {
                tracing::warn!(%error, "old verifications were not removed: {error}");
            }
            if let Err(error) = verify::run_if_due(cell, &parts.clock).await {
                tracing::error!(%error, "tonight's verification came to nothing: {error}");
            }
        }
        measure(&parts).await;
    }
}

/// Keeps up with what is searched in large businesses, a tenth of the time.
async fn sign_searched(parts: std::sync::Weak<Parts>) {
    let mut pause = UNSIGNED;
    loop {
        tokio::time::sleep(pause).await;
        let Some(parts) = parts.upgrade() else { return };
        let (begun, mut signed) = (Instant::now(), 0);
        for cell in parts.database.cells() {
            match search::sign(cell).await {
                Ok(some) => signed += some,
                Err(error) => tracing::warn!(%error, "searches are slower than they might be: {error}"),
            }
        }
        pause = (begun.elapsed() * SIGNING_RESTS).max(if signed == 0 { UNSIGNED } else { SIGNED });
    }
}

/// What was verified by other processes, or before this one began, is in this one's metrics too.
async fn measure(parts: &Parts) {
    for cell in parts.database.cells() {
        if let Err(error) = verify::measure(&cell.founder).await {
            tracing::warn!(%error, "verifications could not be read: {error}");
        }
    }
}
