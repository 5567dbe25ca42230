//! What happened to one record: each change with who, when, why, and what was before; any version; any two compared.

use std::collections::{BTreeSet, HashMap};

use axum::http::Uri;
use chrono::{DateTime, Utc};
use serde::Deserialize;
use sqlx::FromRow;
use sqlx::postgres::PgRow;
use utoipa::IntoParams;

use super::change::{Change, Difference, History, ShownHistory, compared, fields};
use super::{Reader, Remembered, seers};
use crate::api::list::cursor;
use crate::api::page::{self, Page};
use crate::api::record::{Record, View as _};
use crate::api::{App, Problem};
use crate::event_store::Recorded;
use crate::projections::row::{Row, Stored};

/// Where a page of a history begins, and how long it is.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct HistoryQuery {
    /// Changes of a page: 50 if not said, 200 at most.
    #[param(minimum = 1, maximum = 200)]
    limit: Option<u16>,
    /// `page.next_cursor` of the page before, with everything else unchanged.
    cursor: Option<String>,
}

/// Which two versions are compared.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct DiffQuery {
    /// The version that counts as before.
    #[param(minimum = 1, example = 1)]
    from: u32,
    /// The version that counts as after.
    #[param(minimum = 1, example = 2)]
    to: u32,
}

/// One page of what happened to a record, the newest first.
///
/// # Errors
/// `not_found`: there is no such record, or the reader may not see it now; `invalid_cursor`.
pub async fn history<N: Remembered>(
    app: &App,
    reader: Reader<'_>,
    id: &str,
    query: &HistoryQuery,
    limited_to: Option<ShownHistory>,
    uri: &Uri,
) -> Result<History, Problem> {
    let limit = usize::from(page::limit(query.limit)?);
    N::now(app, reader, id).await?;
    let context = serde_json::to_vec(&("history-cursor-1", N::LIST.noun, reader.scope().tenant(), id))
        .map_err(Problem::internal)?;
    let before = query.cursor.as_deref().map(|text| position_in(app, &context, text)).transpose()?;
    // one more than the page: what was before its last change
    let versions = versions_before::<N>(app, reader, id, before, limit + 1).await?;
    let shown_since = limited_to.map_or(DateTime::<Utc>::MIN_UTC, |window| window.since);
    let in_view = versions.iter().take_while(|version| version.recorded_from >= shown_since).count();
    let surroundings = Surroundings::of(app, reader, versions.iter().take(in_view.min(limit))).await?;
    let mut data = Vec::with_capacity(limit);
    for (number, version) in versions.iter().take(in_view.min(limit)).enumerate() {
        let missing = || Problem::internal(format!("the version at {} has no event", version.position));
        let recorded = surroundings.events.get(&version.position).ok_or_else(missing)?;
        data.push(Change::of::<N>(recorded, version, versions.get(number + 1), &surroundings.names)?);
    }
    let last = versions.get(limit.saturating_sub(1)).filter(|_| in_view > limit);
    let after = last.map(|last| vec![Some(last.position.to_string())]);
    let page = Page::sealed(data, after.as_ref(), (&app.cursor_key, &context), uri)?;
    Ok(History { page, limited_to })
}

/// A record as a version of it was. A note or an interaction has the version of the customer or lead that made it so;
/// should two have the same after records were merged, the later is meant.
///
/// # Errors
/// `not_found`: there is no such version or record, or the reader may not see it now.
pub async fn version<N: Remembered>(
    app: &App,
    reader: Reader<'_>,
    id: &str,
    version: u32,
) -> Result<Record<N::View>, Problem> {
    N::now(app, reader, id).await?;
    let stored = version_of::<N>(app, reader, id, version).await?;
    let (version, day) = (stored.version, stored.occurred_from.date_naive());
    Ok(Record::read(N::View::on(stored, day), version))
}

/// Two versions of a record, compared.
///
/// # Errors
/// As [`version`].
pub async fn diff<N: Remembered>(
    app: &App,
    reader: Reader<'_>,
    id: &str,
    &DiffQuery { from, to }: &DiffQuery,
) -> Result<Difference, Problem> {
    N::now(app, reader, id).await?;
    let before = fields::<N>(&version_of::<N>(app, reader, id, from).await?)?;
    let after = fields::<N>(&version_of::<N>(app, reader, id, to).await?)?;
    Ok(Difference { from, to, changes: compared::<N>(Some(&before), &after) })
}

fn position_in(app: &App, context: &[u8], cursor: &str) -> Result<i64, Problem> {
    let keys = cursor::open(&app.cursor_key, context, cursor)?;
    keys.into_iter().next().flatten().and_then(|key| key.parse().ok()).ok_or_else(Problem::invalid_cursor)
}

/// The latest versions of a record, in the order in which they were recorded; what is told elsewhere left out.
async fn versions_before<N: Remembered>(
    app: &App,
    reader: Reader<'_>,
    id: &str,
    before: Option<i64>,
    limit: usize,
) -> Result<Vec<Stored<N::Row>>, Problem> {
    let statement = format!(
        "with scope as materialized (select set_config('devhub.tenant_id', $1, true) as tenant_id)
         select v.* from scope cross join lateral (
             select v.* from {} v join events e on e.tenant_id = v.tenant_id and e.position = v.position
             where v.tenant_id = scope.tenant_id and v.id = $2 and v.position < $3 and {} = any($4)
               and not e.event_type = any($5)
             order by v.position desc limit $6
         ) v order by v.position desc",
        N::Row::VERSIONS,
        N::SEEN_BY.unwrap_or("''"),
    );
    let tenant = reader.scope().tenant();
    Ok(sqlx::query_as(&statement)
        .bind(tenant.to_string())
        .bind(id)
        .bind(before.unwrap_or(i64::MAX))
        .bind(seers(reader.author()))
        .bind(N::TOLD_ELSEWHERE)
        .bind(i64::try_from(limit).unwrap_or(i64::MAX))
        .fetch_all(&app.database.cell_of(tenant).request)
        .await?)
}

async fn version_of<N: Remembered>(
    app: &App,
    reader: Reader<'_>,
    id: &str,
    version: u32,
) -> Result<Stored<N::Row>, Problem> {
    let statement = format!(
        "with scope as materialized (select set_config('devhub.tenant_id', $1, true) as tenant_id)
         select v.* from scope cross join lateral (
             select * from {} where tenant_id = scope.tenant_id and id = $2 and version = $3 and {} = any($4)
             order by position desc limit 1
         ) v",
        N::Row::VERSIONS,
        N::SEEN_BY.unwrap_or("''"),
    );
    let tenant = reader.scope().tenant();
    sqlx::query_as(&statement)
        .bind(tenant.to_string())
        .bind(id)
        .bind(i64::from(version))
        .bind(seers(reader.author()))
        .fetch_optional(&app.database.cell_of(tenant).request)
        .await?
        .ok_or_else(Problem::not_found)
}

/// What surrounds changes: their events, and the names of those who made them.
struct Surroundings {
    events: HashMap<i64, Recorded>,
    names: HashMap<String, String>,
}

impl Surroundings {
    async fn of<R: Row>(
        app: &App,
        reader: Reader<'_>,
        versions: impl Iterator<Item = &Stored<R>>,
    ) -> Result<Self, Problem> {
        let tenant = reader.scope().tenant();
        let pool = &app.database.cell_of(tenant).request;
        let positions: Vec<i64> = versions.map(|version| version.position).collect();
        let rows: Vec<PgRow> = sqlx::query(
            "with scope as materialized (select set_config('devhub.tenant_id', $1, true) as tenant_id)
             select e.* from scope cross join lateral (
                 select * from events where tenant_id = scope.tenant_id and position = any($2)
             ) e",
        )
        .bind(tenant.to_string())
        .bind(positions)
        .fetch_all(pool)
        .await?;
        let events = rows.iter().map(Recorded::from_row).collect::<sqlx::Result<Vec<_>>>()?;
        let actors: BTreeSet<String> = events.iter().filter_map(Recorded::own_actor).map(str::to_owned).collect();
        let names: Vec<(String, String)> = sqlx::query_as(
            "with scope as materialized (select set_config('devhub.tenant_id', $1, true) as tenant_id)
             select u.id, u.full_name from scope cross join lateral (
                 select id, full_name from users where tenant_id = scope.tenant_id and id = any($2)
             ) u",
        )
        .bind(tenant.to_string())
        .bind(Vec::from_iter(actors))
        .fetch_all(pool)
        .await?;
        Ok(Self {
            events: events.into_iter().map(|event| (event.position, event)).collect(),
            names: names.into_iter().collect(),
        })
    }
}
