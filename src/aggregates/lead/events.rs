//! What can have happened to a lead.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use strum::{IntoStaticStr, VariantNames};

use super::details::{LeadChanges, LeadFacts, ScoreInputs};
use crate::aggregates::ids::{CustomerId, InteractionId, UserId};
use crate::aggregates::interaction::InteractionFacts;
use crate::aggregates::values::{Hours, LeadStage, Percent, Personal, Qualification, Score, Text};

/// What happened to a lead.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, IntoStaticStr, VariantNames)]
pub enum LeadEvent {
    /// It came in.
    Captured {
        /// What is known of it.
        #[serde(flatten)]
        facts: LeadFacts,
        /// An open stage.
        stage: LeadStage,
        /// What is thought of it.
        qualification: Qualification,
        /// How likely it is won.
        probability: Percent,
        /// Whether somebody said so; else it is the stage's default, and follows the stage.
        probability_set_by_hand: bool,
        /// Who takes care of it.
        #[serde(default)]
        assignee: Option<UserId>,
    },
    /// Something else is known of it now.
    DetailsChanged {
        /// What really changed.
        changes: LeadChanges,
    },
    /// Somebody else, or nobody, takes care of it.
    Assigned {
        /// Who does.
        #[serde(default)]
        assignee: Option<UserId>,
    },
    /// It was qualified.
    Qualified {
        /// What is thought of it.
        qualification: Qualification,
    },
    /// It moved from one open stage to another.
    StageChanged {
        /// Where it was.
        from: LeadStage,
        /// Where it is.
        to: LeadStage,
        /// How likely it is won now.
        probability: Percent,
    },
    /// It was scored.
    Scored {
        /// By what; none for a score that was known without them.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        inputs: Option<ScoreInputs>,
        /// What came out.
        score: Score,
    },
    /// It is not scored after all.
    ScoreCleared {},
    /// There was contact.
    InteractionLogged {
        /// The interaction's id.
        id: InteractionId,
        /// What is known of it.
        #[serde(flatten)]
        facts: InteractionFacts,
        /// Who had it.
        #[serde(default)]
        by: Option<UserId>,
        /// When.
        completed_at: DateTime<Utc>,
    },
    /// There will be contact.
    InteractionScheduled {
        /// The interaction's id.
        id: InteractionId,
        /// What is known of it.
        #[serde(flatten)]
        facts: InteractionFacts,
        /// Who will have it.
        #[serde(default)]
        by: Option<UserId>,
        /// When.
        scheduled_at: DateTime<Utc>,
    },
    /// Scheduled contact took place.
    InteractionCompleted {
        /// The interaction's id.
        id: InteractionId,
        /// What came of it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        outcome: Option<Personal<Text<2000>>>,
        /// The time it took.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        hours: Option<Hours>,
        /// When.
        completed_at: DateTime<Utc>,
    },
    /// Scheduled contact was called off.
    InteractionCancelled {
        /// The interaction's id.
        id: InteractionId,
    },
    /// Scheduled contact that was held to be over is scheduled still.
    InteractionReopened {
        /// The interaction's id.
        id: InteractionId,
        /// What is said about its outcome.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        outcome: Option<Personal<Text<2000>>>,
        /// What is said about its time.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        hours: Option<Hours>,
    },
    /// It became a customer: closed, won, its probability 100.
    Converted {
        /// Which one.
        customer: CustomerId,
    },
    /// It did not: closed, lost, its probability 0.
    Lost {
        /// Why.
        reason: Text<500>,
    },
    /// It is open again after all.
    Reopened {
        /// The last open stage it was in.
        stage: LeadStage,
        /// How likely it is won now.
        probability: Percent,
    },
    /// It was taken away.
    Deleted {},
    /// It was brought back.
    Restored {},
}

impl LeadEvent {
    /// The version of each type's payload; raised together with an upcaster.
    pub(super) fn version(_name: &str) -> &'static str {
        "1"
    }
}
