//! How far the read models are: for whoever waits for an effect, says what a read includes, or looks after them.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use sqlx::PgPool;
use sqlx::postgres::PgConnection;
use tokio::sync::{Notify, oneshot, watch};

use super::row::{Row, Stored};
use super::written::LastWritten;
use crate::aggregates::ids::TenantId;

/// How far the read models of a cell are, and whether something holds them up.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Progress {
    /// The position up to which every registered projection is written, but for the tenants in `lanes`.
    pub position: i64,
    /// The tenants that are read on their own, and how far each is; never further than `position`.
    pub lanes: BTreeMap<TenantId, i64>,
    /// The projections that do not move, and why.
    pub stopped: Vec<(String, String)>,
    /// Why none of them moves, if none does.
    pub failure: Option<String>,
}

impl Progress {
    /// The position up to which everything of a tenant is written.
    #[must_use]
    pub fn of(&self, tenant: TenantId) -> i64 {
        self.lanes.get(&tenant).map_or(self.position, |lane| self.position.min(*lane))
    }

    /// The position up to which everything of everybody is written.
    #[must_use]
    pub fn of_all(&self) -> i64 {
        self.lanes.values().copied().fold(self.position, i64::min)
    }
}

/// The handle through which commands wait for their effect and health checks look.
#[derive(Debug, Clone)]
pub struct Projections {
    pub(super) progress: watch::Receiver<Progress>,
    pub(super) known: Arc<Known>,
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
    /// Waits until every read model has taken every event up to `position`, whoever it is of.
    ///
    /// # Errors
    /// [`Lagging`] after `limit`.
    pub async fn reached(&self, position: i64, limit: Duration) -> Result<(), Lagging> {
        self.until(position, limit, Whose::Everybodys).await
    }

    /// Waits until every read model has taken every event of a tenant up to `position` of the cell's log.
    ///
    /// # Errors
    /// [`Lagging`] after `limit`.
    pub async fn reached_of(&self, tenant: TenantId, position: i64, limit: Duration) -> Result<(), Lagging> {
        self.until(position, limit, Whose::Of(tenant)).await
    }

    async fn until(&self, wanted: i64, limit: Duration, whose: Whose) -> Result<(), Lagging> {
        let reached = |progress: &Progress| whose.at(progress) >= wanted;
        if reached(&self.progress.borrow()) {
            return Ok(());
        }
        let told = self.known.wait(whose, wanted);
        // Who comes in between the look before and the place among those who wait would not be told.
        if reached(&self.progress.borrow()) {
            return Ok(());
        }
        if self.progress.has_changed().is_err() {
            return Err(Lagging { at: whose.at(&self.progress.borrow()), wanted });
        }
        match tokio::time::timeout(limit, told).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(Lagging { at: whose.at(&self.progress.borrow()), wanted }),
        }
    }

    /// How far they are.
    #[must_use]
    pub fn progress(&self) -> Progress {
        self.progress.borrow().clone()
    }

    /// How far they are, to be told of every change from now on.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Progress> {
        self.progress.clone()
    }

    /// The position in a tenant's own history up to which every read model has taken everything, as far as this
    /// process knows; none: it does not.
    #[must_use]
    pub fn position_of(&self, tenant: TenantId) -> Option<i64> {
        self.known.positions.read().unwrap_or_else(PoisonError::into_inner).get(&tenant).copied()
    }

    /// Remembers the position in a tenant's own history that belongs to `progress`, unless that has changed since or is
    /// about to: what is remembered must not stay behind.
    pub fn remember(&self, tenant: TenantId, progress: &Progress, tenant_position: i64) {
        let mut known = self.known.positions.write().unwrap_or_else(PoisonError::into_inner);
        let now = self.progress.borrow();
        if !now.lanes.contains_key(&tenant) && now.of(tenant) == progress.of(tenant) {
            let at = known.entry(tenant).or_insert(tenant_position);
            *at = tenant_position.max(*at);
        }
    }

    /// The row of an entity, if this process has just written it and it is at least that version.
    #[must_use]
    pub fn written<R: Row>(&self, tenant: TenantId, id: &str, version: i64) -> Option<Arc<Stored<R>>> {
        self.known.written.get((tenant, id.to_owned()), version)
    }

    /// Looks which entities are set aside, after something was put right; by itself it is looked at with every poll.
    ///
    /// # Errors
    /// The database's.
    pub async fn look_at_parked(&self, pool: &PgPool) -> sqlx::Result<()> {
        self.known.look_at_parked(&mut *pool.acquire().await?).await
    }

    /// The ids of a tenant's entities that some projection has set aside; none, nearly always.
    #[must_use]
    pub fn parked_of(&self, tenant: TenantId) -> Option<HashSet<String>> {
        self.known.parked.read().unwrap_or_else(PoisonError::into_inner).get(&tenant).cloned()
    }
}

/// What the projector finds out on its way. Everything in it may be late, and never early.
#[derive(Debug, Default)]
pub(super) struct Known {
    positions: RwLock<HashMap<TenantId, i64>>,
    parked: RwLock<HashMap<TenantId, HashSet<String>>>,
    /// Those who wait for the read models, and the call that somebody does.
    waiting: Mutex<Vec<Waiter>>,
    wanted: Notify,
    /// What they wait for.
    pub(super) written: LastWritten,
}

/// Whose events have to be read.
#[derive(Debug, Clone, Copy)]
enum Whose {
    Everybodys,
    Of(TenantId),
}

impl Whose {
    fn at(self, progress: &Progress) -> i64 {
        match self {
            Self::Everybodys => progress.of_all(),
            Self::Of(tenant) => progress.of(tenant),
        }
    }
}

/// Somebody who waits for the read models. Each is told when it is time, and not at every step: to be woken costs a
/// request more than all that the projector does for it.
#[derive(Debug)]
struct Waiter {
    whose: Whose,
    wanted: i64,
    tell: oneshot::Sender<()>,
}

impl Known {
    fn waiting(&self) -> MutexGuard<'_, Vec<Waiter>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a place among those who wait; it is given back by hanging up.
    fn wait(&self, whose: Whose, wanted: i64) -> oneshot::Receiver<()> {
        let (tell, told) = oneshot::channel();
        self.waiting().push(Waiter { whose, wanted, tell });
        self.wanted.notify_one();
        told
    }

    /// Tells those whose wait is over.
    pub(super) fn tell(&self, progress: &Progress) {
        let mut waiting = self.waiting();
        let over = |waiter: &Waiter| waiter.whose.at(progress) >= waiter.wanted || waiter.tell.is_closed();
        let (over, still): (Vec<_>, Vec<_>) = std::mem::take(&mut *waiting).into_iter().partition(over);
        *waiting = still;
        drop(waiting);
        for Waiter { tell, .. } in over {
            // Whoever has given up does not want to know.
            let _ = tell.send(());
        }
    }

    /// Nobody comes any more to tell those who wait.
    pub(super) fn hang_up(&self) {
        self.waiting().clear();
    }

    /// Whether somebody waits.
    pub(super) fn is_awaited(&self) -> bool {
        self.waiting().iter().any(|waiter| !waiter.tell.is_closed())
    }

    /// Waits until somebody waits.
    pub(super) async fn wanted(&self) {
        while !self.is_awaited() {
            self.wanted.notified().await;
        }
    }

    /// Everything of these tenants up to these positions of their histories is written by every projection.
    pub(super) fn advance(&self, positions: impl IntoIterator<Item = (TenantId, i64)>) {
        let mut known = self.positions.write().unwrap_or_else(PoisonError::into_inner);
        for (tenant, position) in positions {
            let at = known.entry(tenant).or_insert(position);
            *at = position.max(*at);
        }
    }

    /// How far these tenants are is to be looked up.
    pub(super) fn unknown<'a>(&self, tenants: impl IntoIterator<Item = &'a TenantId>) {
        let mut known = self.positions.write().unwrap_or_else(PoisonError::into_inner);
        for tenant in tenants {
            known.remove(tenant);
        }
    }

    /// How far each tenant is is to be looked up.
    pub(super) fn all_unknown(&self) {
        self.positions.write().unwrap_or_else(PoisonError::into_inner).clear();
    }

    pub(super) fn is_anything_parked(&self) -> bool {
        !self.parked.read().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// Looks which entities are set aside.
    pub(super) async fn look_at_parked(&self, connection: &mut PgConnection) -> sqlx::Result<()> {
        let rows: Vec<(String, String)> =
            sqlx::query_as("select distinct tenant_id, id from parked_entities").fetch_all(connection).await?;
        let mut parked: HashMap<TenantId, HashSet<String>> = HashMap::new();
        for (tenant, id) in by_tenant(rows)? {
            parked.entry(tenant).or_default().insert(id);
        }
        *self.parked.write().unwrap_or_else(PoisonError::into_inner) = parked;
        Ok(())
    }
}

/// Rows of tenants, by their ids.
pub(super) fn by_tenant<T>(rows: Vec<(String, T)>) -> sqlx::Result<Vec<(TenantId, T)>> {
    let parsed = rows
        .into_iter()
        .map(|(tenant, value)| Ok((tenant.parse().map_err(|error| sqlx::Error::Decode(Box::new(error)))?, value)));
    parsed.collect()
}
