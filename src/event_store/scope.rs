//! Whose data: nothing reads or writes without a [`TenantScope`].

use crate::aggregates::ids::TenantId;

/// The one tenant that a piece of work may see and change.
///
/// Made only where a token was verified, an opened support session was found, or the process itself acts
/// for a tenant (samples, imports); a test of the sources keeps the list of those places.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TenantScope(TenantId);

impl TenantScope {
    /// Work inside `tenant`, whose right to it the caller has established.
    #[must_use]
    pub fn of(tenant: TenantId) -> Self {
        Self(tenant)
    }

    /// The tenant.
    #[must_use]
    pub fn tenant(self) -> TenantId {
        self.0
    }
}
