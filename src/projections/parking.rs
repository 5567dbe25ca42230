//! Putting right what was parked: an entity's events are folded in order onto its row, from the one that was refused.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::postgres::PgConnection;
use sqlx::{Acquire, PgPool};

use super::fact::Told;
use super::model::{FoldError, Key, Model, Parked, Poison};
use super::progress::by_tenant;
use super::statement::Statement;
use crate::aggregates::ids::TenantId;
use crate::event_store::is_refusal;
use crate::event_store::reader::entries_at;

/// Which of a projection's parked entities are meant; all, where nothing is said.
#[derive(Debug, Clone, Default)]
pub struct Which {
    /// Those of this tenant.
    pub tenant: Option<TenantId>,
    /// Those with this id.
    pub id: Option<String>,
}

/// What became of a parked entity.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Unparked {
    /// Whose it is.
    pub tenant_id: TenantId,
    /// Which.
    pub id: String,
    /// How many events it had to catch up on.
    pub events: usize,
    /// Why it is still parked; none: it is as if it had never been.
    pub refused: Option<String>,
}

/// Replays what parked entities of a projection have to catch up on. All of it becomes visible at once, and the
/// projector, in whichever process, reads again what it remembers. None: there is no such projection.
///
/// # Errors
/// The database's, or a row that cannot be written down; then nothing has changed.
pub async fn unpark(
    pool: &PgPool,
    models: Vec<Box<dyn Model>>,
    projection: &str,
    which: &Which,
    now: DateTime<Utc>,
) -> Result<Option<Vec<Unparked>>, FoldError> {
    let Some(mut model) = models.into_iter().find(|model| model.name() == projection) else { return Ok(None) };
    let mut transaction = pool.begin().await?;
    // The projector waits here, and then finds another generation than the one it knows.
    sqlx::query("select position from projection_checkpoints where projection = $1 for update")
        .bind(projection)
        .execute(&mut *transaction)
        .await?;
    let mut unparked = Vec::new();
    for (tenant, id) in parked(&mut transaction, projection, which).await? {
        unparked.push(replay(&mut transaction, &mut *model, tenant, id, now).await?);
    }
    if unparked.iter().any(|entity| entity.refused.is_none()) {
        sqlx::query("update projection_checkpoints set generation = generation + 1 where projection = $1")
            .bind(projection)
            .execute(&mut *transaction)
            .await?;
    }
    transaction.commit().await?;
    Ok(Some(unparked))
}

/// The entities that a projection has set aside, and the position of the event for which it did.
///
/// # Errors
/// The database's.
pub(super) async fn set_aside(connection: &mut PgConnection, projection: &str) -> sqlx::Result<HashMap<Key, i64>> {
    let rows: Vec<(String, String, i64)> =
        sqlx::query_as("select tenant_id, id, position from parked_entities where projection = $1")
            .bind(projection)
            .fetch_all(connection)
            .await?;
    let rows = by_tenant(rows.into_iter().map(|(tenant, id, position)| (tenant, (id, position))).collect())?;
    Ok(rows.into_iter().map(|(tenant, (id, position))| ((tenant, id), position)).collect())
}

async fn parked(
    connection: &mut PgConnection,
    projection: &str,
    which: &Which,
) -> sqlx::Result<Vec<(TenantId, String)>> {
    let rows: Vec<(String, String)> = sqlx::query_as(
        "select tenant_id, id from parked_entities
         where projection = $1 and ($2::text is null or tenant_id = $2) and ($3::text is null or id = $3)
         order by position, tenant_id, id",
    )
    .bind(projection)
    .bind(which.tenant.map(|tenant| tenant.to_string()))
    .bind(&which.id)
    .fetch_all(connection)
    .await?;
    by_tenant(rows)
}

/// One entity: either all that it has to catch up on, or none of it.
async fn replay(
    connection: &mut PgConnection,
    model: &mut dyn Model,
    tenant: TenantId,
    id: String,
    now: DateTime<Utc>,
) -> Result<Unparked, FoldError> {
    let positions: Vec<i64> = sqlx::query_scalar(
        "select position from parked_events where projection = $1 and tenant_id = $2 and id = $3 order by position",
    )
    .bind(model.name())
    .bind(tenant.to_string())
    .bind(&id)
    .fetch_all(&mut *connection)
    .await?;
    let entries = entries_at(&mut *connection, tenant, &positions).await?;
    let told: Vec<Told> = entries.into_iter().map(Told::of_entry).collect();
    let refused = match attempt(connection, model, Parked { tenant, id: &id, told: &told }).await {
        Ok(()) => None,
        Err(FoldError::Stopped(reason)) => Some(reason),
        Err(FoldError::Database(error)) if is_refusal(&error) => Some(format!("the database refuses it: {error}")),
        Err(error) => return Err(error),
    };
    if let Some(reason) = &refused {
        sqlx::query(
            "update parked_entities set reason = $4, parked_at = $5
             where projection = $1 and tenant_id = $2 and id = $3",
        )
        .bind(model.name())
        .bind(tenant.to_string())
        .bind(&id)
        .bind(Poison::new(reason).to_string())
        .bind(now)
        .execute(connection)
        .await?;
    }
    Ok(Unparked { tenant_id: tenant, id, events: told.len(), refused })
}

async fn attempt(connection: &mut PgConnection, model: &mut dyn Model, parked: Parked<'_>) -> Result<(), FoldError> {
    let mut savepoint = connection.begin().await?;
    let mut statement = Statement::default();
    statement.part("ok", "select 1 as ok");
    model.catch_up(&mut savepoint, parked, &mut statement).await?;
    let (name, tenant, id) =
        (statement.bind(model.name())?, statement.bind(parked.tenant.to_string())?, statement.bind(parked.id)?);
    for table in ["parked_events", "parked_entities"] {
        let delete = format!("delete from {table} where projection = {name} and tenant_id = {tenant} and id = {id}");
        statement.part(format_args!("no_longer_in_{table}"), delete);
    }
    let (text, arguments) = statement.ending("select 1 from ok");
    sqlx::query_with(&text, arguments).execute(&mut *savepoint).await?;
    savepoint.commit().await?;
    Ok(())
}
