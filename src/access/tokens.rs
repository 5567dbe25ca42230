//! What an access token says, and what makes one unacceptable (RFC 7519, RFC 8725, RFC 9068).

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use strum::{EnumString, IntoStaticStr};
use utoipa::ToSchema;
use uuid::Uuid;

use super::permissions::Permissions;
use super::sessions::Session;
use crate::aggregates::ids::{InvalidId, TenantId, UserId};
use crate::aggregates::permission::Role;
use crate::clock::new_event_id;

/// How long an access token is good for.
pub const ACCESS_TOKEN_LIFETIME: TimeDelta = TimeDelta::minutes(15);

/// The `typ` of an access token (RFC 9068): no other token of the same keys passes for one.
pub const ACCESS_TOKEN_TYPE: &str = "at+jwt";

/// A user, by tenant and id: `TNT-001:USR-001`, unique over the platform.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Subject {
    /// The business that the user belongs to.
    pub tenant: TenantId,
    /// The user in it.
    pub user: UserId,
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.tenant, self.user)
    }
}

impl FromStr for Subject {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let (tenant, user) = text.split_once(':').ok_or(InvalidId { example: "TNT-001:USR-001" })?;
        Ok(Self { tenant: tenant.parse()?, user: user.parse()? })
    }
}

impl Serialize for Subject {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Subject {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// What the founder may do inside a tenant during a support session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema, EnumString, IntoStaticStr)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum SupportMode {
    /// Look, and touch nothing.
    Read,
    /// Change things as well; only if asked for.
    Write,
}

/// The claim of a support session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Support {
    /// What may be done.
    pub mode: SupportMode,
    /// Who came in.
    pub by: Subject,
}

/// Who acts for whom (RFC 8693, section 4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Act {
    /// Who acts.
    pub sub: Subject,
}

/// What an access token says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// The user, in their own business.
    pub user_id: UserId,
    /// The business that the token is for: the user's own, the visited one in a support session, none for
    /// the founder.
    pub tenant_id: Option<TenantId>,
    /// The user's role when the token was issued.
    pub user_role: Role,
    /// Whether this is the platform founder.
    pub is_founder: bool,
    /// What the user might do when the token was issued.
    pub permissions: Permissions,
    /// The user, unique over the platform.
    pub sub: Subject,
    /// Who issued it.
    pub iss: String,
    /// Whom it is meant for.
    pub aud: String,
    /// Issued at, in seconds since 1970.
    pub iat: i64,
    /// No longer good at, in seconds since 1970.
    pub exp: i64,
    /// Not good before, in seconds since 1970; we issue none, but keep to one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nbf: Option<i64>,
    /// The token's own id.
    pub jti: Uuid,
    /// The session that it belongs to.
    pub sid: Uuid,
    /// Set in a support session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub support: Option<Support>,
    /// Set in a support session: the founder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub act: Option<Act>,
}

impl Claims {
    /// The claims of a new token for this session, which it does not outlive. In a read-only support
    /// session, only the reading of what is permitted is left.
    #[must_use]
    pub fn new(
        session: &Session,
        role: Role,
        permissions: &Permissions,
        iss: &str,
        aud: &str,
        now: DateTime<Utc>,
    ) -> Self {
        let is_founder = role == Role::PlatformFounder;
        let sub = Subject { tenant: session.tenant, user: session.user };
        let support = session.support.map(|visit| Support { mode: visit.mode, by: sub });
        Self {
            user_id: session.user,
            tenant_id: match session.support {
                Some(visit) => Some(visit.tenant),
                None if is_founder => None,
                None => Some(session.tenant),
            },
            user_role: role,
            is_founder,
            permissions: match support {
                Some(Support { mode: SupportMode::Read, .. }) => permissions.read_only(),
                _ => permissions.clone(),
            },
            sub,
            iss: iss.to_owned(),
            aud: aud.to_owned(),
            iat: now.timestamp(),
            exp: (now + ACCESS_TOKEN_LIFETIME).min(session.expires_at).timestamp(),
            nbf: None,
            jti: new_event_id(now),
            sid: session.id,
            support,
            act: support.map(|support| Act { sub: support.by }),
        }
    }

    /// Whether the token is good at this moment, to the second and without any leeway: the clock that
    /// issued it is the one that is asked.
    ///
    /// # Errors
    /// [`TokenError::Expired`] or [`TokenError::NotYet`].
    pub fn check_time(&self, now: DateTime<Utc>) -> Result<(), TokenError> {
        let now = now.timestamp();
        if now >= self.exp {
            return Err(TokenError::Expired);
        }
        if self.iat > now || self.nbf.is_some_and(|nbf| nbf > now) {
            return Err(TokenError::NotYet);
        }
        Ok(())
    }
}

/// Why a token is not accepted. For the log: the caller hears the same in every case but expiry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Not three parts of base64url and JSON with the claims that an access token has.
    #[error("the access token is malformed")]
    Malformed,
    /// Not EdDSA, or not the type of an access token.
    #[error("the access token is of another kind")]
    WrongKind,
    /// Signed with a key that is not, or no longer, one of ours.
    #[error("the access token is signed with an unknown key")]
    UnknownKey,
    /// The signature is not the key's for these bytes.
    #[error("the access token's signature does not match")]
    BadSignature,
    /// Issued by somebody else, or for somebody else.
    #[error("the access token is not meant for this service")]
    WrongParty,
    /// Its time is over.
    #[error("the access token has expired")]
    Expired,
    /// From the future.
    #[error("the access token is not valid yet")]
    NotYet,
}
