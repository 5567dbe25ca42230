//! What the projector shows of itself: how far each projection is behind, and whom that concerns.

use std::collections::HashSet;
use std::time::Duration;

use sqlx::postgres::PgConnection;
use tokio::time::Instant;

use super::standing::Standing;

/// How often it is counted who lags.
const COUNTED: Duration = Duration::from_secs(5);
/// The most of the log behind a projection that is looked through for that.
const LOOKED_THROUGH: i64 = 20_000;

/// The metrics of the projector.
#[derive(Debug, Default)]
pub(super) struct Gauges {
    counted: Option<Instant>,
    /// Of which projection and tenant a lag is shown.
    lagging: HashSet<(String, String)>,
}

impl Gauges {
    /// Shows where everybody stands.
    #[expect(clippy::unused_self, reason = "the metrics are the process's")]
    pub(super) fn show(&self, standings: &[Standing], head: i64, failed: bool) {
        for Standing { name, place, stopped, parked } in standings {
            let of = || [("projection", name.clone())];
            let at = place.lanes.values().map(|lane| lane.position).fold(place.position, i64::min);
            metrics::gauge!("projection_position", &of()).set(place.position as f64);
            metrics::gauge!("projection_lag", &of()).set((head - at).max(0) as f64);
            metrics::gauge!("projection_parked", &of()).set(*parked as f64);
            metrics::gauge!("projection_stopped", &of()).set(f64::from(u8::from(stopped.is_some())));
        }
        metrics::gauge!("projection_failed").set(f64::from(u8::from(failed)));
    }

    /// Counts the events that each tenant waits for, at times; zero for those who wait no longer.
    pub(super) async fn look(
        &mut self,
        connection: &mut PgConnection,
        standings: &[Standing],
        head: i64,
    ) -> sqlx::Result<()> {
        let behind: Vec<&str> = standings
            .iter()
            .filter(|at| at.place.position < head || !at.place.lanes.is_empty())
            .map(|at| at.name.as_str())
            .collect();
        let due = self.counted.is_none_or(|counted| counted.elapsed() >= COUNTED);
        let lagging = match behind.as_slice() {
            [] => Vec::new(),
            _ if !due => return Ok(()),
            behind => {
                self.counted = Some(Instant::now());
                lags(connection, behind).await?
            }
        };
        let mut shown = HashSet::new();
        for (projection, tenant, lag) in lagging {
            let of = [("projection", projection.clone()), ("tenant", tenant.clone())];
            metrics::gauge!("projection_tenant_lag", &of).set(lag as f64);
            shown.insert((projection, tenant));
        }
        for (projection, tenant) in self.lagging.difference(&shown) {
            let of = [("projection", projection.clone()), ("tenant", tenant.clone())];
            metrics::gauge!("projection_tenant_lag", &of).set(0.0);
        }
        self.lagging = shown;
        Ok(())
    }
}

async fn lags(connection: &mut PgConnection, projections: &[&str]) -> sqlx::Result<Vec<(String, String, i64)>> {
    sqlx::query_as(
        "select c.projection, e.tenant_id, count(*)
         from projection_checkpoints c
         cross join lateral (
             select least(c.position, min(l.position)) as position
             from projection_lanes l where l.projection = c.projection
         ) f
         cross join lateral (
             select e.tenant_id, e.position from events e where e.position > f.position
             order by e.position limit $2
         ) e
         left join projection_lanes l on l.projection = c.projection and l.tenant_id = e.tenant_id
         where c.projection = any($1) and e.position > coalesce(l.position, c.position)
         group by c.projection, e.tenant_id",
    )
    .bind(projections)
    .bind(LOOKED_THROUGH)
    .fetch_all(connection)
    .await
}
