//! How streams are named: `TNT-001:CUS-042`, so that an id alone can never address another tenant's stream.

use std::fmt;

use crate::aggregates::ids::TenantId;

/// The events of one aggregate.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamId {
    /// The aggregate's type, `Lead`.
    pub aggregate_type: &'static str,
    /// The tenant whose stream it is.
    pub tenant: TenantId,
    /// The id within the tenant, `LED-007`; empty for the tenant's own stream.
    pub local: String,
}

impl StreamId {
    /// The stream of `local` within `tenant`.
    #[must_use]
    pub fn new(aggregate_type: &'static str, tenant: TenantId, local: impl fmt::Display) -> Self {
        Self { aggregate_type, tenant, local: local.to_string() }
    }

    /// The stream of the tenant itself.
    #[must_use]
    pub fn of_tenant(tenant: TenantId) -> Self {
        Self { aggregate_type: "Tenant", tenant, local: String::new() }
    }

    /// The id as it stands in the log.
    #[must_use]
    pub fn aggregate_id(&self) -> String {
        if self.local.is_empty() { self.tenant.to_string() } else { format!("{}:{}", self.tenant, self.local) }
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.aggregate_type, self.aggregate_id())
    }
}

/// The id within the tenant, out of an id of the log: `TNT-001:CUS-042` → `CUS-042`, `TNT-001` → `TNT-001`.
#[must_use]
pub fn local_part(aggregate_id: &str) -> &str {
    aggregate_id.split_once(':').map_or(aggregate_id, |(_, local)| local)
}

/// Which stream is written: one that has a name, or a new one that gets the next number of its kind.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Target {
    /// A stream with a name, whether it exists or not.
    Named(StreamId),
    /// A new stream; the append gives it the next number after `prefix` (`LED`).
    Next {
        /// The aggregate's type.
        aggregate_type: &'static str,
        /// The tenant that counts.
        tenant: TenantId,
        /// The letters before the number.
        prefix: &'static str,
    },
}

impl Target {
    /// The stream, if it has a name.
    #[must_use]
    pub fn stream(&self) -> Option<&StreamId> {
        match self {
            Self::Named(stream) => Some(stream),
            Self::Next { .. } => None,
        }
    }

    /// The aggregate id of a stream that has a name.
    #[must_use]
    pub fn name(&self) -> Option<String> {
        self.stream().map(StreamId::aggregate_id)
    }
}

impl From<StreamId> for Target {
    fn from(stream: StreamId) -> Self {
        Self::Named(stream)
    }
}
