//! Finding out who is calling: from a bearer token or an API key to a person, a business and what they may do there.
//!
//! ```text
//! token ─► signature ─► what the database says of the session now ─────────────┬─► same ──► answer
//!              └──────► a read, as whoever the session stood for the last time ┘└─► other ─► read again
//! ```
//!
//! The token's signature says who; the database says, on every request, whether that still holds: a role
//! change, a deactivation or a suspension acts at once, not at the token's end. A read is begun meanwhile, and what
//! came of it is thrown away unless the database says that nothing has changed.
//!
//! From here, a request goes on to what its answer [includes](super::consistency), then to whether it was
//! [given](super::idempotency) before, then to its route.

use std::sync::Arc;

use axum::body::{Body, HttpBody as _};
use axum::extract::{MatchedPath, Request, State};
use axum::http::Method;
use axum::http::request::Parts;
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use quick_cache::sync::Cache;
use secrecy::SecretString;
use uuid::Uuid;

use super::api_keys::has_keys;
use super::caller::{Authenticated, Caller};
use super::headers::BearerToken;
use super::standing::{Proof, Shown, Standing};
use super::{App, Problem, consistency, context, expected};
use crate::access::api_keys::{self, ApiKeyRefused};
use crate::access::tokens::Subject;
use crate::aggregates::values::{TenantStatus, UserStatus};
use crate::clock::new_event_id;

/// Sessions of which is remembered what they stood for: some 2 KiB each.
const REMEMBERED: usize = 10_000;

/// The records of a business: reading them changes nothing, so that it may be done in vain.
const READ_AHEAD: [&str; 6] =
    ["/api/customers", "/api/interactions", "/api/invoices", "/api/leads", "/api/notes", "/api/projects"];

/// What each session stood for when the database was asked the last time. It answers no request: it only says what an
/// answer is likely to be.
pub struct LastKnown(Cache<Uuid, Arc<Standing>>);

impl Default for LastKnown {
    fn default() -> Self {
        Self(Cache::new(REMEMBERED))
    }
}

impl LastKnown {
    fn of(&self, session: Uuid) -> Option<Arc<Standing>> {
        self.0.get(&session)
    }

    fn learn(&self, session: Uuid, before: Option<&Arc<Standing>>, now: Option<&Arc<Standing>>) {
        match now {
            Some(now) if before != Some(now) => self.0.insert(session, Arc::clone(now)),
            Some(_) => {}
            None => drop(self.0.remove(&session)),
        }
    }
}

/// Finds out who is calling, once a request, before anything is answered.
pub async fn authenticate(State(app): State<App>, request: Request, next: Next) -> Response {
    let now = app.clock.now();
    let token = match BearerToken::from_headers(request.headers()) {
        Ok(token) => token,
        Err(problem) => return go_on(&app, request, next, Err(problem)).await,
    };
    if token.0.starts_with(api_keys::PREFIX) {
        let standing = by_api_key(&app, SecretString::from(token.0)).await;
        return admit_and_go_on(&app, request, next, standing).await;
    }
    let session = match app.access.keys.verify(&token.0, now) {
        Ok(claims) => claims.sid,
        Err(error) => return go_on(&app, request, next, Err(Problem::invalid_token(error.to_string()))).await,
    };
    match app.last_known.of(session) {
        Some(known) if may_be_in_vain(&request) => ahead(&app, request, next, session, known).await,
        before => {
            let standing = in_session(&app, session).await;
            app.last_known.learn(session, before.as_ref(), standing.as_ref().ok());
            admit_and_go_on(&app, request, next, standing).await
        }
    }
}

/// Reads as whoever the session stood for, asks whether it still does, and reads again if not.
async fn ahead(app: &App, request: Request, next: Next, session: Uuid, known: Arc<Standing>) -> Response {
    // Counted once, whatever comes of it, and before anything is done.
    if let Err(problem) = count(app, &known) {
        return problem.into_response();
    }
    let (parts, _) = request.into_parts();
    let again = (parts.clone(), next.clone());
    let correlation_id = new_event_id(app.clock.now());
    let caller = Caller::new(Arc::clone(&known), correlation_id);
    let (standing, response) = tokio::join!(in_session(app, session), go_on(app, bare(parts), next, Ok(caller)));
    app.last_known.learn(session, Some(&known), standing.as_ref().ok());
    let caller = match standing {
        Ok(standing) if standing == known => return response,
        other => other.map(|standing| Caller::new(standing, correlation_id)),
    };
    let (parts, next) = again;
    go_on(app, bare(parts), next, caller).await
}

/// Whether a request can be answered twice and nobody would know: it reads records, and has no body.
fn may_be_in_vain(request: &Request) -> bool {
    let route = request.extensions().get::<MatchedPath>().map_or("", MatchedPath::as_str);
    request.method() == Method::GET
        && READ_AHEAD.iter().any(|records| route.starts_with(records))
        && request.body().is_end_stream()
}

fn bare(parts: Parts) -> Request {
    Request::from_parts(parts, Body::empty())
}

async fn admit_and_go_on(
    app: &App,
    request: Request,
    next: Next,
    standing: Result<Arc<Standing>, Problem>,
) -> Response {
    if let Ok(standing) = &standing
        && let Err(problem) = count(app, standing)
    {
        return problem.into_response();
    }
    let caller = standing.map(|standing| Caller::new(standing, new_event_id(app.clock.now())));
    go_on(app, request, next, caller).await
}

/// Counts the request of somebody, and tells the log who they are.
fn count(app: &App, standing: &Standing) -> Result<(), Problem> {
    let user = Subject { tenant: standing.home, user: standing.user };
    context::identify(standing.entered, user);
    app.limiter.admit(standing.entered, user)
}

async fn go_on(app: &App, request: Request, next: Next, caller: Result<Caller, Problem>) -> Response {
    let mut request = match expected::only_what_is_read(request).await {
        Ok(request) => request,
        Err(problem) => return problem.into_response(),
    };
    request.extensions_mut().insert(Authenticated(caller));
    consistency::consistent(app, request, next).await
}

/// What a session stands for now.
async fn in_session(app: &App, session: Uuid) -> Result<Arc<Standing>, Problem> {
    let proof = Proof::Session(session);
    match app.standings.ask(proof.kind(), proof).await? {
        Shown::Session(standing) => admitted(standing),
        Shown::Unreadable(error) => Err(Problem::from(&*error)),
        Shown::Nothing | Shown::ApiKey(..) => Err(Problem::invalid_token("the session has ended")),
    }
}

/// What an API key stands for now. That it was used is noted.
async fn by_api_key(app: &App, sent: SecretString) -> Result<Arc<Standing>, Problem> {
    let refused = |refused| match refused {
        ApiKeyRefused::Failed(error) => Problem::internal(error),
        other => Problem::invalid_token(other.to_string()),
    };
    let proof = Proof::ApiKey(api_keys::id_of(&sent).map_err(refused)?.to_owned());
    let (kept, standing) = match app.standings.ask(proof.kind(), proof).await? {
        Shown::ApiKey(kept, standing) => (kept, standing),
        Shown::Unreadable(error) => return Err(Problem::from(&*error)),
        Shown::Nothing | Shown::Session(_) => return Err(refused(ApiKeyRefused::Unknown)),
    };
    let now = app.clock.now();
    let key = kept.admit(&sent, now).map_err(refused)?;
    let standing = admitted(standing)?;
    has_keys(&standing.business)?;
    api_keys::touch(&app.access.pool, key, now).await?;
    Ok(standing)
}

/// The person and the business, if both are there and active.
fn admitted(standing: Option<Arc<Standing>>) -> Result<Arc<Standing>, Problem> {
    let standing = standing.ok_or_else(|| Problem::invalid_token("the account is gone"))?;
    if standing.identity.status != UserStatus::Active {
        return Err(Problem::invalid_token("the account is not active"));
    }
    // The founder may visit a suspended business; nobody else gets in.
    if standing.business.status != TenantStatus::Active && standing.entered == standing.home {
        return Err(Problem::invalid_token("the business is suspended"));
    }
    Ok(standing)
}
