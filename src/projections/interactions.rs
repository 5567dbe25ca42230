//! Calls, meetings and all other contact, one by one. Fed by the events of customers and leads.
//!
//! | event | does |
//! |---|---|
//! | InteractionLogged, InteractionScheduled | the row begins |
//! | InteractionCompleted, InteractionCancelled | sets the status, and what came of it |
//! | HistoryCarriedOver | the customer takes over the contact with its lead |
//! | Absorbed | the surviving customer takes over the contact with the other record |

use chrono::{DateTime, NaiveDate, Utc};
use rust_decimal::Decimal;

use super::fact::{Event, Fact};
use super::model::{Projection, Touched};
use super::row::row;
use super::write::text;
use crate::aggregates::customer::CustomerEvent;
use crate::aggregates::ids::{InteractionId, UserId};
use crate::aggregates::interaction::{Interaction, InteractionFacts};
use crate::aggregates::lead::LeadEvent;
use crate::aggregates::values::{Hours, InteractionStatus, Personal, Text};

row! {
    /// An interaction.
    pub struct InteractionRow in "interactions", "interaction_versions" {
        /// The customer.
        pub customer_id: Option<String>,
        /// The lead.
        pub lead_id: Option<String>,
        /// What kind of contact.
        pub interaction_type: String,
        /// What it is about.
        pub subject: Option<String>,
        /// In more words.
        pub description: Option<String>,
        /// What came of it.
        pub outcome: Option<String>,
        /// How much it presses.
        pub priority: String,
        /// Whether it took place.
        pub status: String,
        /// When it was to take place.
        pub scheduled_at: Option<DateTime<Utc>>,
        /// When it did.
        pub completed_at: Option<DateTime<Utc>>,
        /// When to come back to it.
        pub follow_up_date: Option<NaiveDate>,
        /// Whether the customer pays for the time.
        pub billable: bool,
        /// The time it took, in hours.
        pub billable_hours: Option<Decimal>,
        /// Who had or will have it.
        pub created_by: Option<String>,
    }
}

/// The interactions.
pub struct Interactions;

/// What an event says about contact, whether with a customer or with a lead.
enum Contact<'a> {
    Begins {
        id: InteractionId,
        facts: &'a InteractionFacts,
        by: Option<UserId>,
        status: InteractionStatus,
        scheduled_at: Option<DateTime<Utc>>,
        completed_at: Option<DateTime<Utc>>,
    },
    Completed {
        id: InteractionId,
        outcome: Option<&'a Personal<Text<2000>>>,
        hours: Option<Hours>,
        at: DateTime<Utc>,
    },
    Cancelled(InteractionId),
    /// The customer whose event it is has it from now on.
    TakenOver {
        interactions: &'a [Interaction],
        lead: Option<String>,
    },
}

impl Projection for Interactions {
    type Row = InteractionRow;
    const NAME: &'static str = "interactions";

    fn touched(fact: &Fact) -> Vec<Touched> {
        match contact(&fact.event) {
            None => Vec::new(),
            Some(Contact::Begins { id, .. }) => vec![Touched::New(id.to_string())],
            Some(Contact::Completed { id, .. } | Contact::Cancelled(id)) => vec![Touched::Known(id.to_string())],
            Some(Contact::TakenOver { interactions, .. }) => {
                interactions.iter().map(|interaction| Touched::Known(interaction.id.to_string())).collect()
            }
        }
    }

    fn fold(row: Option<InteractionRow>, id: &str, fact: &Fact) -> Option<InteractionRow> {
        let customer = matches!(fact.event, Event::Customer(_)).then(|| fact.recorded.local_id().to_owned());
        let lead = matches!(fact.event, Event::Lead(_)).then(|| fact.recorded.local_id().to_owned());
        match (row, contact(&fact.event)?) {
            (None, Contact::Begins { facts, by, status, scheduled_at, completed_at, .. }) => {
                let by = text(by.as_ref()).or_else(|| fact.recorded.own_actor().map(ToOwned::to_owned));
                let row = begun(facts, by, status);
                Some(InteractionRow { customer_id: customer, lead_id: lead, scheduled_at, completed_at, ..row })
            }
            (None, Contact::TakenOver { interactions, lead }) => {
                let interaction = interactions.iter().find(|interaction| interaction.id.to_string() == id)?;
                Some(InteractionRow {
                    customer_id: customer,
                    lead_id: lead,
                    scheduled_at: interaction.scheduled_at,
                    completed_at: interaction.completed_at,
                    ..begun(&interaction.facts, text(interaction.by.as_ref()), interaction.status)
                })
            }
            (None, Contact::Completed { .. } | Contact::Cancelled(_)) => None,
            (Some(row), contact) => Some(changed(row, contact, customer)),
        }
    }
}

fn begun(facts: &InteractionFacts, created_by: Option<String>, status: InteractionStatus) -> InteractionRow {
    InteractionRow {
        customer_id: None,
        lead_id: None,
        interaction_type: facts.kind.to_string(),
        subject: Some(facts.subject.to_string()),
        description: text(facts.description.as_deref()),
        outcome: text(facts.outcome.as_deref()),
        priority: facts.priority.to_string(),
        status: status.to_string(),
        scheduled_at: None,
        completed_at: None,
        follow_up_date: facts.follow_up_date,
        billable: facts.billable,
        billable_hours: facts.hours.map(Hours::value),
        created_by,
    }
}

fn changed(mut row: InteractionRow, contact: Contact<'_>, customer: Option<String>) -> InteractionRow {
    match contact {
        Contact::Begins { .. } => {}
        Contact::Completed { outcome, hours, at, .. } => {
            row.status = InteractionStatus::Completed.to_string();
            row.completed_at = Some(at);
            // What is not said stays as it was.
            row.outcome = text(outcome.map(|outcome| &**outcome)).or(row.outcome);
            row.billable_hours = hours.map(Hours::value).or(row.billable_hours);
        }
        Contact::Cancelled(_) => row.status = InteractionStatus::Cancelled.to_string(),
        Contact::TakenOver { lead, .. } => {
            row.customer_id = customer;
            row.lead_id = row.lead_id.or(lead);
        }
    }
    row
}

fn contact(event: &Event) -> Option<Contact<'_>> {
    match event {
        Event::Customer(event) => with_customer(event),
        Event::Lead(event) => with_lead(event),
        _ => None,
    }
}

fn with_customer(event: &CustomerEvent) -> Option<Contact<'_>> {
    Some(match event {
        CustomerEvent::InteractionLogged { id, facts, by, completed_at } => logged(*id, facts, *by, *completed_at),
        CustomerEvent::InteractionScheduled { id, facts, by, scheduled_at } => {
            scheduled(*id, facts, *by, *scheduled_at)
        }
        CustomerEvent::InteractionCompleted { id, outcome, hours, completed_at } => {
            Contact::Completed { id: *id, outcome: outcome.as_ref(), hours: *hours, at: *completed_at }
        }
        CustomerEvent::InteractionCancelled { id } => Contact::Cancelled(*id),
        CustomerEvent::HistoryCarriedOver { lead, interactions } => {
            Contact::TakenOver { interactions, lead: Some(lead.to_string()) }
        }
        CustomerEvent::Absorbed { interactions, .. } => Contact::TakenOver { interactions, lead: None },
        _ => return None,
    })
}

fn with_lead(event: &LeadEvent) -> Option<Contact<'_>> {
    Some(match event {
        LeadEvent::InteractionLogged { id, facts, by, completed_at } => logged(*id, facts, *by, *completed_at),
        LeadEvent::InteractionScheduled { id, facts, by, scheduled_at } => scheduled(*id, facts, *by, *scheduled_at),
        LeadEvent::InteractionCompleted { id, outcome, hours, completed_at } => {
            Contact::Completed { id: *id, outcome: outcome.as_ref(), hours: *hours, at: *completed_at }
        }
        LeadEvent::InteractionCancelled { id } => Contact::Cancelled(*id),
        _ => return None,
    })
}

fn logged(id: InteractionId, facts: &InteractionFacts, by: Option<UserId>, at: DateTime<Utc>) -> Contact<'_> {
    let status = InteractionStatus::Completed;
    Contact::Begins { id, facts, by, status, scheduled_at: None, completed_at: Some(at) }
}

fn scheduled(id: InteractionId, facts: &InteractionFacts, by: Option<UserId>, at: DateTime<Utc>) -> Contact<'_> {
    let status = InteractionStatus::Scheduled;
    Contact::Begins { id, facts, by, status, scheduled_at: Some(at), completed_at: None }
}
