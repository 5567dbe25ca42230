//! The leads that a salesperson sees. Fed by the leads' events.
//!
//! | event | does |
//! |---|---|
//! | Captured | the row begins |
//! | DetailsChanged | sets what changed |
//! | Assigned, Qualified, Scored | sets assignee, qualification, score with its inputs |
//! | ScoreCleared | takes the score away |
//! | StageChanged | sets stage and probability, and when |
//! | InteractionLogged, InteractionCompleted | moves the last contact |
//! | Converted, Lost, Reopened | closes it with the customer or the reason; opens it again |
//! | Deleted, Restored | hides it; shows it again |

use chrono::{DateTime, NaiveDate, Utc};
use cqrs_es::Aggregate;
use rust_decimal::Decimal;
use serde_json::Value;

use super::fact::{Event, Fact, Unread};
use super::model::{Affected, Poison, Projection, Touched};
use super::row::row;
use super::write::{json, money, patch_json, text};
use crate::aggregates::ids::LeadId;
use crate::aggregates::lead::{Lead, LeadChanges, LeadEvent};
use crate::aggregates::values::{LeadSource, LeadStage, Patch, Percent};

row! {
    /// A lead.
    pub struct LeadRow in "leads", "lead_versions" searched LeadId [name, company, email] {
        /// The contact's name.
        pub name: String,
        /// The company.
        pub company: Option<String>,
        /// What the contact does there.
        pub job_title: Option<String>,
        /// E-mail.
        pub email: Option<String>,
        /// Telephone.
        pub phone: Option<String>,
        /// Postal address.
        pub address: Option<Value>,
        /// How it came in.
        pub source: String,
        /// How far it has come.
        pub stage: String,
        /// What is thought of it.
        pub qualification: String,
        /// What it may be worth.
        pub estimated_value: Option<Decimal>,
        /// In which currency.
        pub currency: Option<String>,
        /// How likely it is won, 0 to 100.
        pub probability: Option<i16>,
        /// When it may be decided.
        pub expected_close_date: Option<NaiveDate>,
        /// How promising it is, 0 to 100.
        pub score: Option<i16>,
        /// What the score was worked out from.
        pub score_inputs: Option<Value>,
        /// Who takes care of it.
        pub assignee_id: Option<String>,
        /// When it came to its stage.
        pub stage_changed_at: DateTime<Utc>,
        /// When there was contact last.
        pub last_contacted_at: Option<DateTime<Utc>>,
        /// When it was converted.
        pub converted_at: Option<DateTime<Utc>>,
        /// The customer it became.
        pub customer_id: Option<String>,
        /// Why it was lost.
        pub lost_reason: Option<String>,
        /// When it was taken away.
        pub deleted_at: Option<DateTime<Utc>>,
    }
}

/// The leads.
pub struct Leads;

impl Projection for Leads {
    type Row = LeadRow;
    const NAME: &'static str = "leads";
    const FED_BY: &'static [&'static str] = &[Lead::TYPE];

    fn touched(fact: &Fact) -> Vec<Touched> {
        match &fact.event {
            Event::Lead(event) => vec![Touched::of(fact, matches!(event, LeadEvent::Captured { .. }))],
            _ => Vec::new(),
        }
    }

    fn affected(unread: &Unread) -> Affected {
        Affected::aggregate::<Lead>(unread)
    }

    fn fold(row: Option<LeadRow>, _: &str, fact: &Fact) -> Result<Option<LeadRow>, Poison> {
        let Event::Lead(event) = &fact.event else { return Ok(row) };
        Ok(match (row, event) {
            (None, LeadEvent::Captured { .. }) => captured(event, fact.recorded.occurred_at),
            (None, _) => return Err(Poison::absent()),
            (Some(row), event) => Some(changed(row, event, fact.recorded.occurred_at)),
        })
    }
}

fn captured(event: &LeadEvent, at: DateTime<Utc>) -> Option<LeadRow> {
    let LeadEvent::Captured { facts, stage, qualification, probability, assignee, .. } = event else { return None };
    let (estimated_value, currency) = money(facts.estimated_value.as_ref());
    Some(LeadRow {
        name: facts.name.to_string(),
        company: text(facts.company.as_ref()),
        job_title: text(facts.job_title.as_deref()),
        email: text(facts.email.as_deref()),
        phone: text(facts.phone.as_deref()),
        address: json(facts.address.as_deref()),
        source: facts.source.to_string(),
        stage: stage.to_string(),
        qualification: qualification.to_string(),
        estimated_value,
        currency,
        probability: Some(percent(*probability)),
        expected_close_date: facts.expected_close_date,
        score: None,
        score_inputs: None,
        assignee_id: text(assignee.as_ref()),
        stage_changed_at: at,
        last_contacted_at: None,
        converted_at: None,
        customer_id: None,
        lost_reason: None,
        deleted_at: None,
    })
}

fn changed(mut row: LeadRow, event: &LeadEvent, at: DateTime<Utc>) -> LeadRow {
    match event {
        LeadEvent::Captured { .. }
        | LeadEvent::InteractionScheduled { .. }
        | LeadEvent::InteractionCancelled { .. }
        | LeadEvent::InteractionReopened { .. } => {}
        LeadEvent::DetailsChanged { changes } => details_changed(&mut row, changes),
        LeadEvent::Assigned { assignee } => row.assignee_id = text(assignee.as_ref()),
        LeadEvent::Qualified { qualification } => row.qualification = qualification.to_string(),
        LeadEvent::StageChanged { to, probability, .. } => moved(&mut row, *to, *probability, at),
        LeadEvent::Scored { inputs, score } => {
            row.score = Some(i16::from(score.value()));
            row.score_inputs = json(inputs.as_ref());
        }
        LeadEvent::ScoreCleared {} => (row.score, row.score_inputs) = (None, None),
        LeadEvent::InteractionLogged { completed_at, .. } | LeadEvent::InteractionCompleted { completed_at, .. } => {
            row.last_contacted_at = row.last_contacted_at.max(Some(*completed_at));
        }
        LeadEvent::Converted { customer } => {
            moved(&mut row, LeadStage::ClosedWon, LeadStage::ClosedWon.default_probability(), at);
            row.converted_at = Some(at);
            row.customer_id = Some(customer.to_string());
        }
        LeadEvent::Lost { reason } => {
            moved(&mut row, LeadStage::ClosedLost, LeadStage::ClosedLost.default_probability(), at);
            row.lost_reason = Some(reason.to_string());
        }
        LeadEvent::Reopened { stage, probability } => {
            moved(&mut row, *stage, *probability, at);
            row.lost_reason = None;
        }
        LeadEvent::Deleted {} => row.deleted_at = Some(at),
        LeadEvent::Restored {} => row.deleted_at = None,
    }
    row
}

fn moved(row: &mut LeadRow, stage: LeadStage, probability: Percent, at: DateTime<Utc>) {
    row.stage = stage.to_string();
    row.probability = Some(percent(probability));
    row.stage_changed_at = at;
}

fn details_changed(row: &mut LeadRow, changes: &LeadChanges) {
    changes.name.clone().map(|name| name.to_string()).apply_to_required(&mut row.name);
    changes.company.clone().map(|company| company.to_string()).apply_to(&mut row.company);
    changes.job_title.clone().map(|title| title.to_string()).apply_to(&mut row.job_title);
    changes.email.clone().map(|email| email.to_string()).apply_to(&mut row.email);
    changes.phone.clone().map(|phone| phone.to_string()).apply_to(&mut row.phone);
    patch_json(&changes.address, &mut row.address);
    match changes.source {
        Patch::Unchanged => {}
        Patch::Clear => row.source = LeadSource::default().to_string(),
        Patch::Set(source) => row.source = source.to_string(),
    }
    if !changes.estimated_value.is_unchanged() {
        (row.estimated_value, row.currency) = money(changes.estimated_value.as_set());
    }
    match &changes.probability {
        Patch::Unchanged => {}
        Patch::Set(by_hand) => row.probability = Some(percent(*by_hand)),
        // It follows the stage again.
        Patch::Clear => {
            let stage = row.stage.parse::<LeadStage>().unwrap_or_default();
            row.probability = Some(percent(stage.default_probability()));
        }
    }
    changes.expected_close_date.apply_to(&mut row.expected_close_date);
}

fn percent(percent: Percent) -> i16 {
    i16::from(percent.value())
}
