//! What every request passes through: id, log line, metrics, panics, load, time.
//!
//! ```text
//! id, trace ─► log, metrics ─► cache-control ─► panic ─► load ─► time ─► route
//! ```
//!
//! What changes something is carried out in a task of its own, to its end, whoever goes away or grows tired of waiting
//! meanwhile: after the events are stored there is still to be done what follows from them, and the answer is owed to the
//! idempotency key. The task has the application, so that a server that is stopped waits for it.
//!
//! It is one layer, whose steps call each other: the router boxes every layer of its own, and copies, for each request and
//! at each of them, all that are inside.

use std::any::Any;
use std::collections::HashMap;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{DefaultBodyLimit, FromRequestParts, MatchedPath, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderValue, Method, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use futures::FutureExt as _;
use metrics::{Counter, Histogram};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tracing::field;

use super::Problem;
use super::context::{self, RequestContext};
use super::headers::CORRELATION;
use super::limits;

/// Bodies over 1 MiB are refused.
pub const BODY_LIMIT: usize = 1024 * 1024;

/// How much at once, and for how long.
#[derive(Debug, Clone, Copy)]
pub struct RequestLimits {
    /// How long a request may take until its answer begins; a stream may go on after that.
    pub timeout: Duration,
    /// How many requests are worked on at once; the rest are refused at once rather than kept waiting.
    pub concurrency: usize,
}

impl Default for RequestLimits {
    fn default() -> Self {
        Self { timeout: Duration::from_secs(30), concurrency: 1_024 }
    }
}

/// Puts the routes behind everything that each request passes through, with problems where no route fits.
///
/// Call it last: routes that are added afterwards are not covered.
pub fn with_middleware(routes: Router, limits: RequestLimits) -> Router {
    let load = Load { permits: Arc::new(Semaphore::new(limits.concurrency)), timeout: limits.timeout };
    let passage = Arc::new(Passage { load, measures: Measures::default() });
    routes
        .fallback(async || Problem::not_found())
        .method_not_allowed_fallback(async || Problem::method_not_allowed())
        .layer(middleware::from_fn_with_state(passage, observed))
}

/// What all requests share.
struct Passage {
    load: Load,
    measures: Measures,
}

impl<S: Send + Sync> FromRequestParts<S> for RequestContext {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Self::Rejection> {
        Ok(context::current().unwrap_or_else(|| Self::from_headers(&parts.headers)))
    }
}

/// Gives the request its id, and says in the log and the metrics how it went.
///
/// The log never has a query string, a body or a raw path: they may hold personal data.
async fn observed(State(passage): State<Arc<Passage>>, request: Request, next: Next) -> Response {
    let started = Instant::now();
    let context = RequestContext::from_headers(request.headers());
    let method = method_name(request.method());
    let route = request.extensions().get::<MatchedPath>().cloned();
    let mut response = context.clone().scope(not_stored(&passage.load, request, next)).await;

    if let Ok(id) = HeaderValue::try_from(context.id()) {
        response.headers_mut().insert("request-id", id);
    }
    if let Some(Ok(stored)) = context.stored().map(|id| HeaderValue::try_from(id.to_string())) {
        response.headers_mut().insert(CORRELATION, stored);
    }
    limits::write_headers(&context.quotas(), response.headers_mut());

    let route = route.as_ref().map_or("unmatched", MatchedPath::as_str);
    let (status, took) = (response.status(), started.elapsed());
    report(&passage.measures, &context, method, route, status.as_u16(), took);
    response
}

/// The metrics of every kind of answer that there was, found without writing their labels each time.
#[derive(Default)]
struct Measures(RwLock<HashMap<(&'static str, u16), ByRoute>>);

type ByRoute = HashMap<String, Measure>;

#[derive(Clone)]
struct Measure {
    count: Counter,
    seconds: Histogram,
}

impl Measures {
    fn of(&self, method: &'static str, route: &str, status: u16) -> Measure {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(measure) = known.get(&(method, status)).and_then(|routes| routes.get(route)) {
            return measure.clone();
        }
        drop(known);
        let labels = [("method", method.to_owned()), ("route", route.to_owned()), ("status", status.to_string())];
        let measure = Measure {
            count: metrics::counter!("http_requests_total", &labels),
            seconds: metrics::histogram!("http_request_duration_seconds", &labels),
        };
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        known.entry((method, status)).or_default().insert(route.to_owned(), measure.clone());
        measure
    }
}

impl Measure {
    fn took(&self, time: Duration) {
        self.count.increment(1);
        self.seconds.record(time.as_secs_f64());
    }
}

fn report(
    measures: &Measures,
    context: &RequestContext,
    method: &'static str,
    route: &str,
    status: u16,
    took: Duration,
) {
    measures.of(method, route, status).took(took);

    let ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    let caller = context.caller();
    macro_rules! line {
        ($level:ident) => {
            tracing::$level!(
                target: "devhub::request",
                method,
                route,
                status,
                ms,
                request_id = context.id(),
                trace_id = context.trace_id(),
                tenant = caller.map(|caller| field::display(caller.tenant)),
                user = caller.map(|caller| field::display(caller.user)),
                "{method} {route} {status} in {ms} ms"
            )
        };
    }
    if status < 500 { line!(info) } else { line!(warn) }
}

/// A method as a label; the unusual ones share one, since callers may invent them.
fn method_name(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::PATCH => "PATCH",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        Method::HEAD => "HEAD",
        Method::OPTIONS => "OPTIONS",
        _ => "OTHER",
    }
}

/// Tenant data is in no cache but the caller's own memory; the documentation may be kept.
async fn not_stored(load: &Load, request: Request, next: Next) -> Response {
    let path = request.uri().path();
    let documentation = path == "/api/openapi.json" || path == "/api/docs" || path.starts_with("/api/docs/");
    let private = path.starts_with("/api/") && !documentation;
    let mut response = unless_it_panics(bounded(load, request, next)).await;
    if private {
        response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    response
}

/// The answer, or that something is broken, of which the message goes to the log alone.
async fn unless_it_panics(answer: impl Future<Output = Response>) -> Response {
    AssertUnwindSafe(answer).catch_unwind().await.unwrap_or_else(|payload| panicked(&*payload))
}

#[derive(Debug)]
struct Load {
    permits: Arc<Semaphore>,
    timeout: Duration,
}

/// Refuses what is too much, and gives up what takes too long.
///
/// Health and metrics are let through: they are what one looks at while the server is overloaded.
async fn bounded(load: &Load, mut request: Request, next: Next) -> Response {
    let path = request.uri().path();
    let exempt = path.starts_with("/health/") || path == "/metrics";
    let permit = match Arc::clone(&load.permits).try_acquire_owned() {
        Ok(permit) => Some(permit),
        Err(_) if exempt => None,
        Err(_) => return Problem::overloaded("too many requests are being worked on").into_response(),
    };
    DefaultBodyLimit::max(BODY_LIMIT).apply(&mut request);
    if matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS) {
        return in_time(load.timeout, next.run(request)).await;
    }
    in_time(load.timeout, to_the_end(permit, request, next)).await
}

/// Answers in a task of its own, which goes on if nobody waits for it any more.
async fn to_the_end(permit: Option<OwnedSemaphorePermit>, request: Request, next: Next) -> Response {
    let answer = async move {
        let response = unless_it_panics(next.run(request)).await;
        drop(permit);
        response
    };
    let task = match context::current() {
        Some(context) => tokio::spawn(context.scope(answer)),
        None => tokio::spawn(answer),
    };
    task.await.unwrap_or_else(|_| Problem::overloaded("the server is stopping").into_response())
}

async fn in_time(limit: Duration, answer: impl Future<Output = Response>) -> Response {
    match tokio::time::timeout(limit, answer).await {
        Ok(response) => response,
        Err(_) => Problem::overloaded("the request took too long").into_response(),
    }
}

fn panicked(payload: &(dyn Any + Send)) -> Response {
    let message = payload.downcast_ref::<String>().map(String::as_str);
    let message = message.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or("no message");
    Problem::internal(format_args!("panic: {message}")).into_response()
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::http::StatusCode;
    use axum::routing::{get, post};
    use tower::ServiceExt as _;

    use super::*;

    fn routes() -> Router {
        Router::new()
            .route("/api/leads/{id}", get(async || "a lead").patch(async || "changed"))
            .route("/api/openapi.json", get(async || "{}"))
            .route("/api/broken", get(async || -> &'static str { panic!("the secret of Fort Knox") }))
            .route("/api/slow", post(std::future::pending::<()>))
            .route("/health/live", get(async || "ok"))
    }

    async fn send(router: &Router, method: &str, path: &str) -> (StatusCode, axum::http::HeaderMap, String) {
        let request = Request::builder().method(method).uri(path).header("request-id", "r-1").body(Body::empty());
        let (parts, body) = router.clone().oneshot(request.unwrap()).await.unwrap().into_parts();
        let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
        (parts.status, parts.headers, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn every_answer_names_its_request() {
        let router = with_middleware(routes(), RequestLimits::default());
        for path in ["/api/leads/LED-001", "/api/nothing", "/api/broken"] {
            assert_eq!(send(&router, "GET", path).await.1["request-id"], "r-1", "{path}");
        }
        let (status, _, body) = send(&router, "GET", "/api/nothing").await;
        assert_eq!(status, 404);
        assert!(body.contains("\"request_id\":\"r-1\""), "{body}");
    }

    #[tokio::test]
    async fn a_panic_is_an_internal_problem_that_tells_nothing() {
        let router = with_middleware(routes(), RequestLimits::default());
        let (status, headers, body) = send(&router, "GET", "/api/broken").await;
        assert_eq!(
            (status.as_u16(), &headers["content-type"]),
            (500, &HeaderValue::from_static("application/problem+json"))
        );
        assert!(!body.contains("Knox") && body.contains("r-1"), "{body}");
    }

    #[tokio::test]
    async fn a_wrong_method_is_told_the_right_ones() {
        let router = with_middleware(routes(), RequestLimits::default());
        let (status, headers, body) = send(&router, "DELETE", "/api/leads/LED-001").await;
        assert_eq!(status, 405);
        assert!(body.contains("method_not_allowed"));
        let allow = headers["allow"].to_str().unwrap();
        assert!(allow.contains("GET") && allow.contains("PATCH"), "{allow}");
    }

    #[tokio::test]
    async fn tenant_data_is_not_stored_and_documentation_may_be() {
        let router = with_middleware(routes(), RequestLimits::default());
        for (path, stored) in [("/api/leads/LED-001", false), ("/api/nothing", false), ("/api/broken", false)] {
            assert_eq!(send(&router, "GET", path).await.1.get("cache-control").is_none(), stored, "{path}");
        }
        assert!(send(&router, "GET", "/api/openapi.json").await.1.get("cache-control").is_none());
    }

    #[tokio::test]
    async fn what_takes_too_long_is_given_up() {
        let limits = RequestLimits { timeout: Duration::ZERO, ..RequestLimits::default() };
        let router = with_middleware(routes(), limits);
        let (status, headers, body) = send(&router, "POST", "/api/slow").await;
        assert_eq!((status.as_u16(), headers["retry-after"].as_bytes()), (503, &b"1"[..]));
        assert!(body.contains("\"code\":\"overloaded\""));
    }

    #[tokio::test]
    async fn what_is_too_much_is_refused_but_for_health() {
        let router = with_middleware(routes(), RequestLimits { concurrency: 0, ..RequestLimits::default() });
        assert_eq!(send(&router, "GET", "/api/leads/LED-001").await.0, 503);
        assert_eq!(send(&router, "GET", "/health/live").await.0, 200);
    }
}
