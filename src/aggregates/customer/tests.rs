//! The rules of a customer, as given / when / then.

use chrono::{DateTime, Utc};
use cqrs_es::Aggregate;
use cqrs_es::test::TestFramework;
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::aggregates::ids::InteractionId;
use crate::aggregates::interaction::{InteractionDetails, InteractionError};
use crate::aggregates::values::{Patch, Text};

const AUTHOR: UserId = UserId(1);
const COLLEAGUE: UserId = UserId(2);

fn customer() -> TestFramework<Customer> {
    TestFramework::with(())
}

fn details() -> CustomerDetails {
    serde_json::from_value(json!({"company": "Navy", "email": "grace@example.com"})).unwrap()
}

fn registered() -> CustomerEvent {
    CustomerEvent::Registered {
        facts: details().into_facts().unwrap(),
        status: CustomerStatus::Prospect,
        owner: Some(AUTHOR),
        from_lead: None,
    }
}

fn register() -> CustomerCommand {
    CustomerCommand::Register { details: details(), status: None, owner: Some(AUTHOR) }
}

fn patch(value: serde_json::Value) -> CustomerCommand {
    CustomerCommand::ChangeDetails(serde_json::from_value(value).unwrap())
}

fn at() -> DateTime<Utc> {
    DateTime::UNIX_EPOCH
}

fn call() -> InteractionDetails {
    serde_json::from_value(json!({"type": "call", "subject": "First call"})).unwrap()
}

fn interaction(id: u32) -> Interaction {
    Interaction::logged(InteractionId(id), call().into(), Some(AUTHOR), at())
}

fn note(id: u32, private: bool) -> Note {
    Note { id: NoteId(id), author: AUTHOR, title: None, content: Text::new("Likes tea").unwrap().into(), private }
}

fn noted(private: bool) -> Vec<CustomerEvent> {
    vec![registered(), CustomerEvent::NoteAdded { note: note(1, private) }]
}

fn edit(by: UserId, value: serde_json::Value) -> CustomerCommand {
    CustomerCommand::EditNote { id: NoteId(1), by, patch: serde_json::from_value(value).unwrap() }
}

fn fold(events: impl IntoIterator<Item = CustomerEvent>) -> Customer {
    let mut customer = Customer::default();
    for event in events {
        customer.apply(event);
    }
    customer
}

#[test]
fn a_customer_is_registered_once() {
    customer().given_no_previous_events().when(register()).then_expect_events(vec![registered()]);
    customer().given(vec![registered()]).when(register()).then_expect_error(CustomerError::AlreadyExists);
    customer().given_no_previous_events().when(CustomerCommand::Restore {}).then_expect_error(CustomerError::NotFound);
}

#[test]
fn a_customer_has_a_company_or_a_name() {
    let nameless = serde_json::from_value(json!({"email": "grace@example.com"})).unwrap();
    customer()
        .given_no_previous_events()
        .when(CustomerCommand::Register { details: nameless, status: None, owner: None })
        .then_expect_error(CustomerError::Nameless);
    customer()
        .given(vec![registered()])
        .when(patch(json!({"company": null})))
        .then_expect_error(CustomerError::Nameless);
    let changes = CustomerChanges {
        company: Patch::Clear,
        name: Patch::Set(Text::new("Grace").unwrap().into()),
        ..CustomerChanges::default()
    };
    customer()
        .given(vec![registered()])
        .when(patch(json!({"company": null, "name": "Grace"})))
        .then_expect_events(vec![CustomerEvent::DetailsChanged { changes }]);
}

#[test]
fn what_changes_nothing_is_not_recorded() {
    for command in [
        patch(json!({"company": "Navy", "phone": null})),
        CustomerCommand::ChangeStatus { status: CustomerStatus::Prospect },
        CustomerCommand::ChangeOwner { owner: Some(AUTHOR) },
        CustomerCommand::Restore {},
    ] {
        customer().given(vec![registered()]).when(command).then_expect_events(vec![]);
    }
}

#[test]
fn the_history_of_a_customer_begins_with_that_of_its_lead() {
    let from_lead = || CustomerCommand::RegisterFromLead {
        lead: LeadId(7),
        details: details(),
        status: Some(CustomerStatus::Active),
        owner: Some(AUTHOR),
        interactions: vec![interaction(1)],
    };
    let first = CustomerEvent::Registered {
        facts: details().into_facts().unwrap(),
        status: CustomerStatus::Active,
        owner: Some(AUTHOR),
        from_lead: Some(LeadId(7)),
    };
    let history = CustomerEvent::HistoryCarriedOver { lead: LeadId(7), interactions: vec![interaction(1)] };
    customer().given_no_previous_events().when(from_lead()).then_expect_events(vec![first.clone(), history.clone()]);
    let customer_of_lead = fold([first.clone(), history.clone()]);
    assert_eq!(customer_of_lead.interactions.get(InteractionId(1)), Some(&interaction(1)));
    customer().given(vec![first, history]).when(from_lead()).then_expect_events(vec![]);
    customer().given(vec![registered()]).when(from_lead()).then_expect_error(CustomerError::AlreadyExists);
}

#[test]
fn a_lead_is_linked_to_a_customer_once() {
    let link = || CustomerCommand::LinkLead { lead: LeadId(7), interactions: vec![interaction(1)] };
    let linked = vec![
        CustomerEvent::LeadLinked { lead: LeadId(7) },
        CustomerEvent::HistoryCarriedOver { lead: LeadId(7), interactions: vec![interaction(1)] },
    ];
    customer().given(vec![registered()]).when(link()).then_expect_events(linked.clone());
    customer().given([vec![registered()], linked].concat()).when(link()).then_expect_events(vec![]);
}

#[test]
fn status_and_owner_change() {
    customer()
        .given(vec![registered()])
        .when(CustomerCommand::ChangeStatus { status: CustomerStatus::Active })
        .then_expect_events(vec![CustomerEvent::StatusChanged {
            from: CustomerStatus::Prospect,
            to: CustomerStatus::Active,
        }]);
    customer()
        .given(vec![registered()])
        .when(CustomerCommand::ChangeOwner { owner: None })
        .then_expect_events(vec![CustomerEvent::OwnerChanged { owner: None }]);
}

#[test]
fn an_interaction_is_logged_or_scheduled_and_then_completed_or_cancelled() {
    let id = InteractionId(3);
    let scheduled = || CustomerEvent::InteractionScheduled { id, facts: call().into(), by: None, scheduled_at: at() };
    let given = |more: Vec<CustomerEvent>| customer().given([vec![registered(), scheduled()], more].concat());
    let outcome = Text::new("They agree").unwrap();
    let completed = CustomerEvent::InteractionCompleted {
        id,
        outcome: Some(outcome.clone().into()),
        hours: None,
        completed_at: at(),
    };
    let complete =
        || CustomerCommand::CompleteInteraction { id, outcome: Some(outcome.clone()), hours: None, at: at() };
    let cancel = || CustomerCommand::CancelInteraction { id };

    customer()
        .given(vec![registered()])
        .when(CustomerCommand::ScheduleInteraction { id, details: call(), by: None, scheduled_at: at() })
        .then_expect_events(vec![scheduled()]);
    customer()
        .given(vec![registered()])
        .when(CustomerCommand::LogInteraction { id, details: call(), by: None, at: at() })
        .then_expect_events(vec![CustomerEvent::InteractionLogged {
            id,
            facts: call().into(),
            by: None,
            completed_at: at(),
        }]);
    given(vec![])
        .when(CustomerCommand::LogInteraction { id, details: call(), by: None, at: at() })
        .then_expect_error(InteractionError::Exists(id).into());
    given(vec![]).when(complete()).then_expect_events(vec![completed.clone()]);
    given(vec![completed.clone()]).when(cancel()).then_expect_error(InteractionError::Completed(id).into());
    given(vec![completed]).when(complete()).then_expect_error(InteractionError::Completed(id).into());
    given(vec![]).when(cancel()).then_expect_events(vec![CustomerEvent::InteractionCancelled { id }]);
    customer().given(vec![registered()]).when(cancel()).then_expect_error(InteractionError::Unknown(id).into());
}

#[test]
fn a_note_that_was_removed_is_brought_back_by_whoever_could_see_it() {
    let restore = |by| CustomerCommand::RestoreNote { id: NoteId(1), by };
    let removed = || CustomerEvent::NoteRemoved { id: NoteId(1) };
    let restored = || CustomerEvent::NoteRestored { id: NoteId(1) };
    let given = |private| customer().given([noted(private), vec![removed()]].concat());
    given(false).when(restore(COLLEAGUE)).then_expect_events(vec![restored()]);
    given(true).when(restore(AUTHOR)).then_expect_events(vec![restored()]);
    given(true).when(restore(COLLEAGUE)).then_expect_error(CustomerError::NoteNotFound(NoteId(1)));
    customer().given(noted(false)).when(restore(AUTHOR)).then_expect_events(vec![]);
    customer()
        .given([noted(false), vec![removed(), restored()]].concat())
        .when(CustomerCommand::RemoveNote { id: NoteId(1), by: AUTHOR })
        .then_expect_events(vec![removed()]);
}

#[test]
fn a_private_note_is_its_authors_alone() {
    let remove = |by| CustomerCommand::RemoveNote { id: NoteId(1), by };
    let unknown = || CustomerError::NoteNotFound(NoteId(1));
    customer().given(noted(true)).when(edit(COLLEAGUE, json!({"content": "x"}))).then_expect_error(unknown());
    customer().given(noted(true)).when(remove(COLLEAGUE)).then_expect_error(unknown());
    customer()
        .given(noted(true))
        .when(remove(AUTHOR))
        .then_expect_events(vec![CustomerEvent::NoteRemoved { id: NoteId(1) }]);
    let changes = NoteChanges { private: Patch::Set(false), ..NoteChanges::default() };
    customer()
        .given(noted(true))
        .when(edit(AUTHOR, json!({"private": false})))
        .then_expect_events(vec![CustomerEvent::NoteEdited { id: NoteId(1), changes }]);
}

#[test]
fn a_public_note_is_edited_by_anybody_but_hidden_by_its_author_only() {
    let changes = NoteChanges { content: Patch::Set(Text::new("Likes coffee").unwrap().into()), ..Default::default() };
    customer()
        .given(noted(false))
        .when(edit(COLLEAGUE, json!({"content": "Likes coffee"})))
        .then_expect_events(vec![CustomerEvent::NoteEdited { id: NoteId(1), changes }]);
    customer()
        .given(noted(false))
        .when(edit(COLLEAGUE, json!({"private": true})))
        .then_expect_error(CustomerError::NotTheAuthor);
    customer().given(noted(false)).when(edit(AUTHOR, json!({"content": "Likes tea"}))).then_expect_events(vec![]);
    customer()
        .given(noted(false))
        .when(edit(AUTHOR, json!({"content": null})))
        .then_expect_error(CustomerError::NoteEmpty);
}

#[test]
fn a_note_has_an_id_of_its_own() {
    let add = || CustomerCommand::AddNote {
        id: NoteId(1),
        author: AUTHOR,
        title: None,
        content: Text::new("Likes tea").unwrap(),
        private: false,
    };
    customer()
        .given(vec![registered()])
        .when(add())
        .then_expect_events(vec![CustomerEvent::NoteAdded { note: note(1, false) }]);
    customer().given(noted(false)).when(add()).then_expect_error(CustomerError::NoteExists(NoteId(1)));
}

#[test]
fn a_merged_customer_is_gone_and_says_where() {
    let (this, into) = (CustomerId(1), CustomerId(2));
    let merged = vec![registered(), CustomerEvent::MergedInto { into }];
    customer()
        .given(vec![registered()])
        .when(CustomerCommand::MergeInto { this, into })
        .then_expect_events(vec![CustomerEvent::MergedInto { into }]);
    customer()
        .given(vec![registered()])
        .when(CustomerCommand::MergeInto { this, into: this })
        .then_expect_error(CustomerError::MergedIntoItself);
    for command in [CustomerCommand::Restore {}, CustomerCommand::Delete { has_unpaid_invoice: false }, register()] {
        customer().given(merged.clone()).when(command).then_expect_error(CustomerError::Merged { into });
    }
    customer().given(merged).when(CustomerCommand::MergeInto { this, into }).then_expect_events(vec![]);
}

#[test]
fn the_survivor_of_a_merge_takes_over_interactions_and_notes_once() {
    let absorb = || CustomerCommand::Absorb {
        other: CustomerId(1),
        interactions: vec![interaction(5)],
        notes: vec![note(6, true)],
    };
    let absorbed = CustomerEvent::Absorbed {
        other: CustomerId(1),
        interactions: vec![interaction(5)],
        notes: vec![note(6, true)],
    };
    customer().given(vec![registered()]).when(absorb()).then_expect_events(vec![absorbed.clone()]);
    let survivor = fold([registered(), absorbed.clone()]);
    assert!(survivor.interactions.get(InteractionId(5)).is_some() && survivor.notes.contains_key(&NoteId(6)));
    customer().given(vec![registered(), absorbed]).when(absorb()).then_expect_events(vec![]);
}

#[test]
fn a_customer_with_an_unpaid_invoice_is_not_deleted() {
    customer()
        .given(vec![registered()])
        .when(CustomerCommand::Delete { has_unpaid_invoice: true })
        .then_expect_error(CustomerError::UnpaidInvoice);
    customer()
        .given(vec![registered()])
        .when(CustomerCommand::Delete { has_unpaid_invoice: false })
        .then_expect_events(vec![CustomerEvent::Deleted {}]);
}

#[test]
fn a_deleted_customer_can_only_be_restored() {
    let deleted = vec![registered(), CustomerEvent::Deleted {}];
    for command in [register(), patch(json!({"phone": null})), CustomerCommand::ChangeOwner { owner: None }] {
        customer().given(deleted.clone()).when(command).then_expect_error(CustomerError::NotFound);
    }
    customer().given(deleted).when(CustomerCommand::Restore {}).then_expect_events(vec![CustomerEvent::Restored {}]);
}

fn any_command() -> impl Strategy<Value = CustomerCommand> {
    let small = 0..3_u32;
    let id = small.clone().prop_map(InteractionId);
    let user = small.clone().prop_map(UserId);
    prop_oneof![
        Just(register()),
        small.clone().prop_map(|lead| CustomerCommand::RegisterFromLead {
            lead: LeadId(lead),
            details: details(),
            status: None,
            owner: None,
            interactions: vec![interaction(lead)],
        }),
        small
            .clone()
            .prop_map(|lead| CustomerCommand::LinkLead { lead: LeadId(lead), interactions: vec![interaction(lead)] }),
        prop::option::of("[a-z]{1,3}").prop_map(|company| patch(json!({"company": company}))),
        prop::option::of("[a-z]{1,3}").prop_map(|name| patch(json!({"name": name}))),
        id.clone().prop_map(|id| CustomerCommand::ScheduleInteraction {
            id,
            details: call(),
            by: None,
            scheduled_at: at(),
        }),
        id.clone().prop_map(|id| CustomerCommand::CompleteInteraction { id, outcome: None, hours: None, at: at() }),
        id.prop_map(|id| CustomerCommand::CancelInteraction { id }),
        (small.clone(), user.clone(), any::<bool>()).prop_map(|(id, author, private)| CustomerCommand::AddNote {
            id: NoteId(id),
            author,
            title: None,
            content: Text::new("Likes tea").unwrap(),
            private,
        }),
        (user.clone(), any::<bool>()).prop_map(|(by, private)| edit(by, json!({"private": private}))),
        (small.clone(), user.clone()).prop_map(|(id, by)| CustomerCommand::RemoveNote { id: NoteId(id), by }),
        (small.clone(), user).prop_map(|(id, by)| CustomerCommand::RestoreNote { id: NoteId(id), by }),
        small.clone().prop_map(|other| CustomerCommand::Absorb {
            other: CustomerId(other),
            interactions: vec![interaction(other)],
            notes: vec![note(other, false)],
        }),
        small.prop_map(|into| CustomerCommand::MergeInto { this: CustomerId(0), into: CustomerId(into) }),
        any::<bool>().prop_map(|has_unpaid_invoice| CustomerCommand::Delete { has_unpaid_invoice }),
        Just(CustomerCommand::Restore {}),
    ]
}

proptest! {
    #[test]
    fn any_commands_keep_the_invariants(commands in prop::collection::vec(any_command(), 0..40)) {
        let mut customer = Customer::default();
        let mut history = vec![];
        for command in commands {
            let Ok(events) = customer.decide(command.clone()) else { continue };
            prop_assert!(customer.merged_into.is_none() || events.is_empty());
            for event in &events {
                customer.apply(event.clone());
            }
            history.extend(events);
            if let Some(facts) = &customer.facts {
                prop_assert!(facts.company.is_some() || facts.name.is_some());
            }
            prop_assert!(customer.merged_into != Some(CustomerId(0)));
            prop_assert!(customer.notes.iter().all(|(id, note)| *id == note.id));
        }
        let carried = |lead: LeadId| history.iter().filter(|event| {
            matches!(event, CustomerEvent::HistoryCarriedOver { lead: from, .. } if *from == lead)
        }).count();
        prop_assert!(customer.leads.iter().all(|lead| carried(*lead) == 1));

        let stored = serde_json::to_string(&history).unwrap();
        prop_assert_eq!(&fold(serde_json::from_str::<Vec<CustomerEvent>>(&stored).unwrap()), &customer);
        let snapshot = serde_json::to_string(&customer).unwrap();
        prop_assert_eq!(serde_json::from_str::<Customer>(&snapshot).unwrap(), customer);
    }
}
