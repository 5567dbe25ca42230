//! Old event versions read as new ones.
//!
//! An event's type and version are a contract: what was stored is never rewritten, it is read differently.
//! An upcaster is a pure step from JSON to JSON. It may rename a type, change a payload, split one event into
//! several, or drop one that means nothing any more; steps follow each other until none applies.

use serde_json::Value;

/// The part of an event that upcasters see.
#[derive(Debug, Clone, PartialEq)]
pub struct Versioned {
    /// `LeadCaptured`.
    pub event_type: String,
    /// The version of that type's payload.
    pub event_version: String,
    /// The payload.
    pub payload: Value,
}

/// One step: from one version of one type to what replaced it.
pub struct Upcaster {
    /// The type it reads.
    pub event_type: &'static str,
    /// The version it reads.
    pub event_version: &'static str,
    /// What the event is today: none, one or several.
    pub upcast: fn(Value) -> Vec<Versioned>,
}

/// Every step there is. Each has a frozen sample of what it reads in the tests.
pub static UPCASTERS: &[Upcaster] = &[];

/// Steps that one stored event may go through; more means that two steps lead to each other.
const MAX_STEPS: usize = 64;

/// Two upcasters lead to each other.
#[derive(Debug, thiserror::Error)]
#[error("the upcasters of {0} lead to each other")]
pub struct Circle(String);

/// Whether any step reads this version of this type: if none does, the event means what it meant.
#[must_use]
pub fn is_current(event_type: &str, event_version: &str, upcasters: &[Upcaster]) -> bool {
    !upcasters.iter().any(|step| step.event_type == event_type && step.event_version == event_version)
}

/// What a stored event means today.
///
/// # Errors
/// [`Circle`] if the steps never end.
pub fn upcast(event: Versioned, upcasters: &[Upcaster]) -> Result<Vec<Versioned>, Circle> {
    let mut current = Vec::with_capacity(1);
    let mut waiting = vec![event];
    let mut steps = 0;
    while let Some(event) = waiting.pop() {
        let step = upcasters
            .iter()
            .find(|step| step.event_type == event.event_type && step.event_version == event.event_version);
        match step {
            None => current.push(event),
            Some(_) if steps == MAX_STEPS => return Err(Circle(event.event_type)),
            Some(step) => {
                steps += 1;
                waiting.extend((step.upcast)(event.payload).into_iter().rev());
            }
        }
    }
    Ok(current)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn event(event_type: &str, event_version: &str, payload: Value) -> Versioned {
        Versioned { event_type: event_type.into(), event_version: event_version.into(), payload }
    }

    const STEPS: &[Upcaster] = &[
        Upcaster {
            event_type: "Renamed",
            event_version: "1",
            upcast: |payload| vec![event("New", "1", json!({"New": payload.get("Renamed")}))],
        },
        Upcaster {
            event_type: "New",
            event_version: "1",
            upcast: |payload| vec![event("New", "2", payload), event("Extra", "1", json!({}))],
        },
        Upcaster { event_type: "Gone", event_version: "1", upcast: |_| vec![] },
        Upcaster { event_type: "Round", event_version: "1", upcast: |p| vec![event("Round", "1", p)] },
    ];

    #[test]
    fn an_event_may_be_renamed_and_then_split_in_order() {
        let today = upcast(event("Renamed", "1", json!({"Renamed": {"a": 1}})), STEPS).unwrap();
        assert_eq!(today, [event("New", "2", json!({"New": {"a": 1}})), event("Extra", "1", json!({}))]);
    }

    #[test]
    fn an_event_may_be_dropped_and_a_current_one_is_left_alone() {
        assert_eq!(upcast(event("Gone", "1", json!({})), STEPS).unwrap(), []);
        let current = event("New", "2", json!({"New": {}}));
        assert_eq!(upcast(current.clone(), STEPS).unwrap(), [current]);
    }

    #[test]
    fn steps_that_lead_to_each_other_are_found_out() {
        assert!(upcast(event("Round", "1", json!({})), STEPS).is_err());
    }
}
