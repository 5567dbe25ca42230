//! The people of a business. Fed by the users' events.
//!
//! | event | does |
//! |---|---|
//! | Registered, Invited | the row begins, active or invited |
//! | InvitationAccepted, Locked, Unlocked, Deactivated, Reactivated | sets the status |
//! | ProfileChanged, EmailChanged, RoleChanged, DepartmentChanged, PermissionsChanged | sets what changed |
//! | LoggedIn | moves the last sign-in |

use chrono::{DateTime, Utc};
use cqrs_es::Aggregate;
use serde_json::Value;

use super::fact::{Event, Fact, Unread};
use super::model::{Affected, Poison, Projection, Touched};
use super::row::row;
use super::write::{json, text};
use crate::aggregates::user::{User, UserEvent, UserFacts};
use crate::aggregates::values::UserStatus;

row! {
    /// A user.
    pub struct UserRow in "users", "user_versions" {
        /// What they sign in with.
        pub email: String,
        /// Their name.
        pub full_name: String,
        /// What they are.
        pub role: String,
        /// Where they work.
        pub department: Option<String>,
        /// What they were granted or denied beside the role.
        pub permissions: Value,
        /// Whether they may sign in.
        pub status: String,
        /// Why they were locked out.
        pub locked_reason: Option<String>,
        /// Who invited them.
        pub invited_by: Option<String>,
        /// When they last signed in.
        pub last_login_at: Option<DateTime<Utc>>,
    }
}

/// The users.
pub struct Users;

impl Projection for Users {
    type Row = UserRow;
    const NAME: &'static str = "users";
    const FED_BY: &'static [&'static str] = &[User::TYPE];

    fn touched(fact: &Fact) -> Vec<Touched> {
        match &fact.event {
            Event::User(event) => {
                let begins = matches!(event, UserEvent::Registered { .. } | UserEvent::Invited { .. });
                vec![Touched::of(fact, begins)]
            }
            _ => Vec::new(),
        }
    }

    fn affected(unread: &Unread) -> Affected {
        Affected::aggregate::<User>(unread)
    }

    fn fold(row: Option<UserRow>, _: &str, fact: &Fact) -> Result<Option<UserRow>, Poison> {
        let Event::User(event) = &fact.event else { return Ok(row) };
        Ok(match (row, event) {
            (None, UserEvent::Registered { facts }) => Some(begun(facts, UserStatus::Active, None)),
            (None, UserEvent::Invited { facts, invited_by }) => {
                Some(begun(facts, UserStatus::Invited, Some(invited_by.to_string())))
            }
            (None, _) => return Err(Poison::absent()),
            (Some(row), event) => Some(changed(row, event, fact.recorded.occurred_at)),
        })
    }
}

fn begun(facts: &UserFacts, status: UserStatus, invited_by: Option<String>) -> UserRow {
    UserRow {
        email: facts.email.to_string(),
        full_name: facts.full_name.to_string(),
        role: facts.role.as_str().to_owned(),
        department: text(facts.department.as_ref()),
        permissions: json(Some(&facts.permissions)).unwrap_or_default(),
        status: status.to_string(),
        locked_reason: None,
        invited_by,
        last_login_at: None,
    }
}

fn changed(mut row: UserRow, event: &UserEvent, at: DateTime<Utc>) -> UserRow {
    match event {
        UserEvent::InvitationAccepted {} => row.status = UserStatus::Active.to_string(),
        UserEvent::ProfileChanged { full_name } => row.full_name = full_name.to_string(),
        UserEvent::EmailChanged { email, .. } => row.email = email.to_string(),
        UserEvent::RoleChanged { to, .. } => row.role = to.as_str().to_owned(),
        UserEvent::DepartmentChanged { department } => row.department = text(department.as_ref()),
        UserEvent::PermissionsChanged { permissions } => {
            row.permissions = json(Some(permissions)).unwrap_or_default();
        }
        UserEvent::Locked { reason } => {
            row.status = UserStatus::Locked.to_string();
            row.locked_reason = text(reason.as_ref());
        }
        UserEvent::Unlocked { status } => {
            row.status = status.to_string();
            row.locked_reason = None;
        }
        UserEvent::Deactivated {} => row.status = UserStatus::Deactivated.to_string(),
        UserEvent::Reactivated { status } => row.status = status.to_string(),
        UserEvent::LoggedIn { .. } => row.last_login_at = Some(at),
        UserEvent::Registered { .. }
        | UserEvent::Invited { .. }
        | UserEvent::PasswordChanged {}
        | UserEvent::LoginFailed { .. }
        | UserEvent::SessionsRevoked { .. } => {}
    }
    row
}
