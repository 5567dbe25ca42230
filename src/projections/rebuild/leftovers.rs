//! What a rebuild leaves if its process ends: found by the lock that ends with it, and thrown away.

use sqlx::postgres::PgConnection;

use super::{place, record};
use crate::clock::Clock;
use crate::event_store::Cell;
use crate::projections::replay::{Replayable, all};

/// Throws away what rebuilds have left whose process has ended. Those that are under way are left alone.
///
/// # Errors
/// The database's.
pub async fn clean_up(cell: &Cell, clock: &Clock) -> sqlx::Result<()> {
    let unfinished: Vec<String> =
        sqlx::query_scalar("select distinct projection from projection_rebuilds where finished_at is null")
            .fetch_all(&cell.replayer)
            .await?;
    let left: Vec<String> = sqlx::query_scalar(
        "select distinct relname::text from pg_class c join pg_namespace n on n.oid = c.relnamespace
         where nspname in ($1, $2) and relkind = 'r'",
    )
    .bind(cell.rebuild_schema())
    .bind(cell.replaced_schema())
    .fetch_all(&cell.replayer)
    .await?;
    if unfinished.is_empty() && left.is_empty() {
        return Ok(());
    }
    let mut owner = cell.owner.acquire().await?;
    for projection in all() {
        let is_left = projection.tables.iter().any(|table| left.iter().any(|left| left == table.name));
        let is_unfinished = unfinished.iter().any(|name| name == projection.name);
        if (is_left || is_unfinished) && lock(&mut owner, cell, &projection).await? {
            let cleaned = clean(&mut owner, cell, clock, &projection).await;
            unlock(&mut owner, cell, &projection).await?;
            cleaned?;
        }
    }
    Ok(())
}

pub(super) async fn clean(
    owner: &mut PgConnection,
    cell: &Cell,
    clock: &Clock,
    projection: &Replayable,
) -> sqlx::Result<()> {
    for table in projection.tables {
        place(cell).drop_leftovers(&mut *owner, table.name).await?;
    }
    let abandoned = record::abandon(&cell.replayer, projection.name, clock.now()).await?;
    if abandoned > 0 {
        tracing::warn!(projection = projection.name, "what a rebuild of {} left was thrown away", projection.name);
    }
    Ok(())
}

/// Held by a session, so that it ends with the process, however that ends.
pub(super) async fn lock(owner: &mut PgConnection, cell: &Cell, projection: &Replayable) -> sqlx::Result<bool> {
    sqlx::query_scalar("select pg_try_advisory_lock(hashtextextended($1, 0))")
        .bind(lock_name(cell, projection))
        .fetch_one(owner)
        .await
}

pub(super) async fn unlock(owner: &mut PgConnection, cell: &Cell, projection: &Replayable) -> sqlx::Result<bool> {
    sqlx::query_scalar("select pg_advisory_unlock(hashtextextended($1, 0))")
        .bind(lock_name(cell, projection))
        .fetch_one(owner)
        .await
}

fn lock_name(cell: &Cell, projection: &Replayable) -> String {
    format!("devhub rebuild {} {}", cell.name, projection.name)
}
