//! What happened to one record: each change with who, when, why, and what was before; any version; any two compared.

use std::collections::{BTreeSet, HashMap};

use axum::http::Uri;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sqlx::FromRow;
use sqlx::postgres::PgRow;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::{Reader, Remembered, seers};
use crate::api::caller::Caller;
use crate::api::events::cloud_event::CloudEvent;
use crate::api::list::cursor;
use crate::api::page::{self, Page};
use crate::api::record::{Record, UNCONTESTED, View as _, shown};
use crate::api::{App, Json, Problem};
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

/// What happened to a record, the newest first.
#[derive(Debug, Serialize, ToSchema)]
pub struct History {
    #[serde(flatten)]
    page: Page<Change>,
    /// What the plan of the business shows; not there where it shows everything. Everything is kept on every plan.
    #[serde(skip_serializing_if = "Option::is_none")]
    limited_to: Option<ShownHistory>,
}

/// How much of the history a plan shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
pub struct ShownHistory {
    /// So many days of it,
    #[schema(example = 90)]
    days: u32,
    /// which is what was recorded since.
    since: DateTime<Utc>,
}

impl ShownHistory {
    /// What the plan of the caller's business shows; none: everything.
    #[must_use]
    pub fn of(app: &App, caller: &Caller) -> Option<Self> {
        let days = caller.business.plan.allowance().audit_days?;
        Some(Self { days, since: app.clock.now() - TimeDelta::days(i64::from(days)) })
    }
}

/// One change of a record.
#[derive(Debug, Serialize, ToSchema)]
#[schema(example = json!({"version": 3, "occurred_at": "2026-01-08T09:00:00Z", "recorded_at": "2026-01-08T09:00:00Z",
    "event_id": "01928d3e-7a10-7c3e-9f5b-0a6f5e8a1c11", "type": "devhub.lead.stage_changed.v1",
    "summary": "Lead stage changed", "actor": {"id": "USR-004", "name": "Bo Larsen"}, "role": "EMPLOYEE",
    "correlation_id": "01928d3e-7a10-7c3e-9f5b-0a6f5e8a1c10",
    "changes": [{"field": "stage", "before": "proposal", "after": "negotiation"}]}))]
pub struct Change {
    /// The version that it made.
    version: i64,
    /// When it happened in the business.
    occurred_at: DateTime<Utc>,
    /// When the log took it.
    recorded_at: DateTime<Utc>,
    /// From when on it counts in the business, where that is later than when it happened: it was recorded late, and
    /// what was known by then stays as it was.
    #[serde(skip_serializing_if = "Option::is_none")]
    effective_from: Option<DateTime<Utc>>,
    /// The event.
    event_id: Uuid,
    /// What happened, for programs.
    #[serde(rename = "type")]
    kind: String,
    /// What happened, in words.
    summary: String,
    /// Who did it.
    actor: ActorView,
    /// In which role.
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<String>,
    /// In which support session, if a visitor did it.
    #[serde(skip_serializing_if = "Option::is_none")]
    support_session: Option<String>,
    /// With which API key, if a program did it.
    #[serde(skip_serializing_if = "Option::is_none")]
    api_key: Option<String>,
    /// The row of the old application's database that told it: its table and primary key.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(examples("leads/123"))]
    imported_from: Option<String>,
    /// What belongs together.
    #[serde(skip_serializing_if = "Option::is_none")]
    correlation_id: Option<String>,
    /// Why, where it was said.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// Field by field.
    changes: Vec<FieldChange>,
}

/// Who did something.
#[derive(Debug, Serialize, ToSchema)]
struct ActorView {
    /// `USR-004`; whole if it was somebody from outside the business; `system`.
    id: String,
    /// Their name now, if they are of the business.
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
}

/// A field that is not what it was.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct FieldChange {
    /// Its name.
    field: String,
    /// What it was.
    #[schema(value_type = Value)]
    before: Value,
    /// What it became.
    #[schema(value_type = Value)]
    after: Value,
}

/// Two versions of a record, compared.
#[derive(Debug, Serialize, ToSchema)]
pub struct Difference {
    /// The version that counts as before.
    from: u32,
    /// The version that counts as after.
    to: u32,
    /// Field by field.
    changes: Vec<FieldChange>,
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
        data.push(surroundings.change::<N>(version, versions.get(number + 1))?);
    }
    let last = versions.get(limit.saturating_sub(1)).filter(|_| in_view > limit);
    let after = last.map(|last| vec![Some(last.position.to_string())]);
    let page = Page::sealed(data, after.as_ref(), (&app.cursor_key, &context), uri)?;
    Ok(History { page, limited_to })
}

impl IntoResponse for History {
    fn into_response(self) -> Response {
        let link = self.page.link();
        let mut response = Json(self).into_response();
        if let Some(link) = link {
            response.headers_mut().insert(header::LINK, link);
        }
        response
    }
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

    fn change<N: Remembered>(
        &self,
        version: &Stored<N::Row>,
        before: Option<&Stored<N::Row>>,
    ) -> Result<Change, Problem> {
        let missing = || Problem::internal(format!("version at {} has no event", version.position));
        let recorded = self.events.get(&version.position).ok_or_else(missing)?;
        let event = CloudEvent::read(recorded, false)?.into_iter().next().ok_or_else(missing)?;
        let before = before.map(fields::<N>).transpose()?;
        let changes = compared::<N>(before.as_ref(), &fields::<N>(version)?);
        Ok(Change {
            version: version.version,
            occurred_at: event.time,
            recorded_at: event.recordedat,
            effective_from: Some(version.occurred_from).filter(|from| *from != event.time),
            event_id: event.id,
            summary: words(&recorded.event_type),
            kind: event.kind,
            actor: ActorView { name: self.names.get(&event.actorid).cloned(), id: event.actorid },
            role: event.role,
            support_session: event.supportsession,
            api_key: recorded.meta("api_key").map(str::to_owned),
            imported_from: event.importedfrom,
            correlation_id: event.correlationid,
            reason: event.data.get("reason").and_then(Value::as_str).map(str::to_owned),
            changes,
        })
    }
}

/// The fields of a version as they are shown, and that it was taken away.
fn fields<N: Remembered>(stored: &Stored<N::Row>) -> Result<Map<String, Value>, Problem> {
    let mut fields = shown::<N>(stored.clone(), stored.occurred_from.date_naive())?;
    if N::LIST.hides_deleted {
        let row = serde_json::to_value(&stored.row).map_err(Problem::internal)?;
        fields.insert("deleted_at".to_owned(), row.get("deleted_at").cloned().unwrap_or_default());
    }
    Ok(fields)
}

/// What is not what it was; of a record that begins, what it begins with.
fn compared<N: Remembered>(before: Option<&Map<String, Value>>, after: &Map<String, Value>) -> Vec<FieldChange> {
    let told = |name: &str| {
        matches!(name, "id" | "created_at") || UNCONTESTED.contains(&name) || N::WORKED_OUT.contains(&name)
    };
    after
        .iter()
        .filter(|(name, _)| !told(name))
        .filter_map(|(name, after)| {
            let before = before.and_then(|before| before.get(name)).unwrap_or(&Value::Null);
            let change = || FieldChange { field: name.clone(), before: before.clone(), after: after.clone() };
            (before != after).then(change)
        })
        .collect()
}

/// `LeadStageChanged` → `Lead stage changed`.
fn words(event_type: &str) -> String {
    let mut words = String::with_capacity(event_type.len() + 4);
    for c in event_type.chars() {
        if c.is_ascii_uppercase() && !words.is_empty() {
            words.push(' ');
            words.push(c.to_ascii_lowercase());
        } else {
            words.push(c);
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_happened_is_said_in_words() {
        assert_eq!(words("LeadStageChanged"), "Lead stage changed");
        assert_eq!(words("CustomerDeleted"), "Customer deleted");
    }
}
