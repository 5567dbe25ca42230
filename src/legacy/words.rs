//! The words of the old application and what each is here.

use super::old::squashed;
use crate::aggregates::permission::Role;
use crate::aggregates::values::{
    CustomerStatus, InteractionStatus, InteractionType, InvoiceStatus, LeadSource, LeadStage, Priority, ProjectStatus,
    Qualification,
};

/// A field that holds one of a few words.
pub(super) trait Words: Copy + 'static {
    /// All the values.
    const ALL: &'static [Self];
    /// Other words for them, in lower case and without anything between the letters.
    const SYNONYMS: &'static [(&'static str, Self)];

    /// The word as we write it.
    fn word(self) -> &'static str;

    /// What is taken where nothing, or an unknown word, was written.
    fn when_missing() -> Self;

    /// The value that a word means, however it is written.
    fn find(text: &str) -> Option<Self> {
        let squashed_text = squashed(text);
        let own = Self::ALL.iter().find(|value| squashed(value.word()) == squashed_text);
        own.or_else(|| Self::SYNONYMS.iter().find(|(word, _)| *word == squashed_text).map(|(_, value)| value)).copied()
    }
}

macro_rules! old_words {
    ($type:ident, $missing:ident, { $($word:literal => $variant:ident),* $(,)? }) => {
        impl Words for $type {
            const ALL: &'static [Self] = $type::VARIANTS;
            const SYNONYMS: &'static [(&'static str, Self)] = &[$(($word, $type::$variant)),*];

            fn word(self) -> &'static str {
                self.as_str()
            }

            fn when_missing() -> Self {
                $type::$missing
            }
        }
    };
}

old_words!(LeadStage, New, {
    "prospect" => New, "lead" => New, "open" => New,
    "contact" => Contacted,
    "qualify" => Qualified, "qualification" => Qualified,
    "proposalsent" => Proposal, "quote" => Proposal,
    "negotiating" => Negotiation,
    "won" => ClosedWon, "win" => ClosedWon, "converted" => ClosedWon,
    "lost" => ClosedLost, "dead" => ClosedLost,
});

old_words!(LeadSource, Other, {
    "web" => Website, "site" => Website,
    "referrals" => Referral,
    "phone" => ColdCall, "call" => ColdCall,
    "social" => SocialMedia,
    "mail" => Email,
    "events" => Event, "tradeshow" => Event,
    "unknown" => Other,
});

old_words!(Qualification, New, {
    "qualified" => SalesQualified, "sql" => SalesQualified,
    "mql" => MarketingQualified,
    "disqualified" => Unqualified,
    "nurture" => Nurturing,
});

old_words!(ProjectStatus, Planned, {
    "active" => InProgress, "started" => InProgress,
    "planning" => Planned,
    "paused" => OnHold,
    "done" => Completed, "complete" => Completed, "finished" => Completed,
    "canceled" => Cancelled,
});

// Overdue is worked out from the due date.
old_words!(InvoiceStatus, Draft, {
    "pending" => Sent, "overdue" => Sent,
    "seen" => Viewed,
    "cancelled" => Void, "canceled" => Void, "voided" => Void,
});

old_words!(InteractionType, Other, {
    "phone" => Call, "phonecall" => Call,
    "mail" => Email,
    "demonstration" => Demo,
    "proposal" => Other,
});

old_words!(Priority, Medium, { "normal" => Medium, "critical" => Urgent });

old_words!(InteractionStatus, Completed, {
    "pending" => Scheduled, "planned" => Scheduled, "inprogress" => Scheduled,
    "done" => Completed,
    "canceled" => Cancelled,
});

old_words!(CustomerStatus, Active, {});

/// What somebody was in the old application.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OldRole {
    Founder,
    Owner,
    Manager,
    Employee,
    /// A customer, who must not sign in.
    Client,
}

impl OldRole {
    /// The role here; the founder is dealt with apart.
    pub(super) fn role(self) -> Role {
        match self {
            Self::Founder | Self::Owner => Role::BusinessOwner,
            Self::Manager => Role::Manager,
            // Whoever is not known to be more may do the least.
            Self::Employee | Self::Client => Role::Employee,
        }
    }
}

impl Words for OldRole {
    const ALL: &'static [Self] = &[Self::Founder, Self::Owner, Self::Manager, Self::Employee, Self::Client];
    const SYNONYMS: &'static [(&'static str, Self)] =
        &[("founder", Self::Founder), ("owner", Self::Owner), ("user", Self::Employee)];

    fn word(self) -> &'static str {
        match self {
            Self::Founder => "PLATFORM_FOUNDER",
            Self::Owner => "BUSINESS_OWNER",
            Self::Manager => "MANAGER",
            Self::Employee => "EMPLOYEE",
            Self::Client => "CLIENT",
        }
    }

    fn when_missing() -> Self {
        Self::Employee
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unambiguous<W: Words + PartialEq + std::fmt::Debug>() {
        for (word, _) in W::SYNONYMS {
            assert_eq!(&squashed(word), word);
            assert_eq!(W::SYNONYMS.iter().filter(|(other, _)| other == word).count(), 1, "{word}");
        }
        for value in W::ALL {
            assert_eq!(W::find(&value.word().to_uppercase()), Some(*value));
        }
    }

    #[test]
    fn every_word_means_one_thing() {
        unambiguous::<LeadStage>();
        unambiguous::<LeadSource>();
        unambiguous::<Qualification>();
        unambiguous::<ProjectStatus>();
        unambiguous::<InvoiceStatus>();
        unambiguous::<InteractionType>();
        unambiguous::<InteractionStatus>();
        unambiguous::<Priority>();
        unambiguous::<OldRole>();
    }

    #[test]
    fn the_words_of_the_old_application_are_known() {
        assert_eq!(ProjectStatus::find("on-hold"), Some(ProjectStatus::OnHold));
        assert_eq!(ProjectStatus::find("In Progress"), Some(ProjectStatus::InProgress));
        assert_eq!(LeadSource::find("Trade Show"), Some(LeadSource::Event));
        assert_eq!(InvoiceStatus::find("PENDING"), Some(InvoiceStatus::Sent));
        assert_eq!(Priority::find("Urgent!"), Some(Priority::Urgent));
        assert_eq!(OldRole::find("owner"), Some(OldRole::Owner));
        assert_eq!(OldRole::find("INTERN"), None);
    }
}
