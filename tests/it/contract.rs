//! The events as they were ever written: a frozen sample of each type and version, which must be understood for ever.
//!
//! A sample is never changed. A new version of a type gets a sample of its own, and the old one an upcaster.

use std::collections::BTreeMap;

use cqrs_es::DomainEvent;
use devhub::aggregates::event_types;
use devhub::event_store::upcast::{UPCASTERS, Versioned, upcast};
use devhub::projections::Event;
use serde_json::Value;

const SAMPLES: &str = include_str!("events/samples.json");

fn samples() -> BTreeMap<String, Value> {
    serde_json::from_str(SAMPLES).unwrap()
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
    let aggregates = ["Tenant", "User", "Customer", "Lead", "Project", "Invoice"];
    for (name, payload) in samples() {
        let (event_type, version) = name.split_once('/').unwrap();
        let aggregate = aggregates.iter().find(|aggregate| event_type.starts_with(**aggregate)).unwrap();
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
