//! Where the projections stand: their checkpoints, the lanes beside them, and what moves them.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use sqlx::error::BoxDynError;
use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{FromRow, Row};

use super::statement::Statement;
use crate::aggregates::ids::TenantId;

/// How far a tenant's lane is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Lane {
    /// In the cell's log.
    pub position: i64,
    /// In the tenant's own history.
    pub tenant_position: i64,
}

/// Where a projection is: it has taken every event up to `position`, but for those of tenants in lanes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub position: i64,
    pub generation: i64,
    pub lanes: BTreeMap<TenantId, Lane>,
}

/// A projection and where it stands.
#[derive(Debug, Clone)]
pub(super) struct Standing {
    pub name: String,
    pub place: Place,
    /// Why it does not move.
    pub stopped: Option<String>,
    /// How many entities are set aside.
    pub parked: i64,
}

struct Read {
    standing: Standing,
    head: i64,
}

impl<'r> FromRow<'r, PgRow> for Read {
    fn from_row(row: &'r PgRow) -> sqlx::Result<Self> {
        let tenants: Option<Vec<String>> = row.try_get("tenants")?;
        let positions: Option<Vec<i64>> = row.try_get("positions")?;
        let tenant_positions: Option<Vec<i64>> = row.try_get("tenant_positions")?;
        let lanes = tenants.unwrap_or_default().into_iter().zip(positions.unwrap_or_default());
        let lanes = lanes.zip(tenant_positions.unwrap_or_default()).map(|((tenant, position), tenant_position)| {
            let tenant = tenant.parse().map_err(|error| sqlx::Error::Decode(Box::new(error)))?;
            Ok((tenant, Lane { position, tenant_position }))
        });
        let place = Place {
            position: row.try_get("position")?,
            generation: row.try_get("generation")?,
            lanes: lanes.collect::<sqlx::Result<_>>()?,
        };
        Ok(Self {
            standing: Standing {
                name: row.try_get("projection")?,
                place,
                stopped: row.try_get("stopped_reason")?,
                parked: row.try_get("parked")?,
            },
            head: row.try_get("head")?,
        })
    }
}

/// Where each registered projection stands, and where the log ends. One that never ran is at 0.
pub(super) async fn standings(
    connection: &mut PgConnection,
    cell: &str,
    names: &[&str],
    now: DateTime<Utc>,
) -> sqlx::Result<(Vec<Standing>, i64)> {
    let mut rows = read(connection, cell, names).await?;
    if rows.len() < names.len() {
        sqlx::query(
            "insert into projection_checkpoints (projection, position, updated_at)
             select unnest($1::text[]), 0, $2 on conflict do nothing",
        )
        .bind(names)
        .bind(now)
        .execute(&mut *connection)
        .await?;
        rows = read(connection, cell, names).await?;
    }
    let head = rows.first().map_or(0, |row| row.head);
    Ok((rows.into_iter().map(|row| row.standing).collect(), head))
}

async fn read(connection: &mut PgConnection, cell: &str, names: &[&str]) -> sqlx::Result<Vec<Read>> {
    sqlx::query_as(
        "select c.projection, c.position, c.generation, c.stopped_reason, l.tenants, l.positions, l.tenant_positions,
                (select count(*) from parked_entities p where p.projection = c.projection) as parked,
                (select h.position from cell_head h where h.cell = $2) as head
         from projection_checkpoints c
         left join lateral (
             select array_agg(l.tenant_id) as tenants, array_agg(l.position) as positions,
                    array_agg(l.tenant_position) as tenant_positions
             from projection_lanes l where l.projection = c.projection
         ) l on true
         where c.projection = any($1)",
    )
    .bind(names)
    .bind(cell)
    .fetch_all(connection)
    .await
}

/// A projection that takes part in a step, and the generation that it is known in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Member {
    pub name: String,
    pub generation: i64,
}

/// Which events a step takes.
#[derive(Debug, Clone)]
pub(super) enum Line {
    /// Everybody's from one position to another, but for tenants that have lanes.
    Main { from: i64, to: i64, but_for: Vec<String> },
    /// One tenant's. A lane that comes to the `main` position is at its end.
    Lane { tenant: TenantId, from: Lane, to: Lane, main: i64, ends: bool },
}

fn names(members: &[Member]) -> Vec<String> {
    members.iter().map(|member| member.name.clone()).collect()
}

/// The checkpoints of the members, locked, if they are in their generations and, where that is said, at `position`.
fn mine(statement: &mut Statement, members: &[Member], position: Option<i64>) -> Result<(String, String), BoxDynError> {
    let generations: Vec<i64> = members.iter().map(|member| member.generation).collect();
    let (names, generations) = (statement.bind(names(members))?, statement.bind(generations)?);
    let at = match position {
        Some(position) => format!("and c.position = {}", statement.bind(position)?),
        None => String::new(),
    };
    let mine = format!(
        "select c.projection from projection_checkpoints c
         join unnest({names}::text[], {generations}::bigint[]) as m (projection, generation)
             on m.projection = c.projection and m.generation = c.generation
         where c.projection = any({names}) {at} order by c.projection for update of c"
    );
    Ok((names, mine))
}

/// The statement that makes a step; whatever is added to it over `ok` is written only if the members are where they
/// are thought to be. Ends with [`MOVED`].
pub(super) fn step(members: &[Member], line: &Line, now: DateTime<Utc>) -> Result<Statement, BoxDynError> {
    let mut statement = Statement::default();
    match line {
        Line::Main { from, to, .. } => {
            let (names, mine) = mine(&mut statement, members, Some(*from))?;
            statement.part("mine", mine);
            statement
                .part("ok", format_args!("select 1 as ok where (select count(*) from mine) = cardinality({names})"));
            let (to, now) = (statement.bind(*to)?, statement.bind(now)?);
            statement.part(
                "moved",
                format_args!(
                    "update projection_checkpoints c
                     set position = {to}, updated_at = {now}, stopped_reason = null, stopped_at = null from ok
                     where c.projection = any({names}) returning 1"
                ),
            );
        }
        Line::Lane { tenant, from, to, main, ends } => {
            let (names, mine) = mine(&mut statement, members, ends.then_some(*main))?;
            statement.part("mine", mine);
            let (tenant, from) = (statement.bind(tenant.to_string())?, statement.bind(from.position)?);
            statement.part(
                "lanes",
                format_args!(
                    "select projection from projection_lanes
                     where projection = any({names}) and tenant_id = {tenant} and position = {from}
                     order by projection for update"
                ),
            );
            statement.part(
                "ok",
                format_args!(
                    "select 1 as ok where (select count(*) from mine) = cardinality({names})
                         and (select count(*) from lanes) = cardinality({names})"
                ),
            );
            let moved = if *ends {
                statement.part(
                    "ended",
                    format_args!(
                        "delete from projection_lanes l using ok
                         where l.projection = any({names}) and l.tenant_id = {tenant}"
                    ),
                );
                format!(
                    "update projection_checkpoints c
                     set generation = c.generation + 1, stopped_reason = null, stopped_at = null from ok
                     where c.projection = any({names}) returning 1"
                )
            } else {
                let (to, own) = (statement.bind(to.position)?, statement.bind(to.tenant_position)?);
                statement.part(
                    "unstopped",
                    format_args!(
                        "update projection_checkpoints c set stopped_reason = null, stopped_at = null from ok
                         where c.projection = any({names}) and c.stopped_reason is not null"
                    ),
                );
                format!(
                    "update projection_lanes l set position = {to}, tenant_position = {own} from ok
                     where l.projection = any({names}) and l.tenant_id = {tenant} returning 1"
                )
            };
            statement.part("moved", moved);
        }
    }
    Ok(statement)
}

/// How many checkpoints or lanes a step moved: none, or all that it was to.
pub(super) const MOVED: &str = "select count(*) from moved";

/// The statement that opens lanes for tenants from the position at which the members are, each with how far the
/// tenant is in its own history. Ends with [`MOVED`].
pub(super) fn opening(members: &[Member], from: i64, tenants: &[(TenantId, i64)]) -> Result<Statement, BoxDynError> {
    let mut statement = Statement::default();
    let (names, mine) = mine(&mut statement, members, Some(from))?;
    statement.part("mine", mine);
    statement.part("ok", format_args!("select 1 as ok where (select count(*) from mine) = cardinality({names})"));
    let whose: Vec<String> = tenants.iter().map(|(tenant, _)| tenant.to_string()).collect();
    let own: Vec<i64> = tenants.iter().map(|(_, position)| *position).collect();
    let (from, whose, own) = (statement.bind(from)?, statement.bind(whose)?, statement.bind(own)?);
    statement.part(
        "opened",
        format_args!(
            "insert into projection_lanes (projection, tenant_id, position, tenant_position)
             select m.projection, t.tenant_id, {from}, t.position
             from ok, mine m, unnest({whose}::text[], {own}::bigint[]) as t (tenant_id, position)"
        ),
    );
    statement.part(
        "moved",
        format_args!(
            "update projection_checkpoints c set generation = c.generation + 1 from ok
             where c.projection = any({names}) returning 1"
        ),
    );
    Ok(statement)
}

/// Notes that a projection does not move, and why. False: it was elsewhere, and nothing is noted.
pub(super) async fn stop(
    connection: &mut PgConnection,
    member: &Member,
    reason: &str,
    now: DateTime<Utc>,
) -> sqlx::Result<bool> {
    let stopped = sqlx::query(
        "update projection_checkpoints set stopped_reason = $3, stopped_at = coalesce(stopped_at, $4)
         where projection = $1 and generation = $2",
    )
    .bind(&member.name)
    .bind(member.generation)
    .bind(reason)
    .bind(now)
    .execute(connection)
    .await?;
    Ok(stopped.rows_affected() == 1)
}
