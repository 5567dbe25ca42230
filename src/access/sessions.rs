//! Sessions: opened at sign-in, kept alive by refresh tokens that are good once, ended by anybody who may.
//!
//! ```text
//! open ─► token 1 ─refresh─► token 2 ─refresh─► token 3 …   30 days from the last use, 90 from the first
//!            └── used again: somebody has a copy, and nobody knows who: the session ends (RFC 9700, 4.14)
//! ```

use std::net::IpAddr;

use chrono::{DateTime, TimeDelta, Utc};
use secrecy::{ExposeSecret, SecretString};
use sqlx::postgres::PgRow;
use sqlx::{Error, PgConnection, PgExecutor, PgPool, Row};
use uuid::Uuid;

use super::rows::{parsed, parsed_if_any};
use super::secrets::{SecretsError, random_token, sha256};
use super::tokens::SupportMode;
use crate::aggregates::ids::{TenantId, UserId};
use crate::clock::new_event_id;

/// How long a session lives after its last use.
pub const IDLE_LIFETIME: TimeDelta = TimeDelta::days(30);

/// How long a session lives at most.
pub const LIFETIME: TimeDelta = TimeDelta::days(90);

/// The longest user agent that is kept, in characters.
const LONGEST_USER_AGENT: usize = 256;

/// What [`Session::from_row`] reads.
pub(crate) const COLUMNS: &str =
    "session_id, tenant_id, user_id, created_at, last_used_at, expires_at, address, user_agent,
     support_tenant_id, support_mode";

/// Where the founder is during a support session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SupportVisit {
    /// The visited business.
    pub tenant: TenantId,
    /// What may be done there.
    pub mode: SupportMode,
}

/// A session that has not ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// `sid` in the tokens.
    pub id: Uuid,
    /// The business that the user belongs to.
    pub tenant: TenantId,
    /// Who signed in.
    pub user: UserId,
    /// When.
    pub created_at: DateTime<Utc>,
    /// When it was last refreshed.
    pub last_used_at: DateTime<Utc>,
    /// When it ends, unless it is used before.
    pub expires_at: DateTime<Utc>,
    /// The address that signed in.
    pub address: Option<String>,
    /// What the program called itself.
    pub user_agent: Option<String>,
    /// Set in a support session.
    pub support: Option<SupportVisit>,
}

impl Session {
    /// Reads a row that has [`COLUMNS`].
    pub(crate) fn from_row(row: &PgRow) -> Result<Self, Error> {
        let visited = parsed_if_any(row, "support_tenant_id")?;
        let mode = parsed_if_any(row, "support_mode")?;
        Ok(Self {
            id: row.try_get("session_id")?,
            tenant: parsed(row, "tenant_id")?,
            user: parsed(row, "user_id")?,
            created_at: row.try_get("created_at")?,
            last_used_at: row.try_get("last_used_at")?,
            expires_at: row.try_get("expires_at")?,
            address: row.try_get("address")?,
            user_agent: row.try_get("user_agent")?,
            support: visited.zip(mode).map(|(tenant, mode)| SupportVisit { tenant, mode }),
        })
    }
}

/// Where somebody signs in from.
#[derive(Debug, Clone, Default)]
pub struct Origin {
    /// The address of the other end.
    pub address: Option<IpAddr>,
    /// The `User-Agent` header; kept shortened.
    pub user_agent: Option<String>,
}

impl Origin {
    fn address(&self) -> Option<String> {
        self.address.map(|address| address.to_string())
    }

    fn user_agent(&self) -> Option<String> {
        self.user_agent.as_ref().map(|text| text.chars().take(LONGEST_USER_AGENT).collect())
    }
}

/// A session and the refresh token that continues it, which is told this once.
#[derive(Debug)]
pub struct Opened {
    /// The session.
    pub session: Session,
    /// Good for one refresh.
    pub refresh_token: SecretString,
}

/// Why a session cannot be opened or looked up.
#[derive(Debug, thiserror::Error)]
pub enum SessionsError {
    /// The database's error.
    #[error(transparent)]
    Database(#[from] Error),
    /// No token could be made.
    #[error(transparent)]
    Secrets(#[from] SecretsError),
}

/// Why a refresh token does not continue a session.
#[derive(Debug, thiserror::Error)]
pub enum RefreshRefused {
    /// No token of ours, or one of long ago.
    #[error("the refresh token is unknown")]
    Unknown,
    /// It has expired, or its session was ended.
    #[error("the session has ended")]
    Ended,
    /// It was used before, while its session went on: the session is ended by this.
    #[error("the refresh token was used before; its session is ended")]
    Reused {
        /// The session that was ended.
        session: Uuid,
        /// The business of its user.
        tenant: TenantId,
        /// Its user.
        user: UserId,
    },
    /// Not the token's fault.
    #[error(transparent)]
    Failed(#[from] SessionsError),
}

impl From<Error> for RefreshRefused {
    fn from(error: Error) -> Self {
        Self::Failed(error.into())
    }
}

/// Opens a session for somebody who has proved who they are.
///
/// # Errors
/// The database's, or no random bytes.
pub async fn open(
    pool: &PgPool,
    tenant: TenantId,
    user: UserId,
    origin: &Origin,
    now: DateTime<Utc>,
) -> Result<Opened, SessionsError> {
    let mut transaction = pool.begin().await?;
    let row = sqlx::query(&format!(
        "insert into platform.sessions
             (session_id, tenant_id, user_id, created_at, last_used_at, expires_at, address, user_agent)
         values ($1, $2, $3, $4, $4, $5, $6, $7)
         returning {COLUMNS}"
    ))
    .bind(new_event_id(now))
    .bind(tenant.to_string())
    .bind(user.to_string())
    .bind(now)
    .bind(now + IDLE_LIFETIME)
    .bind(origin.address())
    .bind(origin.user_agent())
    .fetch_one(&mut *transaction)
    .await?;
    let session = Session::from_row(&row)?;
    let refresh_token = issue(&mut transaction, &session, now).await?;
    transaction.commit().await?;
    Ok(Opened { session, refresh_token })
}

/// Opens a support session inside another business, from the founder's own session. It has no refresh token:
/// it ends at its time, or with the session that it was opened from.
///
/// # Errors
/// The database's; `RowNotFound` if the founder's session has ended meanwhile.
pub async fn open_support(
    db: impl PgExecutor<'_>,
    from: &Session,
    visit: SupportVisit,
    expires_at: DateTime<Utc>,
    now: DateTime<Utc>,
) -> Result<Session, Error> {
    let row = sqlx::query(&format!(
        "insert into platform.sessions
             (session_id, tenant_id, user_id, created_at, last_used_at, expires_at, address, user_agent,
              support_tenant_id, support_mode, opened_from)
         select $1, tenant_id, user_id, $2, $2, least($3, expires_at), address, user_agent, $4, $5, session_id
         from platform.sessions
         where session_id = $6 and revoked_at is null and expires_at > $2 and support_tenant_id is null
         returning {COLUMNS}"
    ))
    .bind(new_event_id(now))
    .bind(now)
    .bind(expires_at)
    .bind(visit.tenant.to_string())
    .bind(<&str>::from(visit.mode))
    .bind(from.id)
    .fetch_one(db)
    .await?;
    Session::from_row(&row)
}

/// The session that a refresh token would continue, if it is still good.
///
/// # Errors
/// The database's.
pub async fn continued_by(
    db: impl PgExecutor<'_>,
    token: &SecretString,
    now: DateTime<Utc>,
) -> Result<Option<Session>, Error> {
    let row = sqlx::query(&format!(
        "select {COLUMNS} from platform.sessions where {ACTIVE} and session_id =
             (select session_id from platform.refresh_tokens where token_hash = $1 and used_at is null)"
    ))
    .bind(sha256(token.expose_secret().as_bytes()).as_slice())
    .bind(now)
    .fetch_optional(db)
    .await?;
    row.as_ref().map(Session::from_row).transpose()
}

/// Exchanges a refresh token for the next one. Of two uses of the same token, however close, one is the
/// second, and ends the session.
///
/// # Errors
/// See [`RefreshRefused`].
pub async fn refresh(pool: &PgPool, token: &SecretString, now: DateTime<Utc>) -> Result<Opened, RefreshRefused> {
    let hash = sha256(token.expose_secret().as_bytes());
    let mut transaction = pool.begin().await?;
    // Takes the token: a simultaneous use waits on this row, and then finds it used.
    let taken = sqlx::query(
        "update platform.refresh_tokens set used_at = $2 where token_hash = $1 and used_at is null
         returning session_id",
    )
    .bind(hash.as_slice())
    .bind(now)
    .fetch_optional(&mut *transaction)
    .await?;
    let Some(taken) = taken else {
        let refused = reused(&mut transaction, &hash, now).await?;
        transaction.commit().await?;
        return Err(refused);
    };
    let row = sqlx::query(&format!(
        "update platform.sessions set last_used_at = $2, expires_at = least($3, created_at + $4)
         where session_id = $1 and revoked_at is null and expires_at > $2
         returning {COLUMNS}"
    ))
    .bind(taken.try_get::<Uuid, _>("session_id")?)
    .bind(now)
    .bind(now + IDLE_LIFETIME)
    .bind(LIFETIME)
    .fetch_optional(&mut *transaction)
    .await?
    .ok_or(RefreshRefused::Ended)?;
    let session = Session::from_row(&row)?;
    let refresh_token = issue(&mut transaction, &session, now).await?;
    transaction.commit().await?;
    Ok(Opened { session, refresh_token })
}

/// What is to be done about a token that cannot be taken: if it was ever one, its session ends.
async fn reused(db: &mut PgConnection, hash: &[u8], now: DateTime<Utc>) -> Result<RefreshRefused, Error> {
    let row = sqlx::query(
        "select session_id, tenant_id, user_id
         from platform.refresh_tokens join platform.sessions using (session_id) where token_hash = $1",
    )
    .bind(hash)
    .fetch_optional(&mut *db)
    .await?;
    let Some(row) = row else { return Ok(RefreshRefused::Unknown) };
    let session: Uuid = row.try_get("session_id")?;
    let (tenant, user) = (parsed(&row, "tenant_id")?, parsed(&row, "user_id")?);
    let ended = revoke(db, tenant, user, session, now).await?;
    Ok(if ended { RefreshRefused::Reused { session, tenant, user } } else { RefreshRefused::Ended })
}

async fn issue(db: &mut PgConnection, session: &Session, now: DateTime<Utc>) -> Result<SecretString, SessionsError> {
    let token = random_token()?;
    sqlx::query(
        "insert into platform.refresh_tokens (token_hash, session_id, issued_at, expires_at) values ($1, $2, $3, $4)",
    )
    .bind(sha256(token.expose_secret().as_bytes()).as_slice())
    .bind(session.id)
    .bind(now)
    .bind(session.expires_at)
    .execute(db)
    .await?;
    Ok(token)
}

/// The session, if it has not ended: what every request asks.
///
/// # Errors
/// The database's.
pub async fn active(db: impl PgExecutor<'_>, session: Uuid, now: DateTime<Utc>) -> Result<Option<Session>, Error> {
    let row = sqlx::query(&format!("select {COLUMNS} from platform.sessions where session_id = $1 and {ACTIVE}"))
        .bind(session)
        .bind(now)
        .fetch_optional(db)
        .await?;
    row.as_ref().map(Session::from_row).transpose()
}

/// The same of many sessions at once: a condition on `platform.sessions` in which `$2` is the time.
pub(crate) const ACTIVE: &str = "revoked_at is null and expires_at > $2";

/// The sessions of a user that have not ended, the last opened first.
///
/// # Errors
/// The database's.
pub async fn list(
    db: impl PgExecutor<'_>,
    tenant: TenantId,
    user: UserId,
    now: DateTime<Utc>,
) -> Result<Vec<Session>, Error> {
    let rows = sqlx::query(&format!(
        "select {COLUMNS} from platform.sessions
         where tenant_id = $1 and user_id = $2 and revoked_at is null and expires_at > $3
         order by created_at desc, session_id desc"
    ))
    .bind(tenant.to_string())
    .bind(user.to_string())
    .bind(now)
    .fetch_all(db)
    .await?;
    rows.iter().map(Session::from_row).collect()
}

/// Ends one session of a user, with the support sessions opened from it. False if there was none to end.
///
/// # Errors
/// The database's.
pub async fn revoke(
    db: impl PgExecutor<'_>,
    tenant: TenantId,
    user: UserId,
    session: Uuid,
    now: DateTime<Utc>,
) -> Result<bool, Error> {
    let ended = sqlx::query(
        "update platform.sessions set revoked_at = $4
         where tenant_id = $1 and user_id = $2 and (session_id = $3 or opened_from = $3)
           and revoked_at is null and expires_at > $4",
    )
    .bind(tenant.to_string())
    .bind(user.to_string())
    .bind(session)
    .bind(now)
    .execute(db)
    .await?;
    Ok(ended.rows_affected() > 0)
}

/// Ends all sessions of a user but one (the one that asks, and the support sessions opened from it); says
/// how many.
///
/// # Errors
/// The database's.
pub async fn revoke_all(
    db: impl PgExecutor<'_>,
    tenant: TenantId,
    user: UserId,
    except: Option<Uuid>,
    now: DateTime<Utc>,
) -> Result<u64, Error> {
    let ended = sqlx::query(
        "update platform.sessions set revoked_at = $4
         where tenant_id = $1 and user_id = $2 and session_id is distinct from $3
           and ($3::uuid is null or opened_from is distinct from $3)
           and revoked_at is null and expires_at > $4",
    )
    .bind(tenant.to_string())
    .bind(user.to_string())
    .bind(except)
    .bind(now)
    .execute(db)
    .await?;
    Ok(ended.rows_affected())
}

/// Removes sessions that ended so long ago that their tokens mean nothing to anybody.
///
/// # Errors
/// The database's.
pub async fn forget_old(db: impl PgExecutor<'_>, now: DateTime<Utc>) -> Result<(), Error> {
    sqlx::query("delete from platform.sessions where expires_at <= $1").bind(now - LIFETIME).execute(db).await?;
    Ok(())
}
