//! An invoice: money that a customer owes a tenant.
//!
//! ```text
//! draft ─► sent ─► viewed ─► paid
//!   │        ├───────┼───────► paid
//!   └────────┴───────┴───────► void
//! ```
//!
//! It changes only as a draft. Overdue is worked out from the due date, never stored.

mod details;
#[cfg(test)]
mod tests;

use chrono::{Days, NaiveDate};
use serde::{Deserialize, Serialize};
use strum::{IntoStaticStr, VariantNames};

pub use details::{InvoiceChanges, InvoiceDetails, InvoiceFacts, InvoiceLine, InvoicePatch, PricedLine};

use super::Refusal;
use super::contract::event_sourced;
use super::values::{Currency, InvoiceStatus};

/// What may be asked of an invoice.
#[derive(Debug, Clone, PartialEq)]
pub enum InvoiceCommand {
    /// Write it.
    Draft(InvoiceDetails),
    /// Change the draft.
    Change(InvoicePatch),
    /// Send it to the customer.
    Send {},
    /// Note that the customer looked at it.
    MarkViewed {},
    /// Note that it was paid.
    Pay {
        /// When the money came.
        paid_on: NaiveDate,
        /// The day on which this is said (UTC).
        today: NaiveDate,
    },
    /// Withdraw it.
    Void {},
}

/// What happened to an invoice.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, IntoStaticStr, VariantNames)]
pub enum InvoiceEvent {
    /// It was written.
    Drafted {
        /// What it says.
        #[serde(flatten)]
        facts: InvoiceFacts,
    },
    /// The draft was changed.
    Changed {
        /// What really changed, the sums included.
        changes: InvoiceChanges,
    },
    /// It went to the customer.
    Sent {},
    /// The customer looked at it.
    Viewed {},
    /// It was paid.
    Paid {
        /// When the money came.
        paid_on: NaiveDate,
    },
    /// It was withdrawn.
    Voided {},
}

impl InvoiceEvent {
    /// The version of each type's payload; raised together with an upcaster.
    fn version(_name: &str) -> &'static str {
        "1"
    }
}

/// Why an invoice refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvoiceError {
    /// Absent.
    #[error("there is no such invoice")]
    NotFound,
    /// The id is taken.
    #[error("this invoice is already there")]
    AlreadyExists,
    /// Something that an invoice cannot be without was cleared.
    #[error("an invoice needs this")]
    Required {
        /// Where it stands in the request.
        pointer: &'static str,
    },
    /// Due before it is issued.
    #[error("an invoice is due on or after its issue date")]
    DueBeforeIssue,
    /// Neither lines nor an amount.
    #[error("an invoice needs lines or an amount")]
    NothingCharged,
    /// Lines and an amount.
    #[error("give lines or an amount, not both")]
    LinesAndAmount,
    /// The amount is in another currency than the invoice.
    #[error("give the amount in {currency}, the currency of the invoice")]
    OtherCurrency {
        /// The invoice's.
        currency: Currency,
    },
    /// A plain amount of nothing or less.
    #[error("the amount must be above 0")]
    AmountNotPositive,
    /// Lines that come to nothing.
    #[error("the total of the lines must be above 0")]
    TotalNotPositive,
    /// A quantity that is none.
    #[error("a quantity is above 0 and has at most 4 decimals")]
    Quantity,
    /// A price that the currency does not have.
    #[error("a unit price is not negative and has at most the decimals of {currency}")]
    UnitPrice {
        /// The invoice's.
        currency: Currency,
    },
    /// A tax rate that is none.
    #[error("a tax rate is between 0 and 100 and has at most 4 decimals")]
    TaxRate,
    /// A sum beyond what is kept.
    #[error("the lines come to more than an invoice can hold")]
    TooLarge,
    /// More lines than an invoice takes.
    #[error("an invoice has at most 500 lines")]
    TooManyLines,
    /// Changed after it left.
    #[error("this invoice is {status}; only a draft is changed")]
    NotADraft {
        /// Where it stands.
        status: InvoiceStatus,
    },
    /// Viewed or paid before it left.
    #[error("this invoice is a draft; send it first")]
    NotSent,
    /// Settled already.
    #[error("this invoice was already paid")]
    AlreadyPaid,
    /// Withdrawn.
    #[error("this invoice is void")]
    Void,
    /// Paid before there was an invoice.
    #[error("an invoice is not paid before its issue date")]
    PaidBeforeIssue,
    /// Paid in the future. A day ahead is allowed: somewhere it is tomorrow already.
    #[error("a payment is not in the future")]
    PaidInFuture,
}

impl InvoiceError {
    /// A stable word for programs.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotFound => "not_found",
            Self::AlreadyExists => "already_exists",
            Self::Required { .. } | Self::NothingCharged => "required",
            Self::DueBeforeIssue => "due_before_issue",
            Self::LinesAndAmount => "lines_and_amount",
            Self::OtherCurrency { .. } => "other_currency",
            Self::AmountNotPositive
            | Self::TotalNotPositive
            | Self::Quantity
            | Self::UnitPrice { .. }
            | Self::TaxRate
            | Self::TooLarge => "out_of_range",
            Self::TooManyLines => "too_long",
            Self::NotADraft { .. } => "not_a_draft",
            Self::NotSent => "not_sent",
            Self::AlreadyPaid => "already_paid",
            Self::Void => "invoice_void",
            Self::PaidBeforeIssue => "paid_before_issue",
            Self::PaidInFuture => "paid_in_future",
        }
    }

    /// What kind of answer it makes.
    #[must_use]
    pub fn kind(&self) -> Refusal {
        match self {
            Self::NotFound => Refusal::NotFound,
            Self::Required { pointer } => Refusal::Invalid { pointer },
            Self::DueBeforeIssue => Refusal::Invalid { pointer: "/due_date" },
            Self::LinesAndAmount | Self::AmountNotPositive => Refusal::Invalid { pointer: "/amount" },
            Self::OtherCurrency { .. } => Refusal::Invalid { pointer: "/amount/currency" },
            Self::NothingCharged
            | Self::TotalNotPositive
            | Self::Quantity
            | Self::UnitPrice { .. }
            | Self::TaxRate
            | Self::TooLarge
            | Self::TooManyLines => Refusal::Invalid { pointer: "/lines" },
            Self::PaidBeforeIssue | Self::PaidInFuture => Refusal::Invalid { pointer: "/paid_on" },
            Self::AlreadyExists | Self::NotADraft { .. } | Self::NotSent | Self::AlreadyPaid | Self::Void => {
                Refusal::Conflict
            }
        }
    }
}

/// An invoice as it stands; the default is one that is not there.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Invoice {
    /// What it says; nothing before it was drafted.
    pub facts: Option<InvoiceFacts>,
    /// Where it stands.
    pub status: InvoiceStatus,
    /// When it was paid.
    pub paid_on: Option<NaiveDate>,
}

event_sourced!(Invoice, "Invoice", InvoiceCommand, InvoiceEvent, InvoiceError);

/// Whether an invoice should have been paid by now: sent or viewed, and due before today.
#[must_use]
pub fn overdue(status: InvoiceStatus, due_date: NaiveDate, today: NaiveDate) -> bool {
    status.is_outstanding() && due_date < today
}

impl Invoice {
    /// Whether it should have been paid by now.
    #[must_use]
    pub fn overdue(&self, today: NaiveDate) -> bool {
        self.facts.as_ref().is_some_and(|facts| overdue(self.status, facts.due_date, today))
    }

    /// The rules. No clock, no I/O.
    ///
    /// # Errors
    /// The rule that forbids it.
    pub fn decide(&self, command: InvoiceCommand) -> Result<Vec<InvoiceEvent>, InvoiceError> {
        let event = match (&self.facts, command) {
            (None, InvoiceCommand::Draft(details)) => Some(InvoiceEvent::Drafted { facts: details.into_facts()? }),
            (None, _) => return Err(InvoiceError::NotFound),
            (Some(_), InvoiceCommand::Draft(_)) => return Err(InvoiceError::AlreadyExists),
            (Some(facts), InvoiceCommand::Change(patch)) => self.change(facts, patch)?,
            (Some(_), InvoiceCommand::Send {}) => self.send()?,
            (Some(_), InvoiceCommand::MarkViewed {}) => self.mark_viewed()?,
            (Some(facts), InvoiceCommand::Pay { paid_on, today }) => Some(self.pay(facts, paid_on, today)?),
            (Some(_), InvoiceCommand::Void {}) => self.void()?,
        };
        Ok(event.into_iter().collect())
    }

    fn change(&self, facts: &InvoiceFacts, patch: InvoicePatch) -> Result<Option<InvoiceEvent>, InvoiceError> {
        if self.status != InvoiceStatus::Draft {
            return Err(InvoiceError::NotADraft { status: self.status });
        }
        let changes = patch.changes_to(facts)?;
        Ok((!changes.is_empty()).then_some(InvoiceEvent::Changed { changes }))
    }

    fn send(&self) -> Result<Option<InvoiceEvent>, InvoiceError> {
        match self.status {
            InvoiceStatus::Draft => Ok(Some(InvoiceEvent::Sent {})),
            InvoiceStatus::Sent | InvoiceStatus::Viewed => Ok(None),
            InvoiceStatus::Paid => Err(InvoiceError::AlreadyPaid),
            InvoiceStatus::Void => Err(InvoiceError::Void),
        }
    }

    fn mark_viewed(&self) -> Result<Option<InvoiceEvent>, InvoiceError> {
        match self.status {
            InvoiceStatus::Draft => Err(InvoiceError::NotSent),
            InvoiceStatus::Sent => Ok(Some(InvoiceEvent::Viewed {})),
            InvoiceStatus::Viewed => Ok(None),
            InvoiceStatus::Paid => Err(InvoiceError::AlreadyPaid),
            InvoiceStatus::Void => Err(InvoiceError::Void),
        }
    }

    fn pay(&self, facts: &InvoiceFacts, paid_on: NaiveDate, today: NaiveDate) -> Result<InvoiceEvent, InvoiceError> {
        match self.status {
            InvoiceStatus::Draft => return Err(InvoiceError::NotSent),
            InvoiceStatus::Sent | InvoiceStatus::Viewed => {}
            InvoiceStatus::Paid => return Err(InvoiceError::AlreadyPaid),
            InvoiceStatus::Void => return Err(InvoiceError::Void),
        }
        if paid_on < facts.issue_date {
            return Err(InvoiceError::PaidBeforeIssue);
        }
        if paid_on > today.checked_add_days(Days::new(1)).unwrap_or(today) {
            return Err(InvoiceError::PaidInFuture);
        }
        Ok(InvoiceEvent::Paid { paid_on })
    }

    fn void(&self) -> Result<Option<InvoiceEvent>, InvoiceError> {
        match self.status {
            InvoiceStatus::Draft | InvoiceStatus::Sent | InvoiceStatus::Viewed => Ok(Some(InvoiceEvent::Voided {})),
            InvoiceStatus::Paid => Err(InvoiceError::AlreadyPaid),
            InvoiceStatus::Void => Ok(None),
        }
    }

    fn evolve(&mut self, event: InvoiceEvent) {
        match event {
            InvoiceEvent::Drafted { facts } => self.facts = Some(facts),
            InvoiceEvent::Changed { changes } => {
                if let Some(facts) = &mut self.facts {
                    changes.apply_to(facts);
                }
            }
            InvoiceEvent::Sent {} => self.status = InvoiceStatus::Sent,
            InvoiceEvent::Viewed {} => self.status = InvoiceStatus::Viewed,
            InvoiceEvent::Paid { paid_on } => {
                self.status = InvoiceStatus::Paid;
                self.paid_on = Some(paid_on);
            }
            InvoiceEvent::Voided {} => self.status = InvoiceStatus::Void,
        }
    }
}
