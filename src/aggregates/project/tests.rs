//! The rules of a project, as given / when / then.

use cqrs_es::Aggregate;
use cqrs_es::test::TestFramework;
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::aggregates::values::Patch;

fn project() -> TestFramework<Project> {
    TestFramework::with(())
}

fn details() -> ProjectDetails {
    serde_json::from_value(json!({"name": "Website", "start_date": "2026-03-01", "due_date": "2026-06-30"})).unwrap()
}

fn planned() -> ProjectEvent {
    let customers = vec![CustomerId(1), CustomerId(2)];
    ProjectEvent::Planned { details: details(), status: ProjectStatus::Planned, owner: Some(UserId(1)), customers }
}

fn plan_for(customers: Vec<CustomerId>) -> ProjectCommand {
    ProjectCommand::Plan { details: details(), status: None, owner: Some(UserId(1)), customers }
}

fn patch(value: serde_json::Value) -> ProjectCommand {
    ProjectCommand::ChangeDetails(serde_json::from_value(value).unwrap())
}

fn day(text: &str) -> NaiveDate {
    text.parse().unwrap()
}

fn hours(text: &str) -> Hours {
    Hours::new(text.parse().unwrap()).unwrap()
}

fn log(time: &str) -> ProjectCommand {
    ProjectCommand::LogHours { hours: hours(time), on: day("2026-03-02"), user: UserId(1), note: None }
}

fn moved(from: ProjectStatus, to: ProjectStatus) -> ProjectEvent {
    ProjectEvent::StatusChanged { from, to }
}

fn fold(events: impl IntoIterator<Item = ProjectEvent>) -> Project {
    let mut project = Project::default();
    for event in events {
        project.apply(event);
    }
    project
}

#[test]
fn a_project_is_planned_once_and_counts_each_customer_once() {
    let twice = || plan_for(vec![CustomerId(1), CustomerId(2), CustomerId(1)]);
    project().given_no_previous_events().when(twice()).then_expect_events(vec![planned()]);
    project().given(vec![planned()]).when(twice()).then_expect_error(ProjectError::AlreadyExists);
    project().given_no_previous_events().when(log("1")).then_expect_error(ProjectError::NotFound);
}

#[test]
fn a_project_is_not_due_before_it_starts() {
    for change in [json!({"due_date": "2026-02-28"}), json!({"start_date": "2026-07-01"})] {
        project().given(vec![planned()]).when(patch(change)).then_expect_error(ProjectError::DueBeforeStart);
    }
    let changes = ProjectPatch { due_date: Patch::Set(day("2026-03-01")), ..ProjectPatch::default() };
    project()
        .given(vec![planned()])
        .when(patch(json!({"due_date": "2026-03-01", "start_date": "2026-03-01"})))
        .then_expect_events(vec![ProjectEvent::DetailsChanged { changes }]);
}

#[test]
fn a_project_has_a_name_and_no_negative_budget() {
    project().given(vec![planned()]).when(patch(json!({"name": null}))).then_expect_error(ProjectError::NameRequired);
    project()
        .given(vec![planned()])
        .when(patch(json!({"budget": {"amount": "-1", "currency": "USD"}})))
        .then_expect_error(ProjectError::NegativeBudget);
}

#[test]
fn a_closed_project_is_reopened_as_planned_or_in_progress_only() {
    use ProjectStatus::{Cancelled, Completed, InProgress, OnHold, Planned};
    for closed in [Completed, Cancelled] {
        let given = || project().given(vec![planned(), moved(Planned, closed)]);
        for open in [Planned, InProgress] {
            given().when(ProjectCommand::ChangeStatus { status: open }).then_expect_events(vec![moved(closed, open)]);
        }
        given()
            .when(ProjectCommand::ChangeStatus { status: OnHold })
            .then_expect_error(ProjectError::Closed { from: closed });
        given().when(ProjectCommand::ChangeStatus { status: closed }).then_expect_events(vec![]);
    }
    project()
        .given(vec![planned(), moved(Planned, Completed)])
        .when(ProjectCommand::ChangeStatus { status: Cancelled })
        .then_expect_error(ProjectError::Closed { from: Completed });
    for status in ProjectStatus::VARIANTS.iter().filter(|status| **status != Planned) {
        project()
            .given(vec![planned()])
            .when(ProjectCommand::ChangeStatus { status: *status })
            .then_expect_events(vec![moved(Planned, *status)]);
    }
}

#[test]
fn a_member_has_one_role() {
    let assign = |role: &str| ProjectCommand::AssignMember { user: UserId(2), role: Text::new(role).unwrap() };
    let assigned = |role: &str| ProjectEvent::MemberAssigned { user: UserId(2), role: Text::new(role).unwrap() };
    let remove = || ProjectCommand::RemoveMember { user: UserId(2) };
    project().given(vec![planned()]).when(assign("Designer")).then_expect_events(vec![assigned("Designer")]);
    let with_member = || vec![planned(), assigned("Designer")];
    project().given(with_member()).when(assign("Designer")).then_expect_events(vec![]);
    project().given(with_member()).when(assign("Lead")).then_expect_events(vec![assigned("Lead")]);
    project()
        .given(with_member())
        .when(remove())
        .then_expect_events(vec![ProjectEvent::MemberRemoved { user: UserId(2) }]);
    project().given(vec![planned()]).when(remove()).then_expect_error(ProjectError::NotAMember(UserId(2)));
}

#[test]
fn the_first_customer_is_the_primary_one() {
    let unlinked = ProjectEvent::CustomerUnlinked { customer: CustomerId(1) };
    assert_eq!(fold([planned()]).primary_customer(), Some(CustomerId(1)));
    assert_eq!(fold([planned(), unlinked.clone()]).primary_customer(), Some(CustomerId(2)));
    let link = |customer| ProjectCommand::LinkCustomer { customer: CustomerId(customer) };
    project().given(vec![planned()]).when(link(2)).then_expect_events(vec![]);
    project()
        .given(vec![planned()])
        .when(link(3))
        .then_expect_events(vec![ProjectEvent::CustomerLinked { customer: CustomerId(3) }]);
    let unlink = || ProjectCommand::UnlinkCustomer { customer: CustomerId(1) };
    project().given(vec![planned()]).when(unlink()).then_expect_events(vec![unlinked.clone()]);
    project().given(vec![planned(), unlinked]).when(unlink()).then_expect_error(ProjectError::NotLinked(CustomerId(1)));
}

#[test]
fn hours_add_up_and_none_are_not_logged() {
    let logged =
        |time| ProjectEvent::HoursLogged { hours: hours(time), on: day("2026-03-02"), user: UserId(1), note: None };
    project().given(vec![planned()]).when(log("1.25")).then_expect_events(vec![logged("1.25")]);
    project().given(vec![planned()]).when(log("0")).then_expect_error(ProjectError::NoHours);
    assert_eq!(fold([planned(), logged("1.25"), logged("0.5")]).hours_logged, hours("1.75"));
}

#[test]
fn no_more_hours_are_withdrawn_than_were_logged() {
    let on = day("2026-03-02");
    let logged = ProjectEvent::HoursLogged { hours: hours("2"), on, user: UserId(1), note: None };
    let withdraw = |time| ProjectCommand::WithdrawHours { hours: hours(time), on, user: UserId(1) };
    let withdrawn = |time| ProjectEvent::HoursWithdrawn { hours: hours(time), on, user: UserId(1) };
    let given = || project().given(vec![planned(), logged.clone()]);
    given().when(withdraw("2")).then_expect_events(vec![withdrawn("2")]);
    given().when(withdraw("0")).then_expect_events(vec![]);
    given().when(withdraw("2.01")).then_expect_error(ProjectError::FewerHours { logged: hours("2") });
    assert_eq!(fold([planned(), logged.clone(), withdrawn("0.5")]).hours_logged, hours("1.5"));
}

#[test]
fn a_project_is_overdue_after_its_due_date_until_it_is_closed() {
    let project = fold([planned()]);
    assert!(!project.overdue(day("2026-06-30")));
    assert!(project.overdue(day("2026-07-01")));
    let done = fold([planned(), moved(ProjectStatus::Planned, ProjectStatus::Completed)]);
    assert!(!done.overdue(day("2026-07-01")));
}

#[test]
fn a_deleted_project_can_only_be_restored() {
    let deleted = vec![planned(), ProjectEvent::Deleted {}];
    for command in [log("1"), ProjectCommand::Delete {}, plan_for(vec![])] {
        project().given(deleted.clone()).when(command).then_expect_error(ProjectError::NotFound);
    }
    project().given(deleted).when(ProjectCommand::Restore {}).then_expect_events(vec![ProjectEvent::Restored {}]);
    project().given(vec![planned()]).when(ProjectCommand::Restore {}).then_expect_events(vec![]);
    project()
        .given(vec![planned()])
        .when(ProjectCommand::ChangeOwner { owner: None })
        .then_expect_events(vec![ProjectEvent::OwnerChanged { owner: None }]);
}

fn any_command() -> impl Strategy<Value = ProjectCommand> {
    let small = 0..3_u32;
    let date = prop::option::of((1..=28_u32).prop_map(|d| NaiveDate::from_ymd_opt(2026, 3, d).unwrap()));
    prop_oneof![
        prop::collection::vec(small.clone().prop_map(CustomerId), 0..4).prop_map(plan_for),
        date.clone().prop_map(|date| patch(json!({"start_date": date}))),
        date.prop_map(|date| patch(json!({"due_date": date}))),
        prop::sample::select(ProjectStatus::VARIANTS).prop_map(|status| ProjectCommand::ChangeStatus { status }),
        (small.clone(), "[a-c]").prop_map(|(user, role)| ProjectCommand::AssignMember {
            user: UserId(user),
            role: Text::new(&role).unwrap(),
        }),
        small.clone().prop_map(|user| ProjectCommand::RemoveMember { user: UserId(user) }),
        small.clone().prop_map(|customer| ProjectCommand::LinkCustomer { customer: CustomerId(customer) }),
        small.prop_map(|customer| ProjectCommand::UnlinkCustomer { customer: CustomerId(customer) }),
        (0..4_u8).prop_map(|time| log(&time.to_string())),
        (0..4_u8).prop_map(|time| ProjectCommand::WithdrawHours {
            hours: hours(&time.to_string()),
            on: day("2026-03-02"),
            user: UserId(1),
        }),
        Just(ProjectCommand::Delete {}),
        Just(ProjectCommand::Restore {}),
    ]
}

proptest! {
    #[test]
    fn any_commands_keep_the_invariants(commands in prop::collection::vec(any_command(), 0..40)) {
        let mut project = Project::default();
        let mut history = vec![];
        for command in commands {
            let Ok(events) = project.decide(command.clone()) else { continue };
            for event in &events {
                project.apply(event.clone());
            }
            history.extend(events);
            if let Some(ProjectDetails { start_date: Some(start), due_date: Some(due), .. }) = &project.details {
                prop_assert!(start <= due);
            }
            let mut customers = project.customers.clone();
            customers.sort();
            customers.dedup();
            prop_assert_eq!(customers.len(), project.customers.len());
        }
        let stored = serde_json::to_string(&history).unwrap();
        prop_assert_eq!(&fold(serde_json::from_str::<Vec<ProjectEvent>>(&stored).unwrap()), &project);
        let snapshot = serde_json::to_string(&project).unwrap();
        prop_assert_eq!(serde_json::from_str::<Project>(&snapshot).unwrap(), project);
    }
}
