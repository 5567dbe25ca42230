//! An event as it leaves the system: a `CloudEvent` (1.0).

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::aggregates::event_types;
use crate::api::Problem;
use crate::event_store::Recorded;
use crate::event_store::upcast::{UPCASTERS, Versioned, upcast};

/// Something that happened, as a `CloudEvent` 1.0 with extensions for who, why and where in the log.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(example = json!({"specversion": "1.0", "id": "01928d3e-7a10-7c3e-9f5b-0a6f5e8a1c11",
    "type": "devhub.lead.stage_changed.v1", "source": "/tenants/TNT-001", "subject": "LED-007",
    "time": "2026-01-08T09:00:00Z", "datacontenttype": "application/json", "tenantid": "TNT-001", "sequence": "18443",
    "actorid": "USR-004", "role": "EMPLOYEE", "correlationid": "01928d3e-7a10-7c3e-9f5b-0a6f5e8a1c10",
    "recordedat": "2026-01-08T09:00:00Z", "aggregatetype": "Lead", "version": 3,
    "data": {"from": "proposal", "to": "negotiation"}}))]
pub struct CloudEvent {
    /// Always `1.0`.
    specversion: &'static str,
    /// The event's id.
    pub id: Uuid,
    /// What happened, with the version of what `data` looks like.
    #[serde(rename = "type")]
    pub kind: String,
    /// In which business.
    source: String,
    /// To what.
    subject: String,
    /// When it happened in the business.
    #[serde(serialize_with = "crate::api::shown::at")]
    pub time: DateTime<Utc>,
    /// Always `application/json`.
    datacontenttype: &'static str,
    /// The business.
    tenantid: String,
    /// Its place in the business's history.
    sequence: String,
    /// Who did it; whole if it was somebody from outside the business.
    pub actorid: String,
    /// In which role.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// In which session.
    #[serde(skip_serializing_if = "Option::is_none")]
    sessionid: Option<String>,
    /// In which support session, if a visitor did it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub supportsession: Option<String>,
    /// What belongs together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub correlationid: Option<String>,
    /// What led to it: an undo names the correlation id of what it takes back.
    #[serde(skip_serializing_if = "Option::is_none")]
    causationid: Option<String>,
    /// The request that did it.
    #[serde(skip_serializing_if = "Option::is_none")]
    requestid: Option<String>,
    /// The row of the old application's database that it was imported from: its table and primary key.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(examples("leads/123"))]
    pub importedfrom: Option<String>,
    /// When the log took it.
    #[serde(serialize_with = "crate::api::shown::at")]
    pub recordedat: DateTime<Utc>,
    /// To what kind of thing.
    aggregatetype: String,
    /// The version of the thing after it.
    version: i64,
    /// What changed. What a private note of somebody else's says is not in it; `withheld` stands there instead.
    #[schema(value_type = Object)]
    pub data: Value,
}

impl CloudEvent {
    /// The business that it is of.
    #[must_use]
    pub fn tenant(&self) -> &str {
        &self.tenantid
    }

    /// What a stored event means today: usually one event. `whole` writes actors of the business whole, too.
    pub fn read(mut recorded: Recorded, whole: bool) -> Result<Vec<Self>, Problem> {
        let stored = Versioned {
            event_type: std::mem::take(&mut recorded.event_type),
            event_version: std::mem::take(&mut recorded.event_version),
            payload: recorded.payload.take(),
        };
        let today = upcast(stored, UPCASTERS).map_err(Problem::internal)?;
        let actor = recorded.own_actor().filter(|_| !whole).unwrap_or_else(|| recorded.actor()).to_owned();
        let (tenant, subject) = (recorded.tenant_id.to_string(), recorded.local_id().to_owned());
        let mut meta = |key: &str| recorded.metadata.remove(key);
        let event = Self {
            specversion: "1.0",
            id: recorded.event_id,
            kind: String::new(),
            source: format!("/tenants/{tenant}"),
            subject,
            time: recorded.occurred_at,
            datacontenttype: "application/json",
            tenantid: tenant,
            sequence: recorded.tenant_position.to_string(),
            actorid: actor,
            role: meta("role"),
            sessionid: meta("session_id"),
            supportsession: meta("support_session"),
            correlationid: meta("correlation_id"),
            causationid: meta("causation_id"),
            requestid: meta("request_id"),
            importedfrom: imported_from(meta),
            recordedat: recorded.recorded_at,
            aggregatetype: recorded.aggregate_type,
            version: recorded.sequence,
            data: Value::Null,
        };
        // The last of them is moved and not copied, and there is usually one.
        let events = std::iter::repeat_n(event, today.len()).zip(today).map(|(event, meant)| Self {
            kind: public_type(&event.aggregatetype, &meant.event_type, &meant.event_version),
            data: data(meant.payload),
            ..event
        });
        Ok(events.collect())
    }
}

/// `leads/123`, for what an import of the old application's database told.
fn imported_from(mut meta: impl FnMut(&str) -> Option<String>) -> Option<String> {
    meta("source").filter(|source| source == "legacy")?;
    Some(format!("{}/{}", meta("legacy_table")?, meta("legacy_key")?))
}

/// `Lead`, `LeadStageChanged`, `1` → `devhub.lead.stage_changed.v1`.
pub fn public_type(aggregate: &str, event_type: &str, version: &str) -> String {
    let name = event_type.strip_prefix(aggregate).unwrap_or(event_type);
    format!("devhub.{}.{}.v{version}", snake(aggregate), snake(name))
}

fn snake(name: &str) -> String {
    let mut snake = String::with_capacity(name.len() + 4);
    for c in name.chars() {
        if c.is_ascii_uppercase() && !snake.is_empty() {
            snake.push('_');
        }
        snake.push(c.to_ascii_lowercase());
    }
    snake
}

/// The type as it is stored, from either way of writing it; none if there is no such type.
pub fn stored_type(text: &str) -> Option<String> {
    event_types().into_iter().find_map(|(aggregate, name, version)| {
        (name == text || public_type(aggregate, &name, version) == text).then_some(name)
    })
}

/// What the payload says, without the name of the variant and the marks of what is personal.
fn data(payload: Value) -> Value {
    match payload {
        Value::Object(variant) if variant.len() == 1 => {
            variant.into_iter().next().map_or(Value::Null, |(_, inner)| unmarked(inner))
        }
        other => unmarked(other),
    }
}

fn unmarked(mut value: Value) -> Value {
    unmark(&mut value);
    value
}

/// Puts what is marked as personal in the place of its mark.
fn unmark(value: &mut Value) {
    while let Value::Object(members) = value
        && members.len() == 1
        && let Some(personal) = members.remove("personal")
    {
        *value = personal;
    }
    match value {
        Value::Object(members) => members.values_mut().for_each(unmark),
        Value::Array(items) => items.iter_mut().for_each(unmark),
        _ => {}
    }
}

/// One event as a line of JSON.
pub fn line(event: &CloudEvent) -> Result<Vec<u8>, Problem> {
    let mut line = serde_json::to_vec(event).map_err(Problem::internal)?;
    line.push(b'\n');
    Ok(line)
}

/// The columns of [`csv`].
pub const CSV_HEADER: &[&str] = &[
    "id",
    "time",
    "recordedat",
    "type",
    "tenantid",
    "sequence",
    "subject",
    "actorid",
    "role",
    "correlationid",
    "requestid",
    "importedfrom",
    "version",
    "data",
];

/// One event as a record of CSV (RFC 4180).
pub fn csv(event: &CloudEvent) -> Result<Vec<u8>, Problem> {
    let mut writer = csv::WriterBuilder::new().terminator(csv::Terminator::CRLF).from_writer(Vec::new());
    let optional = |text: &Option<String>| text.clone().unwrap_or_default();
    let fields = [
        event.id.to_string(),
        event.time.to_rfc3339(),
        event.recordedat.to_rfc3339(),
        event.kind.clone(),
        event.tenantid.clone(),
        event.sequence.clone(),
        event.subject.clone(),
        event.actorid.clone(),
        optional(&event.role),
        optional(&event.correlationid),
        optional(&event.requestid),
        optional(&event.importedfrom),
        event.version.to_string(),
        event.data.to_string(),
    ];
    writer.write_record(fields).map_err(Problem::internal)?;
    writer.into_inner().map_err(Problem::internal)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_type_is_written_as_programs_know_it_and_read_in_both_ways() {
        assert_eq!(public_type("Lead", "LeadStageChanged", "1"), "devhub.lead.stage_changed.v1");
        assert_eq!(stored_type("devhub.lead.stage_changed.v1").as_deref(), Some("LeadStageChanged"));
        assert_eq!(stored_type("LeadStageChanged").as_deref(), Some("LeadStageChanged"));
        assert_eq!(stored_type("devhub.lead.stage_changed.v9"), None);
        for (aggregate, name, version) in event_types() {
            assert_eq!(stored_type(&public_type(aggregate, &name, version)), Some(name));
        }
    }

    #[test]
    fn only_an_imported_event_says_from_which_row() {
        let from = |entries: [(&str, &str); 3]| {
            imported_from(|key| entries.iter().find(|(known, _)| *known == key).map(|(_, value)| (*value).to_owned()))
        };
        let row = [("source", "legacy"), ("legacy_table", "leads"), ("legacy_key", "123")];
        assert_eq!(from(row).as_deref(), Some("leads/123"));
        let [_, table, key] = row;
        assert_eq!(from([("source", "samples"), table, key]), None);
    }

    #[test]
    fn data_is_what_changed_without_the_marks_of_the_log() {
        let payload = json!({"Captured": {"name": {"personal": "Ada"}, "lines": [{"personal": {"city": "London"}}],
            "stage": "new"}});
        assert_eq!(data(payload), json!({"name": "Ada", "lines": [{"city": "London"}], "stage": "new"}));
        assert_eq!(data(json!({"Deleted": {}})), json!({}));
    }
}
