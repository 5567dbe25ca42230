//! Invitations: a token with which an invited user chooses a password, once.

use chrono::{DateTime, TimeDelta, Utc};
use secrecy::{ExposeSecret, SecretString};
use sqlx::{Error, PgConnection, PgExecutor, Row};

use super::rows::parsed;
use super::secrets::{SecretsError, random_token, sha256};
use crate::aggregates::ids::{TenantId, UserId};

/// How long an invitation waits.
pub const LIFETIME: TimeDelta = TimeDelta::days(7);

/// How long it is known afterwards that there was one.
const REMEMBERED: TimeDelta = TimeDelta::days(30);

/// An invitation just made; the token is told this once.
#[derive(Debug)]
pub struct Invitation {
    /// For the invited person, and nobody else.
    pub token: SecretString,
    /// When it stops being good.
    pub expires_at: DateTime<Utc>,
}

/// Why no invitation could be made.
#[derive(Debug, thiserror::Error)]
pub enum InvitationsError {
    /// The database's error.
    #[error(transparent)]
    Database(#[from] Error),
    /// No token could be made.
    #[error(transparent)]
    Secrets(#[from] SecretsError),
}

/// Why an invitation is not accepted.
#[derive(Debug, thiserror::Error)]
pub enum InvitationRefused {
    /// None of ours, or withdrawn.
    #[error("The invitation is unknown, or was withdrawn.")]
    Unknown,
    /// Accepted already.
    #[error("The invitation was accepted before.")]
    Used,
    /// Too late.
    #[error("The invitation has expired; ask for another.")]
    Expired,
    /// Not the invitation's fault.
    #[error(transparent)]
    Failed(#[from] Error),
}

/// Invites a user; an earlier invitation that was not accepted is withdrawn.
///
/// # Errors
/// The database's, or no random bytes.
pub async fn create(
    db: &mut PgConnection,
    tenant: TenantId,
    user: UserId,
    now: DateTime<Utc>,
) -> Result<Invitation, InvitationsError> {
    revoke(&mut *db, tenant, user).await?;
    let (token, expires_at) = (random_token()?, now + LIFETIME);
    sqlx::query(
        "insert into platform.invitations (token_hash, tenant_id, user_id, expires_at) values ($1, $2, $3, $4)",
    )
    .bind(sha256(token.expose_secret().as_bytes()).as_slice())
    .bind(tenant.to_string())
    .bind(user.to_string())
    .bind(expires_at)
    .execute(db)
    .await?;
    Ok(Invitation { token, expires_at })
}

/// Whom a token invites, without using it up.
///
/// # Errors
/// See [`InvitationRefused`].
pub async fn find(
    db: impl PgExecutor<'_>,
    token: &SecretString,
    now: DateTime<Utc>,
) -> Result<(TenantId, UserId), InvitationRefused> {
    let row =
        sqlx::query("select tenant_id, user_id, expires_at, used_at from platform.invitations where token_hash = $1")
            .bind(sha256(token.expose_secret().as_bytes()).as_slice())
            .fetch_optional(db)
            .await?
            .ok_or(InvitationRefused::Unknown)?;
    if row.try_get::<Option<DateTime<Utc>>, _>("used_at")?.is_some() {
        return Err(InvitationRefused::Used);
    }
    if row.try_get::<DateTime<Utc>, _>("expires_at")? <= now {
        return Err(InvitationRefused::Expired);
    }
    Ok((parsed(&row, "tenant_id")?, parsed(&row, "user_id")?))
}

/// Uses the token up, and says whom it invites; of two at the same time, one is told that it was used.
///
/// # Errors
/// See [`InvitationRefused`].
pub async fn consume(
    db: &mut PgConnection,
    token: &SecretString,
    now: DateTime<Utc>,
) -> Result<(TenantId, UserId), InvitationRefused> {
    let taken = sqlx::query(
        "update platform.invitations set used_at = $2
         where token_hash = $1 and used_at is null and expires_at > $2
         returning tenant_id, user_id",
    )
    .bind(sha256(token.expose_secret().as_bytes()).as_slice())
    .bind(now)
    .fetch_optional(&mut *db)
    .await?;
    match taken {
        Some(row) => Ok((parsed(&row, "tenant_id")?, parsed(&row, "user_id")?)),
        // It cannot be taken: say why. Should it have become free meanwhile, it was used at the time.
        None => Err(find(db, token, now).await.err().unwrap_or(InvitationRefused::Used)),
    }
}

/// Withdraws what a user has not accepted.
///
/// # Errors
/// The database's.
pub async fn revoke(db: impl PgExecutor<'_>, tenant: TenantId, user: UserId) -> Result<(), Error> {
    sqlx::query("delete from platform.invitations where tenant_id = $1 and user_id = $2 and used_at is null")
        .bind(tenant.to_string())
        .bind(user.to_string())
        .execute(db)
        .await?;
    Ok(())
}

/// Removes invitations that ended so long ago that nobody asks any more what became of them.
///
/// # Errors
/// The database's.
pub async fn forget_old(db: impl PgExecutor<'_>, now: DateTime<Utc>) -> Result<(), Error> {
    sqlx::query("delete from platform.invitations where expires_at <= $1")
        .bind(now - REMEMBERED)
        .execute(db)
        .await
        .map(drop)
}
