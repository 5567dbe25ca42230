//! Entities picked at random: half of them by events of the log, so that a row that is missing is found, half of them
//! by rows, so that one is found that the log knows nothing of.

use std::collections::HashSet;

use sqlx::postgres::PgConnection;

use super::{REPLAYED, VerifyError, run};
use crate::aggregates::ids::TenantId;
use crate::event_store::Cell;
use crate::event_store::reader::Whose;
use crate::projections::fact::Told;
use crate::projections::model::Key;
use crate::projections::replay::{MadeOf, Replayable};

/// How far from a place that was picked the next event of the right kind is looked for.
const NEARBY: i64 = 2_000;

/// Picks entities, and leaves them in a temporary table as well.
pub(super) async fn pick(
    connection: &mut PgConnection,
    cell: &Cell,
    projection: &Replayable,
    tenant: Option<TenantId>,
    entities: u32,
    position: i64,
) -> Result<HashSet<Key>, VerifyError> {
    let half = i64::from(entities.div_ceil(2));
    let mut picked = by_events(connection, projection, tenant, half, position).await?;
    picked.extend(by_rows(connection, cell, projection, tenant, half).await?);
    run(connection, "create temporary table picked (tenant_id text, id text) on commit drop").await?;
    let (tenants, ids): (Vec<String>, Vec<&str>) =
        picked.iter().map(|(tenant, id)| (tenant.to_string(), id.as_str())).unzip();
    sqlx::query(&format!("insert into {REPLAYED}.picked select * from unnest($1::text[], $2::text[])"))
        .bind(tenants)
        .bind(ids)
        .execute(&mut *connection)
        .await?;
    run(connection, &format!("analyze {REPLAYED}.picked")).await?;
    Ok(picked)
}

async fn by_events(
    connection: &mut PgConnection,
    projection: &Replayable,
    tenant: Option<TenantId>,
    count: i64,
    position: i64,
) -> Result<HashSet<Key>, VerifyError> {
    let selection = projection.events_of(Whose::Everybody);
    let mut places: Vec<i64> = sqlx::query_scalar(
        "select distinct e.position
         from (select (random() * $1)::bigint as at from generate_series(1, $2)) picked
         cross join lateral (
             select position from events
             where position >= at and position < at + $3 and position <= $1
               and (cardinality($4::text[]) = 0 or aggregate_type = any($4)) and ($5::text is null or tenant_id = $5)
             order by position limit 1
         ) e",
    )
    .bind(position)
    .bind(count)
    .bind(NEARBY)
    .bind(&selection.aggregate_types)
    .bind(tenant.map(|tenant| tenant.to_string()))
    .fetch_all(&mut *connection)
    .await?;
    places.sort_unstable();
    let selection = projection.events_of(Whose::At(places));
    let statement = selection.statement();
    let entries = selection.entries(&statement, 0, position).fetch_all(connection).await?;
    let mut picked = HashSet::new();
    for entry in entries {
        if projection.made_of == MadeOf::OneEvent {
            picked.insert((entry.recorded.tenant_id, entry.recorded.tenant_position.to_string()));
            continue;
        }
        if let Told::Understood(facts) = Told::of_entry(entry) {
            picked.extend(facts.iter().flat_map(|fact| (projection.touched)(fact)));
        }
    }
    Ok(picked)
}

async fn by_rows(
    connection: &mut PgConnection,
    cell: &Cell,
    projection: &Replayable,
    tenant: Option<TenantId>,
    count: i64,
) -> Result<HashSet<Key>, VerifyError> {
    let mut picked = HashSet::new();
    for table in projection.tables {
        let entity = table.key.get(1).copied().unwrap_or("id");
        let rows = format!(
            "select tenant_id, {entity}::text from {}.{} where $1::text is null or tenant_id = $1
             order by random() limit $2",
            cell.name, table.name
        );
        let rows: Vec<(String, String)> = sqlx::query_as(&rows)
            .bind(tenant.map(|tenant| tenant.to_string()))
            .bind(count)
            .fetch_all(&mut *connection)
            .await?;
        for (tenant, id) in rows {
            let tenant = tenant.parse().map_err(|error| sqlx::Error::Decode(Box::new(error)))?;
            picked.insert((tenant, id));
        }
    }
    Ok(picked)
}

/// The id in the log of the aggregate that an entity is; the tenant's own is the tenant's.
pub(super) fn aggregate_id((tenant, id): &Key) -> String {
    let tenant = tenant.to_string();
    if *id == tenant { tenant } else { format!("{tenant}:{id}") }
}
