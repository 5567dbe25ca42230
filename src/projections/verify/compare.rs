//! The live rows beside the replayed ones.

use serde_json::Value;
use sqlx::Row;
use sqlx::postgres::PgConnection;

use super::{ColumnDifference, Difference, Kind, REPLAYED};
use crate::aggregates::ids::TenantId;
use crate::event_store::Cell;
use crate::projections::replay::Table;

pub(super) struct Compared {
    /// Rows of the log or of the read model.
    pub rows: i64,
    pub differences: i64,
    /// The first of them.
    pub found: Vec<Difference>,
}

/// Compares one table; of its live rows a tenant's, or those that were picked.
pub(super) async fn compare(
    connection: &mut PgConnection,
    cell: &Cell,
    table: &Table,
    tenant: Option<TenantId>,
    picked: bool,
    told: usize,
) -> sqlx::Result<Compared> {
    let Table { name, key } = *table;
    let live = &cell.name;
    let entity = key.get(1).copied().unwrap_or("id");
    let which = match (tenant, picked) {
        (_, true) => format!(
            "where exists (select from {REPLAYED}.picked p where p.tenant_id = t.tenant_id and p.id = t.{entity}::text)"
        ),
        (Some(_), false) => "where t.tenant_id = $1".to_owned(),
        (None, false) => "where $1::text is null".to_owned(),
    };
    let on = key.iter().map(|column| format!("l.{column} = r.{column}")).collect::<Vec<_>>().join(" and ");
    let order: Vec<String> = (1..=key.len()).map(|column| column.to_string()).collect();
    let keys = key.iter().map(|column| format!("coalesce(l.{column}, r.{column})")).collect::<Vec<_>>().join(", ");
    let joined = format!("(select t.* from {live}.{name} t {which}) l full join {REPLAYED}.{name} r on {on}");
    // A tenant is a parameter of the one, and nothing is of the other, but both have one.
    let binds = if picked { "and $1::text is distinct from ''" } else { "" };
    let counted = format!(
        "select count(*), count(*) filter (where row(l.*) is distinct from row(r.*)) from {joined} where true {binds}"
    );
    let tenant = tenant.map(|tenant| tenant.to_string());
    let (rows, differences): (i64, i64) = sqlx::query_as(&counted).bind(&tenant).fetch_one(&mut *connection).await?;
    if differences == 0 || told == 0 {
        return Ok(Compared { rows, differences, found: Vec::new() });
    }
    let differing = format!(
        "select {keys}, coalesce(l.tenant_id, r.tenant_id) as tenant, coalesce(l.{entity}, r.{entity})::text as entity,
                coalesce(l.position, r.position) as made_by,
                case when l.tenant_id is not null then to_jsonb(l) end as live,
                case when r.tenant_id is not null then to_jsonb(r) end as replayed
         from {joined} where row(l.*) is distinct from row(r.*) {binds} order by {} limit {told}",
        order.join(", ")
    );
    let rows_found = sqlx::query(&differing).bind(&tenant).fetch_all(connection).await?;
    let mut found = Vec::with_capacity(rows_found.len());
    for row in rows_found {
        let (live, replayed): (Option<Value>, Option<Value>) = (row.try_get("live")?, row.try_get("replayed")?);
        let kind = match (&live, &replayed) {
            (None, _) => Kind::Missing,
            (_, None) => Kind::Unexpected,
            _ => Kind::Differs,
        };
        found.push(Difference {
            table: name.to_owned(),
            tenant_id: row.try_get("tenant")?,
            id: row.try_get("entity")?,
            position: row.try_get("made_by")?,
            kind,
            columns: columns(live, replayed),
        });
    }
    Ok(Compared { rows, differences, found })
}

/// The columns in which two rows differ.
fn columns(live: Option<Value>, replayed: Option<Value>) -> Vec<ColumnDifference> {
    let (Some(Value::Object(live)), Some(Value::Object(mut replayed))) = (live, replayed) else { return Vec::new() };
    live.into_iter()
        .map(|(column, live)| {
            let replayed = replayed.remove(&column).unwrap_or_default();
            ColumnDifference { column, live, replayed }
        })
        .filter(|difference| difference.live != difference.replayed)
        .collect()
}
