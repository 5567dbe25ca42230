//! Sending commands: begin, decide, commit, decide again if somebody was faster, wait until it can be read.

use axum::http::HeaderValue;
use uuid::Uuid;

use super::caller::{Caller, Founder};
use super::idempotency::PendingKey;
use super::{App, FieldError, Problem, context};
use crate::aggregates::ids::TenantId;
use crate::aggregates::{Refusal, Refused};
use crate::event_store::{AppendError, Appended, Context, LoadError, Work, WorkError};

/// How often a command is decided again after somebody else changed what it was decided on.
const ATTEMPTS: u8 = 8;

/// Counts the decisions of one command.
#[derive(Debug)]
pub struct Attempts {
    made: u8,
    most: u8,
}

impl Default for Attempts {
    fn default() -> Self {
        Self { made: 0, most: ATTEMPTS }
    }
}

impl Attempts {
    /// For what relies on more than one record, or is only noted: others get in between more often, and it should
    /// not be given up.
    #[must_use]
    pub fn many() -> Self {
        Self { made: 0, most: u8::MAX }
    }
}

/// Where a command's events came to stand. None of it, if it changed nothing.
#[derive(Debug, Clone, Default)]
pub struct Receipt {
    appended: Option<Appended>,
    lagging: bool,
}

impl Receipt {
    /// The id within the tenant of the `index`-th stream written: `LED-007`.
    #[must_use]
    pub fn id(&self, index: usize) -> Option<&str> {
        Some(self.appended.as_ref()?.streams.get(index)?.0.local.as_str())
    }

    /// The position of the last event in the tenant's history, for `DevHub-Position`.
    #[must_use]
    pub fn position(&self) -> Option<HeaderValue> {
        self.appended.as_ref().map(|appended| HeaderValue::from(appended.tenant_position))
    }

    /// The same as a number.
    #[must_use]
    pub fn tenant_position(&self) -> Option<i64> {
        self.appended.as_ref().map(|appended| appended.tenant_position)
    }

    /// Whether what was written can be read. If not, what is read is not yet what was written.
    #[must_use]
    pub fn visible(&self) -> bool {
        !self.lagging
    }

    /// The version of the stream with this id within the tenant, if it was written.
    #[must_use]
    pub fn version_of(&self, id: &str) -> Option<i64> {
        let (_, version) = self.appended.as_ref()?.streams.iter().find(|(stream, _)| *stream.local == *id)?;
        Some(*version)
    }

    /// Whether anything changed.
    #[must_use]
    pub fn changed(&self) -> bool {
        self.appended.is_some()
    }
}

impl App {
    /// Begins a unit of work of this caller, in the caller's tenant.
    #[must_use]
    pub fn begin(&self, caller: &Caller) -> Work {
        let mut work = self.store.begin(caller.scope(), caller.context(self));
        if let Some(key) = caller.pending_key() {
            work.answer(key.claim());
        }
        work
    }

    /// The same, led to by something that was done before.
    #[must_use]
    pub fn begin_because(&self, caller: &Caller, causation_id: Uuid) -> Work {
        let context = Context { causation_id: Some(causation_id), ..caller.context(self) };
        let mut work = self.store.begin(caller.scope(), context);
        if let Some(key) = caller.pending_key() {
            work.answer(key.claim());
        }
        work
    }

    /// Begins a unit of work of the founder's on another tenant, from outside it.
    #[must_use]
    pub fn begin_in(&self, founder: &Founder, tenant: TenantId) -> Work {
        let mut work = self.store.begin(founder.scope(tenant), founder.0.context(self));
        if let Some(key) = founder.0.pending_key() {
            work.answer(key.claim());
        }
        work
    }

    /// Takes the next number of a kind (PRJ, INT, …), for an id that is needed before anything is stored. A dry run
    /// takes none, and gets one that nothing has.
    ///
    /// # Errors
    /// If the store cannot be reached.
    pub async fn number(&self, caller: &Caller, kind: &'static str) -> Result<u32, Problem> {
        if caller.rehearsal().is_some() {
            return Ok(u32::MAX);
        }
        Ok(self.store.numbers(caller.tenant(), kind, 1).await?)
    }

    /// Stores what was decided and waits until it can be read. None: somebody was faster, decide again.
    ///
    /// # Errors
    /// What the store refuses, and `overloaded` if somebody was faster too often.
    pub async fn commit(
        &self,
        caller: &Caller,
        work: Work,
        attempts: &mut Attempts,
    ) -> Result<Option<Receipt>, Problem> {
        if let Some(rehearsal) = caller.rehearsal() {
            return rehearsal.take(work).await.map(Some);
        }
        self.commit_under(caller.pending_key(), work, attempts).await
    }

    /// The same for work that nobody who is signed in asked for; `key` is the request's idempotency key.
    ///
    /// # Errors
    /// What the store refuses, and `overloaded` if somebody was faster too often.
    pub async fn commit_under(
        &self,
        key: Option<&PendingKey>,
        work: Work,
        attempts: &mut Attempts,
    ) -> Result<Option<Receipt>, Problem> {
        let tenant = work.scope().tenant();
        let correlation_id = work.correlation_id();
        match work.commit().await {
            Ok(None) => Ok(Some(Receipt::default())),
            Ok(Some(appended)) => {
                context::stored(correlation_id);
                if let Some(key) = key {
                    key.taken();
                }
                // What is stored is stored: a read model that lags makes the answer poorer, not the write undone.
                let lagging = self.readable(tenant, appended.position).await.is_err();
                Ok(Some(Receipt { appended: Some(appended), lagging }))
            }
            Err(AppendError::Conflict(what)) => {
                attempts.made += 1;
                // What was decided on may be older than what can be read by now.
                let head = self.head();
                let _ = self.readable(tenant, head).await;
                if attempts.made < attempts.most {
                    return Ok(None);
                }
                tracing::warn!(%what, "a command lost {} times in a row: {what}", attempts.made);
                Err(Problem::overloaded("others keep changing the same record"))
            }
            Err(error) => {
                if let (AppendError::KeyUsed, Some(key)) = (&error, key) {
                    key.contested();
                }
                Err(error.into())
            }
        }
    }
}

impl From<AppendError> for Problem {
    fn from(error: AppendError) -> Self {
        match error {
            AppendError::Claimed { kind: "login", .. } => {
                Self::conflict("email_taken", "This e-mail address already belongs to an account.")
            }
            AppendError::Claimed { kind: "invoice_number", key } => {
                Self::conflict("invoice_number_taken", format!("The number {key} is another invoice's."))
            }
            AppendError::Claimed { kind, key } => Self::conflict(format!("{kind}_taken"), format!("{key} is taken.")),
            AppendError::KeyUsed => Self::key_in_use(),
            AppendError::Conflict(_) => Self::overloaded("others keep changing the same record"),
            AppendError::Overloaded => Self::overloaded("too many commands are waiting"),
            AppendError::Stopped => Self::overloaded("the server is stopping"),
            AppendError::Unreachable => Self::unreachable(error),
            AppendError::Store(error) => Self::internal(error),
        }
    }
}

impl From<LoadError> for Problem {
    fn from(error: LoadError) -> Self {
        match error {
            LoadError::Unreachable(..) => Self::unreachable(error),
            LoadError::Read(..) | LoadError::Unknown { .. } => Self::internal(error),
        }
    }
}

impl<E: Refused> From<WorkError<E>> for Problem {
    fn from(error: WorkError<E>) -> Self {
        match error {
            WorkError::Refused(refusal) => refused(&refusal),
            WorkError::Load(error) => error.into(),
            WorkError::Encode(cause) => Self::internal(cause),
        }
    }
}

/// A refusal of the domain, as a problem.
pub(super) fn refused(refusal: &impl Refused) -> Problem {
    match refusal.kind() {
        Refusal::NotFound => Problem::not_found(),
        Refusal::Conflict => Problem::conflict(refusal.code(), refusal.to_string()),
        Refusal::Invalid { pointer } => {
            Problem::validation_failed(vec![FieldError::at(pointer, refusal.code(), refusal.to_string())])
        }
    }
}
