//! The rules of a lead, as given / when / then.

use cqrs_es::test::TestFramework;
use cqrs_es::{Aggregate, DomainEvent};
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::aggregates::values::Patch;

fn lead() -> TestFramework<Lead> {
    TestFramework::with(())
}

fn details() -> LeadDetails {
    serde_json::from_value(json!({"name": "Grace Hopper", "company": "Navy", "email": "grace@example.com"})).unwrap()
}

fn capture() -> LeadCommand {
    LeadCommand::Capture { details: details(), stage: None, qualification: None, assignee: Some(UserId(3)) }
}

fn captured() -> LeadEvent {
    LeadEvent::Captured {
        facts: details().into_facts().unwrap().0,
        stage: LeadStage::New,
        qualification: Qualification::New,
        probability: Percent::at_most_hundred(5),
        probability_set_by_hand: false,
        assignee: Some(UserId(3)),
    }
}

fn moved(from: LeadStage, to: LeadStage) -> LeadEvent {
    LeadEvent::StageChanged { from, to, probability: to.default_probability() }
}

fn converted() -> LeadEvent {
    LeadEvent::Converted { customer: CustomerId(1) }
}

fn lost() -> LeadEvent {
    LeadEvent::Lost { reason: Text::new("Too expensive").unwrap() }
}

fn patch(value: serde_json::Value) -> LeadCommand {
    LeadCommand::ChangeDetails(serde_json::from_value(value).unwrap())
}

fn changed(changes: LeadChanges) -> LeadEvent {
    LeadEvent::DetailsChanged { changes }
}

fn percent(number: u8) -> Percent {
    Percent::at_most_hundred(number)
}

fn at() -> DateTime<Utc> {
    DateTime::UNIX_EPOCH
}

fn call() -> InteractionDetails {
    serde_json::from_value(json!({"type": "call", "subject": "First call"})).unwrap()
}

#[test]
fn a_lead_is_captured_once() {
    lead().given_no_previous_events().when(capture()).then_expect_events(vec![captured()]);
    lead().given(vec![captured()]).when(capture()).then_expect_error(LeadError::AlreadyExists);
}

#[test]
fn a_lead_begins_at_an_open_stage() {
    let capture = LeadCommand::Capture {
        details: details(),
        stage: Some(LeadStage::ClosedWon),
        qualification: None,
        assignee: None,
    };
    lead().given_no_previous_events().when(capture).then_expect_error(LeadError::BeginsOpen);
}

#[test]
fn nothing_can_be_asked_of_a_lead_that_is_not_there() {
    lead().given_no_previous_events().when(LeadCommand::Restore {}).then_expect_error(LeadError::NotFound);
    lead().given_no_previous_events().when(LeadCommand::Delete {}).then_expect_error(LeadError::NotFound);
}

#[test]
fn only_what_really_changes_is_recorded() {
    let company = Text::new("US Navy").unwrap();
    lead()
        .given(vec![captured()])
        .when(patch(json!({"name": "Grace Hopper", "company": "US Navy", "phone": null})))
        .then_expect_events(vec![changed(LeadChanges { company: Patch::Set(company), ..LeadChanges::default() })]);
    lead()
        .given(vec![captured()])
        .when(patch(json!({"company": "Navy", "source": "other"})))
        .then_expect_events(vec![]);
}

#[test]
fn a_name_cannot_be_cleared_and_a_value_is_not_negative() {
    lead().given(vec![captured()]).when(patch(json!({"name": null}))).then_expect_error(LeadError::NameRequired);
    let value = json!({"estimated_value": {"amount": "-1.00", "currency": "USD"}});
    lead().given(vec![captured()]).when(patch(value)).then_expect_error(LeadError::NegativeValue);
}

#[test]
fn a_lead_moves_between_open_stages_and_its_probability_follows() {
    use LeadStage::{Contacted, Negotiation, New};
    lead()
        .given(vec![captured()])
        .when(LeadCommand::ChangeStage { stage: Negotiation })
        .then_expect_events(vec![moved(New, Negotiation)]);
    lead()
        .given(vec![captured(), moved(New, Negotiation)])
        .when(LeadCommand::ChangeStage { stage: Contacted })
        .then_expect_events(vec![moved(Negotiation, Contacted)]);
    lead().given(vec![captured()]).when(LeadCommand::ChangeStage { stage: New }).then_expect_events(vec![]);
}

#[test]
fn a_probability_set_by_hand_stays() {
    let by_hand = changed(LeadChanges { probability: Patch::Set(percent(33)), ..LeadChanges::default() });
    lead().given(vec![captured()]).when(patch(json!({"probability": 33}))).then_expect_events(vec![by_hand.clone()]);
    let proposal = LeadEvent::StageChanged { from: LeadStage::New, to: LeadStage::Proposal, probability: percent(33) };
    lead()
        .given(vec![captured(), by_hand.clone()])
        .when(LeadCommand::ChangeStage { stage: LeadStage::Proposal })
        .then_expect_events(vec![proposal.clone()]);
    let follows = changed(LeadChanges { probability: Patch::Clear, ..LeadChanges::default() });
    let lead = fold([captured(), by_hand, proposal, follows]);
    assert_eq!(lead.probability, percent(60));
    assert!(!lead.probability_set_by_hand);
}

#[test]
fn the_probability_of_a_closed_lead_is_its_outcome() {
    assert_eq!(fold([captured(), converted()]).probability, Percent::HUNDRED);
    assert_eq!(fold([captured(), lost()]).probability, Percent::ZERO);
    lead().given(vec![captured(), lost()]).when(patch(json!({"probability": 50}))).then_expect_error(LeadError::Closed);
}

#[test]
fn a_lead_is_closed_by_converting_or_losing_it_only() {
    let to = |stage| LeadCommand::ChangeStage { stage };
    lead().given(vec![captured()]).when(to(LeadStage::ClosedWon)).then_expect_error(LeadError::WonByConverting);
    lead().given(vec![captured()]).when(to(LeadStage::ClosedLost)).then_expect_error(LeadError::LostWithReason);
    lead().given(vec![captured(), lost()]).when(to(LeadStage::Proposal)).then_expect_error(LeadError::Closed);
}

#[test]
fn a_lead_is_converted_once() {
    lead()
        .given(vec![captured()])
        .when(LeadCommand::Convert { customer: CustomerId(1) })
        .then_expect_events(vec![converted()]);
    for customer in [CustomerId(1), CustomerId(2)] {
        lead()
            .given(vec![captured(), converted()])
            .when(LeadCommand::Convert { customer })
            .then_expect_error(LeadError::AlreadyConverted { customer: CustomerId(1) });
    }
}

#[test]
fn a_lost_lead_is_reopened_before_it_is_converted() {
    lead()
        .given(vec![captured(), lost()])
        .when(LeadCommand::Convert { customer: CustomerId(1) })
        .then_expect_error(LeadError::Closed);
    lead()
        .given(vec![captured(), moved(LeadStage::New, LeadStage::Proposal), lost()])
        .when(LeadCommand::Reopen {})
        .then_expect_events(vec![LeadEvent::Reopened { stage: LeadStage::Proposal, probability: percent(60) }]);
}

#[test]
fn only_a_lost_lead_is_reopened() {
    lead().given(vec![captured()]).when(LeadCommand::Reopen {}).then_expect_error(LeadError::NotClosed);
    lead()
        .given(vec![captured(), converted()])
        .when(LeadCommand::Reopen {})
        .then_expect_error(LeadError::AlreadyConverted { customer: CustomerId(1) });
}

#[test]
fn a_lead_is_lost_once_and_never_after_it_was_converted() {
    let lose = || LeadCommand::Lose { reason: Text::new("Too expensive").unwrap() };
    lead().given(vec![captured()]).when(lose()).then_expect_events(vec![lost()]);
    lead().given(vec![captured(), lost()]).when(lose()).then_expect_error(LeadError::Closed);
    lead()
        .given(vec![captured(), converted()])
        .when(lose())
        .then_expect_error(LeadError::AlreadyConverted { customer: CustomerId(1) });
}

#[test]
fn a_deleted_lead_can_only_be_restored() {
    let deleted = vec![captured(), LeadEvent::Deleted {}];
    for command in [capture(), LeadCommand::Delete {}, LeadCommand::Reopen {}, patch(json!({"company": null}))] {
        lead().given(deleted.clone()).when(command).then_expect_error(LeadError::NotFound);
    }
    lead().given(deleted).when(LeadCommand::Restore {}).then_expect_events(vec![LeadEvent::Restored {}]);
    lead().given(vec![captured()]).when(LeadCommand::Restore {}).then_expect_events(vec![]);
}

#[test]
fn a_lead_is_assigned_qualified_and_scored_when_that_changes_something() {
    let nobody = || LeadCommand::Assign { assignee: None };
    lead().given(vec![captured()]).when(nobody()).then_expect_events(vec![LeadEvent::Assigned { assignee: None }]);
    lead().given(vec![captured(), LeadEvent::Assigned { assignee: None }]).when(nobody()).then_expect_events(vec![]);

    let qualification = Qualification::SalesQualified;
    let qualify = || LeadCommand::Qualify { qualification };
    lead().given(vec![captured()]).when(qualify()).then_expect_events(vec![LeadEvent::Qualified { qualification }]);
    lead().given(vec![captured(), LeadEvent::Qualified { qualification }]).when(qualify()).then_expect_events(vec![]);

    let inputs: ScoreInputs = serde_json::from_value(json!({
        "engagement": 75, "fit": 85, "budget_confirmed": true, "decision_maker": false, "urgency": 60
    }))
    .unwrap();
    let scored = LeadEvent::Scored { inputs: Some(inputs), score: Score::at_most_hundred(70) };
    lead().given(vec![captured()]).when(LeadCommand::Score { inputs }).then_expect_events(vec![scored.clone()]);
    lead().given(vec![captured(), scored.clone()]).when(LeadCommand::Score { inputs }).then_expect_events(vec![]);
    let clear = || LeadCommand::ClearScore {};
    lead().given(vec![captured(), scored]).when(clear()).then_expect_events(vec![LeadEvent::ScoreCleared {}]);
    lead().given(vec![captured()]).when(clear()).then_expect_events(vec![]);
}

#[test]
fn a_scheduled_interaction_takes_place_or_is_cancelled() {
    let id = InteractionId(7);
    let scheduled = || LeadEvent::InteractionScheduled { id, facts: call().into(), by: None, scheduled_at: at() };
    let cancelled = || LeadEvent::InteractionCancelled { id };
    let complete = || LeadCommand::CompleteInteraction { id, outcome: None, hours: None, at: at() };
    let completed = || LeadEvent::InteractionCompleted { id, outcome: None, hours: None, completed_at: at() };
    let cancel = || LeadCommand::CancelInteraction { id };
    let given = |events: Vec<LeadEvent>| lead().given([vec![captured(), scheduled()], events].concat());

    given(vec![]).when(complete()).then_expect_events(vec![completed()]);
    given(vec![]).when(cancel()).then_expect_events(vec![cancelled()]);
    given(vec![cancelled()]).when(cancel()).then_expect_events(vec![]);
    given(vec![cancelled()]).when(complete()).then_expect_error(InteractionError::Cancelled(id).into());
    given(vec![completed()]).when(cancel()).then_expect_error(InteractionError::Completed(id).into());
    given(vec![completed()]).when(complete()).then_expect_error(InteractionError::Completed(id).into());
    lead().given(vec![captured()]).when(complete()).then_expect_error(InteractionError::Unknown(id).into());
}

#[test]
fn only_contact_that_was_planned_is_planned_again() {
    let id = InteractionId(7);
    let scheduled = || LeadEvent::InteractionScheduled { id, facts: call().into(), by: None, scheduled_at: at() };
    let logged = || LeadEvent::InteractionLogged { id, facts: call().into(), by: None, completed_at: at() };
    let completed = || LeadEvent::InteractionCompleted { id, outcome: None, hours: None, completed_at: at() };
    let reopen = || LeadCommand::ReopenInteraction { id, outcome: None, hours: None };
    let reopened = || LeadEvent::InteractionReopened { id, outcome: None, hours: None };
    for over in [completed(), LeadEvent::InteractionCancelled { id }] {
        lead().given(vec![captured(), scheduled(), over]).when(reopen()).then_expect_events(vec![reopened()]);
    }
    lead().given(vec![captured(), scheduled()]).when(reopen()).then_expect_events(vec![]);
    let never = InteractionError::NeverPlanned(id);
    lead().given(vec![captured(), logged()]).when(reopen()).then_expect_error(never.into());
    let again = LeadCommand::CompleteInteraction { id, outcome: None, hours: None, at: at() };
    lead()
        .given(vec![captured(), scheduled(), completed(), reopened()])
        .when(again)
        .then_expect_events(vec![completed()]);
}

#[test]
fn an_interaction_has_an_id_of_its_own() {
    let id = InteractionId(7);
    let log = || LeadCommand::LogInteraction { id, details: call(), by: Some(UserId(2)), at: at() };
    let logged = LeadEvent::InteractionLogged { id, facts: call().into(), by: Some(UserId(2)), completed_at: at() };
    lead().given(vec![captured()]).when(log()).then_expect_events(vec![logged.clone()]);
    lead().given(vec![captured(), logged]).when(log()).then_expect_error(InteractionError::Exists(id).into());
}

#[test]
fn an_event_is_named_after_its_aggregate_and_marks_personal_data() {
    assert_eq!(converted().event_type(), "LeadConverted");
    assert_eq!(converted().event_version(), "1");
    let written = serde_json::to_value(captured()).unwrap();
    assert_eq!(
        written,
        json!({"Captured": {
            "name": {"personal": "Grace Hopper"}, "company": "Navy", "email": {"personal": "grace@example.com"},
            "source": "other", "stage": "new", "qualification": "new", "probability": 5,
            "probability_set_by_hand": false, "assignee": "USR-003"
        }})
    );
    assert_eq!(serde_json::from_value::<LeadEvent>(written).unwrap(), captured());
}

fn fold(events: impl IntoIterator<Item = LeadEvent>) -> Lead {
    let mut lead = Lead::default();
    for event in events {
        lead.apply(event);
    }
    lead
}

fn any_stage() -> impl Strategy<Value = LeadStage> {
    prop::sample::select(LeadStage::VARIANTS)
}

fn any_command() -> impl Strategy<Value = LeadCommand> {
    let id = (0..4_u32).prop_map(InteractionId);
    prop_oneof![
        (prop::option::of(any_stage()), prop::option::of(0..=100_u8)).prop_map(|(stage, probability)| {
            let details = LeadDetails { probability: probability.map(percent), ..details() };
            LeadCommand::Capture { details, stage, qualification: None, assignee: None }
        }),
        prop::option::of(0..=100_u8).prop_map(|probability| patch(json!({"probability": probability}))),
        prop::option::of("[a-z]{1,5}").prop_map(|company| patch(json!({"company": company}))),
        prop::option::of(0..5_u32).prop_map(|user| LeadCommand::Assign { assignee: user.map(UserId) }),
        any_stage().prop_map(|stage| LeadCommand::ChangeStage { stage }),
        id.clone().prop_map(|id| LeadCommand::LogInteraction { id, details: call(), by: None, at: at() }),
        id.clone().prop_map(|id| LeadCommand::ScheduleInteraction {
            id,
            details: call(),
            by: None,
            scheduled_at: at()
        }),
        id.clone().prop_map(|id| LeadCommand::CompleteInteraction { id, outcome: None, hours: None, at: at() }),
        id.prop_map(|id| LeadCommand::CancelInteraction { id }),
        (0..3_u32).prop_map(|customer| LeadCommand::Convert { customer: CustomerId(customer) }),
        Just(LeadCommand::Lose { reason: Text::new("No budget").unwrap() }),
        Just(LeadCommand::Reopen {}),
        Just(LeadCommand::Delete {}),
        Just(LeadCommand::Restore {}),
    ]
}

proptest! {
    #[test]
    fn any_commands_keep_the_invariants(commands in prop::collection::vec(any_command(), 0..40)) {
        let mut lead = Lead::default();
        let mut history = vec![];
        for command in commands {
            let Ok(events) = lead.decide(command.clone()) else { continue };
            for event in &events {
                lead.apply(event.clone());
            }
            history.extend(events);

            prop_assert_eq!(lead.stage == LeadStage::ClosedWon, lead.customer.is_some());
            prop_assert_eq!(lead.stage == LeadStage::ClosedLost, lead.loss_reason.is_some());
            prop_assert!(lead.open_stage.is_open());
            if lead.facts.is_some() && !(lead.stage.is_open() && lead.probability_set_by_hand) {
                prop_assert_eq!(lead.probability, lead.stage.default_probability());
            }
        }
        let conversions = history.iter().filter(|event| matches!(event, LeadEvent::Converted { .. })).count();
        prop_assert!(conversions <= 1);

        let stored = serde_json::to_string(&history).unwrap();
        prop_assert_eq!(&fold(serde_json::from_str::<Vec<LeadEvent>>(&stored).unwrap()), &lead);
        let snapshot = serde_json::to_string(&lead).unwrap();
        prop_assert_eq!(serde_json::from_str::<Lead>(&snapshot).unwrap(), lead);
    }
}
