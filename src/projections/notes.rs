//! What was written down about customers. Fed by the customers' events.
//!
//! | event | does |
//! |---|---|
//! | NoteAdded | the row begins |
//! | NoteEdited | sets what changed |
//! | NoteRemoved, NoteRestored | hides it; shows it again |
//! | Absorbed | moves each note to the record that stays |

use chrono::{DateTime, Utc};
use cqrs_es::Aggregate;

use super::fact::{Event, Fact, Unread};
use super::model::{Affected, Poison, Projection, Touched};
use super::row::row;
use super::write::text;
use crate::aggregates::customer::{Customer, CustomerEvent, Note};
use crate::aggregates::ids::NoteId;

row! {
    /// A note.
    pub struct NoteRow in "notes", "note_versions" {
        /// The customer it is about.
        pub customer_id: String,
        /// Who wrote it.
        pub author_id: String,
        /// Its title.
        pub title: Option<String>,
        /// What it says.
        pub content: String,
        /// Whether only its author sees it.
        pub private: bool,
        /// When it was taken away.
        pub deleted_at: Option<DateTime<Utc>>,
    }
}

/// The notes.
pub struct Notes;

impl Projection for Notes {
    type Row = NoteRow;
    const NAME: &'static str = "notes";
    const FED_BY: &'static [&'static str] = &[Customer::TYPE];
    const OF_ITS_AGGREGATE: bool = false;

    fn touched(fact: &Fact) -> Vec<Touched> {
        let Event::Customer(event) = &fact.event else { return Vec::new() };
        match event {
            CustomerEvent::NoteAdded { note } => vec![Touched::New(note.id.to_string())],
            CustomerEvent::NoteEdited { id, .. }
            | CustomerEvent::NoteRemoved { id }
            | CustomerEvent::NoteRestored { id } => vec![Touched::Known(id.to_string())],
            CustomerEvent::Absorbed { notes, .. } => {
                notes.iter().map(|note| Touched::Known(note.id.to_string())).collect()
            }
            _ => Vec::new(),
        }
    }

    fn affected(unread: &Unread) -> Affected {
        if unread.recorded.aggregate_type != Customer::TYPE {
            return Affected::Nothing;
        }
        match unread.kind() {
            "NoteAdded" | "NoteEdited" | "NoteRemoved" | "NoteRestored" => {
                Affected::called::<NoteId>(unread.member("id").as_ref())
            }
            "Absorbed" => Affected::each::<NoteId>(unread.member("notes").as_ref()),
            _ if unread.is_of_known_type() => Affected::Nothing,
            _ => Affected::Unknown,
        }
    }

    fn fold(row: Option<NoteRow>, id: &str, fact: &Fact) -> Result<Option<NoteRow>, Poison> {
        let Event::Customer(event) = &fact.event else { return Ok(row) };
        let customer = fact.recorded.local_id();
        Ok(match (row, event) {
            (None, CustomerEvent::NoteAdded { note }) => Some(begun(note, customer)),
            (None, CustomerEvent::Absorbed { notes, .. }) => {
                notes.iter().find(|note| note.id.to_string() == id).map(|note| begun(note, customer))
            }
            (None, _) => return Err(Poison::absent()),
            (Some(mut row), CustomerEvent::NoteEdited { changes, .. }) => {
                changes.title.clone().map(|title| title.to_string()).apply_to(&mut row.title);
                changes.content.clone().map(|content| content.to_string()).apply_to_required(&mut row.content);
                changes.private.apply_to_required(&mut row.private);
                Some(row)
            }
            (Some(mut row), CustomerEvent::NoteRemoved { .. }) => {
                row.deleted_at = Some(fact.recorded.occurred_at);
                Some(row)
            }
            (Some(mut row), CustomerEvent::NoteRestored { .. }) => {
                row.deleted_at = None;
                Some(row)
            }
            (Some(mut row), CustomerEvent::Absorbed { .. }) => {
                row.customer_id = customer.to_owned();
                Some(row)
            }
            (Some(row), _) => Some(row),
        })
    }
}

fn begun(note: &Note, customer: &str) -> NoteRow {
    NoteRow {
        customer_id: customer.to_owned(),
        author_id: note.author.to_string(),
        title: text(note.title.as_deref()),
        content: note.content.to_string(),
        private: note.private,
        deleted_at: None,
    }
}
