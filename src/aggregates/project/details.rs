//! What is known of a project: as it is told, as it is recorded, and as it changes.

use chrono::NaiveDate;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::ProjectError;
use crate::aggregates::values::{Hours, Money, Patch, Priority, Text};

/// What is known of a project. It tells nothing about a person, so events carry it as it was told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ProjectDetails {
    /// Its name.
    pub name: Text<200>,
    /// What is to be done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<Text<10000>>,
    /// How much it presses.
    #[serde(default)]
    pub priority: Priority,
    /// What it may cost; never negative.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<Money>,
    /// When it begins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_date: Option<NaiveDate>,
    /// When it is to be done; on or after the start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due_date: Option<NaiveDate>,
    /// How long it may take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hours_estimated: Option<Hours>,
}

/// A change of details, as JSON Merge Patch; in events, what really changed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ProjectPatch {
    /// Its name; cannot be cleared.
    #[serde(skip_serializing_if = "Patch::is_unchanged")]
    #[schema(inline, value_type = Option<Text<200>>)]
    pub name: Patch<Text<200>>,
    /// What is to be done.
    #[serde(skip_serializing_if = "Patch::is_unchanged")]
    #[schema(inline, value_type = Option<Text<10000>>)]
    pub description: Patch<Text<10000>>,
    /// How much it presses; clearing makes it `medium`.
    #[serde(skip_serializing_if = "Patch::is_unchanged")]
    #[schema(inline, value_type = Option<Priority>)]
    pub priority: Patch<Priority>,
    /// What it may cost.
    #[serde(skip_serializing_if = "Patch::is_unchanged")]
    #[schema(inline, value_type = Option<Money>)]
    pub budget: Patch<Money>,
    /// When it begins.
    #[serde(skip_serializing_if = "Patch::is_unchanged")]
    #[schema(inline, value_type = Option<NaiveDate>)]
    pub start_date: Patch<NaiveDate>,
    /// When it is to be done.
    #[serde(skip_serializing_if = "Patch::is_unchanged")]
    #[schema(inline, value_type = Option<NaiveDate>)]
    pub due_date: Patch<NaiveDate>,
    /// How long it may take.
    #[serde(skip_serializing_if = "Patch::is_unchanged")]
    #[schema(inline, value_type = Option<Hours>)]
    pub hours_estimated: Patch<Hours>,
}

impl ProjectDetails {
    /// The same, if its values fit together.
    pub(super) fn consistent(self) -> Result<Self, ProjectError> {
        if self.budget.as_ref().is_some_and(Money::is_negative) {
            return Err(ProjectError::NegativeBudget);
        }
        match (self.start_date, self.due_date) {
            (Some(start), Some(due)) if due < start => Err(ProjectError::DueBeforeStart),
            _ => Ok(self),
        }
    }
}

impl ProjectPatch {
    /// Whether nothing changes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// What really changes.
    pub(super) fn changes_to(self, details: &ProjectDetails) -> Result<Self, ProjectError> {
        if self.name == Patch::Clear {
            return Err(ProjectError::NameRequired);
        }
        let priority = if self.priority == Patch::Clear { Patch::Set(Priority::default()) } else { self.priority };
        let changes = Self {
            name: self.name.retain_changes_to_required(&details.name),
            description: self.description.retain_changes(&details.description),
            priority: priority.retain_changes_to_required(&details.priority),
            budget: self.budget.retain_changes(&details.budget),
            start_date: self.start_date.retain_changes(&details.start_date),
            due_date: self.due_date.retain_changes(&details.due_date),
            hours_estimated: self.hours_estimated.retain_changes(&details.hours_estimated),
        };
        let mut changed = details.clone();
        changes.clone().apply_to(&mut changed);
        changed.consistent()?;
        Ok(changes)
    }

    /// Makes the changes.
    pub fn apply_to(self, details: &mut ProjectDetails) {
        self.name.apply_to_required(&mut details.name);
        self.description.apply_to(&mut details.description);
        self.priority.apply_to_required(&mut details.priority);
        self.budget.apply_to(&mut details.budget);
        self.start_date.apply_to(&mut details.start_date);
        self.due_date.apply_to(&mut details.due_date);
        self.hours_estimated.apply_to(&mut details.hours_estimated);
    }
}
