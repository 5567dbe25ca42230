//! A history told through the rules: what old rows imply, as commands in the order in which they happened, decided by
//! the aggregate itself and turned into the events of its stream.

use chrono::{DateTime, Utc};
use cqrs_es::{Aggregate, DomainEvent};
use uuid::Uuid;

use super::ImportError;
use super::staging::Planned;
use super::tables::Table;
use crate::aggregates::customer::{Customer, CustomerCommand, CustomerEvent};
use crate::aggregates::ids::{TenantId, UserId};
use crate::aggregates::invoice::{Invoice, InvoiceCommand, InvoiceEvent};
use crate::aggregates::lead::{Lead, LeadCommand, LeadEvent};
use crate::aggregates::project::{Project, ProjectCommand, ProjectEvent};
use crate::aggregates::tenant::{Tenant, TenantCommand, TenantEvent};
use crate::aggregates::user::{User, UserCommand, UserEvent};
use crate::event_store::canonical;

/// An aggregate whose rules can be asked without a store.
pub(super) trait Rules: Aggregate<Event: DomainEvent> + Clone {
    /// Where its events stand among others of the same moment: whoever is named comes before who names them.
    const RANK: i16;

    /// What the command leads to, or the rule that forbids it.
    fn decide(&self, command: Self::Command) -> Result<Vec<Self::Event>, Self::Error>;
}

macro_rules! rules {
    ($($aggregate:ident, $command:ident, $event:ident, $rank:literal;)*) => {$(
        impl Rules for $aggregate {
            const RANK: i16 = $rank;

            fn decide(&self, command: $command) -> Result<Vec<$event>, Self::Error> {
                $aggregate::decide(self, command)
            }
        }
    )*};
}

rules! {
    Tenant, TenantCommand, TenantEvent, 0;
    User, UserCommand, UserEvent, 1;
    Customer, CustomerCommand, CustomerEvent, 2;
    Lead, LeadCommand, LeadEvent, 3;
    Project, ProjectCommand, ProjectEvent, 5;
    Invoice, InvoiceCommand, InvoiceEvent, 6;
}

/// Steps from this order on come last of what happened to their aggregate at one time, and after what happened to the
/// next kind of aggregate: a customer takes in a lead's history once the lead has one.
pub(super) const LATE: u8 = 100;

/// A row of the old database.
pub(super) type RowId = (Table, i64);

/// Something that an old row says happened.
#[derive(Debug, Clone)]
pub(super) struct Step<C> {
    /// When.
    pub at: DateTime<Utc>,
    /// Which comes first of what happened at the same time.
    pub order: u8,
    /// Which row says so.
    pub row: RowId,
    /// Who did it, if the row says.
    pub actor: Option<UserId>,
    /// What.
    pub command: C,
}

/// A step that the rules did not allow.
#[derive(Debug)]
pub(super) struct Refused {
    pub row: RowId,
    pub code: &'static str,
    pub sentence: String,
}

/// What came of telling.
pub(super) struct Told<A, S> {
    /// The aggregate as it stands then.
    pub state: A,
    /// The events, in the stream's order.
    pub events: Vec<Planned>,
    /// What was not allowed.
    pub refused: Vec<Refused>,
    /// What was worth remembering on the way.
    pub seen: Vec<S>,
}

/// Whose stream is told.
pub(super) struct Teller<'a> {
    /// Whose rows they are; actors are theirs.
    pub tenant: TenantId,
    /// Whose stream it is: the platform's for the founder.
    pub stream_tenant: TenantId,
    /// The aggregate's id within the tenant.
    pub local_id: &'a str,
}

impl Teller<'_> {
    /// Tells the steps in the order in which they happened. What one row says comes in whole or not at all: a row of
    /// which something is refused says nothing. `see` is shown the state before each step and may remember something.
    pub(super) fn tell<A, S>(
        &self,
        state: &A,
        version: i64,
        mut steps: Vec<Step<A::Command>>,
        see: impl Fn(&A, &Step<A::Command>, DateTime<Utc>) -> Option<S>,
    ) -> Result<Told<A, S>, ImportError>
    where
        A: Rules,
        A::Error: crate::aggregates::Refused,
        A::Command: Clone,
    {
        // Stable: what is equal stays in the order of its rows.
        steps.sort_by_key(|step| (step.at, step.order));
        let mut refused = Vec::new();
        loop {
            let mut told = self.tell_once(state.clone(), version, &steps, &see)?;
            if told.refused.is_empty() {
                told.refused = refused;
                return Ok(told);
            }
            steps.retain(|step| !told.refused.iter().any(|refused| refused.row == step.row));
            refused.append(&mut told.refused);
        }
    }

    fn tell_once<A, S>(
        &self,
        mut state: A,
        version: i64,
        steps: &[Step<A::Command>],
        see: &impl Fn(&A, &Step<A::Command>, DateTime<Utc>) -> Option<S>,
    ) -> Result<Told<A, S>, ImportError>
    where
        A: Rules,
        A::Error: crate::aggregates::Refused,
        A::Command: Clone,
    {
        let mut seen = Vec::new();
        let number = number_of(self.local_id);
        let (mut sequence, mut told, mut refused) = (version, Vec::new(), Vec::new());
        let mut at = DateTime::<Utc>::MIN_UTC;
        for step in steps {
            at = at.max(step.at);
            let decided = match state.decide(step.command.clone()) {
                Ok(decided) => decided,
                Err(refusal) => {
                    use crate::aggregates::Refused as _;
                    refused.push(Refused { row: step.row, code: refusal.code(), sentence: refusal.to_string() });
                    continue;
                }
            };
            seen.extend(see(&state, step, at));
            let actor = step.actor.map_or_else(|| "system".to_owned(), |user| actor(self.tenant, user));
            for event in decided {
                sequence += 1;
                told.push(Planned {
                    occurred_at: at,
                    rank: if step.order < LATE { A::RANK } else { A::RANK + 2 },
                    number,
                    sequence,
                    stream_tenant: self.stream_tenant,
                    aggregate_type: A::TYPE,
                    local_id: self.local_id.to_owned(),
                    event_type: event.event_type(),
                    event_version: event.event_version(),
                    payload: canonical::to_string(&event).map_err(ImportError::Encode)?,
                    actor: actor.clone(),
                    table: step.row.0,
                    pk: step.row.1,
                    correlation_id: Uuid::nil(),
                    first: false,
                });
                state.apply(event);
            }
        }
        Ok(Told { state, events: told, refused, seen })
    }
}

/// A user of the old application, whole: the founder lives in the platform's own business.
fn actor(tenant: TenantId, user: UserId) -> String {
    if user == UserId::FOUNDER { format!("{}:{user}", TenantId::Platform) } else { format!("{tenant}:{user}") }
}

/// `LED-007` → 7.
fn number_of(local_id: &str) -> i64 {
    local_id.rsplit_once('-').and_then(|(_, number)| number.parse().ok()).unwrap_or(0)
}
