//! What may be asked of a user, and why it refuses.

use crate::aggregates::Refusal;
use crate::aggregates::ids::UserId;
use crate::aggregates::permission::{Grants, Role};
use crate::aggregates::values::{Email, Patch, Text};

/// Who somebody is and what they may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserDetails {
    /// What they sign in with.
    pub email: Email,
    /// Their name.
    pub full_name: Text<200>,
    /// What they are.
    pub role: Role,
    /// Where they work.
    pub department: Option<Text<100>>,
    /// What they may do beside, or may not.
    pub permissions: Grants,
}

/// What may be asked of a user. `other_active_owners` counts the active owners of the business beside this user.
#[derive(Debug, Clone, PartialEq)]
pub enum UserCommand {
    /// Let them in at once: the first owner of a business, or somebody who was there before.
    Register(UserDetails),
    /// Let the one in who runs the platform.
    RegisterFounder {
        /// What they sign in with.
        email: Email,
        /// Their name.
        full_name: Text<200>,
    },
    /// Ask them to come.
    Invite {
        /// Who they are.
        details: UserDetails,
        /// Who asks.
        invited_by: UserId,
    },
    /// Come.
    AcceptInvitation {},
    /// Change name or address.
    ChangeProfile {
        /// The name; cannot be cleared.
        full_name: Patch<Text<200>>,
        /// What they sign in with.
        email: Option<Email>,
    },
    /// Make them something else.
    ChangeRole {
        /// What.
        role: Role,
        /// Active owners beside this user.
        other_active_owners: u32,
    },
    /// Let them work elsewhere.
    ChangeDepartment {
        /// Where.
        department: Option<Text<100>>,
    },
    /// Grant and deny; replaces what was granted and denied before.
    ChangePermissions {
        /// All of it.
        permissions: Grants,
    },
    /// Note that there is another password.
    ChangePassword {},
    /// Lock them out, their data untouched.
    Lock {
        /// Why.
        reason: Option<Text<500>>,
        /// Active owners beside this user.
        other_active_owners: u32,
    },
    /// Let them in again.
    Unlock {},
    /// Let them go.
    Deactivate {
        /// Open projects and leads that are still theirs.
        open_work: u64,
        /// Active owners beside this user.
        other_active_owners: u32,
    },
    /// Take them back.
    Reactivate {},
    /// Note that they signed in.
    RecordLogin {
        /// The session that it begins.
        session: String,
        /// The network address they come from.
        address: Option<String>,
    },
    /// Note that somebody tried to sign in as them and did not succeed.
    RecordFailedLogin {
        /// The network address it came from.
        address: Option<String>,
    },
    /// Sign them out.
    RevokeSessions {
        /// Of which session; of all if none.
        session: Option<String>,
        /// Why.
        reason: Text<500>,
    },
}

/// Why a user refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UserError {
    /// Absent.
    #[error("there is no such user")]
    NotFound,
    /// The id is taken.
    #[error("this user is already there")]
    AlreadyExists,
    /// Everybody has a name.
    #[error("a user needs a name")]
    NameRequired,
    /// The founder's role, given to somebody.
    #[error("nobody is made the platform founder")]
    OneFounder,
    /// The founder, locked, deactivated or given another role.
    #[error("the platform founder is not locked, deactivated or given another role")]
    Founder,
    /// It would leave the business without an active owner.
    #[error("a business keeps one active owner; make somebody else an owner first")]
    LastOwner,
    /// Work that would be nobody's.
    #[error("this user still has {open_work} open projects and leads; hand them over first")]
    OpenWork {
        /// How many.
        open_work: u64,
    },
    /// Accepted before.
    #[error("this invitation was already accepted")]
    AlreadyAccepted,
    /// Has not come yet.
    #[error("this user has not accepted the invitation yet")]
    NotAccepted,
    /// Locked out.
    #[error("this user is locked")]
    Locked,
    /// Left.
    #[error("this user is deactivated")]
    Deactivated,
}

impl UserError {
    /// A stable word for programs.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotFound => "not_found",
            Self::AlreadyExists => "already_exists",
            Self::NameRequired => "required",
            Self::OneFounder => "one_founder",
            Self::Founder => "founder_protected",
            Self::LastOwner => "last_owner",
            Self::OpenWork { .. } => "open_work",
            Self::AlreadyAccepted => "already_accepted",
            Self::NotAccepted => "not_accepted",
            Self::Locked => "user_locked",
            Self::Deactivated => "user_deactivated",
        }
    }

    /// What kind of answer it makes.
    #[must_use]
    pub fn kind(&self) -> Refusal {
        match self {
            Self::NotFound => Refusal::NotFound,
            Self::NameRequired => Refusal::Invalid { pointer: "/full_name" },
            Self::OneFounder => Refusal::Invalid { pointer: "/role" },
            Self::AlreadyExists
            | Self::Founder
            | Self::LastOwner
            | Self::OpenWork { .. }
            | Self::AlreadyAccepted
            | Self::NotAccepted
            | Self::Locked
            | Self::Deactivated => Refusal::Conflict,
        }
    }
}
