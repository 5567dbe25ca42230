//! A project: work that a tenant does for customers.
//!
//! ```text
//! plan ─► planned ↔ in_progress ↔ on_hold ─► completed | cancelled
//!            ▲          ▲                            │
//!            └──────────┴────────── reopen ──────────┘
//! ```

mod details;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use chrono::NaiveDate;
use serde::{Deserialize, Serialize};
use strum::{IntoStaticStr, VariantNames};

pub use details::{ProjectDetails, ProjectPatch};

use super::Refusal;
use super::contract::event_sourced;
use super::ids::{CustomerId, UserId};
use super::values::{Hours, Personal, ProjectStatus, Text};

/// What may be asked of a project.
#[derive(Debug, Clone, PartialEq)]
pub enum ProjectCommand {
    /// Take it up.
    Plan {
        /// What is known.
        details: ProjectDetails,
        /// Where it stands; `planned` when not given.
        status: Option<ProjectStatus>,
        /// Who answers for it.
        owner: Option<UserId>,
        /// Whom it is for, the primary one first; a repetition counts once.
        customers: Vec<CustomerId>,
    },
    /// Change what is known.
    ChangeDetails(ProjectPatch),
    /// Say where it stands.
    ChangeStatus {
        /// Where.
        status: ProjectStatus,
    },
    /// Let somebody, or nobody, answer for it.
    ChangeOwner {
        /// Who.
        owner: Option<UserId>,
    },
    /// Let somebody work on it, or change what they do.
    AssignMember {
        /// Who.
        user: UserId,
        /// What they do.
        role: Text<100>,
    },
    /// Let somebody no longer work on it.
    RemoveMember {
        /// Who.
        user: UserId,
    },
    /// Say that it is also for a customer.
    LinkCustomer {
        /// Which.
        customer: CustomerId,
    },
    /// Say that it is no longer for a customer.
    UnlinkCustomer {
        /// Which.
        customer: CustomerId,
    },
    /// Record time spent.
    LogHours {
        /// How much; more than none.
        hours: Hours,
        /// When.
        on: NaiveDate,
        /// By whom.
        user: UserId,
        /// On what.
        note: Option<Text<500>>,
    },
    /// Take back time that was recorded by mistake.
    WithdrawHours {
        /// How much.
        hours: Hours,
        /// On which day it was said to be.
        on: NaiveDate,
        /// Who was said to have spent it.
        user: UserId,
    },
    /// Take it away.
    Delete {},
    /// Bring it back.
    Restore {},
}

/// What happened to a project.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, IntoStaticStr, VariantNames)]
pub enum ProjectEvent {
    /// It was taken up.
    Planned {
        /// What is known of it.
        details: ProjectDetails,
        /// Where it stands.
        status: ProjectStatus,
        /// Who answers for it.
        #[serde(default)]
        owner: Option<UserId>,
        /// Whom it is for, the primary one first.
        customers: Vec<CustomerId>,
    },
    /// Something else is known of it now.
    DetailsChanged {
        /// What really changed.
        changes: ProjectPatch,
    },
    /// It stands elsewhere.
    StatusChanged {
        /// Where it stood.
        from: ProjectStatus,
        /// Where it stands.
        to: ProjectStatus,
    },
    /// Somebody else, or nobody, answers for it.
    OwnerChanged {
        /// Who does.
        #[serde(default)]
        owner: Option<UserId>,
    },
    /// Somebody works on it, or does something else there now.
    MemberAssigned {
        /// Who.
        user: UserId,
        /// What they do.
        role: Text<100>,
    },
    /// Somebody no longer works on it.
    MemberRemoved {
        /// Who.
        user: UserId,
    },
    /// It is also for this customer; the first one is the primary one.
    CustomerLinked {
        /// Which.
        customer: CustomerId,
    },
    /// It is no longer for this customer.
    CustomerUnlinked {
        /// Which.
        customer: CustomerId,
    },
    /// Time was spent on it.
    HoursLogged {
        /// How much.
        hours: Hours,
        /// When.
        on: NaiveDate,
        /// By whom.
        user: UserId,
        /// On what.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        note: Option<Personal<Text<500>>>,
    },
    /// Time that was recorded was not spent.
    HoursWithdrawn {
        /// How much.
        hours: Hours,
        /// On which day it was said to be.
        on: NaiveDate,
        /// Who was said to have spent it.
        user: UserId,
    },
    /// It was taken away.
    Deleted {},
    /// It was brought back.
    Restored {},
}

impl ProjectEvent {
    /// The version of each type's payload; raised together with an upcaster.
    fn version(_name: &str) -> &'static str {
        "1"
    }
}

/// Why a project refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProjectError {
    /// Absent or deleted.
    #[error("there is no such project")]
    NotFound,
    /// The id is taken.
    #[error("this project is already there")]
    AlreadyExists,
    /// A project is known by its name.
    #[error("a project needs a name")]
    NameRequired,
    /// A budget below zero.
    #[error("a budget is not negative")]
    NegativeBudget,
    /// Due before it begins.
    #[error("a project is not due before it starts")]
    DueBeforeStart,
    /// From closed to somewhere that is not work.
    #[error("this project is {from}; reopen it as planned or in_progress first")]
    Closed {
        /// How it is closed.
        from: ProjectStatus,
    },
    /// No time to log.
    #[error("log more than no time")]
    NoHours,
    /// More than there is.
    #[error("only {logged} hours are logged on this project")]
    FewerHours {
        /// All that is logged.
        logged: Hours,
    },
    /// Not a member.
    #[error("{0} is not a member of this project")]
    NotAMember(UserId),
    /// Not a customer of this project.
    #[error("{0} is not linked to this project")]
    NotLinked(CustomerId),
}

impl ProjectError {
    /// A stable word for programs.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotFound => "not_found",
            Self::AlreadyExists => "already_exists",
            Self::NameRequired => "required",
            Self::NegativeBudget | Self::NoHours | Self::FewerHours { .. } => "out_of_range",
            Self::DueBeforeStart => "due_before_start",
            Self::Closed { .. } => "project_closed",
            Self::NotAMember(_) => "not_a_member",
            Self::NotLinked(_) => "not_linked",
        }
    }

    /// What kind of answer it makes.
    #[must_use]
    pub fn kind(&self) -> Refusal {
        match self {
            Self::NotFound | Self::NotAMember(_) | Self::NotLinked(_) => Refusal::NotFound,
            Self::NameRequired => Refusal::Invalid { pointer: "/name" },
            Self::NegativeBudget => Refusal::Invalid { pointer: "/budget/amount" },
            Self::DueBeforeStart => Refusal::Invalid { pointer: "/due_date" },
            Self::NoHours | Self::FewerHours { .. } => Refusal::Invalid { pointer: "/hours" },
            Self::AlreadyExists | Self::Closed { .. } => Refusal::Conflict,
        }
    }
}

/// A project as it stands; the default is one that is not there.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Project {
    /// What is known of it; none before it was planned.
    pub details: Option<ProjectDetails>,
    /// Where it stands.
    pub status: ProjectStatus,
    /// Who answers for it.
    pub owner: Option<UserId>,
    /// Who works on it, and what they do.
    pub members: BTreeMap<UserId, Text<100>>,
    /// Whom it is for, the primary one first.
    pub customers: Vec<CustomerId>,
    /// All time spent on it.
    pub hours_logged: Hours,
    /// Whether it was taken away.
    pub deleted: bool,
}

event_sourced!(Project, "Project", ProjectCommand, ProjectEvent, ProjectError);

impl Project {
    /// The customer that the project is for first of all.
    #[must_use]
    pub fn primary_customer(&self) -> Option<CustomerId> {
        self.customers.first().copied()
    }

    /// Whether it should be done by now: due before today, neither completed nor cancelled.
    #[must_use]
    pub fn overdue(&self, today: NaiveDate) -> bool {
        let due = self.details.as_ref().and_then(|details| details.due_date);
        !self.status.is_closed() && due.is_some_and(|due| due < today)
    }

    /// The rules. No clock, no I/O.
    ///
    /// # Errors
    /// The rule that forbids it.
    pub fn decide(&self, command: ProjectCommand) -> Result<Vec<ProjectEvent>, ProjectError> {
        match (&self.details, command) {
            (None, ProjectCommand::Plan { details, status, owner, customers }) => {
                plan(details, status.unwrap_or_default(), owner, customers)
            }
            (None, _) => Err(ProjectError::NotFound),
            (Some(_), ProjectCommand::Restore {}) => {
                Ok(self.deleted.then_some(ProjectEvent::Restored {}).into_iter().collect())
            }
            (Some(_), _) if self.deleted => Err(ProjectError::NotFound),
            (Some(details), command) => Ok(self.decide_present(details, command)?.into_iter().collect()),
        }
    }

    fn decide_present(
        &self,
        details: &ProjectDetails,
        command: ProjectCommand,
    ) -> Result<Option<ProjectEvent>, ProjectError> {
        Ok(match command {
            ProjectCommand::Plan { .. } => return Err(ProjectError::AlreadyExists),
            ProjectCommand::ChangeDetails(patch) => {
                let changes = patch.changes_to(details)?;
                (!changes.is_empty()).then_some(ProjectEvent::DetailsChanged { changes })
            }
            ProjectCommand::ChangeStatus { status } => self.change_status(status)?,
            ProjectCommand::ChangeOwner { owner } => {
                (owner != self.owner).then_some(ProjectEvent::OwnerChanged { owner })
            }
            ProjectCommand::AssignMember { user, role } => {
                (self.members.get(&user) != Some(&role)).then_some(ProjectEvent::MemberAssigned { user, role })
            }
            ProjectCommand::RemoveMember { user } if self.members.contains_key(&user) => {
                Some(ProjectEvent::MemberRemoved { user })
            }
            ProjectCommand::RemoveMember { user } => return Err(ProjectError::NotAMember(user)),
            ProjectCommand::LinkCustomer { customer } => {
                (!self.customers.contains(&customer)).then_some(ProjectEvent::CustomerLinked { customer })
            }
            ProjectCommand::UnlinkCustomer { customer } if self.customers.contains(&customer) => {
                Some(ProjectEvent::CustomerUnlinked { customer })
            }
            ProjectCommand::UnlinkCustomer { customer } => return Err(ProjectError::NotLinked(customer)),
            ProjectCommand::LogHours { hours, .. } if hours.is_zero() => return Err(ProjectError::NoHours),
            ProjectCommand::LogHours { hours, on, user, note } => {
                Some(ProjectEvent::HoursLogged { hours, on, user, note: note.map(Personal::new) })
            }
            ProjectCommand::WithdrawHours { hours, .. } if hours.is_zero() => None,
            ProjectCommand::WithdrawHours { hours, on, user } => {
                self.hours_logged.minus(hours).ok_or(ProjectError::FewerHours { logged: self.hours_logged })?;
                Some(ProjectEvent::HoursWithdrawn { hours, on, user })
            }
            ProjectCommand::Delete {} => Some(ProjectEvent::Deleted {}),
            // Dealt with before: only a deleted project is restored.
            ProjectCommand::Restore {} => None,
        })
    }

    fn change_status(&self, to: ProjectStatus) -> Result<Option<ProjectEvent>, ProjectError> {
        let from = self.status;
        let reopens = matches!(to, ProjectStatus::Planned | ProjectStatus::InProgress);
        if from == to {
            Ok(None)
        } else if from.is_closed() && !reopens {
            Err(ProjectError::Closed { from })
        } else {
            Ok(Some(ProjectEvent::StatusChanged { from, to }))
        }
    }

    fn evolve(&mut self, event: ProjectEvent) {
        match event {
            ProjectEvent::Planned { details, status, owner, customers } => {
                self.details = Some(details);
                self.status = status;
                self.owner = owner;
                self.customers = customers;
            }
            ProjectEvent::DetailsChanged { changes } => {
                if let Some(details) = &mut self.details {
                    changes.apply_to(details);
                }
            }
            ProjectEvent::StatusChanged { to, .. } => self.status = to,
            ProjectEvent::OwnerChanged { owner } => self.owner = owner,
            ProjectEvent::MemberAssigned { user, role } => {
                self.members.insert(user, role);
            }
            ProjectEvent::MemberRemoved { user } => {
                self.members.remove(&user);
            }
            ProjectEvent::CustomerLinked { customer } => self.customers.push(customer),
            ProjectEvent::CustomerUnlinked { customer } => self.customers.retain(|linked| *linked != customer),
            ProjectEvent::HoursLogged { hours, .. } => self.hours_logged = self.hours_logged.plus(hours),
            ProjectEvent::HoursWithdrawn { hours, .. } => {
                self.hours_logged = self.hours_logged.minus(hours).unwrap_or_default();
            }
            ProjectEvent::Deleted {} => self.deleted = true,
            ProjectEvent::Restored {} => self.deleted = false,
        }
    }
}

fn plan(
    details: ProjectDetails,
    status: ProjectStatus,
    owner: Option<UserId>,
    customers: Vec<CustomerId>,
) -> Result<Vec<ProjectEvent>, ProjectError> {
    let details = details.consistent()?;
    let mut linked = Vec::with_capacity(customers.len());
    for customer in customers {
        if !linked.contains(&customer) {
            linked.push(customer);
        }
    }
    Ok(vec![ProjectEvent::Planned { details, status, owner, customers: linked }])
}
