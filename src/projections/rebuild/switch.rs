//! The moment at which what was made anew is read instead of what there was.
//!
//! A whole read model: writers wait from the first lock on, readers only for the exchange itself. Tables are locked
//! before the checkpoint, as the projector's statement does, so that neither waits for what the other holds.
//!
//! One tenant's rows: only those that differ are replaced, in one transaction; nobody else's are touched.

use std::time::{Duration, Instant};

use sqlx::Row;
use sqlx::postgres::PgConnection;
use tokio::time::sleep;

use super::record::{self, Record, State};
use super::tables::run;
use super::{Rebuild, RebuildError};
use crate::aggregates::ids::TenantId;
use crate::event_store::is_lock_refused;
use crate::projections::search::mark_all;

/// How long the projector may wait behind us for those who use the tables.
const WRITERS_WAIT: &str = "1s";
/// How long readers may.
const READERS_WAIT: &str = "300ms";
/// The pause after which it is tried again, for everybody to come through.
const PAUSE: Duration = Duration::from_millis(700);
/// How long it is tried.
const PATIENCE: Duration = Duration::from_secs(600);

impl Rebuild {
    /// Takes over. Answers the position of the cell's log at which it did, and how long the projector was held.
    pub(super) async fn switch(
        &mut self,
        mut at: i64,
        watch: &(impl Fn(&Record) + Send + Sync),
    ) -> Result<(i64, Duration), RebuildError> {
        let begun = Instant::now();
        loop {
            let tried = match self.tenant {
                None => self.exchange(at, watch).await,
                Some(tenant) => self.replace_rows(tenant, &mut at, watch).await,
            };
            let error = match tried {
                Ok(done) => return Ok(done),
                Err(error) => error,
            };
            // What was folded in the transaction is taken back with it, and folded again.
            let owner = self.output.connection().await?;
            run(owner, "rollback".to_owned()).await?;
            run(owner, "reset role".to_owned()).await?;
            if !matches!(&error, RebuildError::Database(error) if is_lock_refused(error)) {
                return Err(error);
            }
            if begun.elapsed() >= PATIENCE {
                return Err(RebuildError::InUse(PATIENCE));
            }
            sleep(PAUSE).await;
            at = self.catch_up(at, watch).await?;
        }
    }

    async fn exchange(
        &mut self,
        at: i64,
        watch: &(impl Fn(&Record) + Send + Sync),
    ) -> Result<(i64, Duration), RebuildError> {
        let live = self.projection.tables.iter().map(|table| format!("{}.{}", self.place.live, table.name));
        let live = live.collect::<Vec<_>>().join(", ");
        let owner = self.output.connection().await?;
        run(owner, "begin".to_owned()).await?;
        run(owner, format!("set local lock_timeout = '{WRITERS_WAIT}'")).await?;
        // Readers go on reading; the projector's next statement waits.
        run(owner, format!("lock table {live} in exclusive mode")).await?;
        let held = Instant::now();
        let position = hold(owner, self.projection.name, self.clock.now()).await?;
        self.fold_rest(at, position, watch).await?;
        let owner = self.output.connection().await?;
        let mut unlike = Vec::new();
        for table in self.projection.tables {
            self.place.secure(owner, table.name).await?;
            unlike.extend(self.place.unlike(owner, table.name).await?);
        }
        if !unlike.is_empty() {
            return Err(RebuildError::Unlike(unlike.join("; ")));
        }
        run(owner, format!("set local lock_timeout = '{READERS_WAIT}'")).await?;
        run(owner, format!("lock table {live} in access exclusive mode")).await?;
        for table in self.projection.tables {
            self.place.exchange(owner, table.name).await?;
        }
        self.commit(position).await?;
        Ok((position, held.elapsed()))
    }

    async fn replace_rows(
        &mut self,
        tenant: TenantId,
        at: &mut i64,
        watch: &(impl Fn(&Record) + Send + Sync),
    ) -> Result<(i64, Duration), RebuildError> {
        let since = self.checkpoint().await?;
        let end = self.selection.end(&self.cell.replayer, since).await?;
        self.replay(*at, end, watch).await?;
        // That is outside the transaction: it stays, whatever becomes of what follows.
        *at = end;
        self.find_differing(tenant).await?;
        let owner = self.output.connection().await?;
        run(owner, "begin".to_owned()).await?;
        run(owner, format!("set local lock_timeout = '{WRITERS_WAIT}'")).await?;
        let held = Instant::now();
        let position = hold(owner, self.projection.name, self.clock.now()).await?;
        self.fold_rest(end, position, watch).await?;
        let entity = self.entity();
        let (live, side) = (self.place.live.clone(), self.place.side.clone());
        let tables = self.projection.tables;
        let owner = self.output.connection().await?;
        // The owner sees none of the rows of the live tables.
        run(owner, "set local role devhub_projector".to_owned()).await?;
        for table in tables {
            for schema in [&live, &side] {
                let late = format!(
                    "insert into pg_temp.differing select {entity} from {schema}.{}
                     where tenant_id = $1 and position > $2",
                    table.name
                );
                sqlx::query(&late).bind(tenant.to_string()).bind(since).execute(&mut *owner).await?;
            }
        }
        for table in tables {
            let name = table.name;
            let columns = self.place.columns(owner, name).await?;
            let which = format!("where tenant_id = $1 and {entity} in (select entity from pg_temp.differing)");
            for statement in [
                format!("delete from {live}.{name} {which}"),
                format!("insert into {live}.{name} ({columns}) select {columns} from {side}.{name} {which}"),
            ] {
                sqlx::query(&statement).bind(tenant.to_string()).execute(&mut *owner).await?;
            }
        }
        self.commit(position).await?;
        Ok((position, held.elapsed()))
    }

    /// Finds the entities whose rows differ before anybody has to wait; those that change later are added then.
    async fn find_differing(&mut self, tenant: TenantId) -> Result<(), RebuildError> {
        let entity = self.entity();
        let tables = self.projection.tables;
        let (live, side) = (self.place.live.clone(), self.place.side.clone());
        let owner = self.output.connection().await?;
        run(owner, "set role devhub_projector".to_owned()).await?;
        run(owner, "drop table if exists pg_temp.differing".to_owned()).await?;
        let first = format!(
            "create temp table differing as select {entity} as entity from {live}.{} limit 0",
            tables.first().map_or("", |table| table.name)
        );
        run(owner, first).await?;
        for table in tables {
            let name = table.name;
            let same =
                table.key.iter().map(|column| format!("l.{column} = r.{column}")).collect::<Vec<_>>().join(" and ");
            let differing = format!(
                "insert into pg_temp.differing select coalesce(l.{entity}, r.{entity})
                 from (select * from {live}.{name} where tenant_id = $1) l full join {side}.{name} r on {same}
                 where row(l.*) is distinct from row(r.*)"
            );
            sqlx::query(&differing).bind(tenant.to_string()).execute(&mut *owner).await?;
        }
        run(owner, "reset role".to_owned()).await?;
        Ok(())
    }

    /// The column that tells a tenant's entities apart, in all tables of the projection.
    fn entity(&self) -> &'static str {
        self.projection.tables.first().and_then(|table| table.key.get(1)).copied().unwrap_or("id")
    }

    async fn fold_rest(
        &mut self,
        at: i64,
        position: i64,
        watch: &(impl Fn(&Record) + Send + Sync),
    ) -> Result<(), RebuildError> {
        let end = self.selection.end(&self.cell.replayer, position).await?;
        self.record.target = end;
        self.replay(at, end, watch).await
    }

    /// Ends the transaction: whoever remembers rows of the generation before writes nothing from here on.
    async fn commit(&mut self, position: i64) -> Result<(), RebuildError> {
        let now = self.clock.now();
        self.record.state = State::Done.to_string();
        self.record.rows = i64::try_from(self.folding.rows()).unwrap_or(i64::MAX);
        (self.record.updated_at, self.record.finished_at) = (now, Some(now));
        let projection = self.projection.name;
        let owner = self.output.connection().await?;
        run(owner, "set local role devhub_projector".to_owned()).await?;
        if let Some(searched) = self.projection.searched {
            // Whoever was set aside may have a row now, and has no mark of the projector's.
            let set_aside = format!("(select * from parked_entities where projection = '{projection}') e");
            run(owner, mark_all(searched, &set_aside, true)).await?;
            if let Some(tenant) = self.tenant {
                let differing = format!("(select '{tenant}' as tenant_id, entity as id from pg_temp.differing) e");
                run(owner, mark_all(searched, &differing, true)).await?;
            }
        }
        sqlx::query(
            "update projection_checkpoints
             set generation = generation + 1, updated_at = $2, stopped_reason = null, stopped_at = null
             where projection = $1",
        )
        .bind(projection)
        .bind(now)
        .execute(&mut *owner)
        .await?;
        // It has everything that stands before the checkpoint: nobody is set aside, or behind.
        let whose = self.tenant.map(|tenant| tenant.to_string());
        for table in ["parked_events", "parked_entities", "projection_lanes"] {
            let whose_of =
                format!("delete from {table} where projection = $1 and ($2::text is null or tenant_id = $2)");
            sqlx::query(&whose_of).bind(projection).bind(&whose).execute(&mut *owner).await?;
        }
        record::update(&mut *owner, &self.record).await?;
        // The tables themselves were written without waiting for the disk; this waits for all of it.
        run(owner, "set local synchronous_commit = on".to_owned()).await?;
        run(owner, "commit".to_owned()).await?;
        metrics::counter!("projection_rebuilds_total", "projection" => projection).increment(1);
        tracing::debug!(projection, position, "{projection} was switched at {position}");
        Ok(())
    }
}

/// Keeps the projector where it is until the transaction ends. Answers where that is.
async fn hold(owner: &mut PgConnection, projection: &str, now: chrono::DateTime<chrono::Utc>) -> sqlx::Result<i64> {
    sqlx::query(
        "insert into projection_checkpoints (projection, position, updated_at) values ($1, 0, $2)
         on conflict do nothing",
    )
    .bind(projection)
    .bind(now)
    .execute(&mut *owner)
    .await?;
    sqlx::query("select position from projection_checkpoints where projection = $1 for update")
        .bind(projection)
        .fetch_one(owner)
        .await?
        .try_get("position")
}
