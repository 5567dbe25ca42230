//! What a command did to an aggregate, and how much of that still stands.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use serde_json::Value;

use crate::api::take_back::{Existence, Facet, Past, Record};
use crate::event_store::{Happened, History};

/// What a command did to one aggregate, as far as it can go back.
pub(super) struct Effects<A: Past> {
    /// To which records; what is brought back comes first, what is taken away last.
    pub records: Vec<Effect<A>>,
    /// What makes up for what it added to sums.
    pub counters: Vec<A::Command>,
    /// What it did without a trace in any record.
    pub traceless: Vec<String>,
}

/// What it did to one record.
pub(super) struct Effect<A> {
    pub record: Record,
    /// What is to be of its being there.
    pub existence: Existence,
    /// The fields that are to go back, by the state that they go back to.
    pub goals: Vec<(A, Vec<Back>)>,
    /// What somebody changed since.
    pub changed: Vec<Changed>,
    /// The fields that do not go back.
    pub fixed: Vec<&'static str>,
}

/// A field that is to go back.
#[derive(Debug, Clone)]
pub(super) struct Back {
    pub field: &'static str,
    pub from: Value,
    pub to: Value,
}

/// Something that was changed since.
#[derive(Debug, Clone)]
pub(super) struct Changed {
    /// Which field; none if it is the record's being there.
    pub field: Option<&'static str>,
    /// What it is now.
    pub current: Option<Value>,
    pub since: Since,
}

/// Who came after.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Since {
    /// Whole: `TNT-001:USR-003`.
    pub by: String,
    pub at: DateTime<Utc>,
}

impl Since {
    fn of<E>(entry: &Happened<E>) -> Self {
        Self { by: entry.actor.clone(), at: entry.occurred_at }
    }
}

/// A value that the command changed: what it was, in which state, and who changed it after the command.
struct Change<T> {
    original: T,
    state: usize,
    since: Option<Since>,
}

/// One record on its way through the stream.
#[derive(Default)]
struct Track {
    /// How the command left it, if it made it.
    made: Option<Facet>,
    fields: BTreeMap<&'static str, Change<Value>>,
    fixed: BTreeMap<&'static str, Value>,
    deleted: Option<Change<bool>>,
    others: Option<Since>,
}

/// Walks a stream with the command in mind.
struct Walk<A> {
    /// The states before what the command did.
    states: Vec<A>,
    tracks: BTreeMap<Record, Track>,
    /// What others did to records that the command did not touch.
    beside: BTreeMap<Record, Since>,
    traceless: Vec<String>,
}

/// What the command with this correlation id did to an aggregate.
pub(super) fn effects<A: Past>(history: &History<A>, correlation_id: &str) -> Effects<A> {
    let mut walk = Walk { states: Vec::new(), tracks: BTreeMap::new(), beside: BTreeMap::new(), traceless: Vec::new() };
    let mut state = A::default();
    let mut counters = Vec::new();
    for entry in &history.entries {
        let ours = entry.correlation_id.as_deref() == Some(correlation_id);
        if ours || !walk.tracks.is_empty() {
            walk.step(&mut state, entry, ours);
        } else {
            entry.apply_to(&mut state);
        }
        if ours {
            counters.extend(entry.events.iter().filter_map(A::counter));
        }
    }
    if !in_force(history, correlation_id) {
        counters.clear();
    }
    counters.reverse();
    Effects { counters, ..walk.end(&state) }
}

/// Whether what a command added was not made up for: no undo of it is in force.
fn in_force<A: Past>(history: &History<A>, correlation_id: &str) -> bool {
    let undone_by: BTreeSet<&str> = history
        .entries
        .iter()
        .filter(|entry| entry.causation_id.as_deref() == Some(correlation_id))
        .filter_map(|entry| entry.correlation_id.as_deref())
        .filter(|undo| *undo != correlation_id)
        .collect();
    !undone_by.into_iter().any(|undo| in_force(history, undo))
}

impl<A: Past> Walk<A> {
    fn step(&mut self, state: &mut A, entry: &Happened<A::Event>, ours: bool) {
        let records: BTreeSet<Record> = entry.events.iter().flat_map(A::touched).collect();
        if ours && records.is_empty() {
            self.traceless.push(entry.event_type.clone());
        }
        let before: Vec<(Record, Option<Facet>)> =
            records.into_iter().map(|record| (record, state.facet(record))).collect();
        if ours {
            self.states.push(state.clone());
        }
        entry.apply_to(state);
        for (record, before) in before {
            let Some(after) = state.facet(record) else { continue };
            if ours {
                let at = self.states.len().saturating_sub(1);
                self.tracks.entry(record).or_default().changed(before, after, at);
            } else if let Some(track) = self.tracks.get_mut(&record) {
                track.changed_by_others(before.as_ref(), &after, &Since::of(entry));
            } else {
                self.beside.insert(record, Since::of(entry));
            }
        }
    }

    fn end(self, now: &A) -> Effects<A> {
        let Self { states, tracks, beside, traceless } = self;
        let beside = beside.into_iter().find(|(record, _)| !now.is_gone(*record)).map(|(_, since)| since);
        let mut records: Vec<Effect<A>> = tracks
            .into_iter()
            .filter_map(|(record, track)| {
                let facet = now.facet(record)?;
                Some(match &track.made {
                    Some(made) => {
                        let beside = beside.clone().filter(|_| record == Record::Itself);
                        unmake(record, made, &facet, track.others.clone().or_else(|| beside.clone()), beside, now)
                    }
                    None => track.end(record, &facet, &states),
                })
            })
            .collect();
        // The record itself is there before what belongs to it, and gone after it.
        records.sort_by_key(|effect| match effect.existence {
            Existence::Back => 0,
            Existence::Kept => 1,
            Existence::Gone if effect.record != Record::Itself => 2,
            Existence::Gone => 3,
        });
        Effects { records, counters: Vec::new(), traceless }
    }
}

/// A record that the command made goes, unless somebody has worked with it since.
fn unmake<A: Past>(
    record: Record,
    made: &Facet,
    facet: &Facet,
    since: Option<Since>,
    beside: Option<Since>,
    now: &A,
) -> Effect<A> {
    let mut effect =
        Effect { record, existence: Existence::Kept, goals: Vec::new(), changed: Vec::new(), fixed: Vec::new() };
    match since {
        _ if now.is_gone(record) => {}
        Some(since) if made != facet || beside.is_some() => {
            effect.changed.push(Changed { field: None, current: None, since });
        }
        _ => effect.existence = Existence::Gone,
    }
    effect
}

impl Track {
    fn changed(&mut self, before: Option<Facet>, after: Facet, state: usize) {
        let Some(before) = before else {
            self.made = Some(after);
            return;
        };
        if self.made.is_some() {
            self.made = Some(after);
            return;
        }
        for (field, value) in &after.fields {
            let was = before.fields.get(field).cloned().unwrap_or_default();
            if was != *value {
                let change =
                    self.fields.entry(field).or_insert_with(|| Change { original: was.clone(), state, since: None });
                if change.since.is_some() {
                    *change = Change { original: was, state, since: None };
                }
            }
        }
        for (field, value) in &after.fixed {
            let was = before.fixed.get(field).cloned().unwrap_or_default();
            if was != *value {
                self.fixed.entry(field).or_insert(was);
            }
        }
        if before.deleted != after.deleted {
            let change = self.deleted.get_or_insert(Change { original: before.deleted, state, since: None });
            if change.since.is_some() {
                *change = Change { original: before.deleted, state, since: None };
            }
        }
    }

    fn changed_by_others(&mut self, before: Option<&Facet>, after: &Facet, since: &Since) {
        self.others = Some(since.clone());
        for (field, change) in &mut self.fields {
            if before.and_then(|before| before.fields.get(field)) != after.fields.get(field) {
                change.since = Some(since.clone());
            }
        }
        if let Some(change) = &mut self.deleted
            && before.is_some_and(|before| before.deleted != after.deleted)
        {
            change.since = Some(since.clone());
        }
    }

    fn end<A: Past>(self, record: Record, now: &Facet, states: &[A]) -> Effect<A> {
        let mut effect =
            Effect { record, existence: Existence::Kept, goals: Vec::new(), changed: Vec::new(), fixed: Vec::new() };
        match self.deleted {
            Some(change) if change.original == now.deleted => {}
            Some(Change { since: Some(since), .. }) => {
                effect.changed.push(Changed { field: None, current: None, since });
            }
            Some(Change { original: true, .. }) => effect.existence = Existence::Gone,
            Some(Change { original: false, .. }) => effect.existence = Existence::Back,
            None => {}
        }
        let first = states.first().and_then(|state| state.facet(record)).unwrap_or_default();
        let mut by_state: BTreeMap<usize, Vec<Back>> = BTreeMap::new();
        for (field, change) in self.fields {
            let current = now.fields.get(field).cloned().unwrap_or_default();
            if current == change.original {
                continue;
            }
            if let Some(since) = change.since {
                effect.changed.push(Changed { field: Some(field), current: Some(current), since });
                continue;
            }
            // One state for as much as possible: what fits together goes back together.
            let state = if first.fields.get(field) == Some(&change.original) { 0 } else { change.state };
            by_state.entry(state).or_default().push(Back { field, from: current, to: change.original });
        }
        effect.goals =
            by_state.into_iter().filter_map(|(state, back)| Some((states.get(state)?.clone(), back))).collect();
        let fixed = self.fixed.into_iter().filter(|(field, was)| now.fixed.get(field) != Some(was));
        effect.fixed = fixed.map(|(field, _)| field).collect();
        effect
    }
}
