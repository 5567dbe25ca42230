//! The customers of a business. Fed by the customers' events.
//!
//! | event | does |
//! |---|---|
//! | Registered | the row begins |
//! | DetailsChanged, StatusChanged, OwnerChanged | sets what changed |
//! | InteractionLogged, InteractionCompleted, HistoryCarriedOver, Absorbed | moves the last contact |
//! | LeadLinked | adds the lead |
//! | MergedInto | hides it, naming the record that stays |
//! | Deleted, Restored | hides it; shows it again |

use chrono::{DateTime, Utc};
use cqrs_es::Aggregate;
use serde_json::Value;

use super::fact::{Event, Fact, Unread};
use super::model::{Affected, Poison, Projection, Touched};
use super::row::row;
use super::write::{json, patch_json, text};
use crate::aggregates::customer::{Customer, CustomerEvent};
use crate::aggregates::ids::CustomerId;
use crate::aggregates::interaction::Interaction;

row! {
    /// A customer.
    pub struct CustomerRow in "customers", "customer_versions" searched CustomerId [company, name, email] {
        /// The company.
        pub company: Option<String>,
        /// The contact's name.
        pub name: Option<String>,
        /// E-mail.
        pub email: Option<String>,
        /// Telephone.
        pub phone: Option<String>,
        /// Postal address.
        pub address: Option<Value>,
        /// Where it stands.
        pub status: String,
        /// Who takes care of it.
        pub owner_id: Option<String>,
        /// The leads that became or turned out to be it.
        pub lead_ids: Vec<String>,
        /// The record that took its place.
        pub merged_into: Option<String>,
        /// When there was contact last.
        pub last_interaction_at: Option<DateTime<Utc>>,
        /// When it was taken away, or gave way to another.
        pub deleted_at: Option<DateTime<Utc>>,
    }
}

/// The customers.
pub struct Customers;

impl Projection for Customers {
    type Row = CustomerRow;
    const NAME: &'static str = "customers";
    const FED_BY: &'static [&'static str] = &[Customer::TYPE];

    fn touched(fact: &Fact) -> Vec<Touched> {
        match &fact.event {
            Event::Customer(event) => vec![Touched::of(fact, matches!(event, CustomerEvent::Registered { .. }))],
            _ => Vec::new(),
        }
    }

    fn affected(unread: &Unread) -> Affected {
        Affected::aggregate::<Customer>(unread)
    }

    fn fold(row: Option<CustomerRow>, _: &str, fact: &Fact) -> Result<Option<CustomerRow>, Poison> {
        let Event::Customer(event) = &fact.event else { return Ok(row) };
        Ok(match (row, event) {
            (None, CustomerEvent::Registered { facts, status, owner, from_lead }) => Some(CustomerRow {
                company: text(facts.company.as_ref()),
                name: text(facts.name.as_deref()),
                email: text(facts.email.as_deref()),
                phone: text(facts.phone.as_deref()),
                address: json(facts.address.as_deref()),
                status: status.to_string(),
                owner_id: text(owner.as_ref()),
                lead_ids: from_lead.iter().map(ToString::to_string).collect(),
                merged_into: None,
                last_interaction_at: None,
                deleted_at: None,
            }),
            (None, _) => return Err(Poison::absent()),
            (Some(row), event) => Some(changed(row, event, fact.recorded.occurred_at)),
        })
    }
}

fn changed(mut row: CustomerRow, event: &CustomerEvent, at: DateTime<Utc>) -> CustomerRow {
    match event {
        CustomerEvent::DetailsChanged { changes } => {
            changes.company.clone().map(|company| company.to_string()).apply_to(&mut row.company);
            changes.name.clone().map(|name| name.to_string()).apply_to(&mut row.name);
            changes.email.clone().map(|email| email.to_string()).apply_to(&mut row.email);
            changes.phone.clone().map(|phone| phone.to_string()).apply_to(&mut row.phone);
            patch_json(&changes.address, &mut row.address);
        }
        CustomerEvent::StatusChanged { to, .. } => row.status = to.to_string(),
        CustomerEvent::OwnerChanged { owner } => row.owner_id = text(owner.as_ref()),
        CustomerEvent::InteractionLogged { completed_at, .. }
        | CustomerEvent::InteractionCompleted { completed_at, .. } => {
            row.last_interaction_at = row.last_interaction_at.max(Some(*completed_at));
        }
        CustomerEvent::LeadLinked { lead } => row.lead_ids.push(lead.to_string()),
        CustomerEvent::HistoryCarriedOver { interactions, .. } => contacted(&mut row, interactions),
        CustomerEvent::Absorbed { interactions, .. } => contacted(&mut row, interactions),
        CustomerEvent::MergedInto { into } => {
            row.merged_into = Some(into.to_string());
            row.deleted_at = Some(at);
        }
        CustomerEvent::Deleted {} => row.deleted_at = Some(at),
        CustomerEvent::Restored {} => row.deleted_at = None,
        CustomerEvent::Registered { .. }
        | CustomerEvent::InteractionScheduled { .. }
        | CustomerEvent::InteractionCancelled { .. }
        | CustomerEvent::InteractionReopened { .. }
        | CustomerEvent::NoteAdded { .. }
        | CustomerEvent::NoteEdited { .. }
        | CustomerEvent::NoteRemoved { .. }
        | CustomerEvent::NoteRestored { .. } => {}
    }
    row
}

fn contacted(row: &mut CustomerRow, interactions: &[Interaction]) {
    let last = interactions.iter().filter_map(|interaction| interaction.completed_at).max();
    row.last_interaction_at = row.last_interaction_at.max(last);
}
