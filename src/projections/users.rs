//! The people of a business. Fed by the users' events.
//!
//! | event | does |
//! |---|---|
//! | Registered, Invited | the row begins, active or invited |
//! | InvitationAccepted | makes it active |
//! | ProfileChanged, EmailChanged | sets name, e-mail |
//! | RoleChanged, DepartmentChanged, PermissionsChanged | sets role, department, own grants |
//! | Locked, Unlocked, Deactivated, Reactivated | sets the status, and why it is locked |
//! | LoggedIn | moves the last sign-in |
//! | PasswordChanged, LoginFailed, SessionsRevoked | nothing but the version |

use chrono::{DateTime, Utc};
use sqlx::types::Json;

use super::fact::{Event, Fact};
use super::model::{Projection, Touched};
use super::row::row;
use super::write::text;
use crate::aggregates::ids::UserId;
use crate::aggregates::permission::Grants;
use crate::aggregates::user::{UserEvent, UserFacts};
use crate::aggregates::values::UserStatus;

row! {
    /// A user.
    pub struct UserRow in "users", "user_versions" {
        /// What they sign in with.
        pub email: String,
        /// Their name.
        pub full_name: String,
        /// What they are, `BUSINESS_OWNER`.
        pub role: String,
        /// Where they work.
        pub department: Option<String>,
        /// What they were granted or denied beside the role.
        pub permissions: Json<Grants>,
        /// Whether they may sign in.
        pub status: String,
        /// Why they are locked out.
        pub locked_reason: Option<String>,
        /// Who asked them to come.
        pub invited_by: Option<String>,
        /// When they signed in last.
        pub last_login_at: Option<DateTime<Utc>>,
    }
}

/// The users.
pub struct Users;

impl Projection for Users {
    type Row = UserRow;
    const NAME: &'static str = "users";

    fn touched(fact: &Fact) -> Vec<Touched> {
        match &fact.event {
            Event::User(event) => {
                let begins = matches!(event, UserEvent::Registered { .. } | UserEvent::Invited { .. });
                vec![Touched::of(fact, begins)]
            }
            _ => Vec::new(),
        }
    }

    fn fold(row: Option<UserRow>, _: &str, fact: &Fact) -> Option<UserRow> {
        let Event::User(event) = &fact.event else { return row };
        match (row, event) {
            (None, UserEvent::Registered { facts }) => Some(begun(facts, UserStatus::Active, None)),
            (None, UserEvent::Invited { facts, invited_by }) => {
                Some(begun(facts, UserStatus::Invited, Some(*invited_by)))
            }
            (None, _) => None,
            (Some(row), event) => Some(changed(row, event, fact.recorded.occurred_at)),
        }
    }
}

fn begun(facts: &UserFacts, status: UserStatus, invited_by: Option<UserId>) -> UserRow {
    UserRow {
        email: facts.email.to_string(),
        full_name: facts.full_name.to_string(),
        role: facts.role.as_str().to_owned(),
        department: text(facts.department.as_ref()),
        permissions: Json(facts.permissions.clone()),
        status: status.to_string(),
        locked_reason: None,
        invited_by: text(invited_by.as_ref()),
        last_login_at: None,
    }
}

fn changed(mut row: UserRow, event: &UserEvent, at: DateTime<Utc>) -> UserRow {
    match event {
        UserEvent::Registered { .. }
        | UserEvent::Invited { .. }
        | UserEvent::PasswordChanged {}
        | UserEvent::LoginFailed { .. }
        | UserEvent::SessionsRevoked { .. } => {}
        UserEvent::InvitationAccepted {} => stands(&mut row, UserStatus::Active),
        UserEvent::ProfileChanged { full_name } => row.full_name = full_name.to_string(),
        UserEvent::EmailChanged { email, .. } => row.email = email.to_string(),
        UserEvent::RoleChanged { to, .. } => to.as_str().clone_into(&mut row.role),
        UserEvent::DepartmentChanged { department } => row.department = text(department.as_ref()),
        UserEvent::PermissionsChanged { permissions } => row.permissions = Json(permissions.clone()),
        UserEvent::Locked { reason } => {
            stands(&mut row, UserStatus::Locked);
            row.locked_reason = text(reason.as_ref());
        }
        UserEvent::Unlocked { status } | UserEvent::Reactivated { status } => stands(&mut row, *status),
        UserEvent::Deactivated {} => stands(&mut row, UserStatus::Deactivated),
        UserEvent::LoggedIn { .. } => row.last_login_at = row.last_login_at.max(Some(at)),
    }
    row
}

fn stands(row: &mut UserRow, status: UserStatus) {
    row.status = status.to_string();
    row.locked_reason = None;
}
