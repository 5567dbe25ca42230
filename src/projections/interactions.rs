//! The contact there was and will be, with leads and customers. Fed by both their events.
//!
//! | event | does |
//! |---|---|
//! | InteractionLogged, InteractionScheduled | the row begins |
//! | InteractionCompleted, InteractionCancelled, InteractionReopened | sets the status, outcome and time |
//! | HistoryCarriedOver, Absorbed | makes each of them the customer's too |

use chrono::{DateTime, NaiveDate, Utc};
use cqrs_es::Aggregate;
use rust_decimal::Decimal;

use super::fact::{Event, Fact, Unread};
use super::model::{Affected, Poison, Projection, Touched};
use super::row::row;
use super::write::text;
use crate::aggregates::customer::{Customer, CustomerEvent};
use crate::aggregates::ids::InteractionId;
use crate::aggregates::interaction::Interaction;
use crate::aggregates::lead::{Lead, LeadEvent};
use crate::aggregates::values::{Hours, InteractionStatus, Personal, Text};

row! {
    /// A call, a meeting, a demo …
    pub struct InteractionRow in "interactions", "interaction_versions" {
        /// The customer it is with.
        pub customer_id: Option<String>,
        /// The lead it is or was with.
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
        /// The time it took.
        pub billable_hours: Option<Decimal>,
        /// Who had or has it.
        pub created_by: Option<String>,
    }
}

/// The interactions.
pub struct Interactions;

/// What an event says of an interaction.
enum Said<'a> {
    /// It is there.
    Begun(Interaction),
    /// It took place.
    Completed { outcome: Option<&'a Personal<Text<2000>>>, hours: Option<Hours>, at: DateTime<Utc> },
    /// It was called off.
    Cancelled,
    /// It is planned still.
    Reopened { outcome: Option<&'a Personal<Text<2000>>>, hours: Option<Hours> },
    /// It is the customer's now.
    Carried(&'a Interaction),
}

impl Projection for Interactions {
    type Row = InteractionRow;
    const NAME: &'static str = "interactions";
    const FED_BY: &'static [&'static str] = &[Lead::TYPE, Customer::TYPE];
    const OF_ITS_AGGREGATE: bool = false;

    fn touched(fact: &Fact) -> Vec<Touched> {
        said(fact)
            .into_iter()
            .map(|(id, said)| match said {
                Said::Begun(_) => Touched::New(id.to_string()),
                _ => Touched::Known(id.to_string()),
            })
            .collect()
    }

    fn affected(unread: &Unread) -> Affected {
        if ![Customer::TYPE, Lead::TYPE].contains(&unread.recorded.aggregate_type.as_str()) {
            return Affected::Nothing;
        }
        match unread.kind() {
            "InteractionLogged"
            | "InteractionScheduled"
            | "InteractionCompleted"
            | "InteractionCancelled"
            | "InteractionReopened" => Affected::called::<InteractionId>(unread.member("id").as_ref()),
            "HistoryCarriedOver" | "Absorbed" => {
                Affected::each::<InteractionId>(unread.member("interactions").as_ref())
            }
            _ if unread.is_of_known_type() => Affected::Nothing,
            _ => Affected::Unknown,
        }
    }

    fn fold(row: Option<InteractionRow>, id: &str, fact: &Fact) -> Result<Option<InteractionRow>, Poison> {
        let Some((_, said)) = said(fact).into_iter().find(|(said_of, _)| said_of.to_string() == id) else {
            return Ok(row);
        };
        let (customer, lead) = with(fact);
        Ok(match (row, said) {
            (None, Said::Begun(interaction)) => Some(begun(&interaction, customer, lead)),
            (None, Said::Carried(interaction)) => Some(begun(interaction, customer, None)),
            (None, _) => return Err(Poison::absent()),
            (Some(mut row), Said::Carried(_)) => {
                row.customer_id = customer;
                Some(row)
            }
            (Some(mut row), Said::Completed { outcome, hours, at }) => {
                row.status = InteractionStatus::Completed.to_string();
                row.completed_at = Some(at);
                row.outcome = text(outcome.map(|outcome| &**outcome)).or(row.outcome);
                row.billable_hours = hours.map(Hours::value).or(row.billable_hours);
                Some(row)
            }
            (Some(mut row), Said::Cancelled) => {
                row.status = InteractionStatus::Cancelled.to_string();
                Some(row)
            }
            (Some(mut row), Said::Reopened { outcome, hours }) => {
                row.status = InteractionStatus::Scheduled.to_string();
                row.completed_at = None;
                row.outcome = text(outcome.map(|outcome| &**outcome));
                row.billable_hours = hours.map(Hours::value);
                Some(row)
            }
            (Some(row), Said::Begun(_)) => Some(row),
        })
    }
}

/// The customer and the lead that an event's aggregate is.
fn with(fact: &Fact) -> (Option<String>, Option<String>) {
    let id = fact.recorded.local_id().to_owned();
    match &fact.event {
        Event::Customer(_) => (Some(id), None),
        Event::Lead(_) => (None, Some(id)),
        _ => (None, None),
    }
}

fn said(fact: &Fact) -> Vec<(InteractionId, Said<'_>)> {
    match &fact.event {
        Event::Lead(event) => match event {
            LeadEvent::InteractionLogged { id, facts, by, completed_at } => {
                vec![(*id, Said::Begun(Interaction::logged(*id, facts.clone(), *by, *completed_at)))]
            }
            LeadEvent::InteractionScheduled { id, facts, by, scheduled_at } => {
                vec![(*id, Said::Begun(Interaction::scheduled(*id, facts.clone(), *by, *scheduled_at)))]
            }
            LeadEvent::InteractionCompleted { id, outcome, hours, completed_at } => {
                vec![(*id, Said::Completed { outcome: outcome.as_ref(), hours: *hours, at: *completed_at })]
            }
            LeadEvent::InteractionCancelled { id } => vec![(*id, Said::Cancelled)],
            LeadEvent::InteractionReopened { id, outcome, hours } => {
                vec![(*id, Said::Reopened { outcome: outcome.as_ref(), hours: *hours })]
            }
            _ => Vec::new(),
        },
        Event::Customer(event) => match event {
            CustomerEvent::InteractionLogged { id, facts, by, completed_at } => {
                vec![(*id, Said::Begun(Interaction::logged(*id, facts.clone(), *by, *completed_at)))]
            }
            CustomerEvent::InteractionScheduled { id, facts, by, scheduled_at } => {
                vec![(*id, Said::Begun(Interaction::scheduled(*id, facts.clone(), *by, *scheduled_at)))]
            }
            CustomerEvent::InteractionCompleted { id, outcome, hours, completed_at } => {
                vec![(*id, Said::Completed { outcome: outcome.as_ref(), hours: *hours, at: *completed_at })]
            }
            CustomerEvent::InteractionCancelled { id } => vec![(*id, Said::Cancelled)],
            CustomerEvent::InteractionReopened { id, outcome, hours } => {
                vec![(*id, Said::Reopened { outcome: outcome.as_ref(), hours: *hours })]
            }
            CustomerEvent::HistoryCarriedOver { interactions, .. } | CustomerEvent::Absorbed { interactions, .. } => {
                interactions.iter().map(|interaction| (interaction.id, Said::Carried(interaction))).collect()
            }
            _ => Vec::new(),
        },
        _ => Vec::new(),
    }
}

fn begun(interaction: &Interaction, customer_id: Option<String>, lead_id: Option<String>) -> InteractionRow {
    let facts = &interaction.facts;
    InteractionRow {
        customer_id,
        lead_id,
        interaction_type: facts.kind.to_string(),
        subject: Some(facts.subject.to_string()),
        description: text(facts.description.as_deref()),
        outcome: text(facts.outcome.as_deref()),
        priority: facts.priority.to_string(),
        status: interaction.status.to_string(),
        scheduled_at: interaction.scheduled_at,
        completed_at: interaction.completed_at,
        follow_up_date: facts.follow_up_date,
        billable: facts.billable,
        billable_hours: facts.hours.map(Hours::value),
        created_by: text(interaction.by.as_ref()),
    }
}
