//! Passwords that somebody else lets a person choose: who may hand the means out, for whom, and what they are good for.

use std::time::Duration;

use axum::http::Method;
use devhub::access::credentials;
use devhub::aggregates::ids::{TenantId, UserId};
use futures::future::join_all;
use serde_json::{Value, json};

use crate::world::{Answer, Client, PASSWORD, World};

const NEW: &str = "another fine pass phrase";
const HOUR: Duration = Duration::from_secs(3600);

fn path(person: &Client) -> String {
    format!("/api/users/{}/password-reset", person.id())
}

/// A token for another password of this person, from this one.
async fn token(from: &Client, person: &Client) -> Value {
    from.act(&path(person)).await.ok()["token"].clone()
}

async fn choose(world: &World, token: &Value, password: &str) -> Answer {
    world.nobody().post("/api/auth/reset-password", json!({"token": token, "password": password})).await
}

fn email(person: &Client) -> &str {
    person.user["email"].as_str().unwrap()
}

#[tokio::test]
async fn whoever_is_handed_a_token_chooses_a_password_and_is_out_everywhere_else() {
    let world = World::start().await;
    let owner = world.business("ACME").await;
    let (ada, bo) = (owner.manager("ada", "sales").await, owner.employee("bo", "sales").await);
    let first = token(&owner, &bo).await;
    let handed_out = ada.act(&path(&bo)).await.ok();
    assert_eq!(handed_out["expires_at"], "2026-03-05T09:00:00Z");
    let second = &handed_out["token"];
    // Nothing has happened yet, but the first token is withdrawn.
    bo.get("/api/me").await.ok();
    let withdrawn = choose(&world, &first, NEW).await.problem(422, "validation_failed");
    assert_eq!(withdrawn["errors"][0]["code"], "unknown_password_reset");
    // A password that is refused does not use the token up; nor does it open an invitation.
    let short = choose(&world, second, "short").await.problem(422, "validation_failed");
    assert_eq!(
        (&short["errors"][0]["pointer"], &short["errors"][0]["code"]),
        (&json!("/password"), &json!("too_short"))
    );
    let accept = json!({"token": second, "password": NEW});
    world.nobody().post("/api/auth/accept-invitation", accept).await.problem(422, "validation_failed");

    let signed_in = choose(&world, second, NEW).await.ok();
    assert_eq!(signed_in["user"]["id"], bo.id());
    let again = world.nobody().with_tokens(&signed_in);
    again.get("/api/me").await.ok();
    bo.get("/api/me").await.problem(401, "unauthenticated");
    world.nobody().post("/api/auth/refresh", json!({"refresh_token": bo.refresh_token})).await.expect(401);
    let old = json!({"email": email(&bo), "password": PASSWORD});
    world.nobody().post("/api/auth/login", old).await.problem(401, "unauthenticated");
    world.nobody().signed_in(email(&bo), NEW).await;
    assert_eq!(choose(&world, second, PASSWORD).await.problem(409, "conflict")["rule"], "password_reset_used");

    let events = owner.get("/api/events?subject=USR-003&limit=5").await.ok();
    let types: Vec<_> =
        events["data"].as_array().unwrap().iter().map(|event| event["type"].as_str().unwrap()).collect();
    assert!(types.contains(&"devhub.user.password_changed.v1"), "{types:?}");
    let revoked = owner.get("/api/events?type=UserSessionsRevoked").await.ok();
    let from = format!("the password was reset with a token from TNT-000:{}", ada.id());
    assert_eq!(revoked["data"][0]["data"]["reason"], from);
    assert_eq!(revoked["data"][0]["actorid"], bo.id());
    let all = owner.get("/api/events?limit=100").await.ok().to_string();
    assert!(!all.contains(second.as_str().unwrap()) && !all.contains(NEW));
}

#[tokio::test]
async fn a_token_is_handed_out_by_who_manages_the_person_and_can_do_as_much() {
    let world = World::start().await;
    let owner = world.business("ACME").await;
    let (ada, cy) = (owner.manager("ada", "sales").await, owner.manager("cy", "sales").await);
    let (bo, al) = (owner.employee("bo", "sales").await, owner.employee("al", "support").await);
    for person in [&al, &cy, &owner] {
        ada.act(&path(person)).await.problem(403, "permission_denied");
    }
    bo.act(&path(&al)).await.problem(403, "permission_denied");
    owner.act(&path(&cy)).await.ok();
    assert_eq!(owner.act(&path(&owner)).await.problem(409, "conflict")["rule"], "own_password");
    // Who is not of the business is not known.
    world.business("Other").await.act(&path(&bo)).await.problem(404, "not_found");
    owner.act("/api/users/USR-099/password-reset").await.problem(404, "not_found");
    world.nobody().act(&path(&bo)).await.problem(401, "unauthenticated");

    ada.act(&path(&bo)).await.ok();
    owner.patch(&format!("/api/users/{}", bo.id()), json!({"permissions": {"invoices:write": "tenant"}})).await.ok();
    let refused = ada.act(&path(&bo)).await.problem(403, "permission_denied");
    assert_eq!(refused["permission"], "invoices:write");
    owner.act(&path(&bo)).await.ok();
}

#[tokio::test]
async fn only_somebody_who_is_here_chooses_another_password() {
    let world = World::start().await;
    let owner = world.business("ACME").await;
    let invited = json!({"email": "new@acme.test", "full_name": "New", "role": "EMPLOYEE"});
    let invited = owner.post("/api/users", invited).await.created();
    let refused = owner.act(&format!("/api/users/{invited}/password-reset")).await;
    assert_eq!(refused.problem(409, "conflict")["rule"], "not_accepted");

    let bo = owner.employee("bo", "sales").await;
    let before = token(&owner, &bo).await;
    owner.act(&format!("/api/users/{}/lock", bo.id())).await.ok();
    assert_eq!(owner.act(&path(&bo)).await.problem(409, "conflict")["rule"], "user_locked");
    choose(&world, &before, NEW).await.problem(422, "validation_failed");
    owner.act(&format!("/api/users/{}/unlock", bo.id())).await.ok();
    choose(&world, &before, NEW).await.problem(422, "validation_failed");
    owner.act(&format!("/api/users/{}/deactivate", bo.id())).await.ok();
    assert_eq!(owner.act(&path(&bo)).await.problem(409, "conflict")["rule"], "user_deactivated");
}

#[tokio::test]
async fn a_token_ends_in_time_and_with_what_it_was_handed_out_for() {
    let world = World::start().await;
    let owner = world.business("ACME").await;
    let bo = owner.employee("bo", "sales").await;
    let gone = |answer: Answer| answer.problem(422, "validation_failed")["errors"][0]["code"].clone();
    // The person changes it, or becomes somebody who may do more.
    let first = token(&owner, &bo).await;
    let change = json!({"current_password": PASSWORD, "new_password": NEW});
    bo.post("/api/auth/change-password", change).await.expect(204);
    assert_eq!(gone(choose(&world, &first, NEW).await), "unknown_password_reset");
    let second = token(&owner, &bo).await;
    owner.patch(&format!("/api/users/{}", bo.id()), json!({"role": "MANAGER"})).await.ok();
    assert_eq!(gone(choose(&world, &second, NEW).await), "unknown_password_reset");
    // While the business is suspended nobody comes in, and nothing is used up.
    let third = token(&owner, &bo).await;
    let founder = world.founder().await;
    let tenant = format!("/api/admin/tenants/{}", owner.tenant.clone().unwrap());
    founder.post(&format!("{tenant}/suspend"), json!({"reason": "unpaid"})).await.ok();
    choose(&world, &third, NEW).await.problem(401, "unauthenticated");
    founder.act(&format!("{tenant}/reactivate")).await.ok();
    choose(&world, &third, NEW).await.ok();
    let fourth = founder.act(&format!("{tenant}/users/{}/password-reset", bo.id())).await.ok()["token"].clone();
    world.clock.advance(72 * HOUR);
    assert_eq!(choose(&world, &fourth, NEW).await.problem(409, "conflict")["rule"], "password_reset_expired");
    assert_eq!(gone(choose(&world, &json!("nobody's"), NEW).await), "unknown_password_reset");
}

#[tokio::test]
async fn the_founder_helps_the_users_of_every_business_and_changes_the_own_password_like_everybody() {
    let world = World::start().await;
    let (owner, founder) = (world.business("ACME").await, world.founder().await);
    // As somebody comes from the old system whose password was of no use.
    credentials::remove(&world.app.access.pool, TenantId::Business(0), UserId(1)).await.unwrap();
    let reset = |tenant: &str, user: &str| format!("/api/admin/tenants/{tenant}/users/{user}/password-reset");
    let handed_out = founder.act(&reset("TNT-000", "USR-001")).await.ok();
    choose(&world, &handed_out["token"], NEW).await.ok();
    let owner_again = world.nobody().signed_in("owner@acme.test", NEW).await;
    assert_eq!(founder.act(&reset("TNT-PLT", "USR-000")).await.problem(409, "conflict")["rule"], "own_password");
    for (tenant, user) in [("TNT-000", "USR-099"), ("TNT-999", "USR-001"), ("none", "USR-001"), ("TNT-000", "none")] {
        founder.act(&reset(tenant, user)).await.problem(404, "not_found");
    }
    owner_again.act(&reset("TNT-000", "USR-001")).await.problem(403, "permission_denied");
    assert_eq!(owner.id(), "USR-001");
}

#[tokio::test]
async fn a_token_is_used_once_by_whoever_is_first_and_a_repeated_request_counts_as_one() {
    let world = World::start().await;
    let owner = world.business("ACME").await;
    let bo = owner.employee("bo", "sales").await;
    let key = [("idempotency-key", "reset-bo")];
    let handed_out = owner.send(Method::POST, &path(&bo), &key, None).await;
    let again = owner.send(Method::POST, &path(&bo), &key, None).await;
    assert_eq!((again.header("idempotent-replayed"), again.ok()), (Some("true"), handed_out.ok()));
    let body = json!({"token": handed_out.ok()["token"], "password": NEW});
    let key = [("idempotency-key", "choose")];
    let signed_in = world.nobody().send(Method::POST, "/api/auth/reset-password", &key, Some(body.clone())).await;
    let again = world.nobody().send(Method::POST, "/api/auth/reset-password", &key, Some(body)).await;
    assert_eq!((again.header("idempotent-replayed"), again.ok()), (Some("true"), signed_in.ok()));

    let second = token(&owner, &bo).await;
    let passwords = [PASSWORD, "a third and last pass phrase"];
    let answers = join_all(passwords.map(|password| choose(&world, &second, password))).await;
    let mut winners = answers.iter().zip(passwords).filter(|(answer, _)| answer.status == 200);
    let (_, password) = winners.next().unwrap();
    assert!(winners.next().is_none());
    world.nobody().signed_in(email(&bo), password).await;
    let changed = owner.get("/api/events?type=UserPasswordChanged").await.ok();
    assert_eq!(changed["data"].as_array().unwrap().len(), 2);
}
