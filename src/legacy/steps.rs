//! From how a thing stood to how it stands: the commands that lead there, each with its time.
//!
//! A row that is new tells its whole history; one that was imported before tells what changed since.

use chrono::{DateTime, Utc};

use super::telling::{LATE, RowId, Step};
use super::wishes::{CustomerWish, InteractionWish, InvoiceWish, LeadWish, NoteWish, ProjectWish, UserWish};
use crate::aggregates::customer::{CustomerCommand, CustomerPatch, NotePatch};
use crate::aggregates::ids::{InteractionId, NoteId, UserId};
use crate::aggregates::interaction::InteractionDetails;
use crate::aggregates::invoice::{InvoiceCommand, InvoicePatch};
use crate::aggregates::lead::{LeadCommand, LeadPatch};
use crate::aggregates::project::{ProjectCommand, ProjectPatch};
use crate::aggregates::user::UserCommand;
use crate::aggregates::values::{
    CustomerStatus, Hours, InteractionStatus, InvoiceStatus, LeadStage, Patch, ProjectStatus, Text, UserStatus,
};

/// Places among what happened at the same time: the thing begins, its parts come, it ends as it is.
pub(super) const BEGINS: u8 = 0;
const PARTS: u8 = 10;
const FIRST_CONTACT: u8 = 20;
pub(super) const ENDS: u8 = 30;

/// Why a lead was lost, which the old application did not ask.
const LOSS_NOT_RECORDED: &str = "Not recorded in the old system";
/// Why somebody is locked who was not active and still has work.
const INACTIVE: &str = "Inactive in the old system; still has open work";

/// What changed between two values of a field that may be empty.
fn patch<T: PartialEq + Clone>(before: &Option<T>, after: &Option<T>) -> Patch<T> {
    if before == after { Patch::Unchanged } else { Patch::from(after.clone()) }
}

/// What changed between two values of a field that is never empty.
fn patch_required<T: PartialEq + Clone>(before: &T, after: &T) -> Patch<T> {
    if before == after { Patch::Unchanged } else { Patch::Set(after.clone()) }
}

/// Collects the steps of one row.
struct Steps<C> {
    row: RowId,
    steps: Vec<Step<C>>,
}

impl<C> Steps<C> {
    fn new(row: RowId) -> Self {
        Self { row, steps: Vec::new() }
    }

    fn add(&mut self, at: DateTime<Utc>, order: u8, command: C) {
        self.add_by(at, order, None, command);
    }

    fn add_by(&mut self, at: DateTime<Utc>, order: u8, actor: Option<UserId>, command: C) {
        self.steps.push(Step { at, order, row: self.row, actor, command });
    }
}

/// The history of a lead. `contacts` are the times of the contact that took place.
pub(super) fn lead(
    row: RowId,
    wish: LeadWish,
    begun: DateTime<Utc>,
    ended: DateTime<Utc>,
    contacts: impl Iterator<Item = DateTime<Utc>>,
) -> Vec<Step<LeadCommand>> {
    let mut steps = Steps::new(row);
    let capture = LeadCommand::Capture {
        details: wish.details.clone(),
        stage: None,
        qualification: Some(wish.qualification),
        assignee: wish.assignee,
    };
    steps.add(begun, BEGINS, capture);
    if wish.stage != LeadStage::New {
        let contacted = contacts.chain(wish.contacted).map(|at| at.max(begun)).filter(|at| *at <= ended).min();
        if let Some(at) = contacted {
            steps.add(at, FIRST_CONTACT, LeadCommand::ChangeStage { stage: LeadStage::Contacted });
        }
    }
    if let Some(score) = wish.score {
        steps.add(ended, ENDS, LeadCommand::TakeScore { score });
    }
    lead_ends(&mut steps, &wish, ended);
    steps.steps
}

/// The stage that a lead ends in, and what goes with it.
fn lead_ends(steps: &mut Steps<LeadCommand>, wish: &LeadWish, at: DateTime<Utc>) {
    match (wish.stage, wish.customer) {
        (LeadStage::ClosedWon, Some(customer)) => steps.add(at, ENDS, LeadCommand::Convert { customer }),
        (LeadStage::ClosedLost, _) => {
            if let Ok(reason) = Text::new(LOSS_NOT_RECORDED) {
                steps.add(at, ENDS, LeadCommand::Lose { reason });
            }
        }
        (stage, _) => {
            steps.add(at, ENDS, LeadCommand::ChangeStage { stage });
            if let Some(probability) = wish.probability {
                let probability = Patch::Set(probability);
                steps.add(at, ENDS, LeadCommand::ChangeDetails(LeadPatch { probability, ..LeadPatch::default() }));
            }
        }
    }
    if wish.deleted {
        steps.add(at, ENDS, LeadCommand::Delete {});
    }
}

/// What changed about a lead.
pub(super) fn lead_changes(
    row: RowId,
    before: &LeadWish,
    after: &LeadWish,
    at: DateTime<Utc>,
) -> Vec<Step<LeadCommand>> {
    let mut steps = Steps::new(row);
    if before.deleted && !after.deleted {
        steps.add(at, ENDS, LeadCommand::Restore {});
    }
    let (old, new) = (&before.details, &after.details);
    let details = LeadPatch {
        name: patch_required(&old.name, &new.name),
        company: patch(&old.company, &new.company),
        job_title: patch(&old.job_title, &new.job_title),
        email: patch(&old.email, &new.email),
        phone: patch(&old.phone, &new.phone),
        address: patch(&old.address, &new.address),
        source: patch_required(&old.source, &new.source),
        estimated_value: patch(&old.estimated_value, &new.estimated_value),
        probability: Patch::Unchanged,
        expected_close_date: patch(&old.expected_close_date, &new.expected_close_date),
    };
    if details != LeadPatch::default() {
        steps.add(at, ENDS, LeadCommand::ChangeDetails(details));
    }
    if before.qualification != after.qualification {
        steps.add(at, ENDS, LeadCommand::Qualify { qualification: after.qualification });
    }
    if before.assignee != after.assignee {
        steps.add(at, ENDS, LeadCommand::Assign { assignee: after.assignee });
    }
    if let Some(score) = after.score.filter(|_| before.score != after.score) {
        steps.add(at, ENDS, LeadCommand::TakeScore { score });
    }
    let moved = (before.stage, before.customer) != (after.stage, after.customer);
    if moved && before.stage == LeadStage::ClosedLost {
        steps.add(at, ENDS, LeadCommand::Reopen {});
    }
    let hidden = LeadWish { deleted: after.deleted && !before.deleted, ..after.clone() };
    if moved {
        lead_ends(&mut steps, &hidden, at);
    } else {
        if before.probability != after.probability && after.stage.is_open() {
            let probability = Patch::from(after.probability);
            steps.add(at, ENDS, LeadCommand::ChangeDetails(LeadPatch { probability, ..LeadPatch::default() }));
        }
        if hidden.deleted {
            steps.add(at, ENDS, LeadCommand::Delete {});
        }
    }
    steps.steps
}

/// A command about an interaction, of a lead or of a customer.
pub(super) trait Contact: Sized {
    fn log(id: InteractionId, details: InteractionDetails, by: Option<UserId>, at: DateTime<Utc>) -> Self;
    fn schedule(id: InteractionId, details: InteractionDetails, by: Option<UserId>, at: DateTime<Utc>) -> Self;
    fn complete(id: InteractionId, outcome: Option<Text<2000>>, hours: Option<Hours>, at: DateTime<Utc>) -> Self;
    fn cancel(id: InteractionId) -> Self;
    fn reopen(id: InteractionId, outcome: Option<Text<2000>>, hours: Option<Hours>) -> Self;
}

macro_rules! contact {
    ($command:ident) => {
        impl Contact for $command {
            fn log(id: InteractionId, details: InteractionDetails, by: Option<UserId>, at: DateTime<Utc>) -> Self {
                Self::LogInteraction { id, details, by, at }
            }

            fn schedule(
                id: InteractionId,
                details: InteractionDetails,
                by: Option<UserId>,
                scheduled_at: DateTime<Utc>,
            ) -> Self {
                Self::ScheduleInteraction { id, details, by, scheduled_at }
            }

            fn complete(
                id: InteractionId,
                outcome: Option<Text<2000>>,
                hours: Option<Hours>,
                at: DateTime<Utc>,
            ) -> Self {
                Self::CompleteInteraction { id, outcome, hours, at }
            }

            fn cancel(id: InteractionId) -> Self {
                Self::CancelInteraction { id }
            }

            fn reopen(id: InteractionId, outcome: Option<Text<2000>>, hours: Option<Hours>) -> Self {
                Self::ReopenInteraction { id, outcome, hours }
            }
        }
    };
}

contact!(LeadCommand);
contact!(CustomerCommand);

/// The history of an interaction. Nothing happened before `begun`, when the lead or customer came.
pub(super) fn interaction<C: Contact>(
    row: RowId,
    id: InteractionId,
    wish: InteractionWish,
    begun: DateTime<Utc>,
    last: DateTime<Utc>,
) -> Vec<Step<C>> {
    let mut steps = Steps::new(row);
    let InteractionWish { mut details, by, status, scheduled, completed, created } = wish;
    let Some(planned) = scheduled else {
        let took_place = completed.unwrap_or(last);
        steps.add_by(took_place.max(begun), PARTS, by, C::log(id, details, by, took_place));
        return steps.steps;
    };
    // What came of it and how long it took is known once it took place.
    let (outcome, hours) = match status {
        InteractionStatus::Completed => (details.outcome.take(), details.hours.take()),
        _ => (None, None),
    };
    let noted = created.or(completed).unwrap_or(last);
    let noted = completed.map_or(noted, |completed| noted.min(completed)).max(begun);
    steps.add_by(noted, PARTS, by, C::schedule(id, details, by, planned));
    match (status, completed) {
        (InteractionStatus::Completed, completed) => {
            let took_place = completed.unwrap_or(last);
            steps.add_by(took_place.max(noted), PARTS, by, C::complete(id, outcome, hours, took_place));
        }
        (InteractionStatus::Cancelled, _) => steps.add_by(noted, PARTS, by, C::cancel(id)),
        (InteractionStatus::Scheduled, _) => {}
    }
    steps.steps
}

/// What changed about an interaction: planned contact took place or was called off. None if something else did, which
/// is never changed here.
pub(super) fn interaction_changes<C: Contact>(
    row: RowId,
    id: InteractionId,
    before: &InteractionWish,
    after: &InteractionWish,
    at: DateTime<Utc>,
    last: DateTime<Utc>,
) -> Option<Vec<Step<C>>> {
    let mut steps = Steps::new(row);
    let settled = InteractionWish {
        details: InteractionDetails {
            outcome: before.details.outcome.clone(),
            hours: before.details.hours,
            ..after.details.clone()
        },
        status: before.status,
        completed: before.completed,
        ..after.clone()
    };
    let only_settled = settled == *before;
    match (before.status, after.status) {
        _ if before == after => {}
        (InteractionStatus::Scheduled, InteractionStatus::Completed) if only_settled => {
            let took_place = after.completed.unwrap_or(last);
            let (outcome, hours) = (after.details.outcome.clone(), after.details.hours);
            steps.add_by(at.max(took_place), PARTS, after.by, C::complete(id, outcome, hours, took_place));
        }
        (InteractionStatus::Scheduled, InteractionStatus::Cancelled) if only_settled => {
            steps.add_by(at, PARTS, after.by, C::cancel(id));
        }
        _ => return None,
    }
    Some(steps.steps)
}

/// Contact that was called off when it was gone is planned again, as it was.
pub(super) fn planned_again<C: Contact>(
    row: RowId,
    id: InteractionId,
    before: &InteractionWish,
    at: DateTime<Utc>,
) -> Step<C> {
    part(row, at, C::reopen(id, before.details.outcome.clone(), before.details.hours))
}

/// The history of a customer.
pub(super) fn customer(
    row: RowId,
    wish: CustomerWish,
    begun: DateTime<Utc>,
    ended: DateTime<Utc>,
) -> Vec<Step<CustomerCommand>> {
    let mut steps = Steps::new(row);
    let register =
        CustomerCommand::Register { details: wish.details, status: Some(CustomerStatus::Active), owner: None };
    steps.add(begun, BEGINS, register);
    steps.add(ended, ENDS, CustomerCommand::ChangeStatus { status: wish.status });
    steps.steps
}

/// What changed about a customer.
pub(super) fn customer_changes(
    row: RowId,
    before: &CustomerWish,
    after: &CustomerWish,
    at: DateTime<Utc>,
) -> Vec<Step<CustomerCommand>> {
    let mut steps = Steps::new(row);
    let (old, new) = (&before.details, &after.details);
    let details = CustomerPatch {
        company: patch(&old.company, &new.company),
        name: patch(&old.name, &new.name),
        email: patch(&old.email, &new.email),
        phone: patch(&old.phone, &new.phone),
        address: patch(&old.address, &new.address),
    };
    if details != CustomerPatch::default() {
        steps.add(at, ENDS, CustomerCommand::ChangeDetails(details));
    }
    if before.status != after.status {
        steps.add(at, ENDS, CustomerCommand::ChangeStatus { status: after.status });
    }
    steps.steps
}

/// A note was written.
pub(super) fn note(
    row: RowId,
    id: NoteId,
    wish: NoteWish,
    begun: DateTime<Utc>,
    last: DateTime<Utc>,
) -> Vec<Step<CustomerCommand>> {
    let mut steps = Steps::new(row);
    let at = wish.created.or(wish.updated).unwrap_or(last).max(begun);
    let NoteWish { author, title, content, private, .. } = wish;
    steps.add_by(at, PARTS, Some(author), CustomerCommand::AddNote { id, author, title, content, private });
    steps.steps
}

/// What changed about a note.
pub(super) fn note_changes(
    row: RowId,
    id: NoteId,
    before: &NoteWish,
    after: &NoteWish,
    at: DateTime<Utc>,
) -> Vec<Step<CustomerCommand>> {
    let mut steps = Steps::new(row);
    let change = NotePatch {
        title: patch(&before.title, &after.title),
        content: patch_required(&before.content, &after.content),
        private: patch_required(&before.private, &after.private),
    };
    if change != NotePatch::default() {
        let by = before.author;
        steps.add_by(at, PARTS, Some(by), CustomerCommand::EditNote { id, by, patch: change });
    }
    steps.steps
}

/// The history of a project: planned, worked on from the day it says, and as it stands since its last change.
pub(super) fn project(
    row: RowId,
    wish: ProjectWish,
    begun: DateTime<Utc>,
    ended: DateTime<Utc>,
) -> Vec<Step<ProjectCommand>> {
    let mut steps = Steps::new(row);
    let plan = ProjectCommand::Plan {
        details: wish.details,
        status: Some(ProjectStatus::Planned),
        owner: wish.owner,
        customers: Vec::new(),
    };
    steps.add(begun, BEGINS, plan);
    let was_worked_on =
        matches!(wish.status, ProjectStatus::InProgress | ProjectStatus::OnHold | ProjectStatus::Completed);
    if let Some(at) = wish.started.map(|at| at.max(begun)).filter(|at| was_worked_on && *at <= ended) {
        steps.add(at, FIRST_CONTACT, ProjectCommand::ChangeStatus { status: ProjectStatus::InProgress });
    }
    steps.add(ended, ENDS, ProjectCommand::ChangeStatus { status: wish.status });
    steps.steps
}

/// What changed about a project.
pub(super) fn project_changes(
    row: RowId,
    before: &ProjectWish,
    after: &ProjectWish,
    at: DateTime<Utc>,
) -> Vec<Step<ProjectCommand>> {
    let mut steps = Steps::new(row);
    let (old, new) = (&before.details, &after.details);
    let details = ProjectPatch {
        name: patch_required(&old.name, &new.name),
        description: patch(&old.description, &new.description),
        start_date: patch(&old.start_date, &new.start_date),
        due_date: patch(&old.due_date, &new.due_date),
        ..ProjectPatch::default()
    };
    if details != ProjectPatch::default() {
        steps.add(at, ENDS, ProjectCommand::ChangeDetails(details));
    }
    if before.owner != after.owner {
        steps.add(at, ENDS, ProjectCommand::ChangeOwner { owner: after.owner });
    }
    if before.status != after.status {
        if before.status.is_closed() && !matches!(after.status, ProjectStatus::Planned | ProjectStatus::InProgress) {
            steps.add(at, ENDS, ProjectCommand::ChangeStatus { status: ProjectStatus::InProgress });
        }
        steps.add(at, ENDS, ProjectCommand::ChangeStatus { status: after.status });
    }
    steps.steps
}

/// Something that a part says of what it belongs to.
pub(super) fn part<C>(row: RowId, at: DateTime<Utc>, command: C) -> Step<C> {
    Step { at, order: PARTS, row, actor: None, command }
}

/// A lead turned out to be this customer, which takes in its history.
pub(super) fn link(row: RowId, at: DateTime<Utc>, command: CustomerCommand) -> Step<CustomerCommand> {
    Step { at, order: LATE, row, actor: None, command }
}

/// The history of an invoice: drafted, sent, viewed, paid or withdrawn, each on its date.
pub(super) fn invoice(row: RowId, wish: &InvoiceWish) -> Vec<Step<InvoiceCommand>> {
    let mut steps = Steps::new(row);
    steps.add(wish.begun, BEGINS, InvoiceCommand::Draft(wish.details.clone()));
    invoice_ends(&mut steps, wish, wish.issued.max(wish.begun).min(wish.ended));
    steps.steps
}

fn invoice_ends(steps: &mut Steps<InvoiceCommand>, wish: &InvoiceWish, sent: DateTime<Utc>) {
    match wish.status {
        InvoiceStatus::Draft => {}
        InvoiceStatus::Sent => steps.add(sent, PARTS, InvoiceCommand::Send {}),
        InvoiceStatus::Viewed => {
            steps.add(sent, PARTS, InvoiceCommand::Send {});
            steps.add(wish.ended.max(sent), ENDS, InvoiceCommand::MarkViewed {});
        }
        InvoiceStatus::Paid => {
            let paid = wish.paid.unwrap_or(wish.ended);
            let paid_on = paid.date_naive();
            // Whoever paid early had the invoice by then.
            let sent = sent.min(paid).max(wish.begun);
            steps.add(sent, PARTS, InvoiceCommand::Send {});
            // The old application checked the day when it was said.
            steps.add(paid.max(sent), ENDS, InvoiceCommand::Pay { paid_on, today: paid_on });
        }
        InvoiceStatus::Void => steps.add(wish.ended, ENDS, InvoiceCommand::Void {}),
    }
}

/// What changed about an invoice. What it says changes only while it is a draft.
pub(super) fn invoice_changes(row: RowId, before: &InvoiceWish, after: &InvoiceWish) -> Vec<Step<InvoiceCommand>> {
    let mut steps = Steps::new(row);
    let at = after.ended;
    let (old, new) = (&before.details, &after.details);
    let details = InvoicePatch {
        customer: patch_required(&old.customer, &new.customer),
        currency: patch_required(&old.currency, &new.currency),
        amount: patch(&old.amount, &new.amount),
        issue_date: patch_required(&old.issue_date, &new.issue_date),
        due_date: patch_required(&old.due_date, &new.due_date),
        ..InvoicePatch::default()
    };
    if details != InvoicePatch::default() {
        steps.add(at, BEGINS, InvoiceCommand::Change(details));
    }
    if (before.status, before.paid) != (after.status, after.paid) {
        invoice_ends(&mut steps, after, at);
    }
    steps.steps
}

/// The history of a user. `open_work`: they still have leads or projects, and are locked instead of let go.
pub(super) fn user(
    row: RowId,
    wish: UserWish,
    begun: DateTime<Utc>,
    ended: DateTime<Utc>,
    open_work: bool,
) -> Vec<Step<UserCommand>> {
    let mut steps = Steps::new(row);
    let active = wish.active;
    steps.add(begun, BEGINS, UserCommand::Register(wish.details));
    if !active {
        steps.add(ended, ENDS, leave(open_work, u32::MAX));
    }
    steps.steps
}

fn leave(open_work: bool, other_active_owners: u32) -> UserCommand {
    if open_work {
        UserCommand::Lock { reason: Text::new(INACTIVE).ok(), other_active_owners }
    } else {
        UserCommand::Deactivate { open_work: 0, other_active_owners }
    }
}

/// What changed about a user who stands at `status` now.
pub(super) fn user_changes(
    row: RowId,
    before: &UserWish,
    after: &UserWish,
    at: DateTime<Utc>,
    status: UserStatus,
    open_work: bool,
    other_active_owners: u32,
) -> Vec<Step<UserCommand>> {
    let mut steps = Steps::new(row);
    let (old, new) = (&before.details, &after.details);
    let full_name = patch_required(&old.full_name, &new.full_name);
    let email = (old.email != new.email).then(|| new.email.clone());
    if !full_name.is_unchanged() || email.is_some() {
        steps.add(at, BEGINS, UserCommand::ChangeProfile { full_name, email });
    }
    if old.role != new.role {
        steps.add(at, BEGINS, UserCommand::ChangeRole { role: new.role, other_active_owners });
    }
    if old.department != new.department {
        steps.add(at, BEGINS, UserCommand::ChangeDepartment { department: new.department.clone() });
    }
    if old.permissions != new.permissions {
        steps.add(at, BEGINS, UserCommand::ChangePermissions { permissions: new.permissions.clone() });
    }
    match (before.active, after.active) {
        (true, false) => steps.add(at, ENDS, leave(open_work, other_active_owners)),
        (false, true) if status == UserStatus::Locked => steps.add(at, ENDS, UserCommand::Unlock {}),
        (false, true) => steps.add(at, ENDS, UserCommand::Reactivate {}),
        _ => {}
    }
    steps.steps
}
