//! Conversion: what became of the leads that came in.

use rust_decimal::{Decimal, RoundingStrategy};
use serde::Serialize;
use sqlx::FromRow;
use utoipa::ToSchema;

use super::{By, Grouping, Report};
use crate::aggregates::values::{LeadSource, Qualification};

/// The report.
#[derive(Debug)]
pub struct Conversion;

/// What became of leads. The period of the report is that in which they came in: `created_at[gte]` and `created_at[lt]`.
#[derive(Debug, Default, Serialize, ToSchema)]
pub struct ConversionFigures {
    /// Leads that came in. Each is counted once more below.
    captured: i64,
    /// Those that were converted to customers.
    converted: i64,
    /// Those that were won, and not converted.
    won: i64,
    /// Those that were lost.
    lost: i64,
    /// Those that are open.
    open: i64,
    /// Converted of captured, in per cent, with two decimals; null if none came in.
    #[schema(required, value_type = Option<String>, example = "12.50")]
    rate: Option<Decimal>,
}

/// A line of the conversion.
#[derive(Debug, FromRow)]
pub struct Line {
    captured: i64,
    converted: i64,
    won: i64,
    lost: i64,
}

impl Report for Conversion {
    const WHICH: Option<&'static str> = None;
    const GROUPING: Grouping = Grouping {
        by: &[
            By { name: "month", expression: "to_char(t.created_at at time zone 'UTC', 'YYYY-MM')", order: &[] },
            By::words("source", LeadSource::WORDS),
            By::words("qualification", Qualification::WORDS),
            By::column("assignee_id"),
        ],
        default: None,
    };
    type Line = Line;
    type Figures = ConversionFigures;

    fn columns() -> String {
        let not_converted = |stage| format!("count(*) filter (where t.converted_at is null and t.stage = '{stage}')");
        format!(
            "count(*) as captured, count(t.converted_at) as converted, {} as won, {} as lost",
            not_converted("closed_won"),
            not_converted("closed_lost")
        )
    }

    fn add(figures: &mut ConversionFigures, _: Option<&str>, line: &Line) {
        figures.captured += line.captured;
        figures.converted += line.converted;
        figures.won += line.won;
        figures.lost += line.lost;
        figures.open += line.captured - line.converted - line.won - line.lost;
        figures.rate = per_cent(figures.converted, figures.captured);
    }
}

/// A part of a whole, rounded half away from zero.
fn per_cent(part: i64, whole: i64) -> Option<Decimal> {
    let exact = (Decimal::from(part) * Decimal::ONE_HUNDRED).checked_div(Decimal::from(whole))?;
    let mut rounded = exact.round_dp_with_strategy(2, RoundingStrategy::MidpointAwayFromZero);
    rounded.rescale(2);
    Some(rounded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_has_two_decimals_and_none_without_a_whole() {
        let shown = |part, whole| per_cent(part, whole).map(|rate| rate.to_string());
        assert_eq!(shown(1, 8).as_deref(), Some("12.50"));
        assert_eq!(shown(2, 3).as_deref(), Some("66.67"));
        assert_eq!(shown(5, 5).as_deref(), Some("100.00"));
        assert_eq!(shown(0, 0), None);
    }
}
