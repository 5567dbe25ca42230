//! How aggregates came to be what they are: their streams, event by event, with who did each and why.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use cqrs_es::Aggregate;
use serde_json::Value;

use super::stream::StreamId;
use super::streams::{LoadError, Loaded, Streams, bytes_of};
use super::upcast::{UPCASTERS, Versioned, upcast};
use crate::aggregates::ids::TenantId;

/// One entry of a stream.
#[derive(Debug, Clone)]
pub struct Happened<E> {
    /// Its place in the stream, from 1: the version that it made.
    pub version: i64,
    /// Its place in the cell's log.
    pub position: i64,
    /// `LeadStageChanged`.
    pub event_type: String,
    /// What it belongs to.
    pub correlation_id: Option<String>,
    /// What led to it.
    pub causation_id: Option<String>,
    /// Who did it, whole: `TNT-001:USR-003` or `system`.
    pub actor: String,
    /// When it happened in the business.
    pub occurred_at: DateTime<Utc>,
    /// What it means today: usually one event.
    pub events: Vec<E>,
    /// What it leaves in memory, at most, roughly.
    pub bytes: u64,
}

/// A stream, in order.
#[derive(Debug, Clone)]
pub struct History<A: Aggregate> {
    /// What happened.
    pub entries: Vec<Happened<A::Event>>,
}

impl<A: Aggregate + Clone> History<A> {
    /// The number of the last event; 0 for a stream that does not exist.
    #[must_use]
    pub fn version(&self) -> i64 {
        self.entries.last().map_or(0, |entry| entry.version)
    }

    /// The state after the event with this number; that of nothing for 0.
    #[must_use]
    pub fn at(&self, version: i64) -> A {
        let mut state = A::default();
        for entry in self.entries.iter().take_while(|entry| entry.version <= version) {
            entry.apply_to(&mut state);
        }
        state
    }

    /// The state after the last event.
    #[must_use]
    pub fn now(&self) -> Loaded<A> {
        let bytes = self.entries.iter().map(|entry| entry.bytes).sum();
        Loaded { state: self.at(i64::MAX), version: self.version(), bytes }
    }
}

impl<E: Clone> Happened<E> {
    /// What it does to the state before it.
    pub fn apply_to<A: Aggregate<Event = E>>(&self, state: &mut A) {
        for event in &self.events {
            state.apply(event.clone());
        }
    }
}

type Row = (String, i64, i64, String, String, Value, Option<String>, Option<String>, Option<String>, DateTime<Utc>);

impl Streams {
    /// The whole streams of aggregates of one type and tenant, read in one go, by their ids within the tenant.
    /// Those that do not exist are left out.
    ///
    /// # Errors
    /// [`LoadError`].
    pub async fn histories<A: Aggregate>(
        &self,
        tenant: TenantId,
        ids: &[String],
    ) -> Result<HashMap<String, History<A>>, LoadError> {
        let streams: Vec<StreamId> = ids.iter().map(|id| StreamId::new(A::TYPE, tenant, id)).collect();
        let Some(first) = streams.first() else { return Ok(HashMap::new()) };
        let by_name: HashMap<String, &StreamId> =
            streams.iter().map(|stream| (stream.aggregate_id(), stream)).collect();
        let names: Vec<&String> = by_name.keys().collect();
        let rows: Vec<Row> = sqlx::query_as(
            "select aggregate_id, sequence, position, event_type, event_version, payload::jsonb,
                    metadata->>'correlation_id', metadata->>'causation_id', metadata->>'actor', occurred_at
             from events where tenant_id = $1 and aggregate_type = $2 and aggregate_id = any($3)
             order by aggregate_id, sequence",
        )
        .bind(tenant.to_string())
        .bind(A::TYPE)
        .bind(names)
        .fetch_all(self.pool())
        .await
        .map_err(|error| LoadError::Read(first.clone(), error.to_string()))?;
        let mut histories: HashMap<String, History<A>> = HashMap::new();
        for row in rows {
            let (name, version, position, event_type, event_version, payload, correlation_id, causation_id, actor, at) =
                row;
            let Some(stream) = by_name.get(&name) else { continue };
            let unknown = |reason: String| LoadError::Unknown {
                stream: (*stream).clone(),
                sequence: usize::try_from(version).unwrap_or(0),
                event_type: event_type.clone(),
                reason,
            };
            let bytes = bytes_of(payload.to_string().len());
            let stored = Versioned { event_type: event_type.clone(), event_version, payload };
            let events = upcast(stored, UPCASTERS)
                .map_err(|error| unknown(error.to_string()))?
                .into_iter()
                .map(|event| serde_json::from_value(event.payload).map_err(|error| unknown(error.to_string())))
                .collect::<Result<Vec<_>, _>>()?;
            let actor = actor.unwrap_or_else(|| "system".to_owned());
            let entry = Happened {
                version,
                position,
                event_type,
                correlation_id,
                causation_id,
                actor,
                occurred_at: at,
                events,
                bytes,
            };
            histories
                .entry(stream.local.clone())
                .or_insert_with(|| History { entries: Vec::new() })
                .entries
                .push(entry);
        }
        Ok(histories)
    }

    /// The same of one aggregate; empty if it does not exist.
    ///
    /// # Errors
    /// [`LoadError`].
    pub async fn history<A: Aggregate>(&self, stream: &StreamId) -> Result<History<A>, LoadError> {
        let mut found = self.histories(stream.tenant, std::slice::from_ref(&stream.local)).await?;
        Ok(found.remove(&stream.local).unwrap_or(History { entries: Vec::new() }))
    }
}
