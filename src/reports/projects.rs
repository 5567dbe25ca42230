//! Projects: how many there are, how many are late, and what they may cost and take.

use rust_decimal::Decimal;
use serde::Serialize;
use sqlx::FromRow;
use utoipa::ToSchema;

use super::{By, Grouping, Report, Sums};
use crate::aggregates::values::{Priority, ProjectStatus};

/// The report.
#[derive(Debug)]
pub struct Projects;

/// What projects come to.
#[derive(Debug, Default, Serialize, ToSchema)]
pub struct ProjectsFigures {
    /// How many there are.
    projects: i64,
    /// Those that were due before the day of the report, and are neither completed nor cancelled.
    overdue: i64,
    /// What they may cost.
    budget: Sums,
    /// The time that they may take, in hours, as far as it was estimated.
    #[schema(value_type = String, example = "120.00")]
    estimated_hours: Decimal,
    /// The time that they took so far, in hours.
    #[schema(value_type = String, example = "40.50")]
    logged_hours: Decimal,
}

/// A line of the projects.
#[derive(Debug, FromRow)]
pub struct Line {
    projects: i64,
    overdue: i64,
    budget: Option<Decimal>,
    estimated_hours: Decimal,
    logged_hours: Decimal,
}

impl Report for Projects {
    const WHICH: Option<&'static str> = None;
    const GROUPING: Grouping = Grouping {
        by: &[
            By::words("status", ProjectStatus::WORDS),
            By::words("priority", Priority::WORDS),
            By::column("owner_id"),
        ],
        default: Some("status"),
    };
    type Line = Line;
    type Figures = ProjectsFigures;

    fn columns() -> String {
        let closed = ProjectStatus::VARIANTS.iter().filter(|status| status.is_closed());
        let closed: Vec<String> = closed.map(|status| format!("'{status}'")).collect();
        format!(
            "count(*) as projects, \
             count(*) filter (where t.due_date < asked.day and t.status not in ({})) as overdue, \
             sum(t.budget) as budget, coalesce(sum(t.estimated_hours), 0.00) as estimated_hours, \
             coalesce(sum(t.logged_hours), 0.00) as logged_hours",
            closed.join(", ")
        )
    }

    fn add(figures: &mut ProjectsFigures, currency: Option<&str>, line: &Line) {
        figures.projects += line.projects;
        figures.overdue += line.overdue;
        figures.budget.add(currency, line.budget);
        figures.estimated_hours += line.estimated_hours;
        figures.logged_hours += line.logged_hours;
    }
}
