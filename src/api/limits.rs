//! Rate limits: requests per minute of a user, of a business, and of an address that signs in.
//!
//! Each is a bucket that refills evenly, so that nobody waits for the turn of a minute. The headers follow
//! draft-ietf-httpapi-ratelimit-headers: `RateLimit-Policy: "user";q=120;w=60`, `RateLimit: "user";r=42;t=17`.

use std::fmt::Write as _;
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use axum::http::{HeaderMap, HeaderValue};
use governor::clock::{Clock, DefaultClock};
use governor::middleware::{StateInformationMiddleware, StateSnapshot};
use governor::state::keyed::DashMapStateStore;
use governor::{Quota as Bucket, RateLimiter};

use super::Problem;
use super::context::{self, Quota};
use crate::access::tokens::Subject;
use crate::aggregates::ids::TenantId;

/// After so many checks, the callers whose bucket is full again are forgotten; this bounds the memory.
const SWEEP_EVERY: u32 = 10_000;

/// How many requests a minute, and whom to believe about addresses.
#[derive(Debug, Clone, Copy)]
pub struct RateLimits {
    /// Requests of one user per minute.
    pub user_per_minute: NonZeroU32,
    /// Requests of all users of one business per minute.
    pub tenant_per_minute: NonZeroU32,
    /// Requests of one address per minute to the routes that take credentials.
    pub sign_in_per_minute: NonZeroU32,
    /// Whether a reverse proxy of ours stands in front, so that the last address of `X-Forwarded-For` is the caller's.
    pub behind_proxy: bool,
}

impl Default for RateLimits {
    fn default() -> Self {
        const fn per_minute(n: u32) -> NonZeroU32 {
            match NonZeroU32::new(n) {
                Some(n) => n,
                None => NonZeroU32::MIN,
            }
        }
        Self {
            user_per_minute: per_minute(6_000),
            tenant_per_minute: per_minute(30_000),
            sign_in_per_minute: per_minute(60),
            behind_proxy: false,
        }
    }
}

/// The buckets of all callers of this process. Cheap to clone; all clones count together.
#[derive(Debug, Clone)]
pub struct Limiter(Arc<Buckets>);

#[derive(Debug)]
struct Buckets {
    users: Policy<(TenantId, Subject)>,
    tenants: Policy<TenantId>,
    sign_in: Policy<IpAddr>,
    behind_proxy: bool,
}

#[derive(Debug)]
struct Policy<K: Hash + Eq + Clone> {
    name: &'static str,
    per_minute: NonZeroU32,
    buckets: RateLimiter<K, DashMapStateStore<K>, DefaultClock, StateInformationMiddleware>,
    checks: AtomicU32,
}

impl<K: Hash + Eq + Clone> Policy<K> {
    fn new(name: &'static str, per_minute: NonZeroU32) -> Self {
        let buckets = RateLimiter::dashmap(Bucket::per_minute(per_minute)).with_middleware();
        Self { name, per_minute, buckets, checks: AtomicU32::new(0) }
    }

    /// Counts one request; refused with the seconds to wait.
    fn admit(&self, caller: &K) -> Result<(), Problem> {
        if self.checks.fetch_add(1, Ordering::Relaxed) % SWEEP_EVERY == SWEEP_EVERY - 1 {
            self.buckets.retain_recent();
            self.buckets.shrink_to_fit();
        }
        let per_minute = self.per_minute.get();
        let verdict = self.buckets.check_key(caller);
        let remaining = verdict.as_ref().map_or(0, StateSnapshot::remaining_burst_capacity);
        let missing = u64::from(per_minute.saturating_sub(remaining));
        let reset = (missing * 60).div_ceil(u64::from(per_minute));
        context::counted(Quota { policy: self.name, per_minute, remaining, reset });
        match verdict {
            Ok(_) => Ok(()),
            Err(until) => {
                let wait = until.wait_time_from(self.buckets.clock().now());
                Err(Problem::rate_limited(wait.as_millis().div_ceil(1000).try_into().unwrap_or(60).max(1)))
            }
        }
    }
}

impl Limiter {
    /// Empty buckets with these limits.
    #[must_use]
    pub fn new(limits: RateLimits) -> Self {
        Self(Arc::new(Buckets {
            users: Policy::new("user", limits.user_per_minute),
            tenants: Policy::new("tenant", limits.tenant_per_minute),
            sign_in: Policy::new("sign-in", limits.sign_in_per_minute),
            behind_proxy: limits.behind_proxy,
        }))
    }

    /// Counts one request of a user and of the user's business; called as soon as the caller is known.
    ///
    /// # Errors
    /// `rate_limited` with the seconds to wait.
    pub fn admit(&self, tenant: TenantId, user: Subject) -> Result<(), Problem> {
        self.0.users.admit(&(tenant, user))?;
        self.0.tenants.admit(&tenant)
    }

    /// Counts one request of an address to a route that takes credentials.
    ///
    /// # Errors
    /// `rate_limited` with the seconds to wait.
    pub fn admit_sign_in(&self, address: IpAddr) -> Result<(), Problem> {
        self.0.sign_in.admit(&network(address))
    }

    /// Where a request comes from; the proxy's word counts only where there is one.
    ///
    /// All requests whose address is unknown count as one caller.
    #[must_use]
    pub fn address(&self, peer: Option<SocketAddr>, headers: &HeaderMap) -> IpAddr {
        let forwarded = || {
            let last = headers.get_all("x-forwarded-for").iter().next_back()?.to_str().ok()?;
            last.rsplit(',').next()?.trim().parse().ok()
        };
        let named = if self.0.behind_proxy { forwarded() } else { None };
        named.or(peer.map(|peer| peer.ip())).unwrap_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED))
    }
}

/// One subscriber has a whole /64 of IPv6, so that is what is counted.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX))),
        v4 @ IpAddr::V4(_) => v4,
    }
}

/// `RateLimit-Policy` and `RateLimit`, for the quotas that a request was counted against.
pub fn write_headers(quotas: &[Quota], headers: &mut HeaderMap) {
    if quotas.is_empty() {
        return;
    }
    let (mut policy, mut state) = (String::new(), String::new());
    for quota in quotas {
        let comma = if policy.is_empty() { "" } else { ", " };
        _ = write!(policy, "{comma}\"{}\";q={};w=60", quota.policy, quota.per_minute);
        _ = write!(state, "{comma}\"{}\";r={};t={}", quota.policy, quota.remaining, quota.reset);
    }
    for (name, value) in [("ratelimit-policy", policy), ("ratelimit", state)] {
        if let Ok(value) = HeaderValue::try_from(value) {
            headers.insert(name, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aggregates::ids::UserId;
    use crate::api::context::RequestContext;
    use crate::api::problem::ProblemKind;

    fn limiter(user: u32, tenant: u32) -> Limiter {
        Limiter::new(RateLimits {
            user_per_minute: NonZeroU32::new(user).unwrap(),
            tenant_per_minute: NonZeroU32::new(tenant).unwrap(),
            sign_in_per_minute: NonZeroU32::new(1).unwrap(),
            behind_proxy: false,
        })
    }

    fn user(tenant: u32, user: u32) -> Subject {
        Subject { tenant: TenantId::Business(tenant), user: UserId(user) }
    }

    #[test]
    fn a_user_over_the_limit_waits_and_others_do_not() {
        let limiter = limiter(2, 100);
        limiter.admit(TenantId::Business(1), user(1, 1)).unwrap();
        limiter.admit(TenantId::Business(1), user(1, 1)).unwrap();
        let refused = limiter.admit(TenantId::Business(1), user(1, 1)).unwrap_err();
        assert_eq!(refused.kind(), ProblemKind::RateLimited);
        assert!((1..=30).contains(&refused.details().retry_after.unwrap()));
        limiter.admit(TenantId::Business(1), user(1, 2)).unwrap();
        limiter.admit(TenantId::Business(2), user(2, 1)).unwrap();
    }

    #[test]
    fn the_users_of_a_business_share_its_limit() {
        let limiter = limiter(100, 2);
        limiter.admit(TenantId::Business(1), user(1, 1)).unwrap();
        limiter.admit(TenantId::Business(1), user(1, 2)).unwrap();
        assert!(limiter.admit(TenantId::Business(1), user(1, 3)).is_err());
        limiter.admit(TenantId::Business(2), user(2, 1)).unwrap();
    }

    #[test]
    fn sign_in_is_counted_by_network() {
        let limiter = limiter(1, 1);
        limiter.admit_sign_in("2001:db8:1:2::1".parse().unwrap()).unwrap();
        assert!(limiter.admit_sign_in("2001:db8:1:2::2".parse().unwrap()).is_err());
        limiter.admit_sign_in("2001:db8:1:3::1".parse().unwrap()).unwrap();
        limiter.admit_sign_in("192.0.2.1".parse().unwrap()).unwrap();
        assert!(limiter.admit_sign_in("::ffff:192.0.2.1".parse().unwrap()).is_err());
    }

    #[test]
    fn a_forwarded_address_counts_behind_a_proxy_only() {
        let mut headers = HeaderMap::new();
        headers.insert("x-forwarded-for", HeaderValue::from_static("203.0.113.9, 198.51.100.7"));
        let peer: SocketAddr = "192.0.2.1:4711".parse().unwrap();
        let direct = limiter(1, 1);
        assert_eq!(direct.address(Some(peer), &headers).to_string(), "192.0.2.1");
        let proxied = Limiter::new(RateLimits { behind_proxy: true, ..RateLimits::default() });
        assert_eq!(proxied.address(Some(peer), &headers).to_string(), "198.51.100.7");
    }

    #[tokio::test]
    async fn the_headers_tell_what_is_left() {
        let limiter = limiter(120, 240);
        let request = RequestContext::from_headers(&HeaderMap::new());
        request.clone().scope(async { limiter.admit(TenantId::Business(1), user(1, 1)).unwrap() }).await;
        let mut headers = HeaderMap::new();
        write_headers(&request.quotas(), &mut headers);
        assert_eq!(headers["ratelimit-policy"], "\"user\";q=120;w=60, \"tenant\";q=240;w=60");
        assert_eq!(headers["ratelimit"], "\"user\";r=119;t=1, \"tenant\";r=239;t=1");
    }
}
