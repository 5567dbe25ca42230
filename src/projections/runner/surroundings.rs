//! What the projector knows of others: where everybody stands, what processes announce, and who writes for the time being.

use sqlx::PgPool;
use sqlx::postgres::{PgConnection, PgListener, PgPoolOptions};
use tokio::sync::watch;
use tokio::time::Instant;

use super::{BACK_OFF, LEASE, MOVES, POLL, Projector};
use crate::aggregates::ids::TenantId;
use crate::event_store::appender::CHANNEL;
use crate::projections::progress::by_tenant;
use crate::projections::standing::standings;

impl Projector {
    /// Whether everybody stands where this process left them, and the log ends where this process ended it, as far as
    /// anybody has said; at intervals it is looked up all the same.
    pub(super) fn knows(&mut self) -> bool {
        self.head = self.head.max(self.tail.position());
        self.looked.is_some_and(|looked| looked.elapsed() < POLL) && *self.announced.borrow() <= self.head
    }

    /// Where everybody stands, who is parked, and how far each tenant is. What a model remembers of another place is
    /// forgotten.
    pub(super) async fn look(&mut self, connection: &mut PgConnection) -> sqlx::Result<()> {
        let names: Vec<&str> = self.models.iter().map(|model| model.name()).collect();
        (self.standings, self.head) = standings(&mut *connection, &self.cell, &names, self.clock.now()).await?;
        self.looked = Some(Instant::now());
        self.gauges.show(&self.standings, self.head, false);
        for standing in &self.standings {
            if self.left.get(&standing.name) != Some(&standing.place) {
                self.left.remove(&standing.name);
                self.models.iter_mut().filter(|model| model.name() == standing.name).for_each(|model| model.forget());
            }
        }
        if self.known.is_anything_parked() || self.standings.iter().any(|standing| standing.parked > 0) {
            self.known.look_at_parked(connection).await?;
        }
        let lanes = self.standings.iter().flat_map(|standing| standing.place.lanes.keys());
        self.known.unknown(lanes);
        let lowest = self.lowest();
        let too_far = self.moved_to < 0 || lowest - self.moved_to > MOVES;
        if !too_far && lowest > self.moved_to {
            let moved = moved(&mut *connection, self.moved_to, lowest).await?;
            let in_lane = |tenant: &TenantId| self.standings.iter().any(|at| at.place.lanes.contains_key(tenant));
            self.known.advance(moved.into_iter().filter(|(tenant, _)| !in_lane(tenant)));
        }
        self.moved_to = lowest;
        self.gauges.look(connection, &self.standings, self.head).await?;
        if too_far {
            // After it was told how far everybody is, or what is looked up meanwhile would be of before.
            self.report(None);
            self.known.all_unknown();
        }
        Ok(())
    }

    pub(super) async fn look_at_parked(&mut self) -> sqlx::Result<()> {
        let mut connection = self.own_connection().await?;
        self.known.look_at_parked(&mut connection).await?;
        self.connections.push(connection);
        Ok(())
    }

    /// Whether this process is the one that writes, for the time being.
    pub(super) async fn hold_lease(&mut self, connection: &mut PgConnection) -> sqlx::Result<bool> {
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
}

/// How far each tenant of whom there are events after one position, up to another, is in its own history.
pub(super) async fn moved(connection: &mut PgConnection, from: i64, to: i64) -> sqlx::Result<Vec<(TenantId, i64)>> {
    let rows: Vec<(String, i64)> = sqlx::query_as(
        "select tenant_id, max(tenant_position) from events where position > $1 and position <= $2 group by tenant_id",
    )
    .bind(from)
    .bind(to)
    .fetch_all(connection)
    .await?;
    by_tenant(rows)
}

/// Passes on what processes announce; a hint, so that a failure costs no more than the poll's delay.
pub(super) async fn listen(pool: PgPool, announced: watch::Sender<i64>) {
    // Kept for good, so it is none of those that others take turns with.
    let pool = PgPoolOptions::new().max_connections(1).connect_lazy_with((*pool.connect_options()).clone());
    loop {
        let listened = async {
            let mut listener = PgListener::connect_with(&pool).await?;
            listener.listen(CHANNEL).await?;
            loop {
                let position: i64 = listener.recv().await?.payload().parse().unwrap_or(i64::MAX);
                announced.send_if_modified(|last| position > std::mem::replace(last, position.max(*last)));
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
pub(super) fn random() -> [u8; 16] {
    let mut bytes = [0; 16];
    let _ = aws_lc_rs::rand::fill(&mut bytes);
    bytes
}
