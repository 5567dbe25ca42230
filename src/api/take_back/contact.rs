//! Contact with a lead or a customer: it goes back on the same steps for both.

use chrono::{DateTime, Utc};

use super::{Existence, Facet, shown};
use crate::aggregates::interaction::Interaction;
use crate::aggregates::values::InteractionStatus::{Cancelled, Completed, Scheduled};
use crate::aggregates::values::{Hours, Personal, Text};

/// What changes about contact.
pub(super) const FIELDS: &[&str] = &["status", "outcome", "hours"];

/// How contact stands.
pub(super) fn facet(interaction: &Interaction) -> Facet {
    let fields = [
        ("status", shown(interaction.status)),
        ("outcome", shown(interaction.facts.outcome.as_deref())),
        ("hours", shown(interaction.facts.hours)),
    ];
    Facet { fields: fields.into(), ..Facet::default() }
}

/// Whether it was called off.
pub(super) fn is_gone(interaction: &Interaction) -> bool {
    interaction.status == Cancelled
}

/// One step on the way back.
pub(super) enum Step {
    Reopen { outcome: Outcome, hours: Option<Hours> },
    Complete { outcome: Outcome, hours: Option<Hours>, at: DateTime<Utc> },
    Cancel,
}

type Outcome = Option<Text<2000>>;

/// The steps that bring contact from where it stands to where it stood.
pub(super) fn steps(now: Option<Interaction>, then: Option<Interaction>, existence: Existence) -> Vec<Step> {
    let Some(now) = now else { return Vec::new() };
    if existence == Existence::Gone {
        return vec![Step::Cancel];
    }
    let Some(then) = then else { return Vec::new() };
    let (outcome, hours) = (then.facts.outcome.map(Personal::into_inner), then.facts.hours);
    let mut steps = Vec::new();
    if now.status != Scheduled {
        steps.push(Step::Reopen { outcome: outcome.clone(), hours });
    }
    match (then.status, then.completed_at) {
        (Completed, Some(at)) => steps.push(Step::Complete { outcome, hours, at }),
        (Cancelled, _) => steps.push(Step::Cancel),
        (Completed, None) | (Scheduled, _) => {}
    }
    steps
}
