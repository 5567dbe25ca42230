//! The rules of a user, as given / when / then.

use cqrs_es::Aggregate;
use cqrs_es::test::TestFramework;
use proptest::prelude::*;
use strum::VariantArray;

use super::*;
use crate::aggregates::ids::UserId;
use crate::aggregates::permission::Grant;

fn user() -> TestFramework<User> {
    TestFramework::with(())
}

fn details(role: Role) -> UserDetails {
    UserDetails {
        email: Email::new("ada@example.com").unwrap(),
        full_name: Text::new("Ada Lovelace").unwrap(),
        role,
        department: None,
        permissions: Grants::new(),
    }
}

fn facts(role: Role) -> UserFacts {
    let UserDetails { email, full_name, department, permissions, .. } = details(role);
    UserFacts { email: email.into(), full_name: full_name.into(), role, department, permissions }
}

fn registered(role: Role) -> UserEvent {
    UserEvent::Registered { facts: facts(role) }
}

fn invited() -> UserEvent {
    UserEvent::Invited { facts: facts(Role::Employee), invited_by: UserId(1) }
}

fn lock(other_active_owners: u32) -> UserCommand {
    UserCommand::Lock { reason: None, other_active_owners }
}

fn locked() -> UserEvent {
    UserEvent::Locked { reason: None }
}

fn deactivate(open_work: u64, other_active_owners: u32) -> UserCommand {
    UserCommand::Deactivate { open_work, other_active_owners }
}

fn change_role(role: Role, other_active_owners: u32) -> UserCommand {
    UserCommand::ChangeRole { role, other_active_owners }
}

fn sign_in() -> UserCommand {
    UserCommand::RecordLogin { session: "s1".into(), address: Some("192.0.2.1".into()) }
}

fn fold(events: impl IntoIterator<Item = UserEvent>) -> User {
    let mut user = User::default();
    for event in events {
        user.apply(event);
    }
    user
}

#[test]
fn a_user_comes_once() {
    let register = || UserCommand::Register(details(Role::Employee));
    user().given_no_previous_events().when(register()).then_expect_events(vec![registered(Role::Employee)]);
    user().given(vec![registered(Role::Employee)]).when(register()).then_expect_error(UserError::AlreadyExists);
    user().given_no_previous_events().when(sign_in()).then_expect_error(UserError::NotFound);
}

#[test]
fn an_invited_user_signs_in_after_accepting() {
    user()
        .given_no_previous_events()
        .when(UserCommand::Invite { details: details(Role::Employee), invited_by: UserId(1) })
        .then_expect_events(vec![invited()]);
    user().given(vec![invited()]).when(sign_in()).then_expect_error(UserError::NotAccepted);
    let accept = || UserCommand::AcceptInvitation {};
    user().given(vec![invited()]).when(accept()).then_expect_events(vec![UserEvent::InvitationAccepted {}]);
    let accepted = vec![invited(), UserEvent::InvitationAccepted {}];
    user().given(accepted.clone()).when(accept()).then_expect_error(UserError::AlreadyAccepted);
    user().given(accepted).when(sign_in()).then_expect_events(vec![UserEvent::LoggedIn {
        session: "s1".into(),
        address: Some(Personal::new("192.0.2.1".to_owned())),
    }]);
}

#[test]
fn nobody_is_made_the_founder() {
    let founder = || details(Role::PlatformFounder);
    for command in [UserCommand::Register(founder()), UserCommand::Invite { details: founder(), invited_by: UserId(1) }]
    {
        user().given_no_previous_events().when(command).then_expect_error(UserError::OneFounder);
    }
    user()
        .given(vec![registered(Role::Manager)])
        .when(change_role(Role::PlatformFounder, 1))
        .then_expect_error(UserError::OneFounder);
    let UserDetails { email, full_name, .. } = founder();
    user()
        .given_no_previous_events()
        .when(UserCommand::RegisterFounder { email, full_name })
        .then_expect_events(vec![registered(Role::PlatformFounder)]);
}

#[test]
fn the_founder_is_not_locked_deactivated_or_given_another_role() {
    for command in [lock(1), deactivate(0, 1), change_role(Role::Manager, 1)] {
        user().given(vec![registered(Role::PlatformFounder)]).when(command).then_expect_error(UserError::Founder);
    }
}

#[test]
fn a_business_keeps_one_active_owner() {
    let owner = || vec![registered(Role::BusinessOwner)];
    for command in [lock(0), deactivate(0, 0), change_role(Role::Manager, 0)] {
        user().given(owner()).when(command).then_expect_error(UserError::LastOwner);
    }
    user().given(owner()).when(lock(1)).then_expect_events(vec![locked()]);
    user().given(owner()).when(deactivate(0, 1)).then_expect_events(vec![UserEvent::Deactivated {}]);
    let demoted = UserEvent::RoleChanged { from: Role::BusinessOwner, to: Role::Manager };
    user().given(owner()).when(change_role(Role::Manager, 1)).then_expect_events(vec![demoted]);
    user().given(vec![registered(Role::Manager)]).when(lock(0)).then_expect_events(vec![locked()]);
}

#[test]
fn work_is_handed_over_before_a_user_is_deactivated_but_not_before_a_lock() {
    let manager = || vec![registered(Role::Manager)];
    user().given(manager()).when(deactivate(2, 1)).then_expect_error(UserError::OpenWork { open_work: 2 });
    user().given(manager()).when(deactivate(0, 1)).then_expect_events(vec![UserEvent::Deactivated {}]);
    user().given(manager()).when(lock(1)).then_expect_events(vec![locked()]);
}

#[test]
fn who_is_locked_or_gone_does_not_sign_in() {
    let locked = || vec![registered(Role::Manager), locked()];
    let gone = || vec![registered(Role::Manager), UserEvent::Deactivated {}];
    user().given(locked()).when(sign_in()).then_expect_error(UserError::Locked);
    user().given(gone()).when(sign_in()).then_expect_error(UserError::Deactivated);
    user().given(locked()).when(lock(1)).then_expect_events(vec![]);
    user().given(gone()).when(lock(1)).then_expect_error(UserError::Deactivated);
    user().given(gone()).when(UserCommand::Unlock {}).then_expect_error(UserError::Deactivated);
    user().given(locked()).when(UserCommand::Reactivate {}).then_expect_error(UserError::Locked);
    user().given(gone()).when(deactivate(0, 1)).then_expect_events(vec![]);
}

#[test]
fn whoever_comes_back_is_where_they_were() {
    let (active, still_invited) = (UserStatus::Active, UserStatus::Invited);
    for (came, status) in [(registered(Role::Manager), active), (invited(), still_invited)] {
        user()
            .given(vec![came.clone(), locked()])
            .when(UserCommand::Unlock {})
            .then_expect_events(vec![UserEvent::Unlocked { status }]);
        user()
            .given(vec![came.clone(), UserEvent::Deactivated {}])
            .when(UserCommand::Reactivate {})
            .then_expect_events(vec![UserEvent::Reactivated { status }]);
        for command in [UserCommand::Unlock {}, UserCommand::Reactivate {}] {
            user().given(vec![came.clone()]).when(command).then_expect_events(vec![]);
        }
    }
    for (event, error) in [(locked(), UserError::Locked), (UserEvent::Deactivated {}, UserError::Deactivated)] {
        user().given(vec![invited(), event]).when(UserCommand::AcceptInvitation {}).then_expect_error(error);
    }
}

#[test]
fn a_profile_changes_where_it_really_does() {
    let change = |full_name, email: Option<&str>| UserCommand::ChangeProfile {
        full_name,
        email: email.map(|email| Email::new(email).unwrap()),
    };
    let given = || user().given(vec![registered(Role::Employee)]);
    let (ada, king) = (Text::new("Ada Lovelace").unwrap(), Text::new("Ada King").unwrap());
    given().when(change(Patch::Set(ada), Some("ada@example.com"))).then_expect_events(vec![]);
    given().when(change(Patch::Clear, None)).then_expect_error(UserError::NameRequired);
    given().when(change(Patch::Set(king.clone()), Some("king@example.com"))).then_expect_events(vec![
        UserEvent::ProfileChanged { full_name: king.into() },
        UserEvent::EmailChanged {
            from: Email::new("ada@example.com").unwrap().into(),
            email: Email::new("king@example.com").unwrap().into(),
        },
    ]);
}

#[test]
fn department_and_permissions_change() {
    let given = || user().given(vec![registered(Role::Employee)]);
    let sales = Some(Text::new("Sales").unwrap());
    given()
        .when(UserCommand::ChangeDepartment { department: sales.clone() })
        .then_expect_events(vec![UserEvent::DepartmentChanged { department: sales }]);
    given().when(UserCommand::ChangeDepartment { department: None }).then_expect_events(vec![]);
    let permissions = Grants::from([("leads:convert".parse().unwrap(), Grant::Deny)]);
    given()
        .when(UserCommand::ChangePermissions { permissions: permissions.clone() })
        .then_expect_events(vec![UserEvent::PermissionsChanged { permissions }]);
    given().when(UserCommand::ChangePermissions { permissions: Grants::new() }).then_expect_events(vec![]);
    given().when(change_role(Role::Employee, 0)).then_expect_events(vec![]);
}

#[test]
fn what_concerns_access_is_recorded_each_time() {
    let given = || user().given(vec![registered(Role::Employee)]);
    given().when(UserCommand::ChangePassword {}).then_expect_events(vec![UserEvent::PasswordChanged {}]);
    user()
        .given(vec![registered(Role::Employee), locked()])
        .when(UserCommand::ChangePassword {})
        .then_expect_error(UserError::Locked);
    user().given(vec![invited()]).when(UserCommand::ChangePassword {}).then_expect_error(UserError::NotAccepted);
    given()
        .when(UserCommand::RecordFailedLogin { address: None })
        .then_expect_events(vec![UserEvent::LoginFailed { address: None }]);
    let reason = Text::new("Lost phone").unwrap();
    given()
        .when(UserCommand::RevokeSessions { session: None, reason: reason.clone() })
        .then_expect_events(vec![UserEvent::SessionsRevoked { session: None, reason }]);
}

fn any_command() -> impl Strategy<Value = UserCommand> {
    let role = prop::sample::select(Role::VARIANTS);
    prop_oneof![
        role.clone().prop_map(|role| UserCommand::Register(details(role))),
        role.clone().prop_map(|role| UserCommand::Invite { details: details(role), invited_by: UserId(1) }),
        Just(UserCommand::AcceptInvitation {}),
        (role, 0..2_u32).prop_map(|(role, others)| change_role(role, others)),
        (0..2_u32).prop_map(lock),
        Just(UserCommand::Unlock {}),
        (0..2_u64, 0..2_u32).prop_map(|(open, others)| deactivate(open, others)),
        Just(UserCommand::Reactivate {}),
        Just(sign_in()),
    ]
}

fn others(command: &UserCommand) -> Option<u32> {
    match command {
        UserCommand::ChangeRole { other_active_owners, .. }
        | UserCommand::Lock { other_active_owners, .. }
        | UserCommand::Deactivate { other_active_owners, .. } => Some(*other_active_owners),
        _ => None,
    }
}

proptest! {
    #[test]
    fn any_commands_keep_the_invariants(commands in prop::collection::vec(any_command(), 0..40)) {
        let mut user = User::default();
        let mut history = vec![];
        let owns = |user: &User| user.status == UserStatus::Active
            && user.facts.as_ref().is_some_and(|facts| facts.role == Role::BusinessOwner);
        for command in commands {
            let Ok(events) = user.decide(command.clone()) else { continue };
            let before = user.clone();
            for event in &events {
                user.apply(event.clone());
                if matches!(event, UserEvent::LoggedIn { .. }) {
                    prop_assert_eq!(before.status, UserStatus::Active);
                }
            }
            history.extend(events);
            if owns(&before) && others(&command) == Some(0) {
                prop_assert!(owns(&user), "the last owner went by {:?}", command);
            }
            prop_assert!(user.status != UserStatus::Active || user.accepted || user.facts.is_none());
            prop_assert!(user.facts.as_ref().is_none_or(|facts| facts.role != Role::PlatformFounder));
        }
        let stored = serde_json::to_string(&history).unwrap();
        prop_assert_eq!(&fold(serde_json::from_str::<Vec<UserEvent>>(&stored).unwrap()), &user);
        let snapshot = serde_json::to_string(&user).unwrap();
        prop_assert_eq!(serde_json::from_str::<User>(&snapshot).unwrap(), user);
    }
}
