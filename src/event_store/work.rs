//! A unit of work: the commands of one request, decided on the aggregates' states and stored together or not
//! at all.
//!
//! Each command runs through cqrs-es's framework over a store that only *stages* what was decided; the commit
//! hands all of it to the appender as one append. So a lead and the customer it becomes change in one
//! transaction, and nothing that crashes in between can leave half of it.

use std::any::Any;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use cqrs_es::{Aggregate, AggregateContext, AggregateError, CqrsFramework, DomainEvent, EventEnvelope};
use serde_json::Value;
use uuid::Uuid;

use super::append::{Append, AppendError, Appended, Condition, Guard, IdempotencyClaim, NewEvent, StreamWrite};
use super::appender::Appender;
use super::batch::is_reserved;
use super::canonical;
use super::envelope::Context;
use super::scope::TenantScope;
use super::stream::{StreamId, Target};
use super::streams::{LoadError, Loaded, Streams, bytes_of};
use crate::aggregates::claims::{ClaimChange, Claiming};
use crate::clock::{Clock, new_event_id};

/// Why a command was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum WorkError<E: std::error::Error> {
    /// The rules of the domain refuse it.
    #[error(transparent)]
    Refused(E),
    /// The aggregate could not be read.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// What was decided could not be written down.
    #[error("an event could not be written down: {0}")]
    Encode(String),
}

/// The commands of one request.
pub struct Work {
    streams: Streams,
    appender: Appender,
    clock: Clock,
    scope: TenantScope,
    context: Context,
    /// What every event of it says beside its payload.
    metadata: Value,
    staged: Arc<Mutex<Vec<Staged>>>,
    guards: Vec<Guard>,
    /// Where streams stood when it was found that they may be changed.
    seen: Vec<Guard>,
    conditions: Vec<Condition>,
    /// States that are to be decided on, whatever is remembered.
    bases: Mutex<HashMap<StreamId, Box<dyn Any + Send>>>,
    idempotency: Option<IdempotencyClaim>,
}

/// An event that was decided and is not stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Planned {
    /// The aggregate's type, `Lead`.
    pub aggregate_type: &'static str,
    /// The id within the tenant; none for one that is yet to be numbered.
    pub id: Option<String>,
    /// `LeadCaptured`.
    pub event_type: String,
    /// The version of that type.
    pub event_version: String,
}

/// What one command decided, and the state it leaves once it is stored.
struct Staged {
    write: StreamWrite,
    /// A `Loaded<A>`: what the next command on the same stream is decided on.
    after: Arc<dyn Any + Send + Sync>,
    /// What that takes in memory.
    bytes: u64,
}

impl Work {
    pub(super) fn new(
        streams: Streams,
        appender: Appender,
        clock: Clock,
        scope: TenantScope,
        context: Context,
    ) -> Self {
        let metadata = Value::Object(context.metadata());
        Self {
            streams,
            appender,
            clock,
            scope,
            context,
            metadata,
            staged: Arc::default(),
            guards: Vec::new(),
            seen: Vec::new(),
            conditions: Vec::new(),
            bases: Mutex::default(),
            idempotency: None,
        }
    }

    /// Whose data this changes.
    #[must_use]
    pub fn scope(&self) -> TenantScope {
        self.scope
    }

    /// An id within the tenant, as a stream.
    #[must_use]
    pub fn stream<A: Aggregate>(&self, id: impl std::fmt::Display) -> StreamId {
        StreamId::new(A::TYPE, self.scope.tenant(), id)
    }

    /// A stream that does not exist yet and gets the next number after `prefix`.
    #[must_use]
    pub fn next<A: Aggregate>(&self, prefix: &'static str) -> Target {
        Target::Next { aggregate_type: A::TYPE, tenant: self.scope.tenant(), prefix }
    }

    /// An aggregate's state as it is now.
    ///
    /// # Errors
    /// [`LoadError`].
    pub async fn load<A>(&self, id: impl std::fmt::Display) -> Result<Loaded<A>, LoadError>
    where
        A: Aggregate + Clone + 'static,
    {
        self.streams.load(&self.stream::<A>(id)).await
    }

    /// An aggregate's state that this work relies on: if it `serves`, what follows from it is stored only while the
    /// aggregate stands where it stood.
    ///
    /// # Errors
    /// [`LoadError`].
    pub async fn rely_on<A>(
        &mut self,
        id: impl std::fmt::Display,
        serves: impl Fn(&A) -> bool,
    ) -> Result<Option<A>, LoadError>
    where
        A: Aggregate + Clone + 'static,
    {
        let stream = self.stream::<A>(id);
        let Loaded { state, version, .. } = self.streams.remembered(&stream, &serves).await?;
        if !serves(&state) {
            return Ok(None);
        }
        self.guards.push(Guard { stream, version });
        Ok(Some(state))
    }

    /// Stores what is decided only if the stream stands at this version: who asked for it is known to have seen, or not
    /// to mind, what led there, and nothing that came after.
    pub fn only_at(&mut self, stream: StreamId, version: i64) {
        if self.streams.version(&stream).is_some_and(|known| known < version) {
            self.streams.doubt(&stream);
        }
        self.seen.push(Guard { stream, version });
    }

    /// The decision relies on nothing of this having been added to the tenant's history.
    pub fn require(&mut self, condition: Condition) {
        self.conditions.push(condition);
    }

    /// Decides on this state of a stream, and stores what is decided only if the stream still stands there: for a
    /// decision that looked at how the state came about.
    pub fn decide_on<A: Aggregate + Clone + 'static>(&self, stream: StreamId, loaded: Loaded<A>) {
        self.bases.lock().unwrap_or_else(PoisonError::into_inner).insert(stream, Box::new(loaded));
    }

    /// What everything that this causes has in common.
    #[must_use]
    pub fn correlation_id(&self) -> Uuid {
        self.context.correlation_id
    }

    /// The request that this answers: under its key it has one effect.
    pub fn answer(&mut self, claim: IdempotencyClaim) {
        self.idempotency = Some(claim);
    }

    /// Runs one command and stages what it decides. Returns the number of events and the state after them.
    ///
    /// # Errors
    /// [`WorkError`]: the command has no effect.
    pub async fn execute<A>(
        &self,
        target: impl Into<Target>,
        command: A::Command,
    ) -> Result<Arc<Loaded<A>>, WorkError<A::Error>>
    where
        A: Aggregate<Services = ()> + Clone + 'static,
        A::Command: Clone,
        A::Event: Claiming,
    {
        let target = target.into();
        loop {
            let known = self.known_version(&target);
            let decided = self.decide::<A>(&target, command.clone()).await;
            let changes = matches!(&decided, Ok((_, true)));
            if let (false, Some((stream, version))) = (changes, known)
                && self.streams.load::<A>(stream).await?.version > version
            {
                // It was the memory that refused, not the record as it is now.
                continue;
            }
            return decided.map(|(after, _)| after);
        }
    }

    /// The stream and its version, if a decision about it will be taken on what is remembered.
    fn known_version<'t>(&self, target: &'t Target) -> Option<(&'t StreamId, i64)> {
        let Target::Named(stream) = target else { return None };
        let staged = self.staged.lock().unwrap_or_else(PoisonError::into_inner);
        if staged.iter().any(|staged| staged.write.target == *target) {
            return None;
        }
        self.streams.version(stream).map(|version| (stream, version))
    }

    /// Decides once; the state after that, and whether anything changes.
    async fn decide<A>(
        &self,
        target: &Target,
        command: A::Command,
    ) -> Result<(Arc<Loaded<A>>, bool), WorkError<A::Error>>
    where
        A: Aggregate<Services = ()> + Clone + 'static,
        A::Event: Claiming,
    {
        let outcome = Arc::new(Mutex::new(None));
        let store = StagingStore { work: self, target: target.clone(), outcome: Arc::clone(&outcome) };
        let framework = CqrsFramework::new(store, Vec::new(), ());
        framework.execute("", command).await.map_err(|error| match error {
            AggregateError::UserError(refusal) => WorkError::Refused(refusal),
            AggregateError::DatabaseConnectionError(cause)
            | AggregateError::DeserializationError(cause)
            | AggregateError::UnexpectedError(cause) => match cause.downcast::<LoadError>() {
                Ok(load) => WorkError::Load(*load),
                Err(other) => WorkError::Encode(other.to_string()),
            },
            AggregateError::AggregateConflict => WorkError::Encode("a staged command cannot conflict".into()),
        })?;
        let after = outcome.lock().unwrap_or_else(PoisonError::into_inner).take();
        after.ok_or_else(|| WorkError::Encode("nothing was staged".into()))
    }

    /// Whether anything was decided.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.staged.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// What was decided so far, in the order of the streams.
    #[must_use]
    pub fn planned(&self) -> Vec<Planned> {
        let staged = self.staged.lock().unwrap_or_else(PoisonError::into_inner);
        let of = |write: &StreamWrite| {
            let (aggregate_type, id) = match &write.target {
                Target::Named(stream) => (stream.aggregate_type, Some(stream.local.clone())),
                Target::Next { aggregate_type, .. } => (*aggregate_type, None),
            };
            let planned = |event: &NewEvent| Planned {
                aggregate_type,
                id: id.clone(),
                event_type: event.event_type.clone(),
                event_version: event.event_version.clone(),
            };
            write.events.iter().map(planned).collect::<Vec<_>>()
        };
        staged.iter().flat_map(|staged| of(&staged.write)).collect()
    }

    /// Takes all that was decided for what it would be: judged as far as it can be without storing it. What may
    /// exist only once must be free.
    ///
    /// # Errors
    /// [`AppendError::Claimed`], or the database's.
    pub async fn rehearse(self) -> Result<Vec<Planned>, AppendError> {
        let planned = self.planned();
        let staged = std::mem::take(&mut *self.staged.lock().unwrap_or_else(PoisonError::into_inner));
        for staged in staged {
            let holder = match &staged.write.target {
                Target::Named(stream) => stream.aggregate_id(),
                Target::Next { .. } => String::new(),
            };
            for change in staged.write.events.iter().flat_map(|event| &event.claims) {
                if let ClaimChange::Take { kind, key } = change {
                    if is_reserved(&staged.write.target, *kind, key) {
                        return Err(AppendError::Claimed { kind: kind.as_str(), key: key.clone() });
                    }
                    self.streams.free(self.scope.tenant(), *kind, key, &holder).await?;
                }
            }
        }
        Ok(planned)
    }

    /// Stores all that was decided, in one transaction. None: there was nothing to store.
    ///
    /// # Errors
    /// [`AppendError`]; after [`AppendError::Conflict`] the commands are to be run again on a new unit of work.
    pub async fn commit(self) -> Result<Option<Appended>, AppendError> {
        let staged = std::mem::take(&mut *self.staged.lock().unwrap_or_else(PoisonError::into_inner));
        if staged.is_empty() {
            // That nothing is to be changed was found out on the latest state: it may be what was not to be overlooked.
            let later = |seen: &&Guard| self.streams.version(&seen.stream).is_some_and(|known| known > seen.version);
            let moved = self.seen.iter().find(later);
            return moved.map_or(Ok(None), |seen| Err(AppendError::Conflict(seen.stream.to_string())));
        }
        let (writes, after): (Vec<_>, Vec<_>) =
            staged.into_iter().map(|staged| (staged.write, (staged.after, staged.bytes))).unzip();
        let named: Vec<StreamId> = writes
            .iter()
            .filter_map(|write| write.target.stream().cloned())
            .chain(self.guards.iter().chain(&self.seen).map(|guard| guard.stream.clone()))
            .collect();
        let mut guards = self.guards;
        let mut moved = None;
        for Guard { stream, version } in self.seen {
            let of = |write: &&StreamWrite| matches!(&write.target, Target::Named(named) if *named == stream);
            match writes.iter().find(of) {
                // The append checks the version that a write was decided on.
                Some(write) if write.expected == version => {}
                Some(_) => moved = Some(stream),
                None => guards.push(Guard { stream, version }),
            }
        }
        let append = Append {
            tenant: self.scope.tenant(),
            writes,
            guards,
            conditions: self.conditions,
            idempotency: self.idempotency,
        };
        let appended = match moved {
            Some(stream) => Err(AppendError::Conflict(stream.to_string())),
            None => self.appender.append(append).await,
        };
        match appended {
            Ok(appended) => {
                for (after, (stream, version)) in after.into_iter().zip(&appended.streams) {
                    self.streams.remember(stream.clone(), *version, after);
                }
                Ok(Some(appended))
            }
            Err(error) => {
                // Whatever went wrong, what this was decided on may not be the latest.
                for stream in &named {
                    self.streams.doubt(stream);
                }
                Err(error)
            }
        }
    }

    fn stage<A>(
        &self,
        target: &Target,
        events: &[A::Event],
        loaded: Loaded<A>,
    ) -> Result<Arc<Loaded<A>>, serde_json::Error>
    where
        A: Aggregate + 'static,
        A::Event: Claiming,
    {
        if events.is_empty() {
            return Ok(Arc::new(loaded));
        }
        let metadata: Arc<str> = canonical::of(&self.metadata)?.into();
        let events = events
            .iter()
            .map(|event| {
                Ok(NewEvent {
                    event_id: new_event_id(self.clock.now()),
                    event_type: event.event_type(),
                    event_version: event.event_version(),
                    payload: canonical::to_string(event)?,
                    metadata: Arc::clone(&metadata),
                    occurred_at: self.context.occurred_at,
                    claims: event.claims(),
                })
            })
            .collect::<Result<Vec<_>, serde_json::Error>>()?;
        let Loaded { state, version: expected, bytes } = loaded;
        let version = events.iter().fold(expected, |version, _| version + 1);
        let bytes = events.iter().fold(bytes, |bytes, event| bytes + bytes_of(event.payload.len()));
        let left = Arc::new(Loaded { state, version, bytes });
        let after = Arc::<Loaded<A>>::clone(&left);
        let mut staged = self.staged.lock().unwrap_or_else(PoisonError::into_inner);
        match staged.iter_mut().find(|staged| is_named(target) && staged.write.target == *target) {
            Some(same) => {
                same.write.events.extend(events);
                (same.after, same.bytes) = (after, bytes);
            }
            None => {
                let write = StreamWrite { target: target.clone(), expected, events };
                staged.push(Staged { write, after, bytes });
            }
        }
        Ok(left)
    }

    /// What an earlier command of this work left of a stream.
    fn staged_state<A: Aggregate + Clone + 'static>(&self, target: &Target) -> Option<Loaded<A>> {
        let staged = self.staged.lock().unwrap_or_else(PoisonError::into_inner);
        let same = staged.iter().find(|staged| is_named(target) && staged.write.target == *target)?;
        same.after.downcast_ref::<Loaded<A>>().cloned()
    }

    /// What is to be decided on, if that was said.
    fn base<A: Aggregate + Clone + 'static>(&self, target: &Target) -> Option<Loaded<A>> {
        let Target::Named(stream) = target else { return None };
        let bases = self.bases.lock().unwrap_or_else(PoisonError::into_inner);
        bases.get(stream)?.downcast_ref::<Loaded<A>>().cloned()
    }
}

/// A stream that has no name yet is another one each time.
fn is_named(target: &Target) -> bool {
    matches!(target, Target::Named(_))
}

/// What a decision left, and whether it changed anything.
type Outcome<A> = Arc<Mutex<Option<(Arc<Loaded<A>>, bool)>>>;

/// The event store that cqrs-es sees: reads the real log, stages the writes.
struct StagingStore<'w, A> {
    work: &'w Work,
    target: Target,
    outcome: Outcome<A>,
}

struct StagingContext<A> {
    loaded: Loaded<A>,
}

impl<A: Aggregate> AggregateContext<A> for StagingContext<A> {
    fn aggregate(&mut self) -> &mut A {
        &mut self.loaded.state
    }
}

impl<A> cqrs_es::EventStore<A> for StagingStore<'_, A>
where
    A: Aggregate + Clone + 'static,
    A::Event: Claiming,
{
    type AC = StagingContext<A>;

    async fn load_events(&self, _: &str) -> Result<Vec<EventEnvelope<A>>, AggregateError<A::Error>> {
        // The framework loads aggregates, never bare events.
        Ok(Vec::new())
    }

    async fn load_aggregate(&self, _: &str) -> Result<Self::AC, AggregateError<A::Error>> {
        if let Some(loaded) = self.work.staged_state(&self.target).or_else(|| self.work.base(&self.target)) {
            return Ok(StagingContext { loaded });
        }
        let loaded = match &self.target {
            Target::Named(stream) => self
                .work
                .streams
                .remembered(stream, |_| true)
                .await
                .map_err(|error| AggregateError::DatabaseConnectionError(Box::new(error)))?,
            Target::Next { .. } => Loaded::default(),
        };
        Ok(StagingContext { loaded })
    }

    async fn commit(
        &self,
        events: Vec<A::Event>,
        context: Self::AC,
        _: HashMap<String, String>,
    ) -> Result<Vec<EventEnvelope<A>>, AggregateError<A::Error>> {
        // The framework applied the events while they were written: this is the state after them.
        let after = self
            .work
            .stage::<A>(&self.target, &events, context.loaded)
            .map_err(|error| AggregateError::UnexpectedError(Box::new(error)))?;
        *self.outcome.lock().unwrap_or_else(PoisonError::into_inner) = Some((after, !events.is_empty()));
        Ok(Vec::new())
    }
}
