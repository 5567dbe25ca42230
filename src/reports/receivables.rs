//! Receivables: what customers owe on invoices that were sent, and for how long they should have paid.

use rust_decimal::Decimal;
use serde::Serialize;
use sqlx::FromRow;
use utoipa::ToSchema;

use super::{By, Grouping, Report, Sums};

/// The report.
#[derive(Debug)]
pub struct Receivables;

/// What is owed.
#[derive(Debug, Default, Serialize, ToSchema)]
pub struct ReceivablesFigures {
    /// All that was sent and not paid.
    outstanding: Owed,
    /// What of it should have been paid: it was due before the day of the report.
    overdue: Owed,
    /// The same by how many days ago it was due.
    ageing: OwedFor,
}

/// Invoices, and what is owed on them.
#[derive(Debug, Default, Serialize, ToSchema)]
pub struct Owed {
    /// How many.
    invoices: i64,
    /// How much.
    amount: Sums,
}

/// What is owed, by how many days ago it was due.
#[derive(Debug, Default, Serialize, ToSchema)]
pub struct OwedFor {
    /// It is due on the day of the report, or later.
    not_due: Owed,
    /// It was due at most 30 days ago.
    up_to_30_days: Owed,
    /// 31 to 60 days.
    up_to_60_days: Owed,
    /// 61 to 90 days.
    up_to_90_days: Owed,
    /// More than 90 days.
    over_90_days: Owed,
}

/// In which bucket an invoice is: 0, not due; then up to 30, 60 and 90 days ago; 4, more.
const BUCKET: &str = "width_bucket(asked.day - t.due_date, array[1, 31, 61, 91])";

/// A line of the receivables: the invoices of a bucket.
#[derive(Debug, FromRow)]
pub struct Line {
    bucket: i32,
    invoices: i64,
    amount: Option<Decimal>,
}

impl Report for Receivables {
    const WHICH: Option<&'static str> = Some("t.status in ('sent', 'viewed')");
    const GROUPING: Grouping = Grouping { by: &[By::column("customer_id"), By::column("project_id")], default: None };
    const SPLIT: Option<&'static str> = Some(BUCKET);
    type Line = Line;
    type Figures = ReceivablesFigures;

    fn columns() -> String {
        format!("{BUCKET} as bucket, count(*) as invoices, sum(t.amount) as amount")
    }

    fn add(figures: &mut ReceivablesFigures, currency: Option<&str>, line: &Line) {
        let add = |owed: &mut Owed| {
            owed.invoices += line.invoices;
            owed.amount.add(currency, line.amount);
        };
        add(&mut figures.outstanding);
        if line.bucket > 0 {
            add(&mut figures.overdue);
        }
        let ageing = &mut figures.ageing;
        add(match line.bucket {
            ..=0 => &mut ageing.not_due,
            1 => &mut ageing.up_to_30_days,
            2 => &mut ageing.up_to_60_days,
            3 => &mut ageing.up_to_90_days,
            4.. => &mut ageing.over_90_days,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aggregates::values::InvoiceStatus;

    #[test]
    fn it_is_about_every_status_in_which_money_is_owed() {
        for status in InvoiceStatus::VARIANTS {
            let is_in = Receivables::WHICH.unwrap().contains(&format!("'{status}'"));
            assert_eq!(status.is_outstanding(), is_in, "{status}");
        }
    }
}
