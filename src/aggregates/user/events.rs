//! What can have happened to a user.

use serde::{Deserialize, Serialize};
use strum::{IntoStaticStr, VariantNames};

use crate::aggregates::claims::{ClaimChange, ClaimKind, Claiming};
use crate::aggregates::ids::UserId;
use crate::aggregates::permission::{Grants, Role};
use crate::aggregates::values::{Email, Personal, Text, UserStatus};

/// Who somebody is and what they may do, as it is when they come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserFacts {
    /// What they sign in with; unique on the platform, whatever its case.
    pub email: Personal<Email>,
    /// Their name.
    pub full_name: Personal<Text<200>>,
    /// What they are.
    pub role: Role,
    /// Where they work.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub department: Option<Text<100>>,
    /// What they may do beside, or may not, whatever their role says.
    #[serde(default)]
    pub permissions: Grants,
}

/// What happened to a user. No password, hash, token or secret is ever in here.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, IntoStaticStr, VariantNames)]
pub enum UserEvent {
    /// They came, and may sign in at once.
    Registered {
        /// Who they are.
        #[serde(flatten)]
        facts: UserFacts,
    },
    /// They were asked to come.
    Invited {
        /// Who they are.
        #[serde(flatten)]
        facts: UserFacts,
        /// Who asked them.
        invited_by: UserId,
    },
    /// They came.
    InvitationAccepted {},
    /// They have another name.
    ProfileChanged {
        /// Which.
        full_name: Personal<Text<200>>,
    },
    /// They sign in with another address.
    EmailChanged {
        /// The one before.
        from: Personal<Email>,
        /// The one from now on.
        email: Personal<Email>,
    },
    /// They are something else now.
    RoleChanged {
        /// What they were.
        from: Role,
        /// What they are.
        to: Role,
    },
    /// They work elsewhere.
    DepartmentChanged {
        /// Where; nowhere in particular if none.
        #[serde(default)]
        department: Option<Text<100>>,
    },
    /// Their own grants and denials are these now.
    PermissionsChanged {
        /// All of them.
        permissions: Grants,
    },
    /// They have another password.
    PasswordChanged {},
    /// They are locked out.
    Locked {
        /// Why.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<Text<500>>,
    },
    /// They are no longer locked out.
    Unlocked {
        /// Where they stand: active, or still invited.
        status: UserStatus,
    },
    /// They left.
    Deactivated {},
    /// They are back.
    Reactivated {
        /// Where they stand: active, or still invited.
        status: UserStatus,
    },
    /// They signed in.
    LoggedIn {
        /// The session that it began.
        session: String,
        /// The network address they came from.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        address: Option<Personal<String>>,
    },
    /// Somebody tried to sign in as them and did not succeed.
    LoginFailed {
        /// The network address it came from.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        address: Option<Personal<String>>,
    },
    /// They are signed out.
    SessionsRevoked {
        /// Of which session; of all if none.
        #[serde(default)]
        session: Option<String>,
        /// Why.
        reason: Text<500>,
    },
}

impl UserEvent {
    /// The version of each type's payload; raised together with an upcaster.
    pub(super) fn version(_name: &str) -> &'static str {
        "1"
    }
}

impl Claiming for UserEvent {
    /// Whoever comes takes the address that they sign in with, and keeps it when they leave: they may come back.
    fn claims(&self) -> Vec<ClaimChange> {
        let take = |email: &Email| ClaimChange::Take { kind: ClaimKind::Login, key: email.key() };
        match self {
            Self::Registered { facts } | Self::Invited { facts, .. } => vec![take(&facts.email)],
            Self::EmailChanged { from, email } if from.key() != email.key() => {
                vec![ClaimChange::Release { kind: ClaimKind::Login, key: from.key() }, take(email)]
            }
            _ => Vec::new(),
        }
    }
}
