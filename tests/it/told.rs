//! Events told straight to the log, whatever the rules of their aggregates say.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use devhub::clock::new_event_id;
use devhub::event_store::{Append, NewEvent, StreamId, StreamWrite};
use serde_json::{Value, json};

/// An event of the system's that happened at this moment.
pub fn event(at: DateTime<Utc>, event_type: &str, payload: &Value) -> NewEvent {
    NewEvent {
        event_id: new_event_id(at),
        event_type: event_type.to_owned(),
        event_version: "1".into(),
        payload: payload.to_string(),
        metadata: Arc::from(r#"{"actor":"system"}"#),
        occurred_at: at,
        claims: vec![],
    }
}

/// How a lead of this name begins.
pub fn captured(at: DateTime<Utc>, name: &str) -> NewEvent {
    let payload = json!({"Captured": {"name": {"personal": name}, "source": "website", "stage": "new",
        "qualification": "new", "probability": 10, "probability_set_by_hand": false}});
    event(at, "LeadCaptured", &payload)
}

/// One event after so many of its stream.
pub fn one(stream: StreamId, expected: i64, event: NewEvent) -> Append {
    let tenant = stream.tenant;
    let writes = vec![StreamWrite { target: stream.into(), expected, events: vec![event] }];
    Append { tenant, writes, guards: vec![], conditions: vec![], idempotency: None }
}
