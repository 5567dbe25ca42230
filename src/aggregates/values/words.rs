//! The words that a field may take: stages, statuses, sources, types.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize};
use strum::{EnumString, IntoStaticStr, VariantArray};
use utoipa::ToSchema;

use super::{Percent, Rejected, Score};

/// An enum of words in snake case: in JSON, in filters, in the database and on screens the same.
macro_rules! words {
    ($(#[$meta:meta])* $name:ident { $($(#[$variant_meta:meta])* $variant:ident),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, ToSchema)]
        #[derive(EnumString, IntoStaticStr, VariantArray, strum::VariantNames)]
        #[serde(rename_all = "snake_case")]
        #[strum(serialize_all = "snake_case")]
        pub enum $name { $($(#[$variant_meta])* $variant),+ }

        impl $name {
            /// All the words.
            pub const WORDS: &'static [&'static str] = <Self as strum::VariantNames>::VARIANTS;

            /// The word.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                self.into()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(|_| {
                    let detail = format!("expected one of {}", Self::WORDS.join(", "));
                    serde::de::Error::custom(Rejected::new("unknown_value", detail))
                })
            }
        }
    };
}

words!(
    /// Where a customer stands.
    #[derive(Default)]
    CustomerStatus {
        /// Not yet buying.
        #[default]
        Prospect,
        /// Buying.
        Active,
        /// Not buying at the moment.
        Inactive,
        /// Gone.
        Churned,
    }
);

words!(
    /// How far a lead has come.
    #[derive(Default)]
    LeadStage {
        /// Nobody has spoken to them.
        #[default]
        New,
        /// Somebody has.
        Contacted,
        /// They need it and can pay for it.
        Qualified,
        /// They have an offer.
        Proposal,
        /// The terms are discussed.
        Negotiation,
        /// They became a customer.
        ClosedWon,
        /// They did not.
        ClosedLost,
    }
);

impl LeadStage {
    /// Whether the outcome is still open.
    #[must_use]
    pub fn is_open(self) -> bool {
        !matches!(self, Self::ClosedWon | Self::ClosedLost)
    }

    /// How likely a lead at this stage is won, unless somebody knows better.
    #[must_use]
    pub fn default_probability(self) -> Percent {
        Percent::at_most_hundred(match self {
            Self::New => 5,
            Self::Contacted => 20,
            Self::Qualified => 40,
            Self::Proposal => 60,
            Self::Negotiation => 75,
            Self::ClosedWon => 100,
            Self::ClosedLost => 0,
        })
    }
}

words!(
    /// How a lead came in.
    #[derive(Default)]
    #[expect(missing_docs, reason = "each is the channel it names")]
    LeadSource { Website, Referral, ColdCall, SocialMedia, Email, Event, #[default] Other }
);

words!(
    /// What marketing and sales think of a lead.
    #[derive(Default)]
    Qualification {
        /// Not looked at.
        #[default]
        New,
        /// Does not fit.
        Unqualified,
        /// Marketing thinks it fits.
        MarketingQualified,
        /// Sales thinks so too.
        SalesQualified,
        /// Fits, but not now.
        Nurturing,
    }
);

words!(
    /// What a lead's score means.
    LeadGrade {
        /// 80 and more.
        Hot,
        /// 60 and more.
        Warm,
        /// 40 and more.
        Cold,
        /// Less.
        PoorFit,
    }
);

impl LeadGrade {
    /// The grade of a score.
    #[must_use]
    pub fn of(score: Score) -> Self {
        match score.value() {
            80.. => Self::Hot,
            60.. => Self::Warm,
            40.. => Self::Cold,
            _ => Self::PoorFit,
        }
    }
}

words!(
    /// How far a project is.
    #[derive(Default)]
    ProjectStatus {
        /// Not begun.
        #[default]
        Planned,
        /// Worked on.
        InProgress,
        /// Waiting.
        OnHold,
        /// Done.
        Completed,
        /// Given up.
        Cancelled,
    }
);

impl ProjectStatus {
    /// Whether there is nothing more to do.
    #[must_use]
    pub fn is_closed(self) -> bool {
        matches!(self, Self::Completed | Self::Cancelled)
    }
}

words!(
    /// How much something presses.
    #[derive(Default)]
    #[expect(missing_docs, reason = "each is the degree it names")]
    Priority { Low, #[default] Medium, High, Urgent }
);

words!(
    /// How far an invoice is; overdue is worked out, never a status.
    #[derive(Default)]
    InvoiceStatus {
        /// Being written.
        #[default]
        Draft,
        /// With the customer.
        Sent,
        /// Looked at by the customer.
        Viewed,
        /// Settled.
        Paid,
        /// Withdrawn.
        Void,
    }
);

impl InvoiceStatus {
    /// Whether the customer owes it.
    #[must_use]
    pub fn is_outstanding(self) -> bool {
        matches!(self, Self::Sent | Self::Viewed)
    }
}

words!(
    /// What kind of contact there was.
    #[derive(Default)]
    #[expect(missing_docs, reason = "each is the contact it names")]
    InteractionType { Call, Email, Meeting, Demo, Support, FollowUp, Note, #[default] Other }
);

words!(
    /// Whether it took place.
    InteractionStatus {
        /// It is going to.
        Scheduled,
        /// It did.
        Completed,
        /// It will not.
        Cancelled,
    }
);

words!(
    /// What a business subscribed to.
    #[derive(Default)]
    Plan {
        /// For the first few people.
        #[default]
        Starter,
        /// For a business at work.
        Professional,
        /// Without limits.
        Enterprise,
    }
);

words!(
    /// Whether a business may use DevHub.
    #[derive(Default)]
    TenantStatus {
        /// It may.
        #[default]
        Active,
        /// Its users are locked out; its data stays.
        Suspended,
    }
);

words!(
    /// Whether a user may sign in.
    #[derive(Default)]
    UserStatus {
        /// Not yet: the invitation is open.
        Invited,
        /// Yes.
        #[default]
        Active,
        /// Not for now.
        Locked,
        /// No longer.
        Deactivated,
    }
);

words!(
    /// A part of the product that a plan includes or not.
    #[expect(missing_docs, reason = "each is the part it names")]
    Feature { Exports, LiveStream, Rebuild, SqlAccess, ApiKeys, Webhooks }
);

words!(
    /// Something that a plan counts, beside seats.
    Quota {
        /// Keys for programs.
        ApiKeys,
        /// Webhook endpoints.
        Webhooks,
    }
);

words!(
    /// What may be done in a support session.
    #[derive(Default)]
    SupportMode {
        /// Look.
        #[default]
        ReadOnly,
        /// Look and change.
        ReadWrite,
    }
);

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_word_is_the_same_everywhere() {
        for stage in <LeadStage as VariantArray>::VARIANTS {
            assert_eq!(serde_json::to_value(stage).unwrap(), json!(stage.as_str()));
            assert_eq!(stage.as_str().parse(), Ok(*stage));
            assert_eq!(serde_json::from_value::<LeadStage>(json!(stage.as_str())).unwrap(), *stage);
        }
        assert_eq!(LeadSource::SocialMedia.as_str(), "social_media");
    }

    #[test]
    fn an_unknown_word_is_refused_with_the_known_ones() {
        let refused = serde_json::from_value::<Priority>(json!("ASAP")).unwrap_err();
        assert_eq!(refused.to_string(), "unknown_value|expected one of low, medium, high, urgent");
    }

    #[test]
    fn grades_begin_where_they_should() {
        for (score, grade) in [
            (100, LeadGrade::Hot),
            (80, LeadGrade::Hot),
            (79, LeadGrade::Warm),
            (60, LeadGrade::Warm),
            (59, LeadGrade::Cold),
            (40, LeadGrade::Cold),
            (39, LeadGrade::PoorFit),
            (0, LeadGrade::PoorFit),
        ] {
            assert_eq!(LeadGrade::of(Score::at_most_hundred(score)), grade, "{score}");
        }
    }
}
