//! One-time tokens: whoever is given one chooses a password, to accept an invitation or because the old one is of no
//! use.

use std::fmt;

use chrono::{DateTime, TimeDelta, Utc};
use secrecy::{ExposeSecret, SecretString};
use sqlx::{Error, PgConnection, PgExecutor, Row};
use strum::IntoStaticStr;

use super::rows::parsed;
use super::secrets::{SecretsError, random_token, sha256};
use crate::aggregates::ids::{TenantId, UserId};

/// How long it is known afterwards that there was one.
const REMEMBERED: TimeDelta = TimeDelta::days(30);

/// What a token is good for; it is good for nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum Purpose {
    /// Somebody comes.
    Invitation,
    /// Somebody who is here has no password that is of use.
    PasswordReset,
}

impl Purpose {
    /// A stable word for programs, and for the table.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    /// How long a token waits. One for a password reset opens an account that holds something, so it waits over a
    /// long weekend and no longer.
    #[must_use]
    pub fn lifetime(self) -> TimeDelta {
        match self {
            Self::Invitation => TimeDelta::days(7),
            Self::PasswordReset => TimeDelta::days(3),
        }
    }
}

impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Invitation => "invitation",
            Self::PasswordReset => "password reset",
        })
    }
}

/// A token just made; it is told this once.
#[derive(Debug)]
pub struct OneTimeToken {
    /// For the person that it is about, and nobody else.
    pub token: SecretString,
    /// When it stops being good.
    pub expires_at: DateTime<Utc>,
}

/// Whom a token is about, and who handed it out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// The business.
    pub tenant: TenantId,
    /// The person.
    pub user: UserId,
    /// The actor, as events name one.
    pub issued_by: String,
}

/// Why no token could be made.
#[derive(Debug, thiserror::Error)]
pub enum OneTimeTokensError {
    /// The database's error.
    #[error(transparent)]
    Database(#[from] Error),
    /// No random bytes.
    #[error(transparent)]
    Secrets(#[from] SecretsError),
}

/// Why a token is not accepted.
#[derive(Debug, thiserror::Error)]
pub enum OneTimeTokenRefused {
    /// None of ours, for something else, or withdrawn.
    #[error("The {0} is unknown, or was withdrawn.")]
    Unknown(Purpose),
    /// Used already.
    #[error("The {0} was used before.")]
    Used(Purpose),
    /// Too late.
    #[error("The {0} has expired; ask for another.")]
    Expired(Purpose),
    /// Not the token's fault.
    #[error(transparent)]
    Failed(#[from] Error),
}

/// Makes a token for a user; an earlier one for the same purpose that was not used is withdrawn.
///
/// # Errors
/// The database's, or no random bytes.
pub async fn create(
    db: &mut PgConnection,
    purpose: Purpose,
    tenant: TenantId,
    user: UserId,
    issued_by: &str,
    now: DateTime<Utc>,
) -> Result<OneTimeToken, OneTimeTokensError> {
    revoke(&mut *db, purpose, tenant, user).await?;
    let (token, expires_at) = (random_token()?, now + purpose.lifetime());
    sqlx::query(
        "insert into platform.one_time_tokens (token_hash, purpose, tenant_id, user_id, issued_by, expires_at)
         values ($1, $2, $3, $4, $5, $6)",
    )
    .bind(sha256(token.expose_secret().as_bytes()).as_slice())
    .bind(purpose.as_str())
    .bind(tenant.to_string())
    .bind(user.to_string())
    .bind(issued_by)
    .bind(expires_at)
    .execute(db)
    .await?;
    Ok(OneTimeToken { token, expires_at })
}

/// Whom a token is about, without using it up.
///
/// # Errors
/// See [`OneTimeTokenRefused`].
pub async fn find(
    db: impl PgExecutor<'_>,
    purpose: Purpose,
    token: &SecretString,
    now: DateTime<Utc>,
) -> Result<Holder, OneTimeTokenRefused> {
    let row = sqlx::query(
        "select tenant_id, user_id, issued_by, expires_at, used_at from platform.one_time_tokens
         where token_hash = $1 and purpose = $2",
    )
    .bind(sha256(token.expose_secret().as_bytes()).as_slice())
    .bind(purpose.as_str())
    .fetch_optional(db)
    .await?
    .ok_or(OneTimeTokenRefused::Unknown(purpose))?;
    if row.try_get::<Option<DateTime<Utc>>, _>("used_at")?.is_some() {
        return Err(OneTimeTokenRefused::Used(purpose));
    }
    if row.try_get::<DateTime<Utc>, _>("expires_at")? <= now {
        return Err(OneTimeTokenRefused::Expired(purpose));
    }
    let (tenant, user) = (parsed(&row, "tenant_id")?, parsed(&row, "user_id")?);
    Ok(Holder { tenant, user, issued_by: row.try_get("issued_by")? })
}

/// Uses a token up; of two at the same time, one is told that it was used.
///
/// # Errors
/// See [`OneTimeTokenRefused`].
pub async fn consume(
    db: &mut PgConnection,
    purpose: Purpose,
    token: &SecretString,
    now: DateTime<Utc>,
) -> Result<(), OneTimeTokenRefused> {
    let taken = sqlx::query(
        "update platform.one_time_tokens set used_at = $3
         where token_hash = $1 and purpose = $2 and used_at is null and expires_at > $3",
    )
    .bind(sha256(token.expose_secret().as_bytes()).as_slice())
    .bind(purpose.as_str())
    .bind(now)
    .execute(&mut *db)
    .await?;
    if taken.rows_affected() > 0 {
        return Ok(());
    }
    // It cannot be taken: say why. Should it have become free meanwhile, it was used at the time.
    Err(find(db, purpose, token, now).await.err().unwrap_or(OneTimeTokenRefused::Used(purpose)))
}

/// Withdraws what a user has not used.
///
/// # Errors
/// The database's.
pub async fn revoke(db: impl PgExecutor<'_>, purpose: Purpose, tenant: TenantId, user: UserId) -> Result<(), Error> {
    sqlx::query(
        "delete from platform.one_time_tokens
         where purpose = $1 and tenant_id = $2 and user_id = $3 and used_at is null",
    )
    .bind(purpose.as_str())
    .bind(tenant.to_string())
    .bind(user.to_string())
    .execute(db)
    .await
    .map(drop)
}

/// Removes tokens that ended so long ago that nobody asks any more what became of them.
///
/// # Errors
/// The database's.
pub async fn forget_old(db: impl PgExecutor<'_>, now: DateTime<Utc>) -> Result<(), Error> {
    sqlx::query("delete from platform.one_time_tokens where expires_at <= $1")
        .bind(now - REMEMBERED)
        .execute(db)
        .await
        .map(drop)
}
