//! Growing delays for those who guess passwords, per account and per address.
//!
//! An attempt counts as a failure from its beginning, and is taken back if it succeeds: otherwise a
//! thousand guesses at the same moment would all be let through before the first one was counted.

use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::{Error, PgExecutor, PgPool};

use super::secrets::sha256;

/// The longest delay.
const LONGEST_DELAY: TimeDelta = TimeDelta::minutes(15);

/// One failure is forgotten for each such time without another.
const FORGIVEN_EVERY: TimeDelta = TimeDelta::minutes(15);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Account,
    Address,
}

/// Whom attempts are counted against.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    kind: Kind,
    /// Does not say whose it is: the table is no list of e-mail addresses.
    text: String,
    /// Failures before delays begin.
    free: i32,
}

impl Key {
    /// An account, by the e-mail address as it is compared; known or not, so that the delay does not tell.
    #[must_use]
    pub fn account(email_key: &str) -> Self {
        Self { kind: Kind::Account, text: text("account", email_key), free: 5 }
    }

    /// An address. An office shares one, so it is more patient; of IPv6, a whole /64 counts as one.
    #[must_use]
    pub fn address(address: IpAddr) -> Self {
        let counted = match address.to_canonical() {
            IpAddr::V4(address) => address.to_string(),
            IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).to_string(),
        };
        Self { kind: Kind::Address, text: text("address", &counted), free: 50 }
    }
}

fn text(kind: &str, value: &str) -> String {
    format!("{kind}:{}", hex::encode(sha256(value.as_bytes())))
}

/// Too many failures: come back after this time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("Too many failed sign-ins; try again in {} s.", .0.as_secs())]
pub struct RetryAfter(pub Duration);

/// Why an attempt is not let through.
#[derive(Debug, thiserror::Error)]
pub enum ThrottleError {
    /// A delay is running.
    #[error(transparent)]
    Wait(#[from] RetryAfter),
    /// The database's error.
    #[error(transparent)]
    Database(#[from] Error),
}

/// What is left of the failures at `$2`, of which one is forgotten for each `$3` since the last.
const FAILURES_LEFT: &str = "greatest(0, a.failures - floor(extract(epoch from $2 - a.last_failed_at)
     / extract(epoch from $3::interval)))::int";

/// Whether an attempt may be made now; counts nothing.
///
/// # Errors
/// [`ThrottleError::Wait`] says how long to wait.
pub async fn check(db: impl PgExecutor<'_>, key: &Key, now: DateTime<Utc>) -> Result<(), ThrottleError> {
    let blocked_until: Option<DateTime<Utc>> =
        sqlx::query_scalar("select blocked_until from platform.login_attempts where key = $1 and blocked_until > $2")
            .bind(&key.text)
            .bind(now)
            .fetch_optional(db)
            .await?;
    blocked_until.map_or(Ok(()), |until| Err(retry_after(until - now).into()))
}

/// Begins an attempt: refused during a delay, else counted as failed until [`succeeded`] takes it back.
/// After the free failures, the n-th delay is 2ⁿ seconds, a quarter of an hour at most.
///
/// # Errors
/// [`ThrottleError::Wait`] says how long to wait.
pub async fn attempt(pool: &PgPool, key: &Key, now: DateTime<Utc>) -> Result<(), ThrottleError> {
    // The conflict locks the row: of simultaneous attempts, each sees what the one before has left.
    let counted = sqlx::query(&format!(
        "insert into platform.login_attempts as a (key, failures, last_failed_at) values ($1, 1, $2)
         on conflict (key) do update set
             failures = {FAILURES_LEFT} + 1,
             last_failed_at = $2,
             blocked_until = case when {FAILURES_LEFT} + 1 > $4
                 then $2 + least($5, make_interval(secs => 2 ^ least(30, {FAILURES_LEFT} + 1 - $4))) end
         where a.blocked_until is null or a.blocked_until <= $2"
    ))
    .bind(&key.text)
    .bind(now)
    .bind(FORGIVEN_EVERY)
    .bind(key.free)
    .bind(LONGEST_DELAY)
    .execute(pool)
    .await?;
    if counted.rows_affected() > 0 { Ok(()) } else { check(pool, key, now).await }
}

/// Takes the attempt back: the password was right. An account starts afresh; an address loses this one
/// failure only, or whoever has an account of their own could guess at others for ever.
///
/// # Errors
/// The database's.
pub async fn succeeded(db: impl PgExecutor<'_>, key: &Key) -> Result<(), Error> {
    let forgiven = match key.kind {
        Kind::Account => "delete from platform.login_attempts where key = $1",
        Kind::Address => {
            "update platform.login_attempts set failures = greatest(0, failures - 1), blocked_until = null
             where key = $1"
        }
    };
    sqlx::query(forgiven).bind(&key.text).execute(db).await.map(drop)
}

/// Removes what no longer delays anybody.
///
/// # Errors
/// The database's.
pub async fn forget_old(db: impl PgExecutor<'_>, now: DateTime<Utc>) -> Result<(), Error> {
    sqlx::query("delete from platform.login_attempts where last_failed_at + failures * $2 <= $1")
        .bind(now)
        .bind(FORGIVEN_EVERY)
        .execute(db)
        .await
        .map(drop)
}

fn retry_after(delay: TimeDelta) -> RetryAfter {
    // Rounded up: who comes back at the second that was named is let in.
    let seconds = (delay + TimeDelta::milliseconds(999)).num_seconds();
    RetryAfter(Duration::from_secs(u64::try_from(seconds).unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_network_is_one_address_however_it_is_written() {
        let key = |text: &str| Key::address(text.parse().unwrap());
        assert_eq!(key("2001:db8:0:1::1"), key("2001:db8:0:1:ffff::2"));
        assert_ne!(key("2001:db8:0:1::1"), key("2001:db8:0:2::1"));
        assert_eq!(key("::ffff:192.0.2.1"), key("192.0.2.1"));
        assert_ne!(key("192.0.2.1"), key("192.0.2.2"));
    }

    #[test]
    fn a_delay_is_told_in_whole_seconds_and_never_too_short() {
        assert_eq!(retry_after(TimeDelta::milliseconds(1_001)).0, Duration::from_secs(2));
        assert_eq!(retry_after(TimeDelta::seconds(2)).to_string(), "Too many failed sign-ins; try again in 2 s.");
    }
}
