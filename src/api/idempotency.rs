//! `Idempotency-Key`: a request that is repeated has one effect, and gets the answer of the first time.
//!
//! ```text
//! key known? ──yes──► same request? ──yes──► stored answer, Idempotent-Replayed: true
//!    │no                    └──no──► 422
//!    ▼
//! handler ─► events and key in one transaction ─► answer ─► stored, sealed
//! ```
//!
//! The key is written in the transaction of the events, so a crash cannot separate them. The answer follows; if
//! a crash comes in between, a repeated request is told that the first one was carried out. While the first one is
//! still worked on, it waits for the answer, and is told to ask again if that takes long.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{FromRequestParts, Request};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use sqlx::PgPool;
use uuid::Uuid;

use super::body::whole;
use super::caller::Authenticated;
use super::headers::{CORRELATION, IDEMPOTENT_REPLAYED, IdempotencyKey, POSITION};
use super::standing::Standing;
use super::{App, Problem, context};
use crate::access::secrets::{Purpose, sha256};
use crate::aggregates::ids::TenantId;
use crate::clock::new_event_id;
use crate::event_store::IdempotencyClaim;

/// Who asks when nobody is signed in.
const ANONYMOUS: &str = "anonymous";
/// The largest answer that is stored. That of a batch may have many a record that is much longer than what was asked for.
const ANSWER_LIMIT: usize = 64 * 1024 * 1024;
/// The position of a key that was taken before anything else was stored.
const RESERVED: i64 = 0;
/// How often and how long a repeated request waits for the first one's answer.
const WAITS: u32 = 50;
const WAIT: Duration = Duration::from_millis(100);
/// How long a request that stores more than once may be worked on: where its server ended before it, nobody says so.
const WORKED_ON: TimeDelta = TimeDelta::minutes(2);
/// The headers that belong to an answer.
const KEPT_HEADERS: [HeaderName; 5] = [header::CONTENT_TYPE, header::LOCATION, header::ETAG, POSITION, CORRELATION];

/// The key of the request being answered, until its events take it.
#[derive(Debug, Clone)]
pub struct PendingKey(Arc<Pending>);

#[derive(Debug)]
struct Pending {
    actor: String,
    key: String,
    request_hash: [u8; 32],
    correlation_id: Uuid,
    taken: AtomicBool,
    contested: AtomicBool,
}

impl PendingKey {
    /// What the append is to write with the events.
    #[must_use]
    pub fn claim(&self) -> IdempotencyClaim {
        IdempotencyClaim {
            actor: self.0.actor.clone(),
            key: self.0.key.clone(),
            request_hash: self.0.request_hash,
            correlation_id: self.0.correlation_id,
        }
    }

    /// The correlation id of everything that this request causes.
    #[must_use]
    pub fn correlation_id(&self) -> Uuid {
        self.0.correlation_id
    }

    /// The events are stored, and the key with them.
    pub fn taken(&self) {
        self.0.taken.store(true, Ordering::Release);
    }

    /// Writes the key before anything else is stored: for a request that stores more than once.
    ///
    /// # Errors
    /// `conflict` if another request with the same key was faster; its answer is given instead.
    pub async fn reserve(&self, app: &App, tenant: TenantId) -> Result<(), Problem> {
        let reserved = sqlx::query(
            "insert into idempotency_keys
                 (tenant_id, actor, key, request_hash, position, correlation_id, created_at)
             values ($1, $2, $3, $4, $5, $6, $7) on conflict (actor, key) do nothing",
        )
        .bind(tenant.to_string())
        .bind(&self.0.actor)
        .bind(&self.0.key)
        .bind(self.0.request_hash.to_vec())
        .bind(RESERVED)
        .bind(self.0.correlation_id.to_string())
        .bind(app.clock.now())
        .execute(&app.database.cell_of(tenant).appender)
        .await?;
        if reserved.rows_affected() == 0 {
            self.contested();
            return Err(Problem::key_in_use());
        }
        self.taken();
        Ok(())
    }

    /// Another request with the same key was faster.
    pub fn contested(&self) {
        self.0.contested.store(true, Ordering::Release);
    }
}

/// An answer as it is stored.
#[derive(Serialize, Deserialize)]
struct Stored {
    status: u16,
    headers: Vec<(String, String)>,
    body: String,
}

/// Answers a repeated request from what was stored, and stores the answer of a first one.
pub(super) async fn answer_once(app: &App, request: Request, next: Next) -> Response {
    match answer(app, request, next).await {
        Ok(response) => response,
        Err(problem) => problem.into_response(),
    }
}

/// Whose key it is: of somebody in one business, and of a program apart from who made it, which may do other things.
fn asker(caller: &Standing) -> String {
    let mut asker = format!("{}:{}", caller.home, caller.user);
    if caller.entered != caller.home {
        asker += &format!(" in {}", caller.entered);
    }
    if let Some(key) = &caller.api_key {
        asker += &format!(" by {key}");
    }
    asker
}

async fn answer(app: &App, request: Request, next: Next) -> Result<Response, Problem> {
    let (mut parts, body) = request.into_parts();
    let IdempotencyKey(key) = IdempotencyKey::from_request_parts(&mut parts, app).await?;
    let changes = [Method::POST, Method::PATCH, Method::DELETE].contains(&parts.method);
    let Some(key) = key.filter(|_| changes) else {
        return Ok(next.run(Request::from_parts(parts, body)).await);
    };
    let caller = parts.extensions.get::<Authenticated>().and_then(|authenticated| authenticated.0.as_ref().ok());
    let (actor, tenant) = match caller {
        Some(caller) => (asker(caller), caller.home),
        None => (ANONYMOUS.to_owned(), TenantId::Platform),
    };
    let pool = app.database.cell_of(tenant).appender.clone();
    let bytes = whole(body).await?;
    let address = parts.uri.to_string();
    let asked = [parts.method.as_str().as_bytes(), address.as_bytes(), &bytes];
    let request_hash = sha256(&asked.map(|part| [&(part.len() as u64).to_be_bytes(), part].concat()).concat());
    let pending = PendingKey(Arc::new(Pending {
        actor,
        key,
        request_hash,
        correlation_id: new_event_id(app.clock.now()),
        taken: AtomicBool::new(false),
        contested: AtomicBool::new(false),
    }));
    if let Some(response) = stored_answer(app, &pool, &pending).await? {
        return Ok(response);
    }
    parts.extensions.insert(pending.clone());
    let response = next.run(Request::from_parts(parts, Body::from(bytes))).await;
    if pending.0.contested.load(Ordering::Acquire) {
        return Ok(stored_answer(app, &pool, &pending).await?.unwrap_or(response));
    }
    store(app, &pool, tenant, &pending, response).await
}

type Row = (Vec<u8>, Option<Vec<u8>>, i64, DateTime<Utc>);

async fn stored_answer(app: &App, pool: &PgPool, pending: &PendingKey) -> Result<Option<Response>, Problem> {
    let mut worked_on = false;
    for _ in 0..WAITS {
        let row: Option<Row> = sqlx::query_as(
            "select request_hash, response, position, created_at from idempotency_keys where actor = $1 and key = $2",
        )
        .bind(&pending.0.actor)
        .bind(&pending.0.key)
        .fetch_optional(pool)
        .await?;
        match row {
            None => return Ok(None),
            Some((hash, ..)) if hash != pending.0.request_hash => return Err(Problem::idempotency_mismatch()),
            Some((_, Some(sealed), ..)) => return open(app, pending, &sealed).map(Some),
            // The first request is being answered at this moment, or its process died.
            Some((_, None, position, begun)) => {
                worked_on = position == RESERVED && app.clock.now() - begun < WORKED_ON;
                tokio::time::sleep(WAIT).await;
            }
        }
    }
    if worked_on {
        return Err(Problem::key_in_use());
    }
    Err(Problem::conflict(
        "answer_lost",
        "The first request with this Idempotency-Key was carried out, but its answer is not known; \
         look at what it made, and use a new key for what is still to be done.",
    ))
}

async fn store(
    app: &App,
    pool: &PgPool,
    tenant: TenantId,
    pending: &PendingKey,
    response: Response,
) -> Result<Response, Problem> {
    let taken = pending.0.taken.load(Ordering::Acquire);
    if !taken && !response.status().is_success() {
        // Nothing happened: the same key may be used to try again.
        return Ok(response);
    }
    let (mut parts, body) = response.into_parts();
    if let Some(Ok(id)) = context::current().and_then(|request| request.stored()).map(|id| id.to_string().try_into()) {
        parts.headers.insert(CORRELATION, id);
    }
    // It was carried out, so it is answered, however long that is.
    let bytes = to_bytes(body, usize::MAX).await.map_err(Problem::internal)?;
    if bytes.len() > ANSWER_LIMIT {
        tracing::error!(bytes = bytes.len(), "the answer to an Idempotency-Key is too long to be kept");
        return Ok(Response::from_parts(parts, Body::from(bytes)));
    }
    let headers = KEPT_HEADERS
        .iter()
        .filter_map(|name| Some((name.to_string(), parts.headers.get(name)?.to_str().ok()?.to_owned())))
        .collect();
    let stored = Stored { status: parts.status.as_u16(), headers, body: BASE64.encode(&bytes) };
    let plain = serde_json::to_vec(&stored).map_err(Problem::internal)?;
    let sealed = app.access.master.seal(Purpose::Answers, &aad(pending), &plain).map_err(Problem::internal)?;
    let kept = sqlx::query(
        "insert into idempotency_keys
             (tenant_id, actor, key, request_hash, position, correlation_id, status, response, created_at)
         values ($1, $2, $3, $4, 0, $5, $6, $7, $8)
         on conflict (actor, key) do update set status = excluded.status, response = excluded.response
         where idempotency_keys.request_hash = excluded.request_hash",
    )
    .bind(tenant.to_string())
    .bind(&pending.0.actor)
    .bind(&pending.0.key)
    .bind(pending.0.request_hash.to_vec())
    .bind(pending.0.correlation_id.to_string())
    .bind(i16::try_from(stored.status).unwrap_or(200))
    .bind(sealed)
    .bind(app.clock.now())
    .execute(pool)
    .await;
    if let Err(error) = kept {
        // It was carried out. Whoever repeats it is told that, if not the answer.
        tracing::error!(%error, "the answer to an Idempotency-Key was not kept: {error}");
    }
    Ok(Response::from_parts(parts, Body::from(bytes)))
}

fn open(app: &App, pending: &PendingKey, sealed: &[u8]) -> Result<Response, Problem> {
    let plain = app.access.master.open(Purpose::Answers, &aad(pending), sealed).map_err(Problem::internal)?;
    let stored: Stored = serde_json::from_slice(&plain).map_err(Problem::internal)?;
    let body = BASE64.decode(&stored.body).map_err(Problem::internal)?;
    let mut headers = HeaderMap::new();
    for (name, value) in &stored.headers {
        if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), value.parse::<HeaderValue>()) {
            headers.insert(name, value);
        }
    }
    headers.insert(IDEMPOTENT_REPLAYED, HeaderValue::from_static("true"));
    let status = StatusCode::from_u16(stored.status).map_err(Problem::internal)?;
    Ok((status, headers, Bytes::from(body)).into_response())
}

/// A sealed answer opens only under the key that it was given to.
fn aad(pending: &PendingKey) -> Vec<u8> {
    format!("{} {}", pending.0.actor, pending.0.key).into_bytes()
}
