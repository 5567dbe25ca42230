//! An event as projections see it: what happened, typed, with everything that surrounds it.

use cqrs_es::Aggregate;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::aggregates::customer::{Customer, CustomerEvent};
use crate::aggregates::event_types;
use crate::aggregates::invoice::{Invoice, InvoiceEvent};
use crate::aggregates::lead::{Lead, LeadEvent};
use crate::aggregates::project::{Project, ProjectEvent};
use crate::aggregates::tenant::{Tenant, TenantEvent};
use crate::aggregates::user::{User, UserEvent};
use crate::event_store::Recorded;
use crate::event_store::reader::Entry;
use crate::event_store::upcast::{UPCASTERS, Versioned, is_current, upcast};

/// What happened, to whichever aggregate.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// To a tenant.
    Tenant(TenantEvent),
    /// To a user.
    User(UserEvent),
    /// To a customer.
    Customer(CustomerEvent),
    /// To a lead.
    Lead(LeadEvent),
    /// To a project.
    Project(ProjectEvent),
    /// To an invoice.
    Invoice(InvoiceEvent),
}

/// An event with what surrounds it.
#[derive(Debug, Clone)]
pub struct Fact {
    /// Whose, when, by whom, where in the log.
    pub recorded: Recorded,
    /// What happened.
    pub event: Event,
}

/// An event of the log and what this version of the program makes of it.
#[derive(Debug)]
pub enum Told {
    /// Usually one fact; after upcasting none, or several.
    Understood(Vec<Fact>),
    /// Nothing.
    Unread(Box<Unread>),
}

/// An event that this version of the program does not understand, as it is stored.
#[derive(Debug)]
pub struct Unread {
    /// Whose, when, by whom, where in the log.
    pub recorded: Recorded,
    /// Why it is not understood.
    pub reason: NotUnderstood,
    payload: String,
}

impl Told {
    /// What an entry of the log means today. An event that no upcaster reads is read straight by its type.
    #[must_use]
    pub fn of_entry(entry: Entry) -> Self {
        let Entry { recorded, payload } = entry;
        if is_current(&recorded.event_type, &recorded.event_version, UPCASTERS) {
            return match Event::parse(&recorded.aggregate_type, &payload) {
                Ok(event) => Self::Understood(vec![Fact { recorded, event }]),
                Err(error) => Self::unread(recorded, payload, &error),
            };
        }
        match serde_json::from_str(&payload) {
            Ok(value) => match Fact::read(Recorded { payload: value, ..recorded.clone() }) {
                Ok(facts) => Self::Understood(facts),
                Err(reason) => Self::Unread(Box::new(Unread { recorded, reason, payload })),
            },
            Err(error) => Self::unread(recorded, payload, &error),
        }
    }

    fn unread(recorded: Recorded, payload: String, error: &dyn std::error::Error) -> Self {
        let reason = NotUnderstood::new(&recorded, error);
        Self::Unread(Box::new(Unread { recorded, reason, payload }))
    }

    /// What surrounds it; none if it means nothing any more.
    #[must_use]
    pub fn recorded(&self) -> Option<&Recorded> {
        match self {
            Self::Understood(facts) => facts.first().map(|fact| &fact.recorded),
            Self::Unread(unread) => Some(&unread.recorded),
        }
    }
}

impl Unread {
    /// What its payload says of a member of the event, as far as that can be told: `{"NoteAdded": {"note": …}}`.
    #[must_use]
    pub fn member(&self, name: &str) -> Option<Value> {
        let payload: Value = serde_json::from_str(&self.payload).ok()?;
        payload.as_object()?.values().next()?.get(name).cloned()
    }

    /// Its type without the aggregate's: `StageChanged` of `LeadStageChanged`.
    #[must_use]
    pub fn kind(&self) -> &str {
        let event_type = self.recorded.event_type.as_str();
        event_type.strip_prefix(self.recorded.aggregate_type.as_str()).unwrap_or(event_type)
    }

    /// Whether there is such a type of event, in whichever version.
    #[must_use]
    pub fn is_of_known_type(&self) -> bool {
        event_types().iter().any(|(_, known, _)| *known == self.recorded.event_type)
    }
}

/// An event that this version of the program does not understand.
#[derive(Debug, thiserror::Error)]
#[error("event {position} ({event_type}, version {event_version}) is not understood: {reason}")]
pub struct NotUnderstood {
    /// Where it stands in the log.
    pub position: i64,
    /// Its type.
    pub event_type: String,
    /// Its version.
    pub event_version: String,
    /// What is wrong.
    pub reason: String,
}

impl NotUnderstood {
    fn new(recorded: &Recorded, reason: &dyn std::error::Error) -> Self {
        Self {
            position: recorded.position,
            event_type: recorded.event_type.clone(),
            event_version: recorded.event_version.clone(),
            reason: reason.to_string(),
        }
    }
}

impl Fact {
    /// What a stored event means today: usually one fact, after upcasting none or several.
    ///
    /// # Errors
    /// [`NotUnderstood`].
    pub fn read(mut recorded: Recorded) -> Result<Vec<Self>, NotUnderstood> {
        let stored = Versioned {
            event_type: recorded.event_type.clone(),
            event_version: recorded.event_version.clone(),
            payload: std::mem::take(&mut recorded.payload),
        };
        let today = upcast(stored, UPCASTERS).map_err(|error| NotUnderstood::new(&recorded, &error))?;
        today
            .into_iter()
            .map(|event| {
                let typed = Event::decode(&recorded.aggregate_type, event.payload)
                    .map_err(|error| NotUnderstood::new(&recorded, &error))?;
                Ok(Self { recorded: recorded.clone(), event: typed })
            })
            .collect()
    }
}

impl Event {
    /// An event of an aggregate's type, from its payload.
    ///
    /// # Errors
    /// If there is no such aggregate or the payload is none of its events.
    pub fn decode(aggregate_type: &str, payload: Value) -> Result<Self, serde_json::Error> {
        Self::read(aggregate_type, payload)
    }

    /// The same from the text of the payload.
    ///
    /// # Errors
    /// As [`decode`](Self::decode).
    pub fn parse(aggregate_type: &str, payload: &str) -> Result<Self, serde_json::Error> {
        let mut payload = serde_json::Deserializer::from_str(payload);
        let event = Self::read(aggregate_type, &mut payload)?;
        payload.end()?;
        Ok(event)
    }

    fn read<'de, D>(aggregate_type: &str, payload: D) -> Result<Self, serde_json::Error>
    where
        D: Deserializer<'de, Error = serde_json::Error>,
    {
        match aggregate_type {
            Tenant::TYPE => TenantEvent::deserialize(payload).map(Self::Tenant),
            User::TYPE => UserEvent::deserialize(payload).map(Self::User),
            Customer::TYPE => CustomerEvent::deserialize(payload).map(Self::Customer),
            Lead::TYPE => LeadEvent::deserialize(payload).map(Self::Lead),
            Project::TYPE => ProjectEvent::deserialize(payload).map(Self::Project),
            Invoice::TYPE => InvoiceEvent::deserialize(payload).map(Self::Invoice),
            other => Err(serde::de::Error::custom(format_args!("there is no aggregate {other}"))),
        }
    }
}
