//! What a private note says is withheld from everybody but its author: while the note was private, and if it is so
//! today. That it was written, changed or moved is told.

use std::collections::HashSet;

use serde_json::{Map, Value};
use sqlx::{Postgres, QueryBuilder};

use super::cloud_event::CloudEvent;
use crate::aggregates::ids::{TenantId, UserId};
use crate::api::App;

/// The members that say what a note says.
const WORDS: [&str; 2] = ["title", "content"];

/// Who reads events.
#[derive(Debug, Clone, Copy)]
pub struct Eyes {
    /// In which business; none for the founder, who reads of all.
    pub within: Option<TenantId>,
    /// As the author of which notes; none for a visitor.
    pub author: Option<UserId>,
}

/// A note as an event left it: its business, its id, and the place of the event in the log.
type Version = (String, String, i64);

/// Takes out of events, each with its place in the log, what notes say that are not for these eyes. A note that no row
/// tells of yet is not.
///
/// # Errors
/// The database's.
pub async fn withhold(app: &App, eyes: Eyes, events: &mut [(i64, CloudEvent)]) -> sqlx::Result<()> {
    let versions: Vec<Version> = events
        .iter_mut()
        .flat_map(|(position, event)| {
            let (tenant, position) = (event.tenant().to_owned(), *position);
            notes(event).into_iter().map(move |note| (tenant.clone(), id(note), position))
        })
        .collect();
    if versions.is_empty() {
        return Ok(());
    }
    let readers = if eyes.within.is_some() { &app.readers } else { &app.founder_readers };
    let readable: Vec<Version> = readers.rows(|| readable(eyes, &versions)).await?;
    let readable: HashSet<Version> = readable.into_iter().collect();
    for (position, event) in events {
        let tenant = event.tenant().to_owned();
        let hidden = |note: &Map<String, Value>| !readable.contains(&(tenant.clone(), id(note), *position));
        for note in notes(event).into_iter().filter(|note| hidden(note)) {
            without_words(note);
        }
    }
    Ok(())
}

/// The notes that an event says something of.
fn notes(event: &mut CloudEvent) -> Vec<&mut Map<String, Value>> {
    let kind = event.kind.rsplit_once('.').map_or("", |(kind, _version)| kind);
    let Value::Object(data) = &mut event.data else { return Vec::new() };
    match kind {
        "devhub.customer.note_added" | "devhub.customer.note_edited" => vec![data],
        "devhub.customer.absorbed" => {
            let notes = data.get_mut("notes").and_then(Value::as_array_mut);
            notes.into_iter().flatten().filter_map(Value::as_object_mut).collect()
        }
        _ => Vec::new(),
    }
}

fn id(note: &Map<String, Value>) -> String {
    note.get("id").and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// Those of these versions that may be read.
fn readable(eyes: Eyes, versions: &[Version]) -> QueryBuilder<'static, Postgres> {
    let mut sql = QueryBuilder::new("");
    if let Some(tenant) = eyes.within {
        sql.push("with scope as materialized (select set_config('devhub.tenant_id', ");
        sql.push_bind(tenant.to_string()).push(", true) as tenant_id) ");
        sql.push("select x.* from scope cross join lateral (");
    } else {
        sql.push("select x.* from (");
    }
    sql.push("select v.tenant_id, v.id, v.position from unnest(");
    sql.push_bind(versions.iter().map(|(tenant, ..)| tenant.clone()).collect::<Vec<_>>()).push(", ");
    sql.push_bind(versions.iter().map(|(_, id, _)| id.clone()).collect::<Vec<_>>()).push(", ");
    sql.push_bind(versions.iter().map(|(.., position)| *position).collect::<Vec<_>>());
    sql.push(
        ") as asked (tenant_id, id, position)
         join note_versions v on v.tenant_id = asked.tenant_id and v.id = asked.id and v.position = asked.position
         join notes n on n.tenant_id = v.tenant_id and n.id = v.id
         where (n.author_id = ",
    );
    sql.push_bind(eyes.author.map(|author| author.to_string())).push(" or not (v.private or n.private))");
    if eyes.within.is_some() {
        // Not to be read before row-level security was told of whom.
        sql.push(" and v.tenant_id = scope.tenant_id and n.tenant_id = scope.tenant_id offset 0");
    }
    sql.push(") x");
    sql
}

fn without_words(note: &mut Map<String, Value>) {
    let note = match note.get("changes") {
        Some(Value::Object(_)) => note.get_mut("changes").and_then(Value::as_object_mut),
        _ => Some(note),
    };
    let Some(note) = note else { return };
    let mut withheld = false;
    for word in WORDS {
        withheld |= note.remove(word).is_some();
    }
    if withheld {
        note.insert("withheld".to_owned(), Value::Bool(true));
    }
}
