//! Who is calling, and what follows from it: which tenant's data, which permissions, which rows, and what an event says
//! of who caused it.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use uuid::Uuid;

use super::idempotency::PendingKey;
use super::list::{ListScope, Visibility};
use super::rehearsal::Rehearsal;
use super::standing::Standing;
use super::{App, Problem, context};
use crate::aggregates::ids::{TenantId, UserId};
use crate::aggregates::permission::{Permission, Role, Scope};
use crate::event_store::{Actor, Context, TenantScope};

/// Who is calling, what they may do, and in which tenant.
#[derive(Debug, Clone)]
pub struct Caller {
    standing: Arc<Standing>,
    key: Option<PendingKey>,
    /// What all that this request changes has in common.
    correlation_id: Uuid,
    rehearsal: Option<Rehearsal>,
}

impl std::ops::Deref for Caller {
    type Target = Standing;

    fn deref(&self) -> &Standing {
        &self.standing
    }
}

impl Caller {
    /// Somebody whose standing is known, in one request.
    pub(super) fn new(standing: Arc<Standing>, correlation_id: Uuid) -> Self {
        Self { standing, key: None, correlation_id, rehearsal: None }
    }

    /// The tenant whose data is read and changed.
    #[must_use]
    pub fn tenant(&self) -> TenantId {
        self.entered
    }

    /// The right to read and change it.
    #[must_use]
    pub fn scope(&self) -> TenantScope {
        TenantScope::of(self.entered)
    }

    /// The role.
    #[must_use]
    pub fn role(&self) -> Role {
        self.identity.role
    }

    /// Whether this is the platform founder at home, not visiting and not a program.
    #[must_use]
    pub fn is_founder(&self) -> bool {
        self.role() == Role::PlatformFounder && self.support.is_none() && self.api_key.is_none()
    }

    /// The user as somebody of the tenant that is worked in; none for a visitor.
    #[must_use]
    pub fn own_user(&self) -> Option<UserId> {
        (self.home == self.tenant()).then_some(self.user)
    }

    /// The request's idempotency key, if it has one.
    #[must_use]
    pub fn pending_key(&self) -> Option<&PendingKey> {
        self.key.as_ref()
    }

    /// What all that this request changes has in common.
    #[must_use]
    pub fn correlation_id(&self) -> Uuid {
        self.correlation_id
    }

    /// Where what would be stored is noted instead of being stored; none if this is meant.
    #[must_use]
    pub fn rehearsal(&self) -> Option<&Rehearsal> {
        self.rehearsal.as_ref()
    }

    /// The same caller in one operation of a batch: all of them have the batch's correlation id, and the batch
    /// itself has the idempotency key.
    #[must_use]
    pub fn in_batch(&self, rehearsal: Option<Rehearsal>) -> Self {
        Self { key: None, rehearsal, ..self.clone() }
    }

    /// How far a permission reaches.
    ///
    /// # Errors
    /// `permission_denied`, which names it.
    pub fn require(&self, permission: Permission) -> Result<Scope, Problem> {
        self.permissions.scope(permission).ok_or_else(|| Problem::permission_denied(permission))
    }

    /// That a permission reaches over the whole tenant.
    ///
    /// # Errors
    /// `permission_denied`, which names it.
    pub fn require_all(&self, permission: Permission) -> Result<(), Problem> {
        match self.require(permission)? {
            Scope::Tenant => Ok(()),
            Scope::Own | Scope::Department => Err(Problem::permission_denied(permission)),
        }
    }

    /// Which rows a permission shows.
    #[must_use]
    pub fn visibility(&self, scope: Scope) -> Visibility<'_> {
        match (scope, self.identity.department.as_deref()) {
            (Scope::Tenant, _) => Visibility::Everything,
            (Scope::Department, Some(department)) => Visibility::Department { department, user: self.user },
            (Scope::Department, None) | (Scope::Own, _) => Visibility::OwnedBy(self.user),
        }
    }

    /// Inside which bounds a list that needs `permission` is read.
    ///
    /// # Errors
    /// `permission_denied`.
    pub fn list_scope<'a>(&'a self, app: &'a App, permission: Permission) -> Result<ListScope<'a>, Problem> {
        let visibility = self.visibility(self.require(permission)?);
        Ok(ListScope { tenant: self.tenant(), schema: None, visibility, cursor_key: &app.cursor_key })
    }

    /// What every event of this request says about who, in which role and session, and why.
    #[must_use]
    pub fn context(&self, app: &App) -> Context {
        let now = app.clock.now();
        let mut extra = BTreeMap::new();
        if let Some(key) = &self.api_key {
            extra.insert("api_key".to_owned(), key.clone());
        }
        let request = context::current();
        if let Some(trace) = request.as_ref().and_then(|request| request.trace_id()) {
            extra.insert("trace_id".to_owned(), trace.to_owned());
        }
        Context {
            actor: Actor::User(self.home, self.user),
            role: Some(self.role()),
            session: self.session,
            correlation_id: self.correlation_id,
            causation_id: None,
            request_id: request.map(|request| request.id().to_owned()),
            support_session: self.support.and(self.session),
            occurred_at: now,
            extra,
        }
    }
}

/// What was found out about who is calling, for whoever asks later in the request.
#[derive(Clone)]
pub(super) struct Authenticated(pub Result<Caller, Problem>);

impl FromRequestParts<App> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self, Problem> {
        let Authenticated(caller) =
            parts.extensions.get::<Authenticated>().cloned().ok_or_else(Problem::unauthenticated)?;
        let mut caller = caller?;
        caller.key = parts.extensions.get::<PendingKey>().cloned();
        if let Some(key) = &caller.key {
            caller.correlation_id = key.correlation_id();
        }
        Ok(caller)
    }
}

/// The platform founder, at home: the only one whom `/api/admin` answers.
#[derive(Debug, Clone)]
pub struct Founder(pub Caller);

impl Founder {
    /// The right to look at any tenant, and to manage it as a whole.
    #[must_use]
    pub fn scope(&self, tenant: TenantId) -> TenantScope {
        TenantScope::of(tenant)
    }
}

impl FromRequestParts<App> for Founder {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let caller = Caller::from_request_parts(parts, app).await?;
        if caller.is_founder() { Ok(Self(caller)) } else { Err(Problem::permission_denied("platform:admin")) }
    }
}
