//! A user: a person of one tenant who signs in.
//!
//! ```text
//! invite ─► invited ─► accept ─┐   ┌─► lock ───────► locked ──────► unlock ─────┐
//! register ────────────────────┴─► active ◄─────────────────────────────────────┤
//!                                  └─► deactivate ─► deactivated ─► reactivate ─┘
//! ```
//!
//! What depends on other users (is there another owner, is there work left) is told by the caller.

mod commands;
mod events;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

pub use commands::{UserCommand, UserDetails, UserError};
pub use events::{UserEvent, UserFacts};

use super::contract::event_sourced;
use super::permission::{Grants, Role};
use super::values::{Email, Patch, Personal, Text, UserStatus};

/// A user as it stands; the default is one that is not there.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct User {
    /// Who they are; nothing before they came or were invited.
    pub facts: Option<UserFacts>,
    /// Whether they may sign in.
    pub status: UserStatus,
    /// Whether they ever came; an invited user who is unlocked is still invited.
    pub accepted: bool,
}

event_sourced!(User, "User", UserCommand, UserEvent, UserError);

impl User {
    /// The rules. No clock, no I/O.
    ///
    /// # Errors
    /// The rule that forbids it.
    pub fn decide(&self, command: UserCommand) -> Result<Vec<UserEvent>, UserError> {
        let Some(facts) = &self.facts else { return register(command).map(|event| vec![event]) };
        let event = match command {
            UserCommand::Register(_) | UserCommand::RegisterFounder { .. } | UserCommand::Invite { .. } => {
                return Err(UserError::AlreadyExists);
            }
            UserCommand::ChangeProfile { full_name, email } => return change_profile(facts, full_name, email),
            UserCommand::AcceptInvitation {} => Some(self.accept()?),
            UserCommand::ChangeRole { role, other_active_owners } => {
                self.change_role(facts, role, other_active_owners)?
            }
            UserCommand::ChangeDepartment { department } => {
                (department != facts.department).then_some(UserEvent::DepartmentChanged { department })
            }
            UserCommand::ChangePermissions { permissions } => {
                (permissions != facts.permissions).then_some(UserEvent::PermissionsChanged { permissions })
            }
            UserCommand::ChangePassword {} => {
                Self::require_active(self.status)?;
                Some(UserEvent::PasswordChanged {})
            }
            UserCommand::Lock { reason, other_active_owners } => self.lock(facts, reason, other_active_owners)?,
            UserCommand::Unlock {} => self.unlock()?,
            UserCommand::Deactivate { open_work, other_active_owners } => {
                self.deactivate(facts, open_work, other_active_owners)?
            }
            UserCommand::Reactivate {} => self.reactivate()?,
            UserCommand::RecordLogin { session, address } => Some(self.sign_in(session, address)?),
            UserCommand::RecordFailedLogin { address } => {
                Some(UserEvent::LoginFailed { address: address.map(Personal::new) })
            }
            UserCommand::RevokeSessions { session, reason } => Some(UserEvent::SessionsRevoked { session, reason }),
        };
        Ok(event.into_iter().collect())
    }

    fn accept(&self) -> Result<UserEvent, UserError> {
        match self.status {
            UserStatus::Invited => Ok(UserEvent::InvitationAccepted {}),
            UserStatus::Active => Err(UserError::AlreadyAccepted),
            UserStatus::Locked => Err(UserError::Locked),
            UserStatus::Deactivated => Err(UserError::Deactivated),
        }
    }

    /// Refuses what would take the last active owner away.
    fn keep_an_owner(&self, facts: &UserFacts, other_active_owners: u32) -> Result<(), UserError> {
        let owner = facts.role == Role::BusinessOwner && self.status == UserStatus::Active;
        if owner && other_active_owners == 0 { Err(UserError::LastOwner) } else { Ok(()) }
    }

    fn change_role(&self, facts: &UserFacts, to: Role, others: u32) -> Result<Option<UserEvent>, UserError> {
        if to == facts.role {
            return Ok(None);
        }
        not_the_founder(facts)?;
        if to == Role::PlatformFounder {
            return Err(UserError::OneFounder);
        }
        self.keep_an_owner(facts, others)?;
        Ok(Some(UserEvent::RoleChanged { from: facts.role, to }))
    }

    fn lock(&self, facts: &UserFacts, reason: Option<Text<500>>, others: u32) -> Result<Option<UserEvent>, UserError> {
        not_the_founder(facts)?;
        match self.status {
            UserStatus::Locked => Ok(None),
            UserStatus::Deactivated => Err(UserError::Deactivated),
            UserStatus::Active | UserStatus::Invited => {
                self.keep_an_owner(facts, others)?;
                Ok(Some(UserEvent::Locked { reason }))
            }
        }
    }

    fn unlock(&self) -> Result<Option<UserEvent>, UserError> {
        match self.status {
            UserStatus::Locked => Ok(Some(UserEvent::Unlocked { status: self.free_status() })),
            UserStatus::Deactivated => Err(UserError::Deactivated),
            UserStatus::Active | UserStatus::Invited => Ok(None),
        }
    }

    fn deactivate(&self, facts: &UserFacts, open_work: u64, others: u32) -> Result<Option<UserEvent>, UserError> {
        not_the_founder(facts)?;
        if self.status == UserStatus::Deactivated {
            return Ok(None);
        }
        self.keep_an_owner(facts, others)?;
        if open_work > 0 {
            return Err(UserError::OpenWork { open_work });
        }
        Ok(Some(UserEvent::Deactivated {}))
    }

    fn reactivate(&self) -> Result<Option<UserEvent>, UserError> {
        match self.status {
            UserStatus::Deactivated => Ok(Some(UserEvent::Reactivated { status: self.free_status() })),
            UserStatus::Locked => Err(UserError::Locked),
            UserStatus::Active | UserStatus::Invited => Ok(None),
        }
    }

    fn sign_in(&self, session: String, address: Option<String>) -> Result<UserEvent, UserError> {
        Self::require_active(self.status)?;
        Ok(UserEvent::LoggedIn { session, address: address.map(Personal::new) })
    }

    /// That somebody of this status is here: neither still invited, nor locked out, nor gone.
    ///
    /// # Errors
    /// Where they are instead.
    pub fn require_active(status: UserStatus) -> Result<(), UserError> {
        match status {
            UserStatus::Active => Ok(()),
            UserStatus::Invited => Err(UserError::NotAccepted),
            UserStatus::Locked => Err(UserError::Locked),
            UserStatus::Deactivated => Err(UserError::Deactivated),
        }
    }

    /// Where somebody stands who is neither locked nor gone.
    fn free_status(&self) -> UserStatus {
        if self.accepted { UserStatus::Active } else { UserStatus::Invited }
    }

    fn evolve(&mut self, event: UserEvent) {
        match event {
            UserEvent::Registered { facts } => {
                *self = Self { facts: Some(facts), status: UserStatus::Active, accepted: true };
            }
            UserEvent::Invited { facts, .. } => {
                *self = Self { facts: Some(facts), status: UserStatus::Invited, accepted: false };
            }
            UserEvent::InvitationAccepted {} => {
                self.status = UserStatus::Active;
                self.accepted = true;
            }
            UserEvent::Locked { .. } => self.status = UserStatus::Locked,
            UserEvent::Deactivated {} => self.status = UserStatus::Deactivated,
            UserEvent::Unlocked { status } | UserEvent::Reactivated { status } => self.status = status,
            UserEvent::ProfileChanged { full_name } => self.change(|facts| facts.full_name = full_name),
            UserEvent::EmailChanged { email, .. } => self.change(|facts| facts.email = email),
            UserEvent::RoleChanged { to, .. } => self.change(|facts| facts.role = to),
            UserEvent::DepartmentChanged { department } => self.change(|facts| facts.department = department),
            UserEvent::PermissionsChanged { permissions } => self.change(|facts| facts.permissions = permissions),
            UserEvent::PasswordChanged {}
            | UserEvent::LoggedIn { .. }
            | UserEvent::LoginFailed { .. }
            | UserEvent::SessionsRevoked { .. } => {}
        }
    }

    fn change(&mut self, change: impl FnOnce(&mut UserFacts)) {
        if let Some(facts) = &mut self.facts {
            change(facts);
        }
    }
}

fn register(command: UserCommand) -> Result<UserEvent, UserError> {
    match command {
        UserCommand::Register(details) => Ok(UserEvent::Registered { facts: facts(details)? }),
        UserCommand::Invite { details, invited_by } => Ok(UserEvent::Invited { facts: facts(details)?, invited_by }),
        UserCommand::RegisterFounder { email, full_name } => Ok(UserEvent::Registered {
            facts: UserFacts {
                email: email.into(),
                full_name: full_name.into(),
                role: Role::PlatformFounder,
                department: None,
                permissions: Grants::new(),
            },
        }),
        _ => Err(UserError::NotFound),
    }
}

fn facts(details: UserDetails) -> Result<UserFacts, UserError> {
    if details.role == Role::PlatformFounder {
        return Err(UserError::OneFounder);
    }
    Ok(UserFacts {
        email: details.email.into(),
        full_name: details.full_name.into(),
        role: details.role,
        department: details.department,
        permissions: details.permissions,
    })
}

fn not_the_founder(facts: &UserFacts) -> Result<(), UserError> {
    if facts.role == Role::PlatformFounder { Err(UserError::Founder) } else { Ok(()) }
}

fn change_profile(
    facts: &UserFacts,
    full_name: Patch<Text<200>>,
    email: Option<Email>,
) -> Result<Vec<UserEvent>, UserError> {
    let full_name = match full_name {
        Patch::Clear => return Err(UserError::NameRequired),
        Patch::Set(name) => Some(Personal::new(name)).filter(|name| *name != facts.full_name),
        Patch::Unchanged => None,
    };
    let email = email.map(Personal::new).filter(|email| *email != facts.email);
    let renamed = full_name.map(|full_name| UserEvent::ProfileChanged { full_name });
    let moved = email.map(|email| UserEvent::EmailChanged { from: facts.email.clone(), email });
    Ok(renamed.into_iter().chain(moved).collect())
}
