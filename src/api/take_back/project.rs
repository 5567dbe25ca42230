//! Projects.

use super::{Existence, Facet, Fields, Goal, Past, Record, Taking, among, shown, to_then};
use crate::aggregates::permission::Permission;
use crate::aggregates::project::{Project, ProjectCommand, ProjectEvent, ProjectPatch};
use crate::aggregates::values::ProjectStatus;
use crate::api::caller::Caller;
use crate::api::projects::{self, Projects};
use crate::api::record::{Noun, find_any};
use crate::api::{App, Problem, customers, users};

const WRITE: Permission = <Projects as Noun>::WRITE;

/// What a patch changes.
const DETAILS: &[&str] = &["name", "description", "priority", "budget", "start_date", "due_date", "estimated_hours"];

impl Past for Project {
    const NOUN: &'static str = "project";

    fn touched(_: &ProjectEvent) -> Vec<Record> {
        vec![Record::Itself]
    }

    fn facet(&self, record: Record) -> Option<Facet> {
        let details = self.details.as_ref().filter(|_| record == Record::Itself)?;
        let fields = [
            ("name", shown(&details.name)),
            ("description", shown(&details.description)),
            ("priority", shown(details.priority)),
            ("budget", shown(&details.budget)),
            ("start_date", shown(details.start_date)),
            ("due_date", shown(details.due_date)),
            ("estimated_hours", shown(details.hours_estimated)),
            ("status", shown(self.status)),
            ("owner_id", shown(self.owner)),
            ("members", shown(&self.members)),
            ("customer_ids", shown(&self.customers)),
        ];
        Some(Facet { fields: fields.into(), deleted: self.deleted, ..Facet::default() })
    }

    fn stays(&self, field: &str) -> Problem {
        Problem::conflict("stays", format!("{field} stays as it is"))
    }

    fn counter(event: &ProjectEvent) -> Option<ProjectCommand> {
        match event {
            ProjectEvent::HoursLogged { hours, on, user, .. } => {
                Some(ProjectCommand::WithdrawHours { hours: *hours, on: *on, user: *user })
            }
            ProjectEvent::HoursWithdrawn { hours, on, user } => {
                Some(ProjectCommand::LogHours { hours: *hours, on: *on, user: *user, note: None })
            }
            _ => None,
        }
    }

    async fn allow(&self, app: &App, caller: &Caller, id: &str, _: Record) -> Result<(), Problem> {
        find_any::<Projects>(app, caller, id).await?.require(caller, WRITE)
    }

    async fn bring_back(taking: &mut Taking<'_>, goal: &Goal<'_, Self>) -> Result<(), Problem> {
        if goal.existence == Existence::Back && !taking.send_whole::<Self>(ProjectCommand::Restore {}).await? {
            return Ok(());
        }
        let details = among(&goal.fields, DETAILS);
        taking.patch::<Self>(&details, |fields| patch(fields, goal.then)).await?;
        if goal.fields.contains("status") {
            status(taking, goal).await?;
        }
        if goal.fields.contains("owner_id") {
            let (caller, owner) = (taking.caller, goal.then.owner);
            let relied = users::rely_on(caller, taking.work, owner, WRITE, "/owner_id").await;
            if taking.allowed(&["owner_id"], relied)? {
                taking.send::<Self>(&["owner_id"], ProjectCommand::ChangeOwner { owner }).await?;
            }
        }
        if goal.fields.contains("members") {
            members(taking, goal).await?;
        }
        if goal.fields.contains("customer_ids") {
            linked(taking, goal).await?;
        }
        if goal.existence == Existence::Gone {
            taking.send_whole::<Self>(ProjectCommand::Delete {}).await?;
        } else if goal.existence == Existence::Back || (!goal.now.deleted && goal.fields.contains("status")) {
            // It is there, so that this changes nothing and shows what was staged.
            let stream = taking.work.stream::<Self>(taking.id);
            let after = taking.work.execute::<Self>(stream, ProjectCommand::Restore {}).await?;
            let id = taking.id.parse().map_err(|_| Problem::not_found())?;
            projects::leave_to_nobody(taking.work, id, &after.state).await?;
        }
        Ok(())
    }
}

/// A closed project goes on hold, or is closed otherwise, by way of being worked on.
async fn status(taking: &mut Taking<'_>, goal: &Goal<'_, Project>) -> Result<(), Problem> {
    let to = goal.then.status;
    let reopens = matches!(to, ProjectStatus::Planned | ProjectStatus::InProgress);
    if goal.now.status.is_closed() && !reopens {
        let command = ProjectCommand::ChangeStatus { status: ProjectStatus::InProgress };
        if !taking.send::<Project>(&["status"], command).await? {
            return Ok(());
        }
    }
    taking.send::<Project>(&["status"], ProjectCommand::ChangeStatus { status: to }).await.map(drop)
}

async fn members(taking: &mut Taking<'_>, goal: &Goal<'_, Project>) -> Result<(), Problem> {
    const FIELD: &[&str] = &["members"];
    for user in goal.now.members.keys().filter(|user| !goal.then.members.contains_key(*user)) {
        taking.send::<Project>(FIELD, ProjectCommand::RemoveMember { user: *user }).await?;
    }
    for (user, role) in goal.then.members.iter().filter(|(user, role)| goal.now.members.get(*user) != Some(*role)) {
        let known = users::known(taking.work, *user, "/members").await;
        if taking.allowed(FIELD, known)? {
            let command = ProjectCommand::AssignMember { user: *user, role: role.clone() };
            taking.send::<Project>(FIELD, command).await?;
        }
    }
    Ok(())
}

/// The order counts, since the first is the primary one: from where the lists differ, all are linked anew.
async fn linked(taking: &mut Taking<'_>, goal: &Goal<'_, Project>) -> Result<(), Problem> {
    const FIELD: &[&str] = &["customer_ids"];
    let (now, then) = (&goal.now.customers, &goal.then.customers);
    let same = now.iter().zip(then).take_while(|(now, then)| now == then).count();
    // Known before anything is unlinked: a customer that is gone holds the whole list where it is.
    for customer in then.iter().skip(same) {
        let relied = customers::rely_on(taking.app, taking.caller, taking.work, *customer, "/customer_ids").await;
        if !taking.allowed(FIELD, relied)? {
            return Ok(());
        }
    }
    for customer in now.iter().skip(same) {
        taking.send::<Project>(FIELD, ProjectCommand::UnlinkCustomer { customer: *customer }).await?;
    }
    for customer in then.iter().skip(same) {
        taking.send::<Project>(FIELD, ProjectCommand::LinkCustomer { customer: *customer }).await?;
    }
    Ok(())
}

fn patch(fields: &Fields, then: &Project) -> ProjectCommand {
    let Some(details) = then.details.clone() else { return ProjectCommand::ChangeDetails(ProjectPatch::default()) };
    ProjectCommand::ChangeDetails(ProjectPatch {
        name: to_then(fields, "name", Some(details.name)),
        description: to_then(fields, "description", details.description),
        priority: to_then(fields, "priority", Some(details.priority)),
        budget: to_then(fields, "budget", details.budget),
        start_date: to_then(fields, "start_date", details.start_date),
        due_date: to_then(fields, "due_date", details.due_date),
        hours_estimated: to_then(fields, "estimated_hours", details.hours_estimated),
    })
}
