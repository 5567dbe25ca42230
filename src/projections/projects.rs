//! The projects of a business. Fed by the projects' events.
//!
//! | event | does |
//! |---|---|
//! | Planned | the row begins |
//! | DetailsChanged, StatusChanged, OwnerChanged | sets what changed |
//! | MemberAssigned, MemberRemoved | adds, changes or removes a member |
//! | CustomerLinked, CustomerUnlinked | adds or removes a customer; the first is the primary one |
//! | HoursLogged, HoursWithdrawn | adds the hours; takes them off |
//! | Deleted, Restored | hides it; shows it again |

use chrono::{DateTime, NaiveDate, Utc};
use cqrs_es::Aggregate;
use rust_decimal::Decimal;
use serde_json::{Value, json};

use super::fact::{Event, Fact, Unread};
use super::model::{Affected, Poison, Projection, Touched};
use super::row::row;
use super::write::{money, text};
use crate::aggregates::ids::ProjectId;
use crate::aggregates::project::{Project, ProjectEvent, ProjectPatch};
use crate::aggregates::values::{Hours, Patch, Priority};

row! {
    /// A project.
    pub struct ProjectRow in "projects", "project_versions" searched ProjectId [name, description] {
        /// Its name.
        pub name: String,
        /// What it is about.
        pub description: Option<String>,
        /// How far it is.
        pub status: String,
        /// How much it presses.
        pub priority: String,
        /// What it may cost.
        pub budget: Option<Decimal>,
        /// In which currency.
        pub currency: Option<String>,
        /// When it begins.
        pub start_date: Option<NaiveDate>,
        /// When it is to be done.
        pub due_date: Option<NaiveDate>,
        /// The time it may take.
        pub estimated_hours: Option<Decimal>,
        /// The time it took so far.
        pub logged_hours: Decimal,
        /// Who answers for it.
        pub owner_id: Option<String>,
        /// Who works on it, with a role each: `[{"user_id", "role"}]`.
        pub members: Value,
        /// Who works on it.
        pub member_ids: Vec<String>,
        /// For whom; the first is the primary one.
        pub customer_ids: Vec<String>,
        /// When it was taken away.
        pub deleted_at: Option<DateTime<Utc>>,
    }
}

/// The projects.
pub struct Projects;

impl Projection for Projects {
    type Row = ProjectRow;
    const NAME: &'static str = "projects";
    const FED_BY: &'static [&'static str] = &[Project::TYPE];

    fn touched(fact: &Fact) -> Vec<Touched> {
        match &fact.event {
            Event::Project(event) => vec![Touched::of(fact, matches!(event, ProjectEvent::Planned { .. }))],
            _ => Vec::new(),
        }
    }

    fn affected(unread: &Unread) -> Affected {
        Affected::aggregate::<Project>(unread)
    }

    fn fold(row: Option<ProjectRow>, _: &str, fact: &Fact) -> Result<Option<ProjectRow>, Poison> {
        let Event::Project(event) = &fact.event else { return Ok(row) };
        Ok(match (row, event) {
            (None, ProjectEvent::Planned { details, status, owner, customers }) => {
                let (budget, currency) = money(details.budget.as_ref());
                Some(ProjectRow {
                    name: details.name.to_string(),
                    description: text(details.description.as_ref()),
                    status: status.to_string(),
                    priority: details.priority.to_string(),
                    budget,
                    currency,
                    start_date: details.start_date,
                    due_date: details.due_date,
                    estimated_hours: details.hours_estimated.map(Hours::value),
                    logged_hours: Decimal::ZERO,
                    owner_id: text(owner.as_ref()),
                    members: Value::Array(Vec::new()),
                    member_ids: Vec::new(),
                    customer_ids: customers.iter().map(ToString::to_string).collect(),
                    deleted_at: None,
                })
            }
            (None, _) => return Err(Poison::absent()),
            (Some(row), event) => Some(changed(row, event, fact.recorded.occurred_at)),
        })
    }
}

fn changed(mut row: ProjectRow, event: &ProjectEvent, at: DateTime<Utc>) -> ProjectRow {
    match event {
        ProjectEvent::Planned { .. } => {}
        ProjectEvent::DetailsChanged { changes } => details_changed(&mut row, changes),
        ProjectEvent::StatusChanged { to, .. } => row.status = to.to_string(),
        ProjectEvent::OwnerChanged { owner } => row.owner_id = text(owner.as_ref()),
        ProjectEvent::MemberAssigned { user, role } => {
            let user = user.to_string();
            without_member(&mut row, &user);
            if let Value::Array(members) = &mut row.members {
                members.push(json!({"user_id": user, "role": role}));
            }
            row.member_ids.push(user);
        }
        ProjectEvent::MemberRemoved { user } => without_member(&mut row, &user.to_string()),
        ProjectEvent::CustomerLinked { customer } => row.customer_ids.push(customer.to_string()),
        ProjectEvent::CustomerUnlinked { customer } => row.customer_ids.retain(|id| *id != customer.to_string()),
        ProjectEvent::HoursLogged { hours, .. } => row.logged_hours += hours.value(),
        ProjectEvent::HoursWithdrawn { hours, .. } => row.logged_hours -= hours.value(),
        ProjectEvent::Deleted {} => row.deleted_at = Some(at),
        ProjectEvent::Restored {} => row.deleted_at = None,
    }
    row
}

fn without_member(row: &mut ProjectRow, user: &str) {
    row.member_ids.retain(|id| id != user);
    if let Value::Array(members) = &mut row.members {
        members.retain(|member| member.get("user_id").and_then(Value::as_str) != Some(user));
    }
}

fn details_changed(row: &mut ProjectRow, changes: &ProjectPatch) {
    changes.name.clone().map(|name| name.to_string()).apply_to_required(&mut row.name);
    changes.description.clone().map(|description| description.to_string()).apply_to(&mut row.description);
    match changes.priority {
        Patch::Unchanged => {}
        Patch::Clear => row.priority = Priority::default().to_string(),
        Patch::Set(priority) => row.priority = priority.to_string(),
    }
    if !changes.budget.is_unchanged() {
        (row.budget, row.currency) = money(changes.budget.as_set());
    }
    changes.start_date.apply_to(&mut row.start_date);
    changes.due_date.apply_to(&mut row.due_date);
    changes.hours_estimated.map(Hours::value).apply_to(&mut row.estimated_hours);
}
