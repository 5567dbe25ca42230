//! What may be asked of a customer, and why it refuses.

use chrono::{DateTime, Utc};

use super::details::{CustomerDetails, CustomerPatch, Note, NotePatch};
use crate::aggregates::Refusal;
use crate::aggregates::ids::{CustomerId, InteractionId, LeadId, NoteId, UserId};
use crate::aggregates::interaction::{Interaction, InteractionDetails, InteractionError};
use crate::aggregates::values::{CustomerStatus, Hours, Text};

/// What may be asked of a customer.
#[derive(Debug, Clone, PartialEq)]
pub enum CustomerCommand {
    /// Take it into the CRM.
    Register {
        /// What is known.
        details: CustomerDetails,
        /// Where it stands; `prospect` when not given.
        status: Option<CustomerStatus>,
        /// Who takes care of it.
        owner: Option<UserId>,
    },
    /// Take it into the CRM as what a lead became; its history begins with the lead's.
    RegisterFromLead {
        /// Which lead.
        lead: LeadId,
        /// What is known.
        details: CustomerDetails,
        /// Where it stands; `prospect` when not given.
        status: Option<CustomerStatus>,
        /// Who takes care of it.
        owner: Option<UserId>,
        /// The contact there was and will be with the lead.
        interactions: Vec<Interaction>,
    },
    /// Note that a lead turned out to be this customer, and take over its history. Asked again, it changes nothing.
    LinkLead {
        /// Which lead.
        lead: LeadId,
        /// The contact there was and will be with the lead.
        interactions: Vec<Interaction>,
    },
    /// Change what is known.
    ChangeDetails(CustomerPatch),
    /// Say where it stands.
    ChangeStatus {
        /// Where.
        status: CustomerStatus,
    },
    /// Let somebody, or nobody, take care of it.
    ChangeOwner {
        /// Who.
        owner: Option<UserId>,
    },
    /// Record contact that took place.
    LogInteraction {
        /// A new id.
        id: InteractionId,
        /// What is known of it.
        details: InteractionDetails,
        /// Who had it.
        by: Option<UserId>,
        /// When.
        at: DateTime<Utc>,
    },
    /// Plan contact.
    ScheduleInteraction {
        /// A new id.
        id: InteractionId,
        /// What is known of it.
        details: InteractionDetails,
        /// Who will have it.
        by: Option<UserId>,
        /// When, past or future.
        scheduled_at: DateTime<Utc>,
    },
    /// Say that planned contact took place.
    CompleteInteraction {
        /// Which.
        id: InteractionId,
        /// What came of it.
        outcome: Option<Text<2000>>,
        /// The time it took.
        hours: Option<Hours>,
        /// When.
        at: DateTime<Utc>,
    },
    /// Call planned contact off.
    CancelInteraction {
        /// Which.
        id: InteractionId,
    },
    /// Plan contact again that was planned and is held to be over: it did not take place, or is not called off.
    ReopenInteraction {
        /// Which.
        id: InteractionId,
        /// What is to be said about its outcome.
        outcome: Option<Text<2000>>,
        /// What is to be said about its time.
        hours: Option<Hours>,
    },
    /// Write something down.
    AddNote {
        /// A new id.
        id: NoteId,
        /// Who writes.
        author: UserId,
        /// A title.
        title: Option<Text<200>>,
        /// What to remember.
        content: Text<10000>,
        /// Whether only the author sees it.
        private: bool,
    },
    /// Change a note.
    EditNote {
        /// Which.
        id: NoteId,
        /// Who changes it.
        by: UserId,
        /// What changes.
        patch: NotePatch,
    },
    /// Take a note away.
    RemoveNote {
        /// Which.
        id: NoteId,
        /// Who takes it away.
        by: UserId,
    },
    /// Bring a note back that was taken away.
    RestoreNote {
        /// Which.
        id: NoteId,
        /// Who brings it back.
        by: UserId,
    },
    /// Give way to another record of the same customer.
    MergeInto {
        /// This record.
        this: CustomerId,
        /// The one that stays.
        into: CustomerId,
    },
    /// Take in another record of the same customer. Asked again, it changes nothing.
    Absorb {
        /// Which.
        other: CustomerId,
        /// The contact recorded there.
        interactions: Vec<Interaction>,
        /// The notes there.
        notes: Vec<Note>,
    },
    /// Take it away.
    Delete {
        /// Whether it owes something: an invoice sent or viewed.
        has_unpaid_invoice: bool,
    },
    /// Bring it back.
    Restore {},
}

/// Why a customer refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CustomerError {
    /// Absent or deleted.
    #[error("there is no such customer")]
    NotFound,
    /// It gave way to another record.
    #[error("this customer was merged into {into}")]
    Merged {
        /// Which.
        into: CustomerId,
    },
    /// The id is taken.
    #[error("this customer is already there")]
    AlreadyExists,
    /// Neither company nor name.
    #[error("a customer needs a company or a name")]
    Nameless,
    /// Merged into itself.
    #[error("a customer cannot be merged into itself")]
    MergedIntoItself,
    /// Deleted although it owes something.
    #[error("a customer with an unpaid invoice is not deleted")]
    UnpaidInvoice,
    /// No note with this id, or a private one of somebody else's.
    #[error("there is no note {0} here")]
    NoteNotFound(NoteId),
    /// The id is taken.
    #[error("note {0} is already there")]
    NoteExists(NoteId),
    /// Hidden by somebody who did not write it.
    #[error("only its author makes a note private")]
    NotTheAuthor,
    /// A note that says nothing.
    #[error("a note says something")]
    NoteEmpty,
    /// About one of its interactions.
    #[error(transparent)]
    Interaction(#[from] InteractionError),
}

impl CustomerError {
    /// A stable word for programs.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotFound => "not_found",
            Self::Merged { .. } => "merged",
            Self::AlreadyExists => "already_exists",
            Self::Nameless | Self::NoteEmpty => "required",
            Self::MergedIntoItself => "merged_into_itself",
            Self::UnpaidInvoice => "unpaid_invoice",
            Self::NoteNotFound(_) => "note_not_found",
            Self::NoteExists(_) => "note_exists",
            Self::NotTheAuthor => "not_the_author",
            Self::Interaction(error) => error.code(),
        }
    }

    /// What kind of answer it makes.
    #[must_use]
    pub fn kind(&self) -> Refusal {
        match self {
            Self::NotFound | Self::Merged { .. } | Self::NoteNotFound(_) => Refusal::NotFound,
            Self::Nameless => Refusal::Invalid { pointer: "/company" },
            Self::NoteEmpty => Refusal::Invalid { pointer: "/content" },
            Self::MergedIntoItself => Refusal::Invalid { pointer: "/into" },
            Self::AlreadyExists | Self::UnpaidInvoice | Self::NoteExists(_) | Self::NotTheAuthor => Refusal::Conflict,
            Self::Interaction(error) => error.kind(),
        }
    }
}
