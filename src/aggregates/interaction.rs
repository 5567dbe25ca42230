//! A call, a meeting, a demo …: what happened or will happen with a customer or a lead.
//!
//! ```text
//!   log ─────────► completed
//!   schedule ─► scheduled ─► completed | cancelled
//!                   ▲                │
//!                   └──── reopen ────┘
//! ```

use chrono::{DateTime, NaiveDate, Utc};
use rpds::RedBlackTreeMapSync;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Refusal;
use super::ids::{InteractionId, UserId};
use super::values::{Hours, InteractionStatus, InteractionType, Personal, Priority, Text};

/// What is said about an interaction when it is logged or scheduled.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct InteractionDetails {
    /// What kind of contact.
    #[serde(rename = "type")]
    pub kind: InteractionType,
    /// What it is about.
    pub subject: Text<200>,
    /// In more words.
    #[serde(default)]
    pub description: Option<Text<5000>>,
    /// What came of it.
    #[serde(default)]
    pub outcome: Option<Text<2000>>,
    /// How much it presses.
    #[serde(default)]
    pub priority: Priority,
    /// When to come back to it.
    #[serde(default)]
    pub follow_up_date: Option<NaiveDate>,
    /// Whether the customer pays for the time.
    #[serde(default)]
    pub billable: bool,
    /// The time it took.
    #[serde(default)]
    pub hours: Option<Hours>,
}

/// The same as it stands in events: what tells something about a person is marked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InteractionFacts {
    /// What kind of contact.
    #[serde(rename = "type")]
    pub kind: InteractionType,
    /// What it is about.
    pub subject: Personal<Text<200>>,
    /// In more words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<Personal<Text<5000>>>,
    /// What came of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Personal<Text<2000>>>,
    /// How much it presses.
    pub priority: Priority,
    /// When to come back to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub follow_up_date: Option<NaiveDate>,
    /// Whether the customer pays for the time.
    pub billable: bool,
    /// The time it took.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hours: Option<Hours>,
}

impl From<InteractionDetails> for InteractionFacts {
    fn from(details: InteractionDetails) -> Self {
        Self {
            kind: details.kind,
            subject: details.subject.into(),
            description: details.description.map(Personal::new),
            outcome: details.outcome.map(Personal::new),
            priority: details.priority,
            follow_up_date: details.follow_up_date,
            billable: details.billable,
            hours: details.hours,
        }
    }
}

/// An interaction as it stands, also as it is carried from a lead to its customer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interaction {
    /// Its id.
    pub id: InteractionId,
    /// What is known of it.
    #[serde(flatten)]
    pub facts: InteractionFacts,
    /// Who holds or held it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<UserId>,
    /// Whether it took place.
    pub status: InteractionStatus,
    /// When it was to take place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheduled_at: Option<DateTime<Utc>>,
    /// When it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completed_at: Option<DateTime<Utc>>,
}

impl Interaction {
    /// One that took place.
    #[must_use]
    pub fn logged(id: InteractionId, facts: InteractionFacts, by: Option<UserId>, at: DateTime<Utc>) -> Self {
        let (status, completed_at) = (InteractionStatus::Completed, Some(at));
        Self { id, facts, by, status, scheduled_at: None, completed_at }
    }

    /// One that is going to.
    #[must_use]
    pub fn scheduled(id: InteractionId, facts: InteractionFacts, by: Option<UserId>, at: DateTime<Utc>) -> Self {
        let (status, scheduled_at) = (InteractionStatus::Scheduled, Some(at));
        Self { id, facts, by, status, scheduled_at, completed_at: None }
    }

    /// It took place; what is not said about outcome and hours stays as it was.
    pub fn complete(&mut self, at: DateTime<Utc>, outcome: Option<Personal<Text<2000>>>, hours: Option<Hours>) {
        self.status = InteractionStatus::Completed;
        self.completed_at = Some(at);
        self.facts.outcome = outcome.or(self.facts.outcome.take());
        self.facts.hours = hours.or(self.facts.hours);
    }

    /// It is planned still.
    pub fn reopen(&mut self, outcome: Option<Personal<Text<2000>>>, hours: Option<Hours>) {
        self.status = InteractionStatus::Scheduled;
        self.completed_at = None;
        self.facts.outcome = outcome;
        self.facts.hours = hours;
    }
}

/// Why a command about an interaction was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InteractionError {
    /// No interaction with this id here.
    #[error("there is no interaction {0} here")]
    Unknown(InteractionId),
    /// The id is taken.
    #[error("interaction {0} is already there")]
    Exists(InteractionId),
    /// It took place.
    #[error("interaction {0} has already taken place")]
    Completed(InteractionId),
    /// It was called off.
    #[error("interaction {0} was cancelled")]
    Cancelled(InteractionId),
    /// It was recorded after it took place.
    #[error("interaction {0} was never planned: it stays in the history")]
    NeverPlanned(InteractionId),
}

impl InteractionError {
    /// A stable word for programs.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Unknown(_) => "interaction_not_found",
            Self::Exists(_) => "interaction_exists",
            Self::Completed(_) => "interaction_completed",
            Self::Cancelled(_) => "interaction_cancelled",
            Self::NeverPlanned(_) => "interaction_never_planned",
        }
    }

    /// What kind of answer it makes.
    #[must_use]
    pub fn kind(&self) -> Refusal {
        match self {
            Self::Unknown(_) => Refusal::NotFound,
            Self::Exists(_) | Self::Completed(_) | Self::Cancelled(_) | Self::NeverPlanned(_) => Refusal::Conflict,
        }
    }
}

/// The interactions of one customer or lead, by id. They share what they have in common with the states before: a
/// customer with ten thousand of them is copied as fast as one with none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Interactions(RedBlackTreeMapSync<InteractionId, Interaction>);

impl Interactions {
    /// The interaction with this id.
    #[must_use]
    pub fn get(&self, id: InteractionId) -> Option<&Interaction> {
        self.0.get(&id)
    }

    /// All of them, in the order of their ids.
    pub fn iter(&self) -> impl Iterator<Item = &Interaction> {
        self.0.values()
    }

    /// Whether one with this id may be added.
    pub(super) fn vacant(&self, id: InteractionId) -> Result<(), InteractionError> {
        if self.0.contains_key(&id) { Err(InteractionError::Exists(id)) } else { Ok(()) }
    }

    /// Whether it may be completed: it is still scheduled.
    pub(super) fn completable(&self, id: InteractionId) -> Result<(), InteractionError> {
        match self.get(id).ok_or(InteractionError::Unknown(id))?.status {
            InteractionStatus::Scheduled => Ok(()),
            InteractionStatus::Completed => Err(InteractionError::Completed(id)),
            InteractionStatus::Cancelled => Err(InteractionError::Cancelled(id)),
        }
    }

    /// Whether cancelling it would change something; refused when it took place.
    pub(super) fn cancellable(&self, id: InteractionId) -> Result<bool, InteractionError> {
        match self.get(id).ok_or(InteractionError::Unknown(id))?.status {
            InteractionStatus::Scheduled => Ok(true),
            InteractionStatus::Completed => Err(InteractionError::Completed(id)),
            InteractionStatus::Cancelled => Ok(false),
        }
    }

    /// Whether planning it again would change something; refused when it never was planned.
    pub(super) fn reopenable(&self, id: InteractionId) -> Result<bool, InteractionError> {
        let interaction = self.get(id).ok_or(InteractionError::Unknown(id))?;
        match (interaction.status, interaction.scheduled_at) {
            (InteractionStatus::Scheduled, _) => Ok(false),
            (_, Some(_)) => Ok(true),
            (_, None) => Err(InteractionError::NeverPlanned(id)),
        }
    }

    pub(super) fn put(&mut self, interaction: Interaction) {
        self.0.insert_mut(interaction.id, interaction);
    }

    pub(super) fn get_mut(&mut self, id: InteractionId) -> Option<&mut Interaction> {
        self.0.get_mut(&id)
    }
}
