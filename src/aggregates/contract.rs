//! What all aggregates have in common: how they decide, how they refuse, which events there are.

/// What kind of answer a refused command gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// There is no such thing, or no longer.
    NotFound,
    /// A rule of the business forbids it.
    Conflict,
    /// A value does not fit.
    Invalid {
        /// Where the value stands in the request (RFC 6901).
        pointer: &'static str,
    },
}

/// A command that was refused; the message is a sentence for a person.
pub trait Refused: std::error::Error {
    /// A stable word for programs, such as `already_converted`.
    fn code(&self) -> &'static str;

    /// What kind of answer it makes.
    fn kind(&self) -> Refusal;
}

/// Makes a state with `decide` and `evolve` an aggregate of cqrs-es, and its events domain events.
macro_rules! event_sourced {
    ($aggregate:ident, $type:literal, $command:ty, $event:ident, $error:ty) => {
        impl cqrs_es::Aggregate for $aggregate {
            const TYPE: &'static str = $type;
            type Command = $command;
            type Event = $event;
            type Error = $error;
            type Services = ();

            async fn handle(
                &mut self,
                command: Self::Command,
                _: &(),
                sink: &cqrs_es::event_sink::EventSink<Self>,
            ) -> Result<(), Self::Error> {
                for event in self.decide(command)? {
                    sink.write(event, self).await;
                }
                Ok(())
            }

            fn apply(&mut self, event: $event) {
                self.evolve(event);
            }
        }

        impl cqrs_es::DomainEvent for $event {
            fn event_type(&self) -> String {
                format!("{}{}", $type, <&str>::from(self))
            }

            fn event_version(&self) -> String {
                Self::version(self.into()).to_owned()
            }
        }

        impl $event {
            /// Every type of event of this aggregate, with its version.
            pub(crate) fn types() -> impl Iterator<Item = (&'static str, String, &'static str)> {
                use strum::VariantNames;
                Self::VARIANTS.iter().map(|name| ($type, format!("{}{name}", $type), Self::version(name)))
            }
        }

        impl crate::aggregates::Refused for $error {
            fn code(&self) -> &'static str {
                self.code()
            }

            fn kind(&self) -> crate::aggregates::Refusal {
                self.kind()
            }
        }
    };
}

pub(crate) use event_sourced;

/// Every event that can be stored: aggregate, event type and version, the contract with all that was ever written.
#[must_use]
pub fn event_types() -> Vec<(&'static str, String, &'static str)> {
    super::tenant::TenantEvent::types()
        .chain(super::user::UserEvent::types())
        .chain(super::customer::CustomerEvent::types())
        .chain(super::lead::LeadEvent::types())
        .chain(super::project::ProjectEvent::types())
        .chain(super::invoice::InvoiceEvent::types())
        .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_event_has_a_name_of_its_own_that_begins_with_its_aggregate() {
        let types = event_types();
        let names: BTreeSet<_> = types.iter().map(|(_, name, _)| name).collect();
        assert_eq!(names.len(), types.len());
        assert!(types.iter().all(|(aggregate, name, _)| name.starts_with(aggregate) && name.len() > aggregate.len()));
        assert!(types.contains(&("Lead", "LeadStageChanged".to_owned(), "1")));
    }
}
