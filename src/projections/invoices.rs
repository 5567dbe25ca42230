//! The invoices of a business. Fed by the invoices' events.
//!
//! | event | does |
//! |---|---|
//! | Drafted | the row begins |
//! | Changed | sets what changed, the sums included |
//! | Sent, Viewed, Paid, Voided | sets the status, and when |

use chrono::{DateTime, NaiveDate, Utc};
use cqrs_es::Aggregate;
use rust_decimal::Decimal;
use serde_json::Value;

use super::fact::{Event, Fact, Unread};
use super::model::{Affected, Poison, Projection, Touched};
use super::row::row;
use super::write::{json, text};
use crate::aggregates::ids::InvoiceId;
use crate::aggregates::invoice::{Invoice, InvoiceChanges, InvoiceEvent, InvoiceFacts};
use crate::aggregates::values::{InvoiceStatus, Patch};

row! {
    /// An invoice.
    pub struct InvoiceRow in "invoices", "invoice_versions" searched InvoiceId [number, notes] {
        /// The number on it: the one that was given, else its id, which no other may be given.
        pub number: String,
        /// Who owes it.
        pub customer_id: String,
        /// For which work.
        pub project_id: Option<String>,
        /// In which currency.
        pub currency: String,
        /// What is charged for, with the sums of each line.
        pub lines: Value,
        /// The sum without tax.
        pub net: Decimal,
        /// The tax.
        pub tax: Decimal,
        /// What is owed.
        pub amount: Decimal,
        /// When it was written.
        pub issue_date: NaiveDate,
        /// When it is to be paid.
        pub due_date: NaiveDate,
        /// How far it is; overdue is worked out.
        pub status: String,
        /// When it was sent.
        pub sent_at: Option<DateTime<Utc>>,
        /// When the customer looked at it.
        pub viewed_at: Option<DateTime<Utc>>,
        /// When the money came.
        pub paid_on: Option<NaiveDate>,
        /// When it was withdrawn.
        pub voided_at: Option<DateTime<Utc>>,
        /// Words to the customer.
        pub notes: Option<String>,
        /// Terms of payment.
        pub terms: Option<String>,
        /// Who wrote it.
        pub created_by: Option<String>,
    }
}

/// The invoices.
pub struct Invoices;

impl Projection for Invoices {
    type Row = InvoiceRow;
    const NAME: &'static str = "invoices";
    const FED_BY: &'static [&'static str] = &[Invoice::TYPE];
    const USES_METADATA: bool = true;

    fn touched(fact: &Fact) -> Vec<Touched> {
        match &fact.event {
            Event::Invoice(event) => vec![Touched::of(fact, matches!(event, InvoiceEvent::Drafted { .. }))],
            _ => Vec::new(),
        }
    }

    fn affected(unread: &Unread) -> Affected {
        Affected::aggregate::<Invoice>(unread)
    }

    fn fold(row: Option<InvoiceRow>, id: &str, fact: &Fact) -> Result<Option<InvoiceRow>, Poison> {
        let Event::Invoice(event) = &fact.event else { return Ok(row) };
        Ok(match (row, event) {
            (None, InvoiceEvent::Drafted { facts }) => {
                Some(drafted(facts, id, fact.recorded.own_actor().map(str::to_owned)))
            }
            (None, _) => return Err(Poison::absent()),
            (Some(row), event) => Some(changed(row, event, id, fact.recorded.occurred_at)),
        })
    }
}

fn drafted(facts: &InvoiceFacts, id: &str, created_by: Option<String>) -> InvoiceRow {
    InvoiceRow {
        number: text(facts.number.as_ref()).unwrap_or_else(|| id.to_owned()),
        customer_id: facts.customer.to_string(),
        project_id: text(facts.project.as_ref()),
        currency: facts.currency.code().to_owned(),
        lines: json(Some(&facts.lines)).unwrap_or_default(),
        net: facts.net.amount(),
        tax: facts.tax.amount(),
        amount: facts.total.amount(),
        issue_date: facts.issue_date,
        due_date: facts.due_date,
        status: InvoiceStatus::Draft.to_string(),
        sent_at: None,
        viewed_at: None,
        paid_on: None,
        voided_at: None,
        notes: text(facts.notes.as_deref()),
        terms: text(facts.terms.as_ref()),
        created_by,
    }
}

fn changed(mut row: InvoiceRow, event: &InvoiceEvent, id: &str, at: DateTime<Utc>) -> InvoiceRow {
    match event {
        InvoiceEvent::Drafted { .. } => {}
        InvoiceEvent::Changed { changes } => draft_changed(&mut row, changes, id),
        InvoiceEvent::Sent {} => {
            row.status = InvoiceStatus::Sent.to_string();
            row.sent_at = Some(at);
        }
        InvoiceEvent::Viewed {} => {
            row.status = InvoiceStatus::Viewed.to_string();
            row.viewed_at = Some(at);
        }
        InvoiceEvent::Paid { paid_on } => {
            row.status = InvoiceStatus::Paid.to_string();
            row.paid_on = Some(*paid_on);
        }
        InvoiceEvent::Voided {} => {
            row.status = InvoiceStatus::Void.to_string();
            row.voided_at = Some(at);
        }
    }
    row
}

fn draft_changed(row: &mut InvoiceRow, changes: &InvoiceChanges, id: &str) {
    match &changes.number {
        Patch::Unchanged => {}
        Patch::Clear => row.number = id.to_owned(),
        Patch::Set(number) => row.number = number.to_string(),
    }
    changes.customer.map(|customer| customer.to_string()).apply_to_required(&mut row.customer_id);
    changes.project.map(|project| project.to_string()).apply_to(&mut row.project_id);
    changes.currency.map(|currency| currency.code().to_owned()).apply_to_required(&mut row.currency);
    match &changes.lines {
        Patch::Unchanged => {}
        Patch::Clear => row.lines = Value::Array(Vec::new()),
        Patch::Set(lines) => row.lines = json(Some(lines)).unwrap_or_default(),
    }
    changes.net.as_set().map(|net| net.amount()).into_iter().for_each(|net| row.net = net);
    changes.tax.as_set().map(|tax| tax.amount()).into_iter().for_each(|tax| row.tax = tax);
    changes.total.as_set().map(|total| total.amount()).into_iter().for_each(|total| row.amount = total);
    changes.issue_date.apply_to_required(&mut row.issue_date);
    changes.due_date.apply_to_required(&mut row.due_date);
    changes.notes.clone().map(|notes| notes.to_string()).apply_to(&mut row.notes);
    changes.terms.clone().map(|terms| terms.to_string()).apply_to(&mut row.terms);
}
