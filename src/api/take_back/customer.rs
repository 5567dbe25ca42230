//! Customers, the contact with them, and the notes on them.

use super::contact::{self, Step};
use super::{Existence, Facet, Fields, Goal, Past, Record, Taking, among, shown, to_then};
use crate::aggregates::customer::{Customer, CustomerCommand, CustomerEvent, CustomerPatch, Note, NotePatch};
use crate::aggregates::ids::{CustomerId, InteractionId, NoteId};
use crate::aggregates::permission::Permission;
use crate::aggregates::values::Personal;
use crate::api::caller::Caller;
use crate::api::customers::{self, Customers};
use crate::api::record::{Noun, find_any};
use crate::api::{App, Problem, notes, users};

const WRITE: Permission = <Customers as Noun>::WRITE;

/// What a patch changes.
const DETAILS: &[&str] = &["company", "name", "email", "phone", "address"];
/// What a patch changes about a note.
const NOTE: &[&str] = &["title", "content", "private"];

impl Past for Customer {
    const NOUN: &'static str = "customer";

    fn touched(event: &CustomerEvent) -> Vec<Record> {
        match event {
            CustomerEvent::InteractionLogged { id, .. }
            | CustomerEvent::InteractionScheduled { id, .. }
            | CustomerEvent::InteractionCompleted { id, .. }
            | CustomerEvent::InteractionCancelled { id }
            | CustomerEvent::InteractionReopened { id, .. } => vec![Record::Interaction(*id)],
            CustomerEvent::NoteAdded { note } => vec![Record::Note(note.id)],
            CustomerEvent::NoteEdited { id, .. }
            | CustomerEvent::NoteRemoved { id }
            | CustomerEvent::NoteRestored { id } => vec![Record::Note(*id)],
            // What is carried over is not made by it.
            CustomerEvent::Registered { .. }
            | CustomerEvent::DetailsChanged { .. }
            | CustomerEvent::StatusChanged { .. }
            | CustomerEvent::OwnerChanged { .. }
            | CustomerEvent::LeadLinked { .. }
            | CustomerEvent::HistoryCarriedOver { .. }
            | CustomerEvent::Absorbed { .. }
            | CustomerEvent::MergedInto { .. }
            | CustomerEvent::Deleted {}
            | CustomerEvent::Restored {} => vec![Record::Itself],
        }
    }

    fn facet(&self, record: Record) -> Option<Facet> {
        match record {
            Record::Itself => {}
            Record::Interaction(id) => return self.interactions.get(id).map(contact::facet),
            Record::Note(id) => return self.note(id).map(|(note, deleted)| of_note(note, deleted)),
        }
        let facts = self.facts.as_ref()?;
        let fields = [
            ("company", shown(&facts.company)),
            ("name", shown(facts.name.as_deref())),
            ("email", shown(facts.email.as_deref())),
            ("phone", shown(facts.phone.as_deref())),
            ("address", shown(facts.address.as_deref())),
            ("status", shown(self.status)),
            ("owner_id", shown(self.owner)),
        ];
        let fixed = [
            ("lead_ids", shown(&self.leads)),
            ("merged_into", shown(self.merged_into)),
            ("absorbed_ids", shown(&self.absorbed)),
        ];
        Some(Facet { fields: fields.into(), fixed: fixed.into(), deleted: self.deleted })
    }

    fn is_gone(&self, record: Record) -> bool {
        match record {
            Record::Interaction(id) => self.interactions.get(id).is_none_or(contact::is_gone),
            Record::Itself | Record::Note(_) => self.facet(record).is_none_or(|facet| facet.deleted),
        }
    }

    fn stays(&self, field: &str) -> Problem {
        match field {
            "lead_ids" => converted(),
            _ => Problem::conflict("merged", "records of the same customer that were merged stay merged"),
        }
    }

    async fn allow(&self, app: &App, caller: &Caller, id: &str, record: Record) -> Result<(), Problem> {
        match record {
            Record::Itself | Record::Interaction(_) => {
                find_any::<Customers>(app, caller, id).await?.require(caller, WRITE)
            }
            Record::Note(note) => {
                let seen = self.note(note).is_some_and(|(note, _)| {
                    !note.private || caller.own_user().is_some_and(|reader| note.is_seen_by(reader))
                });
                let customer = find_any::<Customers>(app, caller, id).await?;
                if seen { customer.require(caller, WRITE) } else { Err(Problem::not_found()) }
            }
        }
    }

    async fn bring_back(taking: &mut Taking<'_>, goal: &Goal<'_, Self>) -> Result<(), Problem> {
        match goal.record {
            Record::Interaction(id) => return contact_back(taking, goal, id).await,
            Record::Note(id) => return note_back(taking, goal, id).await,
            Record::Itself => {}
        }
        if goal.existence == Existence::Back && !taking.send_whole::<Self>(CustomerCommand::Restore {}).await? {
            return Ok(());
        }
        let details = among(&goal.fields, DETAILS);
        taking.patch::<Self>(&details, |fields| patch(fields, goal.then)).await?;
        if goal.fields.contains("status") {
            let command = CustomerCommand::ChangeStatus { status: goal.then.status };
            taking.send::<Self>(&["status"], command).await?;
        }
        if goal.fields.contains("owner_id") {
            let (caller, owner) = (taking.caller, goal.then.owner);
            let relied = users::rely_on(caller, taking.work, owner, WRITE, "/owner_id").await;
            if taking.allowed(&["owner_id"], relied)? {
                taking.send::<Self>(&["owner_id"], CustomerCommand::ChangeOwner { owner }).await?;
            }
        }
        if goal.existence == Existence::Gone {
            // The lead would be converted into nothing.
            if !goal.now.leads.is_empty() {
                return taking.keep_whole(converted());
            }
            let id: CustomerId = taking.id.parse().map_err(|_| Problem::not_found())?;
            let has_unpaid_invoice = customers::owes(taking.app, taking.caller, taking.work, id).await?;
            taking.send_whole::<Self>(CustomerCommand::Delete { has_unpaid_invoice }).await?;
        }
        Ok(())
    }
}

fn converted() -> Problem {
    Problem::conflict("already_converted", "a lead became this customer, and a lead is converted once")
}

fn patch(fields: &Fields, then: &Customer) -> CustomerCommand {
    let facts = then.facts.clone().unwrap_or_default();
    CustomerCommand::ChangeDetails(CustomerPatch {
        company: to_then(fields, "company", facts.company),
        name: to_then(fields, "name", facts.name.map(Personal::into_inner)),
        email: to_then(fields, "email", facts.email.map(Personal::into_inner)),
        phone: to_then(fields, "phone", facts.phone.map(Personal::into_inner)),
        address: to_then(fields, "address", facts.address.map(Personal::into_inner)),
    })
}

async fn contact_back(taking: &mut Taking<'_>, goal: &Goal<'_, Customer>, id: InteractionId) -> Result<(), Problem> {
    let find = |customer: &Customer| customer.interactions.get(id).cloned();
    for step in contact::steps(find(goal.now), find(goal.then), goal.existence) {
        let command = match step {
            Step::Reopen { outcome, hours } => CustomerCommand::ReopenInteraction { id, outcome, hours },
            Step::Complete { outcome, hours, at } => CustomerCommand::CompleteInteraction { id, outcome, hours, at },
            Step::Cancel => CustomerCommand::CancelInteraction { id },
        };
        let staged = match goal.existence {
            Existence::Gone => taking.send_whole::<Customer>(command).await?,
            Existence::Kept | Existence::Back => taking.send::<Customer>(contact::FIELDS, command).await?,
        };
        if !staged {
            break;
        }
    }
    Ok(())
}

async fn note_back(taking: &mut Taking<'_>, goal: &Goal<'_, Customer>, id: NoteId) -> Result<(), Problem> {
    let by = match notes::somebody(taking.caller) {
        Ok(by) => by,
        Err(problem) => return taking.keep_whole(problem),
    };
    if goal.then.note(id).is_some_and(|(then, _)| !then.is_seen_by(by)) {
        let detail = "the note was private then, and what it said is for its author alone to bring back";
        return taking.keep_whole(Problem::conflict("private_then", detail));
    }
    if goal.existence == Existence::Back
        && !taking.send_whole::<Customer>(CustomerCommand::RestoreNote { id, by }).await?
    {
        return Ok(());
    }
    if let Some((then, _)) = goal.then.note(id) {
        let edit = |fields: &Fields| {
            let patch = NotePatch {
                title: to_then(fields, "title", then.title.clone().map(Personal::into_inner)),
                content: to_then(fields, "content", Some(then.content.clone().into_inner())),
                private: to_then(fields, "private", Some(then.private)),
            };
            CustomerCommand::EditNote { id, by, patch }
        };
        taking.patch::<Customer>(&among(&goal.fields, NOTE), edit).await?;
    }
    if goal.existence == Existence::Gone {
        taking.send_whole::<Customer>(CustomerCommand::RemoveNote { id, by }).await?;
    }
    Ok(())
}

fn of_note(note: &Note, deleted: bool) -> Facet {
    let fields =
        [("title", shown(note.title.as_deref())), ("content", shown(&*note.content)), ("private", shown(note.private))];
    Facet { fields: fields.into(), deleted, ..Facet::default() }
}
