//! Who is calling: from a bearer token or an API key to a tenant, a person and what they may do.
//!
//! The token's signature says who; the database says, on every request, whether that still holds: a role
//! change, a deactivation or a suspension acts at once, not at the token's end.

use std::collections::BTreeMap;

use axum::extract::{FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::middleware::Next;
use axum::response::Response;
use secrecy::SecretString;
use uuid::Uuid;

use super::headers::BearerToken;
use super::idempotency::PendingKey;
use super::list::{ListScope, Visibility};
use super::rehearsal::Rehearsal;
use super::{App, Problem, context};
use crate::access::api_keys::{self, ApiKeyRefused};
use crate::access::permissions::Permissions;
use crate::access::sessions::{self, SupportVisit};
use crate::access::tokens::SupportMode;
use crate::aggregates::ids::{TenantId, UserId};
use crate::aggregates::permission::{Permission, Role, Scope};
use crate::aggregates::values::{TenantStatus, UserStatus};
use crate::clock::new_event_id;
use crate::event_store::{Actor, Context, TenantScope};
use crate::projections::people::{self, Business, Identity};

/// Who is calling, what they may do, and in which tenant.
#[derive(Debug, Clone)]
pub struct Caller {
    scope: TenantScope,
    /// The tenant that the person belongs to; another than the scope's in a support session.
    pub home: TenantId,
    /// The person.
    pub user: UserId,
    /// What is known of them.
    pub identity: Identity,
    /// The business that they act in.
    pub business: Business,
    /// What they may do there.
    pub permissions: Permissions,
    /// The session; none for an API key.
    pub session: Option<Uuid>,
    /// The API key, if it is one.
    pub api_key: Option<String>,
    /// Set in a support session.
    pub support: Option<SupportVisit>,
    key: Option<PendingKey>,
    /// What all that this request changes has in common.
    correlation_id: Uuid,
    rehearsal: Option<Rehearsal>,
}

impl Caller {
    /// The tenant whose data is read and changed.
    #[must_use]
    pub fn tenant(&self) -> TenantId {
        self.scope.tenant()
    }

    /// The right to read and change it.
    #[must_use]
    pub fn scope(&self) -> TenantScope {
        self.scope
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

    async fn from_token(app: &App, token: BearerToken) -> Result<Self, Problem> {
        if token.0.starts_with(api_keys::PREFIX) {
            return Self::from_api_key(app, SecretString::from(token.0)).await;
        }
        let now = app.clock.now();
        let claims =
            app.access.keys.verify(&token.0, now).map_err(|error| Problem::invalid_token(error.to_string()))?;
        let ended = || Problem::invalid_token("the session has ended");
        let session = sessions::active(&app.access.pool, claims.sid, now).await?.ok_or_else(ended)?;
        let entered = session.support.map_or(session.tenant, |visit| visit.tenant);
        let (identity, business) = standing(app, session.tenant, session.user, entered).await?;
        let mut permissions = Permissions::resolve(identity.role, &identity.grants);
        if session.support.is_some_and(|visit| visit.mode == SupportMode::Read) {
            permissions = permissions.read_only();
        }
        Ok(Self {
            scope: TenantScope::of(entered),
            home: session.tenant,
            user: session.user,
            identity,
            business,
            permissions,
            session: Some(session.id),
            api_key: None,
            support: session.support,
            key: None,
            correlation_id: new_event_id(now),
            rehearsal: None,
        })
    }

    async fn from_api_key(app: &App, key: SecretString) -> Result<Self, Problem> {
        let now = app.clock.now();
        let key = api_keys::verify(&app.access.pool, &key, now).await.map_err(|refused| match refused {
            ApiKeyRefused::Failed(error) => Problem::internal(error),
            other => Problem::invalid_token(other.to_string()),
        })?;
        let (mut identity, business) = standing(app, key.tenant, key.created_by, key.tenant).await?;
        let makers = Permissions::resolve(identity.role, &identity.grants);
        api_keys::touch(&app.access.pool, &key, now).await?;
        identity.role = key.role;
        Ok(Self {
            scope: TenantScope::of(key.tenant),
            home: key.tenant,
            user: key.created_by,
            identity,
            business,
            permissions: key.permissions.intersect(&makers),
            session: None,
            api_key: Some(key.key_id),
            support: None,
            key: None,
            correlation_id: new_event_id(now),
            rehearsal: None,
        })
    }
}

/// The person and the business, if both are active.
async fn standing(app: &App, home: TenantId, user: UserId, entered: TenantId) -> Result<(Identity, Business), Problem> {
    let pool = &app.database.cell_of(home).sign_in;
    let standing = people::standing(pool, home, user, entered).await?;
    let (identity, business) = standing.ok_or_else(|| Problem::invalid_token("the account is gone"))?;
    if identity.status != UserStatus::Active {
        return Err(Problem::invalid_token("the account is not active"));
    }
    // The founder may visit a suspended business; nobody else gets in.
    if business.status != TenantStatus::Active && entered == home {
        return Err(Problem::invalid_token("the business is suspended"));
    }
    Ok((identity, business))
}

/// What [`authenticate`] found out, for whoever asks later in the request.
#[derive(Clone)]
pub(super) struct Authenticated(pub Result<Caller, Problem>);

/// Finds out who is calling, once a request, before anything else.
pub async fn authenticate(State(app): State<App>, mut request: Request, next: Next) -> Response {
    let token = BearerToken::from_headers(request.headers());
    let caller = match token {
        Ok(token) => Caller::from_token(&app, token).await,
        Err(problem) => Err(problem),
    };
    if let Ok(caller) = &caller {
        let (tenant, user) = (caller.tenant().to_string(), format!("{}:{}", caller.home, caller.user));
        context::identify(&tenant, &user);
        if let Err(problem) = app.limiter.admit(&tenant, &user) {
            return axum::response::IntoResponse::into_response(problem);
        }
    }
    request.extensions_mut().insert(Authenticated(caller));
    next.run(request).await
}

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
