//! Where credentials are kept, and which user an e-mail address signs in.

use chrono::{DateTime, Utc};
use secrecy::ExposeSecret;
use sqlx::{Error, PgExecutor, Row};

use super::passwords::Credential;
use super::rows::parsed;
use crate::aggregates::ids::{TenantId, UserId};

/// Who signs in with this address, given as it is compared (see `platform.logins`).
///
/// # Errors
/// The database's.
pub async fn find_login(db: impl PgExecutor<'_>, email_key: &str) -> Result<Option<(TenantId, UserId)>, Error> {
    let row = sqlx::query("select tenant_id, user_id from platform.logins where email_key = $1")
        .bind(email_key)
        .fetch_optional(db)
        .await?;
    row.map(|row| Ok((parsed(&row, "tenant_id")?, parsed(&row, "user_id")?))).transpose()
}

/// What the user proves themselves with; none before an invitation is accepted.
///
/// # Errors
/// The database's, and a scheme that this version does not know.
pub async fn load(db: impl PgExecutor<'_>, tenant: TenantId, user: UserId) -> Result<Option<Credential>, Error> {
    let row = sqlx::query("select scheme, hash from platform.credentials where tenant_id = $1 and user_id = $2")
        .bind(tenant.to_string())
        .bind(user.to_string())
        .fetch_optional(db)
        .await?;
    row.map(|row| {
        let hash: String = row.try_get("hash")?;
        Ok(Credential { scheme: parsed(&row, "scheme")?, hash: hash.into() })
    })
    .transpose()
}

/// Sets or replaces what the user proves themselves with.
///
/// # Errors
/// The database's.
pub async fn store(
    db: impl PgExecutor<'_>,
    tenant: TenantId,
    user: UserId,
    credential: &Credential,
    now: DateTime<Utc>,
) -> Result<(), Error> {
    sqlx::query(
        "insert into platform.credentials (tenant_id, user_id, scheme, hash, changed_at)
         values ($1, $2, $3, $4, $5)
         on conflict (tenant_id, user_id) do update
         set scheme = excluded.scheme, hash = excluded.hash, changed_at = excluded.changed_at",
    )
    .bind(tenant.to_string())
    .bind(user.to_string())
    .bind(<&str>::from(credential.scheme))
    .bind(credential.hash.expose_secret())
    .bind(now)
    .execute(db)
    .await
    .map(drop)
}

/// Sets what the user proves themselves with, unless there is something already. Whether it was set.
///
/// # Errors
/// The database's.
pub async fn store_first(
    db: impl PgExecutor<'_>,
    tenant: TenantId,
    user: UserId,
    credential: &Credential,
    now: DateTime<Utc>,
) -> Result<bool, Error> {
    let stored = sqlx::query(
        "insert into platform.credentials (tenant_id, user_id, scheme, hash, changed_at)
         values ($1, $2, $3, $4, $5) on conflict do nothing",
    )
    .bind(tenant.to_string())
    .bind(user.to_string())
    .bind(<&str>::from(credential.scheme))
    .bind(credential.hash.expose_secret())
    .bind(now)
    .execute(db)
    .await?;
    Ok(stored.rows_affected() > 0)
}

/// Replaces a hash by another of the same password, unless it is no longer there: a password that was changed
/// meanwhile counts. When the password was chosen stays as it is.
///
/// # Errors
/// The database's.
pub async fn replace(
    db: impl PgExecutor<'_>,
    tenant: TenantId,
    user: UserId,
    old: &Credential,
    new: &Credential,
) -> Result<(), Error> {
    sqlx::query(
        "update platform.credentials set scheme = $3, hash = $4
         where tenant_id = $1 and user_id = $2 and scheme = $5 and hash = $6",
    )
    .bind(tenant.to_string())
    .bind(user.to_string())
    .bind(<&str>::from(new.scheme))
    .bind(new.hash.expose_secret())
    .bind(<&str>::from(old.scheme))
    .bind(old.hash.expose_secret())
    .execute(db)
    .await
    .map(drop)
}

/// Takes the credential away: nobody signs in as this user.
///
/// # Errors
/// The database's.
pub async fn remove(db: impl PgExecutor<'_>, tenant: TenantId, user: UserId) -> Result<(), Error> {
    sqlx::query("delete from platform.credentials where tenant_id = $1 and user_id = $2")
        .bind(tenant.to_string())
        .bind(user.to_string())
        .execute(db)
        .await
        .map(drop)
}
