//! The pipeline: what open leads may be worth, and how long they have been where they are.

use rust_decimal::Decimal;
use serde::Serialize;
use sqlx::FromRow;
use utoipa::ToSchema;

use super::{By, Grouping, Report, Sums};
use crate::aggregates::values::{LeadSource, LeadStage, Qualification};

/// Days at a stage after which a lead is watched, and after which it is late.
const AMBER_DAYS: u32 = 14;
const RED_DAYS: u32 = 30;

/// The report.
#[derive(Debug)]
pub struct Pipeline;

/// What open leads come to.
#[derive(Debug, Default, Serialize, ToSchema)]
pub struct PipelineFigures {
    /// How many there are.
    leads: i64,
    /// What they may be worth.
    value: Sums,
    /// The same, each lead's value weighted by how likely it is won.
    weighted: Sums,
    /// How long they have been at their stages.
    ageing: Ageing,
}

/// How many leads have been at their stage for how long, in days.
#[derive(Debug, Default, Serialize, ToSchema)]
pub struct Ageing {
    /// 14 days at most.
    fresh: i64,
    /// More than 14 days.
    amber: i64,
    /// More than 30 days.
    red: i64,
}

/// A line of the pipeline.
#[derive(Debug, FromRow)]
pub struct Line {
    leads: i64,
    value: Option<Decimal>,
    weighted: Option<Decimal>,
    amber: i64,
    red: i64,
}

impl Report for Pipeline {
    const WHICH: Option<&'static str> = Some("t.stage not in ('closed_won', 'closed_lost')");
    const GROUPING: Grouping = Grouping {
        by: &[
            By::words("stage", LeadStage::WORDS),
            By::words("source", LeadSource::WORDS),
            By::words("qualification", Qualification::WORDS),
            By::column("assignee_id"),
        ],
        default: Some("stage"),
    };
    type Line = Line;
    type Figures = PipelineFigures;

    fn columns() -> String {
        let default: Vec<String> = LeadStage::VARIANTS
            .iter()
            .map(|stage| format!("when '{stage}' then {}", stage.default_probability().value()))
            .collect();
        let days = "asked.day - (t.stage_changed_at at time zone 'UTC')::date";
        format!(
            "count(*) as leads, sum(t.estimated_value) as value,
             round(sum(t.estimated_value * coalesce(t.probability, case t.stage {} end)) / 100, 4) as weighted,
             count(*) filter (where {days} > {AMBER_DAYS} and {days} <= {RED_DAYS}) as amber,
             count(*) filter (where {days} > {RED_DAYS}) as red",
            default.join(" ")
        )
    }

    fn add(figures: &mut PipelineFigures, currency: Option<&str>, line: &Line) {
        figures.leads += line.leads;
        figures.value.add(currency, line.value);
        figures.weighted.add(currency, line.weighted);
        figures.ageing.fresh += line.leads - line.amber - line.red;
        figures.ageing.amber += line.amber;
        figures.ageing.red += line.red;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_about_every_open_stage() {
        for stage in LeadStage::VARIANTS {
            let is_left_out = Pipeline::WHICH.unwrap().contains(&format!("'{stage}'"));
            assert_eq!(stage.is_open(), !is_left_out, "{stage}");
        }
    }
}
