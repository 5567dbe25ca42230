//! What may exist only once, declared by the events that take it and give it back, so that who holds what can
//! be worked out again from the log.

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
}

/// What an event does to a claim.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "kind and key of the thing")]
pub enum ClaimChange {
    /// The event's aggregate holds it from now on.
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
