//! What surrounds an event: whose it is, who did it, in which role and session, why, and when on both clocks.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use chrono::{DateTime, Utc};
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::aggregates::ids::{TenantId, UserId};
use crate::aggregates::permission::Role;

/// Who did it. Written whole (`TNT-001:USR-003`), since an actor may come from outside the tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Actor {
    /// A person.
    User(TenantId, UserId),
    /// The system itself.
    System,
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(tenant, user) => write!(f, "{tenant}:{user}"),
            Self::System => f.write_str("system"),
        }
    }
}

/// Who acts, why and when: what every event of one command carries beside its payload.
#[derive(Debug, Clone)]
pub struct Context {
    /// Who acts.
    pub actor: Actor,
    /// In which role.
    pub role: Option<Role>,
    /// The session in which it was asked for.
    pub session: Option<Uuid>,
    /// What belongs together: one request, one batch, one import.
    pub correlation_id: Uuid,
    /// The event or command that led to this one.
    pub causation_id: Option<Uuid>,
    /// The HTTP request.
    pub request_id: Option<String>,
    /// The support session through which somebody from outside acts.
    pub support_session: Option<Uuid>,
    /// When it happened in the business.
    pub occurred_at: DateTime<Utc>,
    /// Anything else worth keeping: the API key, the source of an imported row.
    pub extra: BTreeMap<String, String>,
}

impl Context {
    /// The system acting for itself.
    #[must_use]
    pub fn system(correlation_id: Uuid, occurred_at: DateTime<Utc>) -> Self {
        Self {
            actor: Actor::System,
            role: None,
            session: None,
            correlation_id,
            causation_id: None,
            request_id: None,
            support_session: None,
            occurred_at,
            extra: BTreeMap::new(),
        }
    }

    /// As it is stored beside the payload: text to text, which is what cqrs-es reads.
    #[must_use]
    pub fn metadata(&self) -> Map<String, Value> {
        let mut metadata: Map<String, Value> =
            self.extra.iter().map(|(key, value)| (key.clone(), value.as_str().into())).collect();
        metadata.insert("actor".into(), self.actor.to_string().into());
        metadata.insert("correlation_id".into(), self.correlation_id.to_string().into());
        let optional = [
            ("role", self.role.map(|role| role.as_str().to_owned())),
            ("session_id", self.session.map(|id| id.to_string())),
            ("causation_id", self.causation_id.map(|id| id.to_string())),
            ("request_id", self.request_id.clone()),
            ("support_session", self.support_session.map(|id| id.to_string())),
        ];
        for (key, value) in optional {
            if let Some(value) = value {
                metadata.insert(key.into(), value.into());
            }
        }
        metadata
    }
}

/// An event as the log holds it.
#[derive(Debug, Clone)]
pub struct Recorded {
    /// Whose it is.
    pub tenant_id: TenantId,
    /// The aggregate's type, `Lead`.
    pub aggregate_type: String,
    /// The aggregate's id with its tenant, `TNT-001:LED-007`.
    pub aggregate_id: String,
    /// Its place in the aggregate's stream, from 1.
    pub sequence: i64,
    /// Its place in the cell's log, from 1 and dense.
    pub position: i64,
    /// Its place in the tenant's history, from 1 and dense.
    pub tenant_position: i64,
    /// Its own id, a UUIDv7.
    pub event_id: Uuid,
    /// `LeadStageChanged`.
    pub event_type: String,
    /// The version of that type's payload.
    pub event_version: String,
    /// What happened.
    pub payload: Value,
    /// Who, in which role and session, why.
    pub metadata: HashMap<String, String>,
    /// When it happened in the business.
    pub occurred_at: DateTime<Utc>,
    /// When the store took it.
    pub recorded_at: DateTime<Utc>,
    /// The link of the tenant's hash chain.
    pub hash: Vec<u8>,
}

impl Recorded {
    /// The id within the tenant, `LED-007`.
    #[must_use]
    pub fn local_id(&self) -> &str {
        super::stream::local_part(&self.aggregate_id)
    }

    /// One entry of the metadata.
    #[must_use]
    pub fn meta(&self, key: &str) -> Option<&str> {
        self.metadata.get(key).map(String::as_str)
    }

    /// Who did it, whole: `TNT-001:USR-003` or `system`.
    #[must_use]
    pub fn actor(&self) -> &str {
        self.meta("actor").unwrap_or("system")
    }

    /// The user of the same tenant who did it, `USR-003`; none for a visitor or the system.
    #[must_use]
    pub fn own_actor(&self) -> Option<&str> {
        let (tenant, user) = self.actor().split_once(':')?;
        (tenant == self.tenant_id.to_string()).then_some(user)
    }
}
