//! What all ways of signing in end in: a session, its tokens, and a line in the user's own history.

use std::net::SocketAddr;

use axum::extract::{ConnectInfo, FromRequestParts};
use axum::http::header;
use axum::http::request::Parts;
use secrecy::ExposeSecret;
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::idempotency::PendingKey;
use super::write::{Attempts, Receipt};
use super::{App, Problem, context};
use crate::access::key_ring::KeyRingError;
use crate::access::passwords::PasswordsError;
use crate::access::permissions::Permissions;
use crate::access::sessions::{self, Opened, Origin, Session, SessionsError};
use crate::aggregates::ids::{TenantId, UserId};
use crate::aggregates::permission::Role;
use crate::aggregates::user::{User, UserCommand};
use crate::aggregates::values::{TenantStatus, UserStatus};
use crate::clock::new_event_id;
use crate::event_store::{Actor, Context, TenantScope};
use crate::projections::people::{self, Business, Identity};

/// Somebody who is not signed in yet: counted by address, before anything else is done for them.
#[derive(Debug, Clone)]
pub struct Guest {
    /// Where the request comes from.
    pub origin: Origin,
    /// The request's idempotency key, if it has one.
    pub key: Option<PendingKey>,
}

impl FromRequestParts<App> for Guest {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(peer)| *peer);
        let address = app.limiter.address(peer, &parts.headers);
        app.limiter.admit_sign_in(address)?;
        let user_agent = parts.headers.get(header::USER_AGENT).and_then(|value| value.to_str().ok());
        let origin = Origin {
            address: (!address.is_unspecified()).then_some(address),
            user_agent: user_agent.map(str::to_owned),
        };
        Ok(Self { origin, key: parts.extensions.get::<PendingKey>().cloned() })
    }
}

/// What a program needs to act as somebody (RFC 6749, section 5.1).
#[derive(Debug, Serialize, ToSchema)]
#[schema(example = json!({"access_token": "eyJhbGciOiJFZERTQSJ9…", "refresh_token": "Zk3…", "token_type": "Bearer",
    "expires_in": 900}))]
pub struct Tokens {
    /// Goes into `Authorization: Bearer …`.
    pub access_token: String,
    /// Good for one refresh; a support session has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refresh_token: Option<String>,
    /// Always `Bearer`.
    pub token_type: &'static str,
    /// How long the access token is good for, in seconds.
    pub expires_in: i64,
}

/// Who did something that concerns signing in.
#[derive(Debug, Clone, Copy)]
pub struct Who {
    /// The business.
    pub tenant: TenantId,
    /// The person.
    pub user: UserId,
    /// The role; none if nobody has proved to be that person.
    pub role: Option<Role>,
    /// The session.
    pub session: Option<Uuid>,
}

impl Who {
    /// What the events of this request say about who did it; the system, if nobody has proved to be the person.
    #[must_use]
    pub fn context(&self, app: &App, key: Option<&PendingKey>) -> Context {
        let now = app.clock.now();
        let correlation = key.map_or_else(|| new_event_id(now), PendingKey::correlation_id);
        Context {
            actor: if self.role.is_some() { Actor::User(self.tenant, self.user) } else { Actor::System },
            role: self.role,
            session: self.session,
            request_id: context::request_id(),
            ..Context::system(correlation, now)
        }
    }
}

/// Notes in a user's history what happened to their access. Others may note something at the same moment, so this
/// is decided again until it is in.
///
/// # Errors
/// What the user refuses: who is locked or gone does not sign in.
pub async fn note(app: &App, who: Who, commands: &[UserCommand]) -> Result<Receipt, Problem> {
    note_under(app, None, who, commands).await
}

/// The same as the effect of a request that has an idempotency key.
///
/// # Errors
/// What the user refuses.
pub async fn note_under(
    app: &App,
    key: Option<&PendingKey>,
    who: Who,
    commands: &[UserCommand],
) -> Result<Receipt, Problem> {
    let mut attempts = Attempts::many();
    loop {
        let mut work = app.store.begin(TenantScope::of(who.tenant), who.context(app, key));
        if let Some(key) = key {
            work.answer(key.claim());
        }
        for command in commands {
            work.execute::<User>(work.stream::<User>(who.user), command.clone()).await?;
        }
        if let Some(receipt) = app.commit_under(key, work, &mut attempts).await? {
            return Ok(receipt);
        }
    }
}

/// The person, if they and their business may sign in.
///
/// # Errors
/// `unauthenticated`, with the reason: only who has proved to be that person may hear it.
pub async fn admitted(app: &App, tenant: TenantId, user: UserId) -> Result<Identity, Problem> {
    let pool = &app.database.cell_of(tenant).sign_in;
    let standing = people::standing(pool, tenant, user, tenant).await?;
    let (identity, business) = standing.ok_or_else(Problem::projection_lagging)?;
    let refused = match identity.status {
        UserStatus::Active => return require_open(&business).map(|()| identity),
        UserStatus::Invited => "the invitation is not accepted yet",
        UserStatus::Locked => "the account is locked",
        UserStatus::Deactivated => "the account is deactivated",
    };
    Err(Problem::sign_in_refused(refused))
}

/// That people are let into a business.
///
/// # Errors
/// Why nobody is.
pub fn require_open(business: &Business) -> Result<(), Problem> {
    match business.status {
        TenantStatus::Active => Ok(()),
        TenantStatus::Suspended => Err(Problem::sign_in_refused("the business is suspended")),
    }
}

/// Opens a session for somebody who has proved who they are, and notes it.
///
/// # Errors
/// `unauthenticated` if they or their business may not sign in.
pub async fn open(app: &App, origin: &Origin, tenant: TenantId, user: UserId) -> Result<Tokens, Problem> {
    let identity = admitted(app, tenant, user).await?;
    let opened = app.access.open_session(tenant, user, origin).await?;
    let session = opened.session.id;
    let who = Who { tenant, user, role: Some(identity.role), session: Some(session) };
    let address = origin.address.map(|address| address.to_string());
    let noted = note(app, who, &[UserCommand::RecordLogin { session: session.to_string(), address }]).await;
    if let Err(problem) = noted {
        // Locked at this very moment, or not to be noted: then it did not take place.
        sessions::revoke(&app.access.pool, tenant, user, session, app.clock.now()).await?;
        return Err(problem);
    }
    tokens(app, opened, &identity).await
}

/// The tokens of a session that was opened or continued.
///
/// # Errors
/// `internal` if no token can be signed.
pub async fn tokens(app: &App, opened: Opened, identity: &Identity) -> Result<Tokens, Problem> {
    let refresh_token = opened.refresh_token.expose_secret().to_owned();
    Ok(Tokens { refresh_token: Some(refresh_token), ..access_token(app, &opened.session, identity).await? })
}

/// An access token alone.
///
/// # Errors
/// `internal` if no token can be signed.
pub async fn access_token(app: &App, session: &Session, identity: &Identity) -> Result<Tokens, Problem> {
    let permissions = Permissions::resolve(identity.role, &identity.grants);
    let issued = app.access.issue(session, identity.role, &permissions).await?;
    Ok(Tokens {
        access_token: issued.access_token.expose_secret().to_owned(),
        refresh_token: None,
        token_type: "Bearer",
        expires_in: issued.expires_in,
    })
}

impl From<SessionsError> for Problem {
    fn from(error: SessionsError) -> Self {
        match error {
            SessionsError::Database(error) => error.into(),
            SessionsError::Secrets(error) => Self::internal(error),
        }
    }
}

impl From<KeyRingError> for Problem {
    fn from(error: KeyRingError) -> Self {
        Self::internal(error)
    }
}

impl From<PasswordsError> for Problem {
    fn from(error: PasswordsError) -> Self {
        match error {
            PasswordsError::Unavailable => Self::overloaded("no password can be checked now"),
            other => Self::internal(other),
        }
    }
}
