//! A customer: a client of a tenant, a record in its CRM. Never signs in.
//!
//! ```text
//! register ─────────┐                 ┌─► merge into another ─► gone
//! lead converted ───┴─► customer ─────┤
//!                          ▲          └─► delete ─► gone
//!                          └──────── restore ────────┘
//! ```

mod commands;
mod details;
mod events;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use rpds::{RedBlackTreeMapSync, RedBlackTreeSetSync};
use serde::{Deserialize, Serialize};

pub use commands::{CustomerCommand, CustomerError};
pub use details::{CustomerChanges, CustomerDetails, CustomerFacts, CustomerPatch, Note, NoteChanges, NotePatch};
pub use events::CustomerEvent;

use super::contract::event_sourced;
use super::ids::{CustomerId, LeadId, NoteId, UserId};
use super::interaction::{Interaction, Interactions};
use super::values::{CustomerStatus, InteractionStatus, Personal};

/// A customer as it stands; the default is one that is not there.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Customer {
    /// What is known of it; none before it was registered.
    pub facts: Option<CustomerFacts>,
    /// Where it stands.
    pub status: CustomerStatus,
    /// Who takes care of it.
    pub owner: Option<UserId>,
    /// The leads that became or turned out to be this customer.
    pub leads: RedBlackTreeSetSync<LeadId>,
    /// The contact there was and will be.
    pub interactions: Interactions,
    /// What was written down.
    pub notes: RedBlackTreeMapSync<NoteId, Note>,
    /// What was written down and taken away.
    pub removed_notes: RedBlackTreeMapSync<NoteId, Note>,
    /// The records of the same customer that were taken in.
    pub absorbed: BTreeSet<CustomerId>,
    /// The record that took its place.
    pub merged_into: Option<CustomerId>,
    /// Whether it was taken away.
    pub deleted: bool,
}

event_sourced!(Customer, "Customer", CustomerCommand, CustomerEvent, CustomerError);

impl Customer {
    /// The rules. No clock, no I/O.
    ///
    /// # Errors
    /// The rule that forbids it.
    pub fn decide(&self, command: CustomerCommand) -> Result<Vec<CustomerEvent>, CustomerError> {
        let Some(facts) = &self.facts else { return register(command) };
        match (self.merged_into, command) {
            (Some(into), CustomerCommand::MergeInto { into: same, .. }) if into == same => Ok(vec![]),
            (Some(into), _) => Err(CustomerError::Merged { into }),
            (None, CustomerCommand::Restore {}) => {
                Ok(self.deleted.then_some(CustomerEvent::Restored {}).into_iter().collect())
            }
            (None, _) if self.deleted => Err(CustomerError::NotFound),
            (None, command) => self.decide_present(facts, command),
        }
    }

    fn decide_present(
        &self,
        facts: &CustomerFacts,
        command: CustomerCommand,
    ) -> Result<Vec<CustomerEvent>, CustomerError> {
        let event = match command {
            CustomerCommand::Register { .. } => return Err(CustomerError::AlreadyExists),
            CustomerCommand::RegisterFromLead { lead, .. } if self.leads.contains(&lead) => None,
            CustomerCommand::RegisterFromLead { .. } => return Err(CustomerError::AlreadyExists),
            CustomerCommand::LinkLead { lead, interactions } => return Ok(self.link(lead, interactions)),
            CustomerCommand::ChangeDetails(patch) => {
                let changes = patch.changes_to(facts)?;
                (!changes.is_empty()).then_some(CustomerEvent::DetailsChanged { changes })
            }
            CustomerCommand::ChangeStatus { status } => {
                (status != self.status).then_some(CustomerEvent::StatusChanged { from: self.status, to: status })
            }
            CustomerCommand::ChangeOwner { owner } => {
                (owner != self.owner).then_some(CustomerEvent::OwnerChanged { owner })
            }
            CustomerCommand::MergeInto { this, into } if this == into => return Err(CustomerError::MergedIntoItself),
            CustomerCommand::MergeInto { into, .. } => Some(CustomerEvent::MergedInto { into }),
            CustomerCommand::Absorb { other, interactions, notes } => {
                (!self.absorbed.contains(&other)).then_some(CustomerEvent::Absorbed { other, interactions, notes })
            }
            CustomerCommand::Delete { has_unpaid_invoice: true } => return Err(CustomerError::UnpaidInvoice),
            CustomerCommand::Delete { has_unpaid_invoice: false } => Some(CustomerEvent::Deleted {}),
            CustomerCommand::AddNote { .. }
            | CustomerCommand::EditNote { .. }
            | CustomerCommand::RemoveNote { .. }
            | CustomerCommand::RestoreNote { .. } => self.decide_note(command)?,
            other => self.decide_interaction(other)?,
        };
        Ok(event.into_iter().collect())
    }

    fn link(&self, lead: LeadId, interactions: Vec<Interaction>) -> Vec<CustomerEvent> {
        if self.leads.contains(&lead) {
            return vec![];
        }
        vec![CustomerEvent::LeadLinked { lead }, CustomerEvent::HistoryCarriedOver { lead, interactions }]
    }

    fn decide_interaction(&self, command: CustomerCommand) -> Result<Option<CustomerEvent>, CustomerError> {
        Ok(match command {
            CustomerCommand::LogInteraction { id, details, by, at } => {
                self.interactions.vacant(id)?;
                Some(CustomerEvent::InteractionLogged { id, facts: details.into(), by, completed_at: at })
            }
            CustomerCommand::ScheduleInteraction { id, details, by, scheduled_at } => {
                self.interactions.vacant(id)?;
                Some(CustomerEvent::InteractionScheduled { id, facts: details.into(), by, scheduled_at })
            }
            CustomerCommand::CompleteInteraction { id, outcome, hours, at } => {
                self.interactions.completable(id)?;
                let outcome = outcome.map(Personal::new);
                Some(CustomerEvent::InteractionCompleted { id, outcome, hours, completed_at: at })
            }
            CustomerCommand::CancelInteraction { id } => {
                self.interactions.cancellable(id)?.then_some(CustomerEvent::InteractionCancelled { id })
            }
            CustomerCommand::ReopenInteraction { id, outcome, hours } => {
                let outcome = outcome.map(Personal::new);
                self.interactions.reopenable(id)?.then_some(CustomerEvent::InteractionReopened { id, outcome, hours })
            }
            _ => None,
        })
    }

    fn decide_note(&self, command: CustomerCommand) -> Result<Option<CustomerEvent>, CustomerError> {
        Ok(match command {
            CustomerCommand::AddNote { id, author, title, content, private } => {
                if self.notes.contains_key(&id) || self.removed_notes.contains_key(&id) {
                    return Err(CustomerError::NoteExists(id));
                }
                let (title, content) = (title.map(Personal::new), content.into());
                Some(CustomerEvent::NoteAdded { note: Note { id, author, title, content, private } })
            }
            CustomerCommand::EditNote { id, by, patch } => {
                let note = self.note_seen_by(id, by)?;
                let changes = patch.changes_to(note)?;
                // A note that somebody else hid would be lost to everyone but its author, who did not ask for it.
                if changes.private.as_set() == Some(&true) && note.author != by {
                    return Err(CustomerError::NotTheAuthor);
                }
                (!changes.is_empty()).then_some(CustomerEvent::NoteEdited { id, changes })
            }
            CustomerCommand::RemoveNote { id, by } => {
                self.note_seen_by(id, by)?;
                Some(CustomerEvent::NoteRemoved { id })
            }
            CustomerCommand::RestoreNote { id, by } => match self.removed_notes.get(&id) {
                Some(note) if note.is_seen_by(by) => Some(CustomerEvent::NoteRestored { id }),
                _ => {
                    self.note_seen_by(id, by)?;
                    None
                }
            },
            _ => None,
        })
    }

    /// A note, and whether it was taken away.
    #[must_use]
    pub fn note(&self, id: NoteId) -> Option<(&Note, bool)> {
        let removed = || self.removed_notes.get(&id).map(|note| (note, true));
        self.notes.get(&id).map(|note| (note, false)).or_else(removed)
    }

    /// A note that this user may know of: a private one is its author's alone.
    fn note_seen_by(&self, id: NoteId, user: UserId) -> Result<&Note, CustomerError> {
        self.notes.get(&id).filter(|note| note.is_seen_by(user)).ok_or(CustomerError::NoteNotFound(id))
    }

    fn evolve(&mut self, event: CustomerEvent) {
        match event {
            CustomerEvent::Registered { facts, status, owner, from_lead } => {
                self.facts = Some(facts);
                self.status = status;
                self.owner = owner;
                if let Some(lead) = from_lead {
                    self.leads.insert_mut(lead);
                }
            }
            CustomerEvent::DetailsChanged { changes } => {
                if let Some(facts) = &mut self.facts {
                    changes.apply_to(facts);
                }
            }
            CustomerEvent::StatusChanged { to, .. } => self.status = to,
            CustomerEvent::OwnerChanged { owner } => self.owner = owner,
            CustomerEvent::InteractionLogged { id, facts, by, completed_at } => {
                self.interactions.put(Interaction::logged(id, facts, by, completed_at));
            }
            CustomerEvent::InteractionScheduled { id, facts, by, scheduled_at } => {
                self.interactions.put(Interaction::scheduled(id, facts, by, scheduled_at));
            }
            CustomerEvent::InteractionCompleted { id, outcome, hours, completed_at } => {
                if let Some(interaction) = self.interactions.get_mut(id) {
                    interaction.complete(completed_at, outcome, hours);
                }
            }
            CustomerEvent::InteractionCancelled { id } => {
                if let Some(interaction) = self.interactions.get_mut(id) {
                    interaction.status = InteractionStatus::Cancelled;
                }
            }
            CustomerEvent::InteractionReopened { id, outcome, hours } => {
                if let Some(interaction) = self.interactions.get_mut(id) {
                    interaction.reopen(outcome, hours);
                }
            }
            CustomerEvent::NoteAdded { note } => {
                self.notes.insert_mut(note.id, note);
            }
            CustomerEvent::NoteEdited { id, changes } => {
                if let Some(note) = self.notes.get_mut(&id) {
                    changes.apply_to(note);
                }
            }
            CustomerEvent::NoteRemoved { id } => move_note(&mut self.notes, &mut self.removed_notes, id),
            CustomerEvent::NoteRestored { id } => move_note(&mut self.removed_notes, &mut self.notes, id),
            CustomerEvent::LeadLinked { lead } => {
                self.leads.insert_mut(lead);
            }
            CustomerEvent::HistoryCarriedOver { interactions, .. } => self.take_over(interactions),
            CustomerEvent::Absorbed { other, interactions, notes } => {
                self.absorbed.insert(other);
                self.take_over(interactions);
                for note in notes {
                    self.notes.insert_mut(note.id, note);
                }
            }
            CustomerEvent::MergedInto { into } => self.merged_into = Some(into),
            CustomerEvent::Deleted {} => self.deleted = true,
            CustomerEvent::Restored {} => self.deleted = false,
        }
    }

    fn take_over(&mut self, interactions: Vec<Interaction>) {
        for interaction in interactions {
            self.interactions.put(interaction);
        }
    }
}

/// A note from those that are there to those that are not, or back.
fn move_note(from: &mut RedBlackTreeMapSync<NoteId, Note>, to: &mut RedBlackTreeMapSync<NoteId, Note>, id: NoteId) {
    if let Some(note) = from.get(&id).cloned() {
        from.remove_mut(&id);
        to.insert_mut(id, note);
    }
}

fn register(command: CustomerCommand) -> Result<Vec<CustomerEvent>, CustomerError> {
    match command {
        CustomerCommand::Register { details, status, owner } => Ok(vec![CustomerEvent::Registered {
            facts: details.into_facts()?,
            status: status.unwrap_or_default(),
            owner,
            from_lead: None,
        }]),
        CustomerCommand::RegisterFromLead { lead, details, status, owner, interactions } => Ok(vec![
            CustomerEvent::Registered {
                facts: details.into_facts()?,
                status: status.unwrap_or_default(),
                owner,
                from_lead: Some(lead),
            },
            CustomerEvent::HistoryCarriedOver { lead, interactions },
        ]),
        _ => Err(CustomerError::NotFound),
    }
}
