//! A lead: somebody who may become a customer.
//!
//! ```text
//! capture ─► new ↔ contacted ↔ qualified ↔ proposal ↔ negotiation ─► convert ─► closed_won
//!                                  ▲                        └──────► lose ────► closed_lost
//!                                  └─────────────── reopen ───────────────────────┘
//! ```
//!
//! An open lead moves to any open stage. It is converted once, and a converted one is never reopened.

mod details;
mod events;
#[cfg(test)]
mod tests;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

pub use details::{LeadChanges, LeadDetails, LeadFacts, LeadPatch, ScoreInputs};
pub use events::LeadEvent;

use super::contract::event_sourced;
use super::ids::{CustomerId, InteractionId, UserId};
use super::interaction::{Interaction, InteractionDetails, InteractionError, Interactions};
use super::values::{Hours, LeadStage, Percent, Personal, Qualification, Score, Text};
use super::{Refusal, values};

/// What may be asked of a lead.
#[derive(Debug, Clone, PartialEq)]
pub enum LeadCommand {
    /// Take it in.
    Capture {
        /// What is known.
        details: LeadDetails,
        /// An open stage; `new` when not given.
        stage: Option<LeadStage>,
        /// What is thought of it; `new` when not given.
        qualification: Option<Qualification>,
        /// Who takes care of it.
        assignee: Option<UserId>,
    },
    /// Change what is known.
    ChangeDetails(LeadPatch),
    /// Let somebody, or nobody, take care of it.
    Assign {
        /// Who.
        assignee: Option<UserId>,
    },
    /// Say what is thought of it.
    Qualify {
        /// What.
        qualification: Qualification,
    },
    /// Move it to an open stage.
    ChangeStage {
        /// Which.
        stage: LeadStage,
    },
    /// Work out how promising it is.
    Score {
        /// By what.
        inputs: ScoreInputs,
    },
    /// Take back that it was scored at all.
    ClearScore {},
    /// Take over a score of which nobody knows any more what it was worked out from.
    TakeScore {
        /// What was known.
        score: Score,
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
    /// Make it a customer.
    Convert {
        /// The one it becomes or belongs to.
        customer: CustomerId,
    },
    /// Give it up.
    Lose {
        /// Why.
        reason: Text<500>,
    },
    /// Take a lost one up again.
    Reopen {},
    /// Take it away.
    Delete {},
    /// Bring it back.
    Restore {},
}

/// Why a lead refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LeadError {
    /// Absent or deleted.
    #[error("there is no such lead")]
    NotFound,
    /// The id is taken.
    #[error("this lead is already there")]
    AlreadyExists,
    /// A lead is known by its contact's name.
    #[error("a lead needs a name")]
    NameRequired,
    /// An estimate below zero.
    #[error("an estimated value is not negative")]
    NegativeValue,
    /// Captured as closed.
    #[error("a lead begins at an open stage")]
    BeginsOpen,
    /// Moved to `closed_won`.
    #[error("a lead is won by converting it")]
    WonByConverting,
    /// Moved to `closed_lost`.
    #[error("a lead is lost by giving the reason")]
    LostWithReason,
    /// The outcome is decided.
    #[error("this lead is closed; reopen it first")]
    Closed,
    /// It became a customer already, or cannot be anything else any more.
    #[error("this lead was already converted into {customer}")]
    AlreadyConverted {
        /// Which.
        customer: CustomerId,
    },
    /// Nothing to reopen.
    #[error("this lead is open already")]
    NotClosed,
    /// About one of its interactions.
    #[error(transparent)]
    Interaction(#[from] InteractionError),
}

impl LeadError {
    /// A stable word for programs.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotFound => "not_found",
            Self::AlreadyExists => "already_exists",
            Self::NameRequired => "required",
            Self::NegativeValue => "out_of_range",
            Self::BeginsOpen => "stage_closed",
            Self::WonByConverting => "won_by_converting",
            Self::LostWithReason => "lost_with_reason",
            Self::Closed => "lead_closed",
            Self::AlreadyConverted { .. } => "already_converted",
            Self::NotClosed => "lead_open",
            Self::Interaction(error) => error.code(),
        }
    }

    /// What kind of answer it makes.
    #[must_use]
    pub fn kind(&self) -> Refusal {
        match self {
            Self::NotFound => Refusal::NotFound,
            Self::NameRequired => Refusal::Invalid { pointer: "/name" },
            Self::NegativeValue => Refusal::Invalid { pointer: "/estimated_value/amount" },
            Self::BeginsOpen => Refusal::Invalid { pointer: "/stage" },
            Self::AlreadyExists
            | Self::WonByConverting
            | Self::LostWithReason
            | Self::Closed
            | Self::AlreadyConverted { .. }
            | Self::NotClosed => Refusal::Conflict,
            Self::Interaction(error) => error.kind(),
        }
    }
}

/// A lead as it stands; the default is one that is not there.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Lead {
    /// What is known of it; none before it was captured.
    pub facts: Option<LeadFacts>,
    /// How far it has come.
    pub stage: LeadStage,
    /// The last open stage, for reopening.
    pub open_stage: LeadStage,
    /// What is thought of it.
    pub qualification: Qualification,
    /// How likely it is won.
    pub probability: Percent,
    /// Whether somebody said so; else it follows the stage.
    pub probability_set_by_hand: bool,
    /// The probability while it was last open, for reopening.
    pub open_probability: Percent,
    /// How promising it is.
    pub score: Option<Score>,
    /// By what it was scored.
    pub score_inputs: Option<ScoreInputs>,
    /// Who takes care of it.
    pub assignee: Option<UserId>,
    /// The contact there was and will be.
    pub interactions: Interactions,
    /// The customer it became.
    pub customer: Option<CustomerId>,
    /// Why it was lost.
    pub loss_reason: Option<Text<500>>,
    /// Whether it was taken away.
    pub deleted: bool,
}

event_sourced!(Lead, "Lead", LeadCommand, LeadEvent, LeadError);

impl Lead {
    /// The rules. No clock, no I/O.
    ///
    /// # Errors
    /// The rule that forbids it.
    pub fn decide(&self, command: LeadCommand) -> Result<Vec<LeadEvent>, LeadError> {
        match (&self.facts, command) {
            (None, LeadCommand::Capture { details, stage, qualification, assignee }) => {
                capture(details, stage.unwrap_or_default(), qualification.unwrap_or_default(), assignee)
            }
            (None, _) => Err(LeadError::NotFound),
            (Some(_), LeadCommand::Restore {}) => {
                Ok(self.deleted.then_some(LeadEvent::Restored {}).into_iter().collect())
            }
            (Some(_), _) if self.deleted => Err(LeadError::NotFound),
            (Some(facts), command) => self.decide_present(facts, command),
        }
    }

    fn decide_present(&self, facts: &LeadFacts, command: LeadCommand) -> Result<Vec<LeadEvent>, LeadError> {
        let event = match command {
            LeadCommand::Capture { .. } => return Err(LeadError::AlreadyExists),
            LeadCommand::ChangeDetails(patch) => {
                let changes = patch.changes_to(self, facts)?;
                (!changes.is_empty()).then_some(LeadEvent::DetailsChanged { changes })
            }
            LeadCommand::Assign { assignee } => (assignee != self.assignee).then_some(LeadEvent::Assigned { assignee }),
            LeadCommand::Qualify { qualification } => {
                (qualification != self.qualification).then_some(LeadEvent::Qualified { qualification })
            }
            LeadCommand::ChangeStage { stage } => self.change_stage(stage)?,
            LeadCommand::Score { inputs } => {
                let (given, score) = (Some(inputs), inputs.score());
                (given != self.score_inputs).then_some(LeadEvent::Scored { inputs: given, score })
            }
            LeadCommand::TakeScore { score } => {
                (Some(score) != self.score).then_some(LeadEvent::Scored { inputs: None, score })
            }
            LeadCommand::ClearScore {} => self.score.is_some().then_some(LeadEvent::ScoreCleared {}),
            LeadCommand::LogInteraction { id, details, by, at } => {
                self.interactions.vacant(id)?;
                Some(LeadEvent::InteractionLogged { id, facts: details.into(), by, completed_at: at })
            }
            LeadCommand::ScheduleInteraction { id, details, by, scheduled_at } => {
                self.interactions.vacant(id)?;
                Some(LeadEvent::InteractionScheduled { id, facts: details.into(), by, scheduled_at })
            }
            LeadCommand::CompleteInteraction { id, outcome, hours, at } => {
                self.interactions.completable(id)?;
                let outcome = outcome.map(Personal::new);
                Some(LeadEvent::InteractionCompleted { id, outcome, hours, completed_at: at })
            }
            LeadCommand::CancelInteraction { id } => {
                self.interactions.cancellable(id)?.then_some(LeadEvent::InteractionCancelled { id })
            }
            LeadCommand::ReopenInteraction { id, outcome, hours } => {
                let outcome = outcome.map(Personal::new);
                self.interactions.reopenable(id)?.then_some(LeadEvent::InteractionReopened { id, outcome, hours })
            }
            LeadCommand::Convert { customer } => {
                self.still_open()?;
                Some(LeadEvent::Converted { customer })
            }
            LeadCommand::Lose { reason } => {
                self.still_open()?;
                Some(LeadEvent::Lost { reason })
            }
            LeadCommand::Reopen {} => Some(self.reopen()?),
            LeadCommand::Delete {} => Some(LeadEvent::Deleted {}),
            // Dealt with before: only a deleted lead is restored.
            LeadCommand::Restore {} => None,
        };
        Ok(event.into_iter().collect())
    }

    fn still_open(&self) -> Result<(), LeadError> {
        match self.customer {
            Some(customer) => Err(LeadError::AlreadyConverted { customer }),
            None if self.stage.is_open() => Ok(()),
            None => Err(LeadError::Closed),
        }
    }

    fn change_stage(&self, to: LeadStage) -> Result<Option<LeadEvent>, LeadError> {
        if to == self.stage {
            return Ok(None);
        }
        self.still_open()?;
        match to {
            LeadStage::ClosedWon => Err(LeadError::WonByConverting),
            LeadStage::ClosedLost => Err(LeadError::LostWithReason),
            to => Ok(Some(LeadEvent::StageChanged { from: self.stage, to, probability: self.probability_at(to) })),
        }
    }

    /// How likely it would be won at another stage: as said by hand, or the stage's default.
    fn probability_at(&self, stage: LeadStage) -> Percent {
        if self.probability_set_by_hand { self.probability } else { stage.default_probability() }
    }

    fn reopen(&self) -> Result<LeadEvent, LeadError> {
        match (self.customer, self.stage) {
            (Some(customer), _) => Err(LeadError::AlreadyConverted { customer }),
            (None, LeadStage::ClosedLost) => {
                Ok(LeadEvent::Reopened { stage: self.open_stage, probability: self.open_probability })
            }
            (None, _) => Err(LeadError::NotClosed),
        }
    }

    fn evolve(&mut self, event: LeadEvent) {
        match event {
            LeadEvent::Captured { facts, stage, qualification, probability, probability_set_by_hand, assignee } => {
                self.facts = Some(facts);
                self.qualification = qualification;
                self.probability_set_by_hand = probability_set_by_hand;
                self.assignee = assignee;
                self.opened(stage, probability);
            }
            LeadEvent::DetailsChanged { changes } => self.details_changed(changes),
            LeadEvent::Assigned { assignee } => self.assignee = assignee,
            LeadEvent::Qualified { qualification } => self.qualification = qualification,
            LeadEvent::StageChanged { to, probability, .. } => self.opened(to, probability),
            LeadEvent::Scored { inputs, score } => {
                self.score = Some(score);
                self.score_inputs = inputs;
            }
            LeadEvent::ScoreCleared {} => (self.score, self.score_inputs) = (None, None),
            LeadEvent::InteractionLogged { id, facts, by, completed_at } => {
                self.interactions.put(Interaction::logged(id, facts, by, completed_at));
            }
            LeadEvent::InteractionScheduled { id, facts, by, scheduled_at } => {
                self.interactions.put(Interaction::scheduled(id, facts, by, scheduled_at));
            }
            LeadEvent::InteractionCompleted { id, outcome, hours, completed_at } => {
                if let Some(interaction) = self.interactions.get_mut(id) {
                    interaction.complete(completed_at, outcome, hours);
                }
            }
            LeadEvent::InteractionCancelled { id } => {
                if let Some(interaction) = self.interactions.get_mut(id) {
                    interaction.status = values::InteractionStatus::Cancelled;
                }
            }
            LeadEvent::InteractionReopened { id, outcome, hours } => {
                if let Some(interaction) = self.interactions.get_mut(id) {
                    interaction.reopen(outcome, hours);
                }
            }
            LeadEvent::Converted { customer } => {
                self.customer = Some(customer);
                self.closed(LeadStage::ClosedWon);
            }
            LeadEvent::Lost { reason } => {
                self.loss_reason = Some(reason);
                self.closed(LeadStage::ClosedLost);
            }
            LeadEvent::Reopened { stage, probability } => {
                self.loss_reason = None;
                self.opened(stage, probability);
            }
            LeadEvent::Deleted {} => self.deleted = true,
            LeadEvent::Restored {} => self.deleted = false,
        }
    }

    fn opened(&mut self, stage: LeadStage, probability: Percent) {
        (self.stage, self.open_stage) = (stage, stage);
        (self.probability, self.open_probability) = (probability, probability);
    }

    fn closed(&mut self, stage: LeadStage) {
        self.stage = stage;
        self.probability = stage.default_probability();
    }

    fn details_changed(&mut self, changes: LeadChanges) {
        if !changes.probability.is_unchanged() {
            let by_hand = changes.probability.as_set().copied();
            self.probability_set_by_hand = by_hand.is_some();
            self.opened(self.stage, by_hand.unwrap_or(self.stage.default_probability()));
        }
        if let Some(facts) = &mut self.facts {
            changes.apply_to(facts);
        }
    }
}

fn capture(
    details: LeadDetails,
    stage: LeadStage,
    qualification: Qualification,
    assignee: Option<UserId>,
) -> Result<Vec<LeadEvent>, LeadError> {
    if !stage.is_open() {
        return Err(LeadError::BeginsOpen);
    }
    let (facts, by_hand) = details.into_facts()?;
    Ok(vec![LeadEvent::Captured {
        facts,
        stage,
        qualification,
        probability: by_hand.unwrap_or(stage.default_probability()),
        probability_set_by_hand: by_hand.is_some(),
        assignee,
    }])
}
