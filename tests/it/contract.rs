//! The events as they were ever written: a frozen sample of each type and version, which must be understood for ever.
//!
//! A sample is never changed. A new version of a type gets a sample of its own, and the old one an upcaster.

use std::collections::BTreeMap;

use chrono::DateTime;
use cqrs_es::DomainEvent;
use devhub::aggregates::event_types;
use devhub::aggregates::ids::TenantId;
use devhub::event_store::Recorded;
use devhub::event_store::reader::Entry;
use devhub::event_store::upcast::{UPCASTERS, Versioned, upcast};
use devhub::projections::Event;
use devhub::projections::fact::Told;
use devhub::projections::model::{Affected, Projection, Touched};
use devhub::projections::{customers, interactions, invoices, leads, notes, projects, tenants, users};
use serde_json::{Value, json};
use uuid::Uuid;

const SAMPLES: &str = include_str!("events/samples.json");

fn samples() -> BTreeMap<String, Value> {
    serde_json::from_str(SAMPLES).unwrap()
}

/// The type of the aggregate that a type of event belongs to.
fn aggregate_of(event_type: &str) -> &'static str {
    let aggregates = ["Tenant", "User", "Customer", "Lead", "Project", "Invoice"];
    aggregates.into_iter().find(|aggregate| event_type.starts_with(aggregate)).unwrap()
}

fn named(event: &Event) -> (String, String, Value) {
    fn of(event: &impl DomainEvent) -> (String, String, Value) {
        (event.event_type(), event.event_version(), serde_json::to_value(event).unwrap())
    }
    match event {
        Event::Tenant(event) => of(event),
        Event::User(event) => of(event),
        Event::Customer(event) => of(event),
        Event::Lead(event) => of(event),
        Event::Project(event) => of(event),
        Event::Invoice(event) => of(event),
    }
}

#[test]
fn every_event_that_can_be_written_has_a_sample() {
    let samples = samples();
    let missing: Vec<String> = event_types()
        .into_iter()
        .map(|(_, event_type, version)| format!("{event_type}/{version}"))
        .filter(|name| !samples.contains_key(name))
        .collect();
    assert!(missing.is_empty(), "no sample of {missing:?}");
}

#[test]
fn every_sample_is_understood_as_what_it_was() {
    for (name, payload) in samples() {
        let (event_type, version) = name.split_once('/').unwrap();
        let aggregate = aggregate_of(event_type);
        let stored =
            Versioned { event_type: event_type.into(), event_version: version.into(), payload: payload.clone() };
        for today in upcast(stored, UPCASTERS).unwrap() {
            let event = Event::decode(aggregate, today.payload.clone()).unwrap_or_else(|e| panic!("{name}: {e}"));
            let (event_type, version, written) = named(&event);
            assert_eq!((event_type, version), (today.event_type, today.event_version), "{name}");
            // Nothing of the sample is lost on the way through the types.
            assert_eq!(written, today.payload, "{name}");
        }
    }
}

/// A sample as it is read from the log.
fn told(name: &str, payload: &Value) -> Told {
    let (event_type, version) = name.split_once('/').unwrap();
    let recorded = Recorded {
        tenant_id: TenantId::Business(1),
        aggregate_type: aggregate_of(event_type).into(),
        aggregate_id: "TNT-001:XXX-007".into(),
        sequence: 1,
        position: 1,
        tenant_position: 1,
        event_id: Uuid::nil(),
        event_type: event_type.into(),
        event_version: version.into(),
        payload: Value::Null,
        metadata: std::collections::HashMap::new(),
        occurred_at: DateTime::UNIX_EPOCH,
        recorded_at: DateTime::UNIX_EPOCH,
        hash: Vec::new(),
    };
    Told::of_entry(Entry { recorded, payload: payload.to_string() })
}

/// The rows that a sample touches are those that it is said to affect when it cannot be read.
fn assert_affects_what_it_touches<P: Projection>(name: &str, payload: &Value) {
    let Told::Understood(facts) = told(name, payload) else { panic!("{name} is not understood") };
    let mut touched: Vec<String> =
        facts.iter().flat_map(P::touched).map(|(Touched::New(id) | Touched::Known(id))| id).collect();
    let mut unreadable = payload.clone();
    unreadable["~"] = json!("what no event says");
    let Told::Unread(unread) = told(name, &unreadable) else { panic!("{name} is understood with anything") };
    let mut affected = match P::affected(&unread) {
        Affected::Rows(ids) => ids,
        Affected::Nothing => Vec::new(),
        Affected::Unknown => panic!("whose row {name} changes cannot be told by {}", P::NAME),
    };
    touched.sort();
    affected.sort();
    assert_eq!(affected, touched, "{name} in {}", P::NAME);
}

#[test]
fn an_event_that_cannot_be_read_affects_what_it_would_touch() {
    for (name, payload) in samples() {
        assert_affects_what_it_touches::<tenants::Tenants>(&name, &payload);
        assert_affects_what_it_touches::<users::Users>(&name, &payload);
        assert_affects_what_it_touches::<customers::Customers>(&name, &payload);
        assert_affects_what_it_touches::<leads::Leads>(&name, &payload);
        assert_affects_what_it_touches::<projects::Projects>(&name, &payload);
        assert_affects_what_it_touches::<invoices::Invoices>(&name, &payload);
        assert_affects_what_it_touches::<interactions::Interactions>(&name, &payload);
        assert_affects_what_it_touches::<notes::Notes>(&name, &payload);
    }
}
