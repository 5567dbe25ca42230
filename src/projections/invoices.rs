//! The invoices of a business. Fed by the invoices' events.
//!
//! | event | does |
//! |---|---|
//! | Drafted | the row begins |
//! | Changed | sets what changed, the sums included |
//! | Sent, Viewed, Paid, Voided | sets the status, and when |

use chrono::{DateTime, NaiveDate, Utc};
use rust_decimal::Decimal;
use serde_json::Value;

use super::fact::{Event, Fact};
use super::model::{Projection, Touched};
use super::row::row;
use super::write::{json, text};
use crate::aggregates::invoice::{InvoiceChanges, InvoiceEvent, InvoiceFacts};
use crate::aggregates::values::{InvoiceStatus, Patch};

row! {
    /// An invoice.
    pub struct InvoiceRow in "invoices", "invoice_versions" {
        /// The number on it; its id if it was given none.
        pub number: String,
        /// Who owes it.
        pub customer_id: String,
        /// For which work.
        pub project_id: Option<String>,
        /// In which currency.
        pub currency: String,
        /// What is charged for, each line with its sums; empty if it is a plain amount.
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
        /// Where it stands.
        pub status: String,
        /// When it went to the customer.
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
        /// Who of the business wrote it.
        pub created_by: Option<String>,
    }
}

/// The invoices.
pub struct Invoices;

impl Projection for Invoices {
    type Row = InvoiceRow;
    const NAME: &'static str = "invoices";

    fn touched(fact: &Fact) -> Vec<Touched> {
        match &fact.event {
            Event::Invoice(event) => vec![Touched::of(fact, matches!(event, InvoiceEvent::Drafted { .. }))],
            _ => Vec::new(),
        }
    }

    fn fold(row: Option<InvoiceRow>, id: &str, fact: &Fact) -> Option<InvoiceRow> {
        let Event::Invoice(event) = &fact.event else { return row };
        match (row, event) {
            (None, InvoiceEvent::Drafted { facts }) => Some(drafted(id, facts, fact.recorded.own_actor())),
            (None, _) => None,
            (Some(row), event) => Some(changed(row, id, event, fact.recorded.occurred_at)),
        }
    }
}

fn drafted(id: &str, facts: &InvoiceFacts, by: Option<&str>) -> InvoiceRow {
    InvoiceRow {
        number: facts.number.as_ref().map_or_else(|| id.to_owned(), ToString::to_string),
        customer_id: facts.customer.to_string(),
        project_id: text(facts.project.as_ref()),
        currency: facts.currency.code().to_owned(),
        lines: json(Some(&facts.lines)).unwrap_or_else(none),
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
        created_by: by.map(ToOwned::to_owned),
    }
}

/// No lines.
fn none() -> Value {
    Value::Array(Vec::new())
}

fn changed(mut row: InvoiceRow, id: &str, event: &InvoiceEvent, at: DateTime<Utc>) -> InvoiceRow {
    let status = match event {
        InvoiceEvent::Drafted { .. } => return row,
        InvoiceEvent::Changed { changes } => {
            draft_changed(&mut row, id, changes);
            return row;
        }
        InvoiceEvent::Sent {} => {
            row.sent_at = Some(at);
            InvoiceStatus::Sent
        }
        InvoiceEvent::Viewed {} => {
            row.viewed_at = Some(at);
            InvoiceStatus::Viewed
        }
        InvoiceEvent::Paid { paid_on } => {
            row.paid_on = Some(*paid_on);
            InvoiceStatus::Paid
        }
        InvoiceEvent::Voided {} => {
            row.voided_at = Some(at);
            InvoiceStatus::Void
        }
    };
    row.status = status.to_string();
    row
}

fn draft_changed(row: &mut InvoiceRow, id: &str, changes: &InvoiceChanges) {
    match &changes.number {
        Patch::Unchanged => {}
        Patch::Clear => id.clone_into(&mut row.number),
        Patch::Set(number) => row.number = number.to_string(),
    }
    changes.customer.map(|customer| customer.to_string()).apply_to_required(&mut row.customer_id);
    changes.project.map(|project| project.to_string()).apply_to(&mut row.project_id);
    changes.currency.map(|currency| currency.code().to_owned()).apply_to_required(&mut row.currency);
    if let Patch::Set(lines) = &changes.lines {
        row.lines = json(Some(lines)).unwrap_or_else(none);
    }
    changes.net.clone().map(|net| net.amount()).apply_to_required(&mut row.net);
    changes.tax.clone().map(|tax| tax.amount()).apply_to_required(&mut row.tax);
    changes.total.clone().map(|total| total.amount()).apply_to_required(&mut row.amount);
    changes.issue_date.apply_to_required(&mut row.issue_date);
    changes.due_date.apply_to_required(&mut row.due_date);
    changes.notes.clone().map(|notes| notes.to_string()).apply_to(&mut row.notes);
    changes.terms.clone().map(|terms| terms.to_string()).apply_to(&mut row.terms);
}
