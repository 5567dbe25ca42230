//! What was written down about customers. Fed by the customers' events.
//!
//! | event | does |
//! |---|---|
//! | NoteAdded | the row begins |
//! | NoteEdited, NoteRemoved | sets what changed; hides it |
//! | Absorbed | moves each note to the record that stays |

use chrono::{DateTime, Utc};
use cqrs_es::Aggregate;

use super::fact::{Event, Fact};
use super::model::{Projection, Touched};
use super::row::row;
use super::write::text;
use crate::aggregates::customer::{Customer, CustomerEvent, Note};

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
            CustomerEvent::NoteEdited { id, .. } | CustomerEvent::NoteRemoved { id } => {
                vec![Touched::Known(id.to_string())]
            }
            CustomerEvent::Absorbed { notes, .. } => {
                notes.iter().map(|note| Touched::Known(note.id.to_string())).collect()
            }
            _ => Vec::new(),
        }
    }

    fn fold(row: Option<NoteRow>, id: &str, fact: &Fact) -> Option<NoteRow> {
        let Event::Customer(event) = &fact.event else { return row };
        let customer = fact.recorded.local_id();
        match (row, event) {
            (None, CustomerEvent::NoteAdded { note }) => Some(begun(note, customer)),
            (None, CustomerEvent::Absorbed { notes, .. }) => {
                notes.iter().find(|note| note.id.to_string() == id).map(|note| begun(note, customer))
            }
            (None, _) => None,
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
            (Some(mut row), CustomerEvent::Absorbed { .. }) => {
                row.customer_id = customer.to_owned();
                Some(row)
            }
            (Some(row), _) => Some(row),
        }
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
