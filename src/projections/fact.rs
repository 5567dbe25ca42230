//! An event as projections see it: what happened, typed, with everything that surrounds it.

use cqrs_es::Aggregate;

use crate::aggregates::customer::{Customer, CustomerEvent};
use crate::aggregates::invoice::{Invoice, InvoiceEvent};
use crate::aggregates::lead::{Lead, LeadEvent};
use crate::aggregates::project::{Project, ProjectEvent};
use crate::aggregates::tenant::{Tenant, TenantEvent};
use crate::aggregates::user::{User, UserEvent};
use crate::event_store::Recorded;
use crate::event_store::upcast::{UPCASTERS, Versioned, upcast};

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

impl Fact {
    /// What a stored event means today: usually one fact, after upcasting none or several.
    ///
    /// # Errors
    /// [`NotUnderstood`].
    pub fn read(mut recorded: Recorded) -> Result<Vec<Self>, NotUnderstood> {
        let refuse = |recorded: &Recorded, reason: String| NotUnderstood {
            position: recorded.position,
            event_type: recorded.event_type.clone(),
            event_version: recorded.event_version.clone(),
            reason,
        };
        let stored = Versioned {
            event_type: recorded.event_type.clone(),
            event_version: recorded.event_version.clone(),
            payload: std::mem::take(&mut recorded.payload),
        };
        let today = upcast(stored, UPCASTERS).map_err(|error| refuse(&recorded, error.to_string()))?;
        today
            .into_iter()
            .map(|event| {
                let typed = Event::decode(&recorded.aggregate_type, event.payload)
                    .map_err(|error| refuse(&recorded, error.to_string()))?;
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
    pub fn decode(aggregate_type: &str, payload: serde_json::Value) -> Result<Self, serde_json::Error> {
        match aggregate_type {
            Tenant::TYPE => serde_json::from_value(payload).map(Self::Tenant),
            User::TYPE => serde_json::from_value(payload).map(Self::User),
            Customer::TYPE => serde_json::from_value(payload).map(Self::Customer),
            Lead::TYPE => serde_json::from_value(payload).map(Self::Lead),
            Project::TYPE => serde_json::from_value(payload).map(Self::Project),
            Invoice::TYPE => serde_json::from_value(payload).map(Self::Invoice),
            other => Err(serde::de::Error::custom(format_args!("there is no aggregate {other}"))),
        }
    }
}
