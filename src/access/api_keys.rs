//! Keys for programs: `dvh_<id>_<secret>`, shown once, with no more than their maker's permissions.

use std::fmt;

use chrono::{DateTime, TimeDelta, Utc};
use secrecy::{ExposeSecret, SecretString};
use sqlx::postgres::PgRow;
use sqlx::types::Json;
use sqlx::{Error, PgExecutor, Row};

use super::permissions::Permissions;
use super::rows::parsed;
use super::secrets::{SecretsError, equal, random_bytes, random_token, sha256};
use crate::aggregates::ids::{TenantId, UserId};
use crate::aggregates::permission::Role;

/// What every key begins with, so that one found in the wrong place is recognised.
pub const PREFIX: &str = "dvh_";

/// How exactly the last use is known.
const LAST_USED_PRECISION: TimeDelta = TimeDelta::minutes(1);

/// What is read of a key, as [`Kept`] reads it; its secret's hash among it.
pub(crate) const COLUMNS: &str = "key_id, tenant_id, name, secret_hash, role as key_role,
     permissions as key_permissions, created_by, created_at, expires_at, last_used_at, revoked_at";

/// A key, without its secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiKey {
    /// The part of the key that is no secret.
    pub key_id: String,
    /// The business that the key is for.
    pub tenant: TenantId,
    /// What its maker calls it.
    pub name: String,
    /// The role it acts in.
    pub role: Role,
    /// What it may do at most. What it may do is this, as far as its maker may do it now: see
    /// [`Permissions::intersect`].
    pub permissions: Permissions,
    /// Who made it.
    pub created_by: UserId,
    /// When.
    pub created_at: DateTime<Utc>,
    /// When it stops being good; none: never.
    pub expires_at: Option<DateTime<Utc>>,
    /// When it was last used, to the minute.
    pub last_used_at: Option<DateTime<Utc>>,
    /// When it was withdrawn.
    pub revoked_at: Option<DateTime<Utc>>,
}

impl ApiKey {
    fn from_row(row: &PgRow) -> Result<Self, Error> {
        Ok(Self {
            key_id: row.try_get("key_id")?,
            tenant: parsed(row, "tenant_id")?,
            name: row.try_get("name")?,
            role: parsed(row, "key_role")?,
            permissions: row.try_get::<Json<_>, _>("key_permissions")?.0,
            created_by: parsed(row, "created_by")?,
            created_at: row.try_get("created_at")?,
            expires_at: row.try_get("expires_at")?,
            last_used_at: row.try_get("last_used_at")?,
            revoked_at: row.try_get("revoked_at")?,
        })
    }
}

/// A key to be made.
#[derive(Debug, Clone)]
pub struct NewApiKey {
    /// What its maker calls it.
    pub name: String,
    /// The role it acts in.
    pub role: Role,
    /// What it may do at most; the caller sees to it that its maker may do as much.
    pub permissions: Permissions,
    /// When it stops being good; none: never.
    pub expires_at: Option<DateTime<Utc>>,
}

/// Why no key could be made.
#[derive(Debug, thiserror::Error)]
pub enum ApiKeysError {
    /// The database's error.
    #[error(transparent)]
    Database(#[from] Error),
    /// No secret could be made.
    #[error(transparent)]
    Secrets(#[from] SecretsError),
}

/// Why a key is not accepted. For the log: the caller hears the same in every case.
#[derive(Debug, thiserror::Error)]
pub enum ApiKeyRefused {
    /// Not `dvh_<id>_<secret>`.
    #[error("the API key is malformed")]
    Malformed,
    /// No such key, or another secret.
    #[error("the API key is unknown")]
    Unknown,
    /// It was withdrawn.
    #[error("the API key was withdrawn")]
    Revoked,
    /// Its time is over.
    #[error("the API key has expired")]
    Expired,
    /// Not the key's fault.
    #[error(transparent)]
    Failed(#[from] Error),
}

/// The two halves of a key as it is sent.
struct Sent<'a> {
    id: &'a str,
    secret: &'a str,
}

impl<'a> Sent<'a> {
    /// The secret may contain an underscore, the id does not.
    fn read(text: &'a str) -> Option<Self> {
        let (id, secret) = text.strip_prefix(PREFIX)?.split_once('_')?;
        (!id.is_empty() && !secret.is_empty()).then_some(Self { id, secret })
    }
}

impl fmt::Display for Sent<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}_{}", self.id, self.secret)
    }
}

/// Makes a key, and tells it this once.
///
/// # Errors
/// The database's, or no random bytes.
pub async fn create(
    db: impl PgExecutor<'_>,
    tenant: TenantId,
    created_by: UserId,
    new: &NewApiKey,
    now: DateTime<Utc>,
) -> Result<(ApiKey, SecretString), ApiKeysError> {
    let id = hex::encode(random_bytes::<8>()?);
    let secret = random_token()?;
    let row = sqlx::query(&format!(
        "insert into platform.api_keys
             (key_id, tenant_id, name, secret_hash, role, permissions, created_by, created_at, expires_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9)
         returning {COLUMNS}"
    ))
    .bind(&id)
    .bind(tenant.to_string())
    .bind(&new.name)
    .bind(sha256(secret.expose_secret().as_bytes()).as_slice())
    .bind(new.role.as_str())
    .bind(Json(&new.permissions))
    .bind(created_by.to_string())
    .bind(now)
    .bind(new.expires_at)
    .fetch_one(db)
    .await?;
    let shown = Sent { id: &id, secret: secret.expose_secret() }.to_string();
    Ok((ApiKey::from_row(&row)?, shown.into()))
}

/// The id in a key as it is sent: what it is looked up by. The secret is still to be checked.
///
/// # Errors
/// [`ApiKeyRefused::Malformed`].
pub fn id_of(key: &SecretString) -> Result<&str, ApiKeyRefused> {
    Sent::read(key.expose_secret()).map(|sent| sent.id).ok_or(ApiKeyRefused::Malformed)
}

/// A key as it is kept.
#[derive(Clone)]
pub struct Kept {
    key: ApiKey,
    secret_hash: Vec<u8>,
}

impl Kept {
    /// Reads a row that has [`COLUMNS`].
    pub(crate) fn from_row(row: &PgRow) -> Result<Self, Error> {
        Ok(Self { key: ApiKey::from_row(row)?, secret_hash: row.try_get("secret_hash")? })
    }

    /// The key, before anybody has shown that they have it.
    pub(crate) fn unproven(&self) -> &ApiKey {
        &self.key
    }

    /// The key, if this is its text and it is good.
    ///
    /// # Errors
    /// See [`ApiKeyRefused`].
    pub fn admit(&self, sent: &SecretString, now: DateTime<Utc>) -> Result<&ApiKey, ApiKeyRefused> {
        let sent = Sent::read(sent.expose_secret()).ok_or(ApiKeyRefused::Malformed)?;
        // The secret first: only who has it learns that the key is over.
        if sent.id != self.key.key_id || !equal(&sha256(sent.secret.as_bytes()), &self.secret_hash) {
            return Err(ApiKeyRefused::Unknown);
        }
        if self.key.revoked_at.is_some() {
            return Err(ApiKeyRefused::Revoked);
        }
        if self.key.expires_at.is_some_and(|end| end <= now) {
            return Err(ApiKeyRefused::Expired);
        }
        Ok(&self.key)
    }
}

/// Whose key this is, if it is good.
///
/// # Errors
/// See [`ApiKeyRefused`].
pub async fn verify(db: impl PgExecutor<'_>, key: &SecretString, now: DateTime<Utc>) -> Result<ApiKey, ApiKeyRefused> {
    let row = sqlx::query(&format!("select {COLUMNS} from platform.api_keys where key_id = $1"))
        .bind(id_of(key)?)
        .fetch_optional(db)
        .await?
        .ok_or(ApiKeyRefused::Unknown)?;
    Kept::from_row(&row)?.admit(key, now).cloned()
}

/// Notes that the key was used, at most once a minute.
///
/// # Errors
/// The database's.
pub async fn touch(db: impl PgExecutor<'_>, key: &ApiKey, now: DateTime<Utc>) -> Result<(), Error> {
    let noted_before = now - LAST_USED_PRECISION;
    if key.last_used_at.is_some_and(|last| last > noted_before) {
        return Ok(());
    }
    sqlx::query(
        "update platform.api_keys set last_used_at = $3
         where tenant_id = $1 and key_id = $2 and (last_used_at is null or last_used_at <= $4)",
    )
    .bind(key.tenant.to_string())
    .bind(&key.key_id)
    .bind(now)
    .bind(noted_before)
    .execute(db)
    .await
    .map(drop)
}

/// The keys of a business that are good: neither withdrawn nor over. The last made comes first.
///
/// # Errors
/// The database's.
pub async fn list(db: impl PgExecutor<'_>, tenant: TenantId, now: DateTime<Utc>) -> Result<Vec<ApiKey>, Error> {
    let rows = sqlx::query(&format!(
        "select {COLUMNS} from platform.api_keys
         where tenant_id = $1 and revoked_at is null and (expires_at is null or expires_at > $2)
         order by created_at desc, key_id"
    ))
    .bind(tenant.to_string())
    .bind(now)
    .fetch_all(db)
    .await?;
    rows.iter().map(ApiKey::from_row).collect()
}

/// Withdraws a key. False if the business has no such key.
///
/// # Errors
/// The database's.
pub async fn revoke(
    db: impl PgExecutor<'_>,
    tenant: TenantId,
    key_id: &str,
    now: DateTime<Utc>,
) -> Result<bool, Error> {
    let withdrawn = sqlx::query(
        "update platform.api_keys set revoked_at = $3 where tenant_id = $1 and key_id = $2 and revoked_at is null",
    )
    .bind(tenant.to_string())
    .bind(key_id)
    .bind(now)
    .execute(db)
    .await?;
    Ok(withdrawn.rows_affected() > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_read_as_it_is_written_whatever_the_secret_contains() {
        let text = Sent { id: "0123456789abcdef", secret: "a_b-_c" }.to_string();
        let sent = Sent::read(&text).unwrap();
        assert_eq!((sent.id, sent.secret), ("0123456789abcdef", "a_b-_c"));
        for wrong in ["", "dvh_", "dvh_id", "dvh__secret", "dvh_id_", "key_id_secret"] {
            assert!(Sent::read(wrong).is_none(), "{wrong}");
        }
    }
}
