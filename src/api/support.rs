//! Support sessions: how the founder comes into a business, with a reason and for a time, and what the business
//! sees of it.

use std::collections::BTreeMap;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use super::admin::TenantPath;
use super::auth::position;
use super::caller::{Caller, Founder};
use super::sign_in::{self, Tokens};
use super::tenant::Tenants;
use super::write::{Attempts, Receipt};
use super::{App, Json, Problem, record};
use crate::access::sessions::{self, SupportVisit};
use crate::access::tokens;
use crate::aggregates::ids::TenantId;
use crate::aggregates::tenant::{Tenant, TenantCommand, TenantError, TenantEvent};
use crate::aggregates::values::{SupportMode, Text};
use crate::event_store::{Recorded, StreamId, TenantScope, WorkError, reader};
use crate::projections::{Event, Fact};

/// How long a support session lasts if nobody says.
const DEFAULT_MINUTES: u32 = 30;
/// How long it lasts at most.
const MOST_MINUTES: u32 = 240;
/// Visits that a business is shown, the last first.
const SHOWN: usize = 200;

/// The routes.
pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(open_session)).routes(routes!(close_session))
}

/// A visit of the platform's founder.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct SupportSessionView {
    /// The session's id.
    id: String,
    /// Why.
    reason: String,
    /// To look, or to change as well.
    mode: Mode,
    /// When it began.
    opened_at: DateTime<Utc>,
    /// When it ends by itself.
    expires_at: DateTime<Utc>,
    /// When it was closed before that.
    closed_at: Option<DateTime<Utc>>,
}

/// What may be done during a visit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Look, and touch nothing.
    #[default]
    Read,
    /// Change things as well.
    Write,
}

impl From<Mode> for SupportMode {
    fn from(mode: Mode) -> Self {
        match mode {
            Mode::Read => Self::ReadOnly,
            Mode::Write => Self::ReadWrite,
        }
    }
}

impl From<SupportMode> for Mode {
    fn from(mode: SupportMode) -> Self {
        match mode {
            SupportMode::ReadOnly => Self::Read,
            SupportMode::ReadWrite => Self::Write,
        }
    }
}

impl From<Mode> for tokens::SupportMode {
    fn from(mode: Mode) -> Self {
        match mode {
            Mode::Read => Self::Read,
            Mode::Write => Self::Write,
        }
    }
}

/// Why, for what, and for how long.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"reason": "Ticket 4711: the import stops at row 12", "mode": "read", "ttl_minutes": 30}))]
struct OpenSupportSession {
    /// The reason; the business reads it.
    reason: Text<500>,
    /// `read` if not said.
    #[serde(default)]
    mode: Mode,
    /// Minutes, 240 at most; 30 if not said.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 240)]
    ttl_minutes: Option<u32>,
}

/// A support session, and the token that acts inside the business.
#[derive(Debug, Serialize, ToSchema)]
struct Opened {
    /// The session.
    support_session: SupportSessionView,
    #[serde(flatten)]
    tokens: Tokens,
}

/// Come into a business. It is an event in that business's own history.
#[utoipa::path(post, path = "/api/admin/tenants/{tenant_id}/support-sessions",
    params(("tenant_id" = TenantId, Path)), request_body = OpenSupportSession,
    responses((status = 201, body = Opened)))]
async fn open_session(
    founder: Founder,
    State(app): State<App>,
    TenantPath(tenant): TenantPath,
    Json(body): Json<OpenSupportSession>,
) -> Result<Response, Problem> {
    let minutes = body.ttl_minutes.unwrap_or(DEFAULT_MINUTES);
    if !(1..=MOST_MINUTES).contains(&minutes) {
        let detail = format!("expected a whole number from 1 to {MOST_MINUTES}");
        return Err(Problem::invalid_field("/ttl_minutes", "out_of_range", detail));
    }
    if tenant == founder.0.home {
        return Err(Problem::conflict("own_business", "The founder's own business needs no support session."));
    }
    record::row_in::<Tenants>(&app, founder.scope(tenant), &tenant.to_string()).await?;
    let (pool, now) = (&app.access.pool, app.clock.now());
    let ended = || Problem::invalid_token("the session has ended");
    let own = founder.0.session.ok_or_else(ended)?;
    let own = sessions::active(pool, own, now).await?.ok_or_else(ended)?;
    let visit = SupportVisit { tenant, mode: body.mode.into() };
    let expires_at = now + TimeDelta::minutes(i64::from(minutes));
    let session = sessions::open_support(pool, &own, visit, expires_at, now).await?;
    let command = TenantCommand::OpenSupportSession {
        session: session.id.to_string(),
        reason: body.reason.clone(),
        mode: body.mode.into(),
        expires_at: session.expires_at,
    };
    let receipt = match send(&app, &founder, tenant, &command).await {
        Ok(receipt) => receipt,
        Err(problem) => {
            // Nobody comes in without the business being able to see it.
            sessions::revoke(pool, session.tenant, session.user, session.id, now).await?;
            return Err(problem);
        }
    };
    let opened = Opened {
        support_session: SupportSessionView {
            id: session.id.to_string(),
            reason: body.reason.to_string(),
            mode: body.mode,
            opened_at: now,
            expires_at: session.expires_at,
            closed_at: None,
        },
        tokens: sign_in::access_token(&app, &session, &founder.0.identity).await?,
    };
    let location = [(header::LOCATION, format!("/api/admin/support-sessions/{}", session.id))];
    Ok((StatusCode::CREATED, position(&receipt), location, Json(opened)).into_response())
}

/// Go out of a business before the time is over.
#[utoipa::path(delete, path = "/api/admin/support-sessions/{id}", params(("id" = Uuid, Path)),
    responses((status = 204)))]
async fn close_session(
    Founder(caller): Founder,
    State(app): State<App>,
    SessionPath(id): SessionPath,
) -> Result<Response, Problem> {
    let session = sessions::active(&app.access.pool, id, app.clock.now()).await?;
    let visit = session.filter(|session| (session.tenant, session.user) == (caller.home, caller.user));
    let visit = visit.and_then(|session| session.support).ok_or_else(Problem::not_found)?;
    let receipt = close(&app, &caller, visit.tenant, id).await?;
    Ok((StatusCode::NO_CONTENT, position(&receipt)).into_response())
}

/// The session in a path.
struct SessionPath(Uuid);

impl axum::extract::FromRequestParts<App> for SessionPath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut axum::http::request::Parts, app: &App) -> Result<Self, Problem> {
        let axum::extract::Path(id) =
            axum::extract::Path::<Uuid>::from_request_parts(parts, app).await.map_err(|_| Problem::not_found())?;
        Ok(Self(id))
    }
}

async fn send(app: &App, founder: &Founder, tenant: TenantId, command: &TenantCommand) -> Result<Receipt, Problem> {
    let mut attempts = Attempts::many();
    loop {
        let work = app.begin_in(founder, tenant);
        work.execute::<Tenant>(StreamId::of_tenant(tenant), command.clone()).await?;
        if let Some(receipt) = app.commit(&founder.0, work, &mut attempts).await? {
            return Ok(receipt);
        }
    }
}

/// Ends a support session, and says so in the history of the business that was visited.
///
/// # Errors
/// If the database fails.
pub async fn close(app: &App, caller: &Caller, visited: TenantId, session: Uuid) -> Result<Receipt, Problem> {
    sessions::revoke(&app.access.pool, caller.home, caller.user, session, app.clock.now()).await?;
    let mut attempts = Attempts::many();
    loop {
        let mut work = app.store.begin(TenantScope::of(visited), caller.context(app));
        if let Some(key) = caller.pending_key() {
            work.answer(key.claim());
        }
        let command = TenantCommand::CloseSupportSession { session: session.to_string() };
        match work.execute::<Tenant>(StreamId::of_tenant(visited), command).await {
            Ok(_) => {}
            Err(WorkError::Refused(TenantError::SupportSessionNotFound)) => return Ok(Receipt::default()),
            Err(other) => return Err(other.into()),
        }
        if let Some(receipt) = app.commit(caller, work, &mut attempts).await? {
            return Ok(receipt);
        }
    }
}

/// The visits that a business has had, the last first.
///
/// # Errors
/// If the database fails.
pub async fn sessions_of(app: &App, scope: TenantScope) -> Result<Vec<SupportSessionView>, Problem> {
    let statement = format!(
        "with scope as materialized (select set_config('devhub.tenant_id', $1, true) as tenant_id)
         select e.* from scope cross join lateral (
             select {} from events where tenant_id = scope.tenant_id and aggregate_type = 'Tenant'
             and aggregate_id = scope.tenant_id and event_type like 'TenantSupportSession%'
         ) e order by e.sequence",
        reader::COLUMNS
    );
    let recorded: Vec<Recorded> = sqlx::query_as(&statement)
        .bind(scope.tenant().to_string())
        .fetch_all(&app.database.cell_of(scope.tenant()).request)
        .await?;
    let mut open = BTreeMap::new();
    let mut order = Vec::new();
    for recorded in recorded {
        for Fact { recorded, event } in Fact::read(recorded).map_err(Problem::internal)? {
            match event {
                Event::Tenant(TenantEvent::SupportSessionOpened { session, reason, mode, expires_at }) => {
                    order.push(session.clone());
                    let view = SupportSessionView {
                        id: session.clone(),
                        reason: reason.to_string(),
                        mode: mode.into(),
                        opened_at: recorded.occurred_at,
                        expires_at,
                        closed_at: None,
                    };
                    open.insert(session, view);
                }
                Event::Tenant(TenantEvent::SupportSessionClosed { session }) => {
                    if let Some(view) = open.get_mut(&session) {
                        view.closed_at = Some(recorded.occurred_at);
                    }
                }
                _ => {}
            }
        }
    }
    Ok(order.iter().rev().take(SHOWN).filter_map(|session| open.remove(session)).collect())
}
