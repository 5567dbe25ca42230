//! What may exist only once, declared by the events that take it and give it back, so that who holds what can
//! be worked out again from the log.

use super::customer::CustomerEvent;
use super::ids::InvoiceId;
use super::invoice::InvoiceEvent;
use super::lead::LeadEvent;
use super::project::ProjectEvent;
use super::tenant::TenantEvent;
use super::user::UserEvent;
use super::values::{Email, Text};

/// What kind of thing may exist only once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ClaimKind {
    /// The e-mail address that somebody signs in with: once on the platform, whatever its case.
    Login,
    /// The number printed on an invoice: once in a business.
    InvoiceNumber,
}

impl ClaimKind {
    /// The word as it stands in the database and in refusals.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Login => "login",
            Self::InvoiceNumber => "invoice_number",
        }
    }

    /// The id of the only record that may take this, whether there is one or not: an invoice without a number of its own
    /// shows its id.
    #[must_use]
    pub fn reserved_for(self, key: &str) -> Option<InvoiceId> {
        match self {
            Self::Login => None,
            Self::InvoiceNumber => key.parse().ok(),
        }
    }
}

/// What an event does to a claim.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "kind and key of the thing")]
pub enum ClaimChange {
    /// The event's aggregate holds it from now on; taking what it holds already changes nothing.
    Take { kind: ClaimKind, key: String },
    /// It is free again.
    Release { kind: ClaimKind, key: String },
}

impl ClaimChange {
    /// What kind of thing.
    #[must_use]
    pub fn kind(&self) -> ClaimKind {
        match self {
            Self::Take { kind, .. } | Self::Release { kind, .. } => *kind,
        }
    }

    /// Which one.
    #[must_use]
    pub fn key(&self) -> &str {
        match self {
            Self::Take { key, .. } | Self::Release { key, .. } => key,
        }
    }
}

/// An event that says what it takes and gives back.
pub trait Claiming {
    /// What this event takes and gives back, in order.
    fn claims(&self) -> Vec<ClaimChange> {
        Vec::new()
    }
}

impl Claiming for CustomerEvent {}
impl Claiming for LeadEvent {}
impl Claiming for ProjectEvent {}
impl Claiming for TenantEvent {}

impl Claiming for UserEvent {
    /// Whoever comes takes the address that they sign in with, and keeps it when they leave: they may come back.
    fn claims(&self) -> Vec<ClaimChange> {
        let take = |email: &Email| ClaimChange::Take { kind: ClaimKind::Login, key: email.key() };
        match self {
            Self::Registered { facts } | Self::Invited { facts, .. } => vec![take(&facts.email)],
            Self::EmailChanged { from, email } if from.key() != email.key() => {
                vec![ClaimChange::Release { kind: ClaimKind::Login, key: from.key() }, take(email)]
            }
            _ => Vec::new(),
        }
    }
}

impl Claiming for InvoiceEvent {
    /// A number that was given by hand is taken for good: that of a void invoice is not printed on another.
    fn claims(&self) -> Vec<ClaimChange> {
        let number = match self {
            Self::Drafted { facts } => facts.number.as_ref(),
            Self::Changed { changes } => changes.number.as_set(),
            _ => None,
        };
        let take = |number: &Text<50>| ClaimChange::Take { kind: ClaimKind::InvoiceNumber, key: number.to_string() };
        number.map(take).into_iter().collect()
    }
}
