//! What can have happened to a customer.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use strum::{IntoStaticStr, VariantNames};

use super::details::{CustomerChanges, CustomerFacts, Note, NoteChanges};
use crate::aggregates::ids::{CustomerId, InteractionId, LeadId, NoteId, UserId};
use crate::aggregates::interaction::{Interaction, InteractionFacts};
use crate::aggregates::values::{CustomerStatus, Hours, Personal, Text};

/// What happened to a customer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, IntoStaticStr, VariantNames)]
pub enum CustomerEvent {
    /// It was taken into the CRM.
    Registered {
        /// What is known of it.
        #[serde(flatten)]
        facts: CustomerFacts,
        /// Where it stands.
        status: CustomerStatus,
        /// Who takes care of it.
        #[serde(default)]
        owner: Option<UserId>,
        /// The lead it came from.
        #[serde(default)]
        from_lead: Option<LeadId>,
    },
    /// Something else is known of it now.
    DetailsChanged {
        /// What really changed.
        changes: CustomerChanges,
    },
    /// It stands elsewhere.
    StatusChanged {
        /// Where it stood.
        from: CustomerStatus,
        /// Where it stands.
        to: CustomerStatus,
    },
    /// Somebody else, or nobody, takes care of it.
    OwnerChanged {
        /// Who does.
        #[serde(default)]
        owner: Option<UserId>,
    },
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
    /// Somebody wrote something down.
    NoteAdded {
        /// The note.
        #[serde(flatten)]
        note: Note,
    },
    /// A note says something else now.
    NoteEdited {
        /// The note's id.
        id: NoteId,
        /// What really changed.
        changes: NoteChanges,
    },
    /// A note was taken away.
    NoteRemoved {
        /// The note's id.
        id: NoteId,
    },
    /// A note was brought back.
    NoteRestored {
        /// The note's id.
        id: NoteId,
    },
    /// A lead turned out to be this customer.
    LeadLinked {
        /// Which.
        lead: LeadId,
    },
    /// What happened with the lead is part of this customer's history.
    HistoryCarriedOver {
        /// Which lead.
        lead: LeadId,
        /// The contact there was and will be.
        interactions: Vec<Interaction>,
    },
    /// Another record of the same customer was taken in.
    Absorbed {
        /// Which.
        other: CustomerId,
        /// The contact recorded there.
        interactions: Vec<Interaction>,
        /// The notes there.
        notes: Vec<Note>,
    },
    /// Another record of the same customer took its place.
    MergedInto {
        /// Which.
        into: CustomerId,
    },
    /// It was taken away.
    Deleted {},
    /// It was brought back.
    Restored {},
}

impl CustomerEvent {
    /// The version of each type's payload; raised together with an upcaster.
    pub(super) fn version(_name: &str) -> &'static str {
        "1"
    }
}
