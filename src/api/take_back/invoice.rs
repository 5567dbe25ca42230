//! Invoices: what a draft says goes back; what left the house does not.

use super::{Existence, Facet, Fields, Goal, Past, Record, Taking, among, shown, to_then};
use crate::aggregates::invoice::{Invoice, InvoiceCommand, InvoiceEvent, InvoicePatch};
use crate::aggregates::permission::Permission;
use crate::aggregates::values::{InvoiceStatus, Patch, Personal};
use crate::api::caller::Caller;
use crate::api::invoices::{self, Invoices};
use crate::api::record::{Noun, find};
use crate::api::{App, Problem};

const WRITE: Permission = <Invoices as Noun>::WRITE;

/// What stands or falls together: an amount is one of a currency, and takes the place of lines.
const CHARGED: &[&str] = &["currency", "lines", "amount"];

impl Past for Invoice {
    const NOUN: &'static str = "invoice";

    fn touched(_: &InvoiceEvent) -> Vec<Record> {
        vec![Record::Itself]
    }

    fn facet(&self, record: Record) -> Option<Facet> {
        let facts = self.facts.as_ref().filter(|_| record == Record::Itself)?;
        let lines: Vec<_> = facts.lines.iter().map(|priced| &priced.line).collect();
        let fields = [
            ("number", shown(&facts.number)),
            ("customer_id", shown(facts.customer)),
            ("project_id", shown(facts.project)),
            ("currency", shown(facts.currency)),
            ("lines", shown(lines)),
            ("amount", shown(&facts.total)),
            ("issue_date", shown(facts.issue_date)),
            ("due_date", shown(facts.due_date)),
            ("notes", shown(facts.notes.as_deref())),
            ("terms", shown(&facts.terms)),
        ];
        let fixed = [("status", shown(self.status)), ("paid_on", shown(self.paid_on))];
        Some(Facet { fields: fields.into(), fixed: fixed.into(), deleted: false })
    }

    fn is_gone(&self, _: Record) -> bool {
        self.status == InvoiceStatus::Void
    }

    fn stays(&self, _: &str) -> Problem {
        let (rule, sentence) = match self.status {
            InvoiceStatus::Draft | InvoiceStatus::Sent | InvoiceStatus::Viewed => {
                ("already_sent", "an invoice that was sent stays sent; void it, and write another")
            }
            InvoiceStatus::Paid => ("already_paid", "an invoice that was paid stays paid"),
            InvoiceStatus::Void => ("invoice_void", "an invoice that was voided stays void; write another"),
        };
        Problem::conflict(rule, sentence)
    }

    async fn allow(&self, app: &App, caller: &Caller, id: &str, _: Record) -> Result<(), Problem> {
        find::<Invoices>(app, caller, id).await?.require(caller, WRITE)
    }

    async fn bring_back(taking: &mut Taking<'_>, goal: &Goal<'_, Self>) -> Result<(), Problem> {
        if goal.existence == Existence::Gone {
            return taking.send_whole::<Self>(InvoiceCommand::Void {}).await.map(drop);
        }
        let mut fields = goal.fields.clone();
        let customer = goal.then.facts.as_ref().map(|facts| facts.customer);
        let project = goal.then.facts.as_ref().and_then(|facts| facts.project);
        for (field, customer, project) in [("customer_id", customer, None), ("project_id", None, project)] {
            if fields.contains(field) {
                let relied = invoices::rely_on(taking.app, taking.caller, taking.work, customer, project).await;
                if !taking.allowed(&[field], relied)? {
                    fields.remove(field);
                }
            }
        }
        if !among(&fields, CHARGED).is_empty() {
            let charged = CHARGED.iter().copied().filter(|field| goal.fields.contains(field)).collect::<Vec<_>>();
            let others: Fields = fields.iter().copied().filter(|field| !CHARGED.contains(field)).collect();
            let whole: Fields = others.iter().chain(CHARGED).copied().collect();
            // All at once, since dates and sums may only fit together; else what is charged by itself.
            let all = taking.work.execute::<Self>(taking.work.stream::<Self>(taking.id), patch(&whole, goal.then));
            if all.await.is_ok() {
                return Ok(());
            }
            taking.send::<Self>(&charged, patch(&among(&whole, CHARGED), goal.then)).await?;
            fields = others;
        }
        taking.patch::<Self>(&fields, |fields| patch(fields, goal.then)).await
    }
}

fn patch(fields: &Fields, then: &Invoice) -> InvoiceCommand {
    let Some(facts) = then.facts.clone() else { return InvoiceCommand::Change(InvoicePatch::default()) };
    let lines: Vec<_> = facts.lines.into_iter().map(|priced| priced.line).collect();
    let (lines, amount) = match (fields.contains("lines"), lines.is_empty()) {
        (false, _) => (Patch::Unchanged, Patch::Unchanged),
        (true, true) => (Patch::Clear, Patch::Set(facts.total)),
        (true, false) => (Patch::Set(lines), Patch::Unchanged),
    };
    InvoiceCommand::Change(InvoicePatch {
        number: to_then(fields, "number", facts.number),
        customer: to_then(fields, "customer_id", Some(facts.customer)),
        project: to_then(fields, "project_id", facts.project),
        currency: to_then(fields, "currency", Some(facts.currency)),
        lines,
        amount,
        issue_date: to_then(fields, "issue_date", Some(facts.issue_date)),
        due_date: to_then(fields, "due_date", Some(facts.due_date)),
        notes: to_then(fields, "notes", facts.notes.map(Personal::into_inner)),
        terms: to_then(fields, "terms", facts.terms),
    })
}
