//! The projects that a business works on. Fed by the projects' events.
//!
//! | event | does |
//! |---|---|
//! | Planned | the row begins |
//! | DetailsChanged | sets what changed |
//! | StatusChanged, OwnerChanged | sets status, owner |
//! | MemberAssigned, MemberRemoved | adds the member or changes what they do; takes them out |
//! | CustomerLinked, CustomerUnlinked | adds the customer at the end; takes it out |
//! | HoursLogged | adds to the hours |
//! | Deleted, Restored | hides it; shows it again |

use chrono::{DateTime, NaiveDate, Utc};
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use sqlx::types::Json;

use super::fact::{Event, Fact};
use super::model::{Projection, Touched};
use super::row::row;
use super::write::text;
use crate::aggregates::project::{ProjectEvent, ProjectPatch};
use crate::aggregates::values::{Money, Patch};

/// Somebody who works on a project.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Who.
    pub user_id: String,
    /// What they do.
    pub role: String,
}

row! {
    /// A project.
    pub struct ProjectRow in "projects", "project_versions" {
        /// Its name.
        pub name: String,
        /// What is to be done.
        pub description: Option<String>,
        /// Where it stands.
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
        /// How many hours it may take.
        pub estimated_hours: Option<Decimal>,
        /// How many it has taken.
        pub logged_hours: Decimal,
        /// Who answers for it.
        pub owner_id: Option<String>,
        /// Who works on it, in the order in which they came.
        pub members: Json<Vec<Member>>,
        /// The same, ids alone, to be searched.
        pub member_ids: Vec<String>,
        /// Whom it is for, the primary one first.
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

    fn touched(fact: &Fact) -> Vec<Touched> {
        match &fact.event {
            Event::Project(event) => vec![Touched::of(fact, matches!(event, ProjectEvent::Planned { .. }))],
            _ => Vec::new(),
        }
    }

    fn fold(row: Option<ProjectRow>, _: &str, fact: &Fact) -> Option<ProjectRow> {
        let Event::Project(event) = &fact.event else { return row };
        match (row, event) {
            (None, ProjectEvent::Planned { details, status, owner, customers }) => Some(ProjectRow {
                name: details.name.to_string(),
                description: text(details.description.as_ref()),
                status: status.to_string(),
                priority: details.priority.to_string(),
                budget: details.budget.as_ref().map(Money::amount),
                currency: details.budget.as_ref().map(|budget| budget.currency().code().to_owned()),
                start_date: details.start_date,
                due_date: details.due_date,
                estimated_hours: details.hours_estimated.map(|hours| hours.value()),
                logged_hours: Decimal::ZERO,
                owner_id: text(owner.as_ref()),
                members: Json::default(),
                member_ids: Vec::new(),
                customer_ids: customers.iter().map(ToString::to_string).collect(),
                deleted_at: None,
            }),
            (None, _) => None,
            (Some(row), event) => Some(changed(row, event, fact.recorded.occurred_at)),
        }
    }
}

fn changed(mut row: ProjectRow, event: &ProjectEvent, at: DateTime<Utc>) -> ProjectRow {
    match event {
        ProjectEvent::Planned { .. } => {}
        ProjectEvent::DetailsChanged { changes } => details_changed(&mut row, changes),
        ProjectEvent::StatusChanged { to, .. } => row.status = to.to_string(),
        ProjectEvent::OwnerChanged { owner } => row.owner_id = text(owner.as_ref()),
        ProjectEvent::MemberAssigned { user, role } => assigned(&mut row, user.to_string(), role.to_string()),
        ProjectEvent::MemberRemoved { user } => {
            let user = user.to_string();
            row.members.retain(|member| member.user_id != user);
            row.member_ids.retain(|member| *member != user);
        }
        ProjectEvent::CustomerLinked { customer } => row.customer_ids.push(customer.to_string()),
        ProjectEvent::CustomerUnlinked { customer } => {
            let customer = customer.to_string();
            row.customer_ids.retain(|linked| *linked != customer);
        }
        ProjectEvent::HoursLogged { hours, .. } => {
            row.logged_hours = row.logged_hours.saturating_add(hours.value());
        }
        ProjectEvent::Deleted {} => row.deleted_at = Some(at),
        ProjectEvent::Restored {} => row.deleted_at = None,
    }
    row
}

fn assigned(row: &mut ProjectRow, user_id: String, role: String) {
    if let Some(member) = row.members.iter_mut().find(|member| member.user_id == user_id) {
        member.role = role;
    } else {
        row.member_ids.push(user_id.clone());
        row.members.push(Member { user_id, role });
    }
}

fn details_changed(row: &mut ProjectRow, changes: &ProjectPatch) {
    changes.name.clone().map(|name| name.to_string()).apply_to_required(&mut row.name);
    changes.description.clone().map(|description| description.to_string()).apply_to(&mut row.description);
    changes.priority.map(|priority| priority.to_string()).apply_to_required(&mut row.priority);
    match &changes.budget {
        Patch::Unchanged => {}
        Patch::Clear => (row.budget, row.currency) = (None, None),
        Patch::Set(budget) => {
            row.budget = Some(budget.amount());
            row.currency = Some(budget.currency().code().to_owned());
        }
    }
    changes.start_date.apply_to(&mut row.start_date);
    changes.due_date.apply_to(&mut row.due_date);
    changes.hours_estimated.map(|hours| hours.value()).apply_to(&mut row.estimated_hours);
}
