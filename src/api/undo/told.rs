//! What an undo answers.

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::api::take_back::Existence;

/// What was undone and what was not.
#[derive(Debug, Serialize, ToSchema)]
#[schema(example = json!({
    "correlation_id": "0192f8e3-7c1a-7d4e-9b7a-3f5d2c1b0a99", "dry_run": false,
    "undone": [{"noun": "lead", "id": "LED-007", "effect": "changed_back",
                "fields": [{"field": "assignee_id", "from": "USR-004", "to": "USR-002"}]}],
    "not_undone": [{"noun": "lead", "id": "LED-008", "field": "assignee_id", "code": "changed_since",
                    "detail": "USR-003 has changed this since", "current": "USR-005", "changed_by": "USR-003",
                    "changed_at": "2026-03-02T09:00:00Z"}]
}))]
pub(super) struct Undoing {
    /// Names the undo itself, so that it can be undone; null if nothing was changed.
    pub correlation_id: Option<Uuid>,
    /// Whether it was only asked for.
    pub dry_run: bool,
    /// What was taken back.
    pub undone: Vec<Undone>,
    /// What was not, and why.
    pub not_undone: Vec<NotUndone>,
}

/// What happened to a record.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Outcome {
    /// Fields are as they were.
    ChangedBack,
    /// What was made is gone.
    Deleted,
    /// What was taken away is there again.
    Restored,
    /// An invoice that was drafted is void.
    Voided,
    /// A user who was invited is not let in.
    Deactivated,
    /// Contact that was planned is called off.
    Cancelled,
    /// What was added to a sum, such as hours, was taken off it.
    MadeUpFor,
}

/// A record that something was undone about.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Undone {
    /// What it is: `lead`, `customer`, `note` …
    pub noun: &'static str,
    /// Its id.
    pub id: String,
    /// What happened to it.
    pub effect: Outcome,
    /// The fields that are as they were.
    pub fields: Vec<FieldBack>,
}

/// A field that is as it was.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct FieldBack {
    /// Which.
    pub field: &'static str,
    /// What it was before the undo.
    pub from: Value,
    /// What it is.
    pub to: Value,
}

/// Something that was not undone.
#[derive(Debug, Default, Serialize, ToSchema)]
pub(super) struct NotUndone {
    /// What it is: `lead`, `customer`, `note` …
    pub noun: &'static str,
    /// Its id; none for a record that the caller may not see.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The event, for what is not about a record.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event_type: Option<String>,
    /// The field; none if it is the record's being there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<&'static str>,
    /// Why, for programs: `changed_since`, `permission_denied`, or the name of the rule.
    pub code: String,
    /// Why, in a sentence.
    pub detail: String,
    /// changed_since: what it is now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub current: Option<Value>,
    /// changed_since: who did it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub changed_by: Option<String>,
    /// changed_since: when.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub changed_at: Option<DateTime<Utc>>,
}

impl Outcome {
    /// What comes of a record that is there or not.
    pub fn of(existence: Existence, noun: &str) -> Self {
        match (existence, noun) {
            (Existence::Kept, _) => Self::ChangedBack,
            (Existence::Back, _) => Self::Restored,
            (Existence::Gone, "invoice") => Self::Voided,
            (Existence::Gone, "user") => Self::Deactivated,
            (Existence::Gone, "interaction") => Self::Cancelled,
            (Existence::Gone, _) => Self::Deleted,
        }
    }
}
