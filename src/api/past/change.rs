//! How a change is told: when, who, why, and field by field what was and what became.

use std::collections::HashMap;

use axum::http::header;
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;
use uuid::Uuid;

use super::Remembered;
use crate::api::caller::Caller;
use crate::api::events::cloud_event::CloudEvent;
use crate::api::page::Page;
use crate::api::record::{UNCONTESTED, shown};
use crate::api::{App, Json, Problem};
use crate::event_store::Recorded;
use crate::projections::row::Stored;

/// What happened to a record, the newest first.
#[derive(Debug, Serialize, ToSchema)]
pub struct History {
    #[serde(flatten)]
    pub(super) page: Page<Change>,
    /// What the plan of the business shows; not there where it shows everything. Everything is kept on every plan.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) limited_to: Option<ShownHistory>,
}

/// How much of the history a plan shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
pub struct ShownHistory {
    /// So many days of it,
    #[schema(example = 90)]
    days: u32,
    /// which is what was recorded since.
    pub(super) since: DateTime<Utc>,
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

impl Change {
    /// What an event made of a record; `names` are those of the people of the business.
    pub(super) fn of<N: Remembered>(
        recorded: &Recorded,
        version: &Stored<N::Row>,
        before: Option<&Stored<N::Row>>,
        names: &HashMap<String, String>,
    ) -> Result<Self, Problem> {
        let missing = || Problem::internal(format!("the event at {} means nothing today", recorded.position));
        let event = CloudEvent::read(recorded.clone(), false)?.into_iter().next().ok_or_else(missing)?;
        let before = before.map(fields::<N>).transpose()?;
        let changes = compared::<N>(before.as_ref(), &fields::<N>(version)?);
        Ok(Self {
            version: version.version,
            occurred_at: event.time,
            recorded_at: event.recordedat,
            effective_from: Some(version.occurred_from).filter(|from| *from != event.time),
            event_id: event.id,
            summary: words(&recorded.event_type),
            kind: event.kind,
            actor: ActorView { name: names.get(&event.actorid).cloned(), id: event.actorid },
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
    #[schema(examples("stage"))]
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
    #[schema(examples(3))]
    pub(super) from: u32,
    /// The version that counts as after.
    #[schema(examples(7))]
    pub(super) to: u32,
    /// Field by field.
    pub(super) changes: Vec<FieldChange>,
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

/// The fields of a version as they are shown, and that it was taken away.
pub(super) fn fields<N: Remembered>(stored: &Stored<N::Row>) -> Result<Map<String, Value>, Problem> {
    let mut fields = shown::<N>(stored.clone(), stored.occurred_from.date_naive())?;
    if N::LIST.hides_deleted {
        let row = serde_json::to_value(&stored.row).map_err(Problem::internal)?;
        fields.insert("deleted_at".to_owned(), row.get("deleted_at").cloned().unwrap_or_default());
    }
    Ok(fields)
}

/// What is not what it was; of a record that begins, what it begins with.
pub(super) fn compared<N: Remembered>(
    before: Option<&Map<String, Value>>,
    after: &Map<String, Value>,
) -> Vec<FieldChange> {
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
