//! What is known of a lead: as it is told, as it is recorded, and as it changes.

use chrono::NaiveDate;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Lead, LeadError};
use crate::aggregates::values::{
    Address, Email, LeadSource, Money, Patch, Percent, Personal, Phone, Score, Text, calendar,
};

/// What is told about a lead when it is captured.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LeadDetails {
    /// The contact's name.
    pub name: Text<200>,
    /// The company.
    #[serde(default)]
    pub company: Option<Text<200>>,
    /// What the contact does there.
    #[serde(default)]
    pub job_title: Option<Text<200>>,
    /// E-mail.
    #[serde(default)]
    pub email: Option<Email>,
    /// Telephone.
    #[serde(default)]
    pub phone: Option<Phone>,
    /// Postal address.
    #[serde(default)]
    pub address: Option<Address>,
    /// How the lead came in.
    #[serde(default)]
    pub source: LeadSource,
    /// What it may be worth.
    #[serde(default)]
    pub estimated_value: Option<Money>,
    /// How likely it is won; the stage's default when not given.
    #[serde(default)]
    pub probability: Option<Percent>,
    /// When it may be decided.
    #[serde(default)]
    pub expected_close_date: Option<NaiveDate>,
}

/// The same as it stands in events: what tells something about a person is marked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeadFacts {
    /// The contact's name.
    pub name: Personal<Text<200>>,
    /// The company.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub company: Option<Text<200>>,
    /// What the contact does there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_title: Option<Personal<Text<200>>>,
    /// E-mail.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<Personal<Email>>,
    /// Telephone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phone: Option<Personal<Phone>>,
    /// Postal address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<Personal<Address>>,
    /// How the lead came in.
    pub source: LeadSource,
    /// What it may be worth; never negative.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub estimated_value: Option<Money>,
    /// When it may be decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected_close_date: Option<NaiveDate>,
}

/// A change of details, as JSON Merge Patch.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LeadPatch {
    /// The contact's name; cannot be cleared.
    #[schema(inline, value_type = Option<Text<200>>)]
    pub name: Patch<Text<200>>,
    /// The company.
    #[schema(inline, value_type = Option<Text<200>>)]
    pub company: Patch<Text<200>>,
    /// What the contact does there.
    #[schema(inline, value_type = Option<Text<200>>)]
    pub job_title: Patch<Text<200>>,
    /// E-mail.
    #[schema(inline, value_type = Option<Email>)]
    pub email: Patch<Email>,
    /// Telephone.
    #[schema(inline, value_type = Option<Phone>)]
    pub phone: Patch<Phone>,
    /// Postal address.
    #[schema(inline, value_type = Option<Address>)]
    pub address: Patch<Address>,
    /// How the lead came in; clearing makes it `other`.
    #[schema(inline, value_type = Option<LeadSource>)]
    pub source: Patch<LeadSource>,
    /// What it may be worth.
    #[schema(inline, value_type = Option<Money>)]
    pub estimated_value: Patch<Money>,
    /// How likely it is won; clearing lets it follow the stage again.
    #[schema(inline, value_type = Option<Percent>)]
    pub probability: Patch<Percent>,
    /// When it may be decided.
    #[serde(deserialize_with = "calendar::patched_date")]
    #[schema(inline, value_type = Option<NaiveDate>)]
    pub expected_close_date: Patch<NaiveDate>,
}

/// The details that really changed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LeadChanges {
    /// The contact's name; never cleared.
    #[serde(skip_serializing_if = "Patch::is_unchanged")]
    pub name: Patch<Personal<Text<200>>>,
    /// The company.
    #[serde(skip_serializing_if = "Patch::is_unchanged")]
    pub company: Patch<Text<200>>,
    /// What the contact does there.
    #[serde(skip_serializing_if = "Patch::is_unchanged")]
    pub job_title: Patch<Personal<Text<200>>>,
    /// E-mail.
    #[serde(skip_serializing_if = "Patch::is_unchanged")]
    pub email: Patch<Personal<Email>>,
    /// Telephone.
    #[serde(skip_serializing_if = "Patch::is_unchanged")]
    pub phone: Patch<Personal<Phone>>,
    /// Postal address.
    #[serde(skip_serializing_if = "Patch::is_unchanged")]
    pub address: Patch<Personal<Address>>,
    /// How the lead came in; never cleared.
    #[serde(skip_serializing_if = "Patch::is_unchanged")]
    pub source: Patch<LeadSource>,
    /// What it may be worth.
    #[serde(skip_serializing_if = "Patch::is_unchanged")]
    pub estimated_value: Patch<Money>,
    /// How likely it is won, set by hand; cleared, it is the default of the stage from now on.
    #[serde(skip_serializing_if = "Patch::is_unchanged")]
    pub probability: Patch<Percent>,
    /// When it may be decided.
    #[serde(skip_serializing_if = "Patch::is_unchanged")]
    pub expected_close_date: Patch<NaiveDate>,
}

impl LeadChanges {
    /// Whether nothing changed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Makes the changes, all but the probability, which is the lead's and not a fact about the contact.
    pub fn apply_to(self, facts: &mut LeadFacts) {
        self.name.apply_to_required(&mut facts.name);
        self.company.apply_to(&mut facts.company);
        self.job_title.apply_to(&mut facts.job_title);
        self.email.apply_to(&mut facts.email);
        self.phone.apply_to(&mut facts.phone);
        self.address.apply_to(&mut facts.address);
        self.source.apply_to_required(&mut facts.source);
        self.estimated_value.apply_to(&mut facts.estimated_value);
        self.expected_close_date.apply_to(&mut facts.expected_close_date);
    }
}

impl LeadDetails {
    /// The facts, and the probability if it was given.
    pub(super) fn into_facts(self) -> Result<(LeadFacts, Option<Percent>), LeadError> {
        if self.estimated_value.as_ref().is_some_and(Money::is_negative) {
            return Err(LeadError::NegativeValue);
        }
        let facts = LeadFacts {
            name: self.name.into(),
            company: self.company,
            job_title: self.job_title.map(Personal::new),
            email: self.email.map(Personal::new),
            phone: self.phone.map(Personal::new),
            address: self.address.map(Personal::new),
            source: self.source,
            estimated_value: self.estimated_value,
            expected_close_date: self.expected_close_date,
        };
        Ok((facts, self.probability))
    }
}

impl LeadPatch {
    /// What the patch really changes about a lead.
    pub(super) fn changes_to(self, lead: &Lead, facts: &LeadFacts) -> Result<LeadChanges, LeadError> {
        if self.name == Patch::Clear {
            return Err(LeadError::NameRequired);
        }
        if self.estimated_value.as_set().is_some_and(Money::is_negative) {
            return Err(LeadError::NegativeValue);
        }
        let source = match self.source {
            Patch::Clear => Patch::Set(LeadSource::default()),
            source => source,
        };
        let by_hand = lead.probability_set_by_hand.then_some(lead.probability);
        let probability = self.probability.retain_changes(&by_hand);
        if !probability.is_unchanged() && !lead.stage.is_open() {
            return Err(LeadError::Closed);
        }
        Ok(LeadChanges {
            name: self.name.map(Personal::new).retain_changes_to_required(&facts.name),
            company: self.company.retain_changes(&facts.company),
            job_title: self.job_title.map(Personal::new).retain_changes(&facts.job_title),
            email: self.email.map(Personal::new).retain_changes(&facts.email),
            phone: self.phone.map(Personal::new).retain_changes(&facts.phone),
            address: self.address.map(Personal::new).retain_changes(&facts.address),
            source: source.retain_changes_to_required(&facts.source),
            estimated_value: self.estimated_value.retain_changes(&facts.estimated_value),
            probability,
            expected_close_date: self.expected_close_date.retain_changes(&facts.expected_close_date),
        })
    }
}

/// What a lead is scored by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ScoreInputs {
    /// How much they show interest, 0 to 100.
    pub engagement: Score,
    /// How well they fit what is sold, 0 to 100.
    pub fit: Score,
    /// Whether there is money for it.
    pub budget_confirmed: bool,
    /// Whether the contact decides.
    pub decision_maker: bool,
    /// How much it presses, 0 to 100.
    pub urgency: Score,
}

impl ScoreInputs {
    /// min(100, round(0.3·engagement + 0.25·fit + 20·budget + 15·decision maker + 0.1·urgency)), halves rounded up.
    ///
    /// Counted in twentieths, so that nothing is lost to floating point.
    #[must_use]
    pub fn score(self) -> Score {
        let weigh = |score: Score, twentieths: u32| u32::from(score.value()) * twentieths;
        let twentieths = weigh(self.engagement, 6)
            + weigh(self.fit, 5)
            + u32::from(self.budget_confirmed) * 400
            + u32::from(self.decision_maker) * 300
            + weigh(self.urgency, 2);
        Score::at_most_hundred(u8::try_from((twentieths + 10) / 20).unwrap_or(100))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn score(engagement: u8, fit: u8, budget_confirmed: bool, decision_maker: bool, urgency: u8) -> u8 {
        let [engagement, fit, urgency] = [engagement, fit, urgency].map(Score::at_most_hundred);
        ScoreInputs { engagement, fit, budget_confirmed, decision_maker, urgency }.score().value()
    }

    #[test]
    fn a_score_is_the_weighted_sum_of_its_inputs() {
        assert_eq!(score(75, 85, true, false, 60), 70);
        assert_eq!(score(0, 0, false, false, 0), 0);
        assert_eq!(score(100, 100, true, true, 100), 100);
        assert_eq!(score(0, 2, false, false, 0), 1, "0.5 is rounded up");
        assert_eq!(score(0, 1, false, false, 0), 0, "0.25 is rounded down");
    }
}
