//! How what was done is taken back: by ordinary commands that bring fields to where they were. Nothing is overwritten.
//!
//! ```text
//! history ─► the state then, the state now ─► fields that differ ─► commands ─► staged, or kept with the reason
//! ```
//!
//! Both states are folded from the log, so that what is brought back is what was, to the letter; the rules, and
//! what the caller may do, are those of the ordinary routes. One file an aggregate.

mod contact;
mod customer;
mod invoice;
mod lead;
mod project;
mod user;

use std::collections::{BTreeMap, BTreeSet};

use cqrs_es::Aggregate;
use serde::Serialize;
use serde_json::Value;

use super::caller::Caller;
use super::problem::ProblemKind;
use super::write::refused;
use super::{App, Problem};
use crate::aggregates::Refused;
use crate::aggregates::claims::Claiming;
use crate::aggregates::ids::{InteractionId, NoteId};
use crate::aggregates::values::Patch;
use crate::event_store::{Work, WorkError};

/// Names of fields, as the API shows them.
pub(super) type Fields = BTreeSet<&'static str>;

/// One of the records that an aggregate's events are about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Record {
    /// The aggregate.
    Itself,
    /// A call, a meeting … with it.
    Interaction(InteractionId),
    /// A note on it.
    Note(NoteId),
}

/// What is known of a record, as far as it matters to taking back.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Facet {
    /// The fields that can go back, by the names that the API shows them under.
    pub fields: BTreeMap<&'static str, Value>,
    /// What changes, and does not go back.
    pub fixed: BTreeMap<&'static str, Value>,
    /// Whether it was taken away.
    pub deleted: bool,
}

/// What is to be of a record's being there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Existence {
    /// As it is.
    #[default]
    Kept,
    /// It was made, and is to be no more.
    Gone,
    /// It was taken away, and is to be there again.
    Back,
}

/// Where a record is to go.
#[derive(Debug, Clone)]
pub(super) struct Goal<'a, A> {
    /// Of which record.
    pub record: Record,
    /// How its aggregate stands.
    pub now: &'a A,
    /// How it stood.
    pub then: &'a A,
    /// What is to be as it was.
    pub fields: Fields,
    /// Whether it is to be there.
    pub existence: Existence,
}

/// An aggregate whose past can be brought back.
pub(super) trait Past:
    Aggregate<Services = (), Event: Claiming, Error: Refused, Command: Clone> + Clone + 'static
{
    /// What it is called: `lead`.
    const NOUN: &'static str;

    /// The records that an event is about: none for what leaves no trace in any.
    fn touched(event: &Self::Event) -> Vec<Record>;

    /// How a record stands; none if it was never there.
    fn facet(&self, record: Record) -> Option<Facet>;

    /// Whether a record that was made is as good as not made.
    fn is_gone(&self, record: Record) -> bool {
        self.facet(record).is_none_or(|facet| facet.deleted)
    }

    /// Why a field of [`Facet::fixed`] stays as it is.
    fn stays(&self, field: &str) -> Problem;

    /// The command that makes up for an event that adds to a sum, whatever was added since.
    fn counter(_event: &Self::Event) -> Option<Self::Command> {
        None
    }

    /// That the caller may change a record.
    async fn allow(&self, app: &App, caller: &Caller, id: &str, record: Record) -> Result<(), Problem>;

    /// Stages what brings a record to its goal.
    async fn bring_back(taking: &mut Taking<'_>, goal: &Goal<'_, Self>) -> Result<(), Problem>;

    /// What else is to be done once it is stored.
    async fn settle(_app: &App, _caller: &Caller, _id: &str) -> Result<(), Problem> {
        Ok(())
    }
}

/// Something that does not go back.
#[derive(Debug, Clone)]
pub(super) struct Kept {
    /// Which field; none if it is the record's being there.
    pub field: Option<&'static str>,
    /// Why.
    pub problem: Problem,
}

/// Why something does not go back: a word and a sentence.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Why {
    pub code: String,
    pub detail: String,
}

impl Kept {
    /// Why, as the rule that forbids it says it.
    pub fn why(&self) -> Why {
        let details = self.problem.details();
        let detail = details.detail.clone().unwrap_or_else(|| details.title.to_owned());
        match (details.errors.first(), &details.rule) {
            (Some(error), _) => Why { code: error.code.clone(), detail: error.detail.clone() },
            (None, Some(rule)) => Why { code: rule.clone(), detail },
            (None, None) => Why { code: details.code.to_owned(), detail },
        }
    }
}

/// Taking one aggregate back.
pub(super) struct Taking<'a> {
    /// The application.
    pub app: &'a App,
    /// Who takes back.
    pub caller: &'a Caller,
    /// Where it is staged.
    pub work: &'a mut Work,
    /// The aggregate's id within the tenant.
    pub id: &'a str,
    /// What does not go back.
    pub kept: Vec<Kept>,
}

impl<'a> Taking<'a> {
    /// Nothing taken back yet.
    pub fn new(app: &'a App, caller: &'a Caller, work: &'a mut Work, id: &'a str) -> Self {
        Self { app, caller, work, id, kept: Vec::new() }
    }

    /// Stages a command; a refusal keeps these fields as they are. Whether it was staged.
    pub async fn send<A: Past>(&mut self, fields: &[&'static str], command: A::Command) -> Result<bool, Problem> {
        match self.work.execute::<A>(self.work.stream::<A>(self.id), command).await {
            Ok(_) => Ok(true),
            Err(WorkError::Refused(refusal)) => self.keep(fields, refused(&refusal)).map(|()| false),
            Err(error) => Err(error.into()),
        }
    }

    /// The same for the record's being there.
    pub async fn send_whole<A: Past>(&mut self, command: A::Command) -> Result<bool, Problem> {
        match self.work.execute::<A>(self.work.stream::<A>(self.id), command).await {
            Ok(_) => Ok(true),
            Err(WorkError::Refused(refusal)) => self.keep_whole(refused(&refusal)).map(|()| false),
            Err(error) => Err(error.into()),
        }
    }

    /// Stages the patch of these fields: together, since they may fit together only; else each by itself, so that
    /// one that cannot go back does not hold the others.
    pub async fn patch<A: Past>(
        &mut self,
        fields: &Fields,
        command: impl Fn(&Fields) -> A::Command,
    ) -> Result<(), Problem> {
        if fields.is_empty() {
            return Ok(());
        }
        match self.work.execute::<A>(self.work.stream::<A>(self.id), command(fields)).await {
            Ok(_) => return Ok(()),
            Err(WorkError::Refused(_)) => {}
            Err(error) => return Err(error.into()),
        }
        for field in fields {
            self.send::<A>(&[field], command(&BTreeSet::from([*field]))).await?;
        }
        Ok(())
    }

    /// Keeps these fields as they are, if it is a refusal; what failed for another reason fails the whole.
    pub fn keep(&mut self, fields: &[&'static str], problem: Problem) -> Result<(), Problem> {
        if !is_refusal(&problem) {
            return Err(problem);
        }
        self.kept.extend(fields.iter().map(|field| Kept { field: Some(field), problem: problem.clone() }));
        Ok(())
    }

    /// The same for the record's being there.
    pub fn keep_whole(&mut self, problem: Problem) -> Result<(), Problem> {
        if !is_refusal(&problem) {
            return Err(problem);
        }
        self.kept.push(Kept { field: None, problem });
        Ok(())
    }

    /// Whether this is allowed; a refusal keeps these fields as they are.
    pub fn allowed(&mut self, fields: &[&'static str], verdict: Result<(), Problem>) -> Result<bool, Problem> {
        match verdict {
            Ok(()) => Ok(true),
            Err(problem) => self.keep(fields, problem).map(|()| false),
        }
    }
}

/// Whether a problem says that this may not be, and not that something failed.
pub(super) fn is_refusal(problem: &Problem) -> bool {
    matches!(
        problem.kind(),
        ProblemKind::NotFound
            | ProblemKind::Conflict
            | ProblemKind::ValidationFailed
            | ProblemKind::PermissionDenied
            | ProblemKind::PlanLimit
    )
}

/// The patch of one field: to its value then, if it is among those that go back.
fn to_then<T>(fields: &Fields, field: &str, then: Option<T>) -> Patch<T> {
    if fields.contains(field) { Patch::from(then) } else { Patch::Unchanged }
}

/// Those of `fields` that are among these.
fn among(fields: &Fields, these: &[&'static str]) -> Fields {
    these.iter().copied().filter(|field| fields.contains(field)).collect()
}

/// A value as it is compared and shown.
fn shown(value: impl Serialize) -> Value {
    serde_json::to_value(value).unwrap_or_default()
}
