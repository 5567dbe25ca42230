//! What is known of the request being answered, wherever in its task one asks: id, trace, caller, quota.

use std::future::Future;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use axum::http::HeaderMap;
use uuid::Uuid;

use crate::access::tokens::Subject;
use crate::aggregates::ids::TenantId;

tokio::task_local! {
    static CURRENT: RequestContext;
}

/// The request being answered. Cheap to clone; all clones are the same request.
#[derive(Debug, Clone)]
pub struct RequestContext(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    id: String,
    trace_id: Option<String>,
    caller: OnceLock<Caller>,
    quotas: Mutex<Vec<Quota>>,
    stored: OnceLock<Uuid>,
}

/// Who is asking, as far as the log is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caller {
    /// Where they act.
    pub tenant: TenantId,
    /// Who they are.
    pub user: Subject,
}

/// What is left of a rate limit after this request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    /// The name of the policy.
    pub policy: &'static str,
    /// Requests that the policy allows per minute.
    pub per_minute: u32,
    /// Requests that are left now.
    pub remaining: u32,
    /// Seconds until all of them are there again.
    pub reset: u64,
}

impl RequestContext {
    /// Reads `request-id` (a token of at most 64 characters, else a new id is made) and `traceparent`.
    #[must_use]
    pub fn from_headers(headers: &HeaderMap) -> Self {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let id = text("request-id").filter(|id| is_token(id)).map_or_else(new_id, str::to_owned);
        let trace_id = text("traceparent").and_then(trace_id).map(str::to_owned);
        Self(Arc::new(Inner {
            id,
            trace_id,
            caller: OnceLock::new(),
            quotas: Mutex::default(),
            stored: OnceLock::new(),
        }))
    }

    /// The id that the answer, the log and the events carry.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.0.id
    }

    /// The trace that the request belongs to (W3C Trace Context), where the caller named one.
    #[must_use]
    pub fn trace_id(&self) -> Option<&str> {
        self.0.trace_id.as_deref()
    }

    /// Who is asking, once that is known.
    #[must_use]
    pub fn caller(&self) -> Option<&Caller> {
        self.0.caller.get()
    }

    /// The quotas that this request was counted against.
    #[must_use]
    pub fn quotas(&self) -> Vec<Quota> {
        self.0.quotas.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The correlation id of what this request has stored, if it has.
    #[must_use]
    pub fn stored(&self) -> Option<Uuid> {
        self.0.stored.get().copied()
    }

    /// Makes this the current request of everything that `future` does in its own task.
    pub async fn scope<F: Future>(self, future: F) -> F::Output {
        CURRENT.scope(self, future).await
    }
}

/// The request that this task is answering.
#[must_use]
pub fn current() -> Option<RequestContext> {
    CURRENT.try_with(RequestContext::clone).ok()
}

/// The id of the request that this task is answering.
#[must_use]
pub fn request_id() -> Option<String> {
    CURRENT.try_with(|request| request.id().to_owned()).ok()
}

/// Tells the log who is asking; the first word counts.
pub fn identify(tenant: TenantId, user: Subject) {
    let caller = Caller { tenant, user };
    _ = CURRENT.try_with(|request| request.0.caller.set(caller));
}

/// Notes that something was stored, for the answer's headers; the first word counts.
pub fn stored(correlation_id: Uuid) {
    _ = CURRENT.try_with(|request| request.0.stored.set(correlation_id));
}

/// Notes a quota that this request was counted against, for the answer's headers.
pub fn counted(quota: Quota) {
    _ = CURRENT.try_with(|request| {
        request.0.quotas.lock().unwrap_or_else(PoisonError::into_inner).push(quota);
    });
}

fn new_id() -> String {
    crate::clock::new_event_id(crate::clock::Clock::system().now()).to_string()
}

/// Short, and of characters that neither a log nor a header can trip over.
fn is_token(id: &str) -> bool {
    (1..=64).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
}

/// The second part of `00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01`.
fn trace_id(traceparent: &str) -> Option<&str> {
    let mut parts = traceparent.split('-');
    let (version, trace, parent, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let hex = |text: &str, len: usize| {
        text.len() == len && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    };
    let some_bit = |text: &str| text.bytes().any(|b| b != b'0');
    // later versions may append parts, version 00 may not, ff is not a version
    let known = hex(version, 2) && version != "ff" && (version != "00" || parts.next().is_none());
    let whole = hex(trace, 32) && some_bit(trace) && hex(parent, 16) && some_bit(parent) && hex(flags, 2);
    (known && whole).then_some(trace)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aggregates::ids::UserId;

    fn user(tenant: u32, user: u32) -> Subject {
        Subject { tenant: TenantId::Business(tenant), user: UserId(user) }
    }

    fn with(name: &'static str, value: &str) -> RequestContext {
        let mut headers = HeaderMap::new();
        headers.insert(name, value.parse().unwrap());
        RequestContext::from_headers(&headers)
    }

    #[test]
    fn a_sane_request_id_is_kept_and_any_other_replaced() {
        assert_eq!(with("request-id", "job-17.a_B").id(), "job-17.a_B");
        for odd in ["", "a b", "<script>", "a\"b", &"x".repeat(65)] {
            let id = with("request-id", odd).id().to_owned();
            assert!(id.parse::<uuid::Uuid>().is_ok(), "{odd:?} became {id}");
        }
    }

    #[test]
    fn the_trace_is_read_from_a_valid_traceparent_only() {
        let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
        let valid = format!("00-{trace}-00f067aa0ba902b7-01");
        assert_eq!(with("traceparent", &valid).trace_id(), Some(trace));
        assert_eq!(with("traceparent", &format!("01-{trace}-00f067aa0ba902b7-01-x")).trace_id(), Some(trace));
        for odd in [
            format!("{valid}-x"),
            format!("ff-{trace}-00f067aa0ba902b7-01"),
            format!("00-{}-00f067aa0ba902b7-01", "0".repeat(32)),
            format!("00-{trace}-0000000000000000-01"),
            format!("00-{}-00f067aa0ba902b7-01", trace.to_uppercase()),
            "00".to_owned(),
        ] {
            assert_eq!(with("traceparent", &odd).trace_id(), None, "{odd}");
        }
    }

    #[tokio::test]
    async fn a_request_is_known_inside_its_scope_only() {
        assert_eq!(request_id(), None);
        let request = with("request-id", "abc");
        request
            .clone()
            .scope(async {
                identify(TenantId::Business(1), user(1, 4));
                identify(TenantId::Business(2), user(2, 9));
                assert_eq!(request_id().as_deref(), Some("abc"));
            })
            .await;
        assert_eq!(request.caller(), Some(&Caller { tenant: TenantId::Business(1), user: user(1, 4) }));
    }
}
