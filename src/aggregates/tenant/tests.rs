//! The rules of a tenant, as given / when / then.

use cqrs_es::Aggregate;
use cqrs_es::test::TestFramework;
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::aggregates::values::Patch;

fn tenant() -> TestFramework<Tenant> {
    TestFramework::with(())
}

fn text<const MAX: usize>(text: &str) -> Text<MAX> {
    Text::new(text).unwrap()
}

fn details() -> TenantDetails {
    serde_json::from_value(json!({"business_name": "ACME Corporation", "business_email": "office@acme.example"}))
        .unwrap()
}

fn register(platform: bool, seat_limit: Option<u32>) -> TenantCommand {
    TenantCommand::Register { details: details(), region: text("default"), plan: Plan::Starter, seat_limit, platform }
}

fn registered(platform: bool) -> TenantEvent {
    TenantEvent::Registered {
        facts: details().into(),
        region: text("default"),
        plan: Plan::Starter,
        seat_limit: None,
        platform,
    }
}

fn suspend() -> TenantCommand {
    TenantCommand::Suspend { reason: text("Did not pay") }
}

fn suspended() -> TenantEvent {
    TenantEvent::Suspended { reason: text("Did not pay") }
}

fn patch(value: serde_json::Value) -> TenantCommand {
    TenantCommand::ChangeDetails(serde_json::from_value(value).unwrap())
}

fn open(session: &str) -> TenantCommand {
    TenantCommand::OpenSupportSession {
        session: session.into(),
        reason: text("Ticket 12"),
        mode: SupportMode::ReadOnly,
        expires_at: DateTime::UNIX_EPOCH,
    }
}

fn opened(session: &str) -> TenantEvent {
    TenantEvent::SupportSessionOpened {
        session: session.into(),
        reason: text("Ticket 12"),
        mode: SupportMode::ReadOnly,
        expires_at: DateTime::UNIX_EPOCH,
    }
}

fn close(session: &str) -> TenantCommand {
    TenantCommand::CloseSupportSession { session: session.into() }
}

fn fold(events: impl IntoIterator<Item = TenantEvent>) -> Tenant {
    let mut tenant = Tenant::default();
    for event in events {
        tenant.apply(event);
    }
    tenant
}

#[test]
fn a_business_is_registered_once() {
    tenant().given_no_previous_events().when(register(false, None)).then_expect_events(vec![registered(false)]);
    tenant().given(vec![registered(false)]).when(register(false, None)).then_expect_error(TenantError::AlreadyExists);
    tenant().given_no_previous_events().when(suspend()).then_expect_error(TenantError::NotFound);
}

#[test]
fn a_business_keeps_name_and_email() {
    for field in ["business_name", "business_email"] {
        let pointer = if field == "business_name" { "/business_name" } else { "/business_email" };
        tenant()
            .given(vec![registered(false)])
            .when(patch(json!({field: null})))
            .then_expect_error(TenantError::Required { pointer });
    }
    let changes = TenantChanges { country: Patch::Set(text("US")), ..TenantChanges::default() };
    tenant()
        .given(vec![registered(false)])
        .when(patch(json!({"business_name": "ACME Corporation", "country": "US", "address": null})))
        .then_expect_events(vec![TenantEvent::DetailsChanged { changes }]);
    tenant().given(vec![registered(false)]).when(patch(json!({"country": null}))).then_expect_events(vec![]);
}

#[test]
fn seats_are_the_plans_unless_set_apart() {
    assert_eq!(fold([registered(false)]).seat_limit(), Some(5));
    let enterprise = TenantEvent::PlanChanged { from: Plan::Starter, to: Plan::Enterprise };
    let seven = TenantEvent::SeatLimitChanged { limit: Some(7) };
    assert_eq!(fold([registered(false), enterprise.clone()]).seat_limit(), None);
    assert_eq!(fold([registered(false), enterprise.clone(), seven.clone()]).seat_limit(), Some(7));
    let given = || tenant().given(vec![registered(false)]);
    given().when(TenantCommand::ChangePlan { plan: Plan::Enterprise }).then_expect_events(vec![enterprise]);
    given().when(TenantCommand::ChangePlan { plan: Plan::Starter }).then_expect_events(vec![]);
    given().when(TenantCommand::ChangeSeatLimit { limit: Some(7) }).then_expect_events(vec![seven]);
    given().when(TenantCommand::ChangeSeatLimit { limit: None }).then_expect_events(vec![]);
}

#[test]
fn a_business_has_at_least_one_seat() {
    tenant().given_no_previous_events().when(register(false, Some(0))).then_expect_error(TenantError::NoSeat);
    tenant()
        .given(vec![registered(false)])
        .when(TenantCommand::ChangeSeatLimit { limit: Some(0) })
        .then_expect_error(TenantError::NoSeat);
}

#[test]
fn features_and_quotas_are_the_plans_unless_switched() {
    let feature = Feature::Exports;
    let switched = |on| TenantEvent::FeatureSwitched { feature, on };
    assert!(!fold([registered(false)]).has(feature));
    assert!(fold([registered(false), switched(Some(true))]).has(feature));
    assert!(!fold([registered(false), switched(Some(true)), switched(None)]).has(feature));
    let switch = |on| TenantCommand::SwitchFeature { feature, on };
    tenant().given(vec![registered(false)]).when(switch(Some(true))).then_expect_events(vec![switched(Some(true))]);
    tenant().given(vec![registered(false)]).when(switch(None)).then_expect_events(vec![]);

    let (quota, limit) = (Quota::ApiKeys, Some(3));
    let changed = TenantEvent::QuotaChanged { quota, limit };
    tenant()
        .given(vec![registered(false)])
        .when(TenantCommand::ChangeQuota { quota, limit })
        .then_expect_events(vec![changed.clone()]);
    assert_eq!(fold([registered(false)]).quota(quota), Some(0));
    assert_eq!(fold([registered(false), changed]).quota(quota), Some(3));
}

#[test]
fn a_business_is_suspended_and_reactivated() {
    let reactivate = || TenantCommand::Reactivate {};
    tenant().given(vec![registered(false)]).when(suspend()).then_expect_events(vec![suspended()]);
    tenant().given(vec![registered(false), suspended()]).when(suspend()).then_expect_events(vec![]);
    tenant()
        .given(vec![registered(false), suspended()])
        .when(reactivate())
        .then_expect_events(vec![TenantEvent::Reactivated {}]);
    tenant().given(vec![registered(false)]).when(reactivate()).then_expect_events(vec![]);
}

#[test]
fn the_platforms_own_business_is_not_suspended() {
    tenant().given(vec![registered(true)]).when(suspend()).then_expect_error(TenantError::Platform);
}

#[test]
fn a_support_session_is_opened_and_closed_once() {
    let closed = || TenantEvent::SupportSessionClosed { session: "a".into() };
    tenant().given(vec![registered(false)]).when(open("a")).then_expect_events(vec![opened("a")]);
    let inside = || vec![registered(false), opened("a")];
    tenant().given(inside()).when(open("a")).then_expect_error(TenantError::SupportSessionOpen);
    tenant().given(inside()).when(close("a")).then_expect_events(vec![closed()]);
    tenant().given(inside()).when(close("b")).then_expect_error(TenantError::SupportSessionNotFound);
    tenant()
        .given([inside(), vec![closed()]].concat())
        .when(close("a"))
        .then_expect_error(TenantError::SupportSessionNotFound);
}

fn any_command() -> impl Strategy<Value = TenantCommand> {
    let limit = prop::option::of(0..3_u32);
    let feature = prop::sample::select(Feature::VARIANTS);
    let quota = prop::sample::select(Quota::VARIANTS);
    prop_oneof![
        (any::<bool>(), limit.clone()).prop_map(|(platform, seats)| register(platform, seats)),
        prop::sample::select(Plan::VARIANTS).prop_map(|plan| TenantCommand::ChangePlan { plan }),
        limit.clone().prop_map(|limit| TenantCommand::ChangeSeatLimit { limit }),
        (quota, limit).prop_map(|(quota, limit)| TenantCommand::ChangeQuota { quota, limit }),
        (feature, any::<Option<bool>>()).prop_map(|(feature, on)| TenantCommand::SwitchFeature { feature, on }),
        prop::option::of("[a-z]{1,3}").prop_map(|country| patch(json!({"country": country}))),
        Just(suspend()),
        Just(TenantCommand::Reactivate {}),
        "[ab]".prop_map(|session| open(&session)),
        "[ab]".prop_map(|session| close(&session)),
    ]
}

proptest! {
    #[test]
    fn any_commands_keep_the_invariants(commands in prop::collection::vec(any_command(), 0..40)) {
        let mut tenant = Tenant::default();
        let mut history = vec![];
        for command in commands {
            let Ok(events) = tenant.decide(command.clone()) else { continue };
            let before = tenant.clone();
            for event in &events {
                tenant.apply(event.clone());
            }
            prop_assert!(events.is_empty() || tenant != before, "{:?} changed nothing", command);
            history.extend(events);
            prop_assert!(!(tenant.platform && tenant.status == TenantStatus::Suspended));
            prop_assert_eq!(tenant.status == TenantStatus::Suspended, tenant.suspension_reason.is_some());
            prop_assert!(tenant.seat_limit() != Some(0));
        }
        let stored = serde_json::to_string(&history).unwrap();
        prop_assert_eq!(&fold(serde_json::from_str::<Vec<TenantEvent>>(&stored).unwrap()), &tenant);
        let snapshot = serde_json::to_string(&tenant).unwrap();
        prop_assert_eq!(serde_json::from_str::<Tenant>(&snapshot).unwrap(), tenant);
    }
}
