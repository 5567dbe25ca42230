//! Signing in: businesses register, people come and go, and nobody learns what is not theirs to know.

use std::time::{Duration, Instant};

use devhub::access::credentials;
use devhub::access::passwords::Credential;
use devhub::aggregates::ids::{TenantId, UserId};
use futures::future::join_all;
use serde_json::json;

use crate::world::{FOUNDER, PASSWORD, World};

const OTHER_PASSWORD: &str = "another fine pass phrase";

#[tokio::test]
async fn a_business_registers_and_its_owner_is_signed_in() {
    let world = World::start().await;
    let owner = world.business("Acme").await;
    assert_eq!(owner.tenant.as_deref(), Some("TNT-000"));
    assert_eq!(owner.id(), "USR-001");
    let me = owner.get("/api/me").await.ok();
    assert_eq!(me["user"]["email"], "owner@acme.test");
    assert_eq!(me["user"]["role"], "BUSINESS_OWNER");
    assert_eq!(me["tenant"]["business_name"], "Acme");
    assert_eq!(me["permissions"]["leads"]["write"], "tenant");
    assert_eq!(me["plan"]["seats"], json!({"limit": null, "used": 1}));
    assert!(me["can"].as_array().unwrap().contains(&json!("settings")));
    let other = world.business("Other").await;
    assert_eq!(other.tenant.as_deref(), Some("TNT-001"));
    assert_eq!(other.id(), "USR-001");
}

#[tokio::test]
async fn a_taken_address_leaves_nothing_half_done() {
    let world = World::start().await;
    world.business("Acme").await;
    let body = |name: &str, email: &str| {
        json!({"business_name": name, "business_email": "office@late.test",
            "owner": {"email": email, "full_name": "Late", "password": PASSWORD}})
    };
    let late = world.nobody().post("/api/auth/register-business", body("Late", "OWNER@acme.test")).await;
    assert_eq!(late.problem(409, "conflict")["rule"], "email_taken");
    // At the same moment: one comes, the others leave no trace.
    let client = world.nobody();
    let racing =
        (0..6).map(|n| client.post("/api/auth/register-business", body(&format!("Race {n}"), "race@late.test")));
    let mut statuses: Vec<u16> = join_all(racing).await.iter().map(|answer| answer.status.as_u16()).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [201, 409, 409, 409, 409, 409]);
    let founder = world.founder().await;
    let tenants = founder.get("/api/admin/tenants?count=exact").await.ok();
    assert_eq!(tenants["page"]["total"], 4, "the platform's two, Acme, and the one that won");
    world.nobody().signed_in("race@late.test", PASSWORD).await;
    let pool = sqlx::PgPool::connect(&world.url).await.unwrap();
    let passwords: i64 =
        sqlx::query_scalar("select count(*) from platform.credentials").fetch_one(&pool).await.unwrap();
    let directory: i64 = sqlx::query_scalar("select count(*) from platform.tenants").fetch_one(&pool).await.unwrap();
    assert_eq!((passwords, directory), (3, 4));
}

#[tokio::test]
async fn an_unknown_address_and_a_wrong_password_sound_the_same_and_both_are_slowed_down() {
    let world = World::start().await;
    world.business("Acme").await;
    let attempt = |email: &str| {
        let body = json!({"email": email, "password": "not the pass phrase"});
        let client = world.nobody();
        async move { client.post("/api/auth/login", body).await }
    };
    let without_id = |mut problem: serde_json::Value| {
        problem.as_object_mut().unwrap().remove("request_id");
        problem
    };
    let known = without_id(attempt("owner@acme.test").await.problem(401, "unauthenticated"));
    let unknown = without_id(attempt("nobody@acme.test").await.problem(401, "unauthenticated"));
    assert_eq!(known, unknown);
    let mut waited = false;
    for _ in 0..8 {
        let answer = attempt("owner@acme.test").await;
        if answer.status == 429 {
            assert!(answer.header("retry-after").is_some());
            waited = true;
            break;
        }
    }
    assert!(waited);
    world.clock.advance(Duration::from_secs(3600));
    let owner = world.nobody().signed_in("Owner@Acme.test", PASSWORD).await;
    // The failures are in the account's history, without the answer having waited for them.
    let failures = async || owner.get("/api/events?type=UserLoginFailed").await.ok()["data"].as_array().unwrap().len();
    let noted = async { while failures().await < 2 {} };
    tokio::time::timeout(Duration::from_secs(20), noted).await.unwrap();
}

#[tokio::test]
async fn a_password_of_the_old_system_signs_in_and_leaves_no_trace() {
    let world = World::start().await;
    let owner = world.business("Acme").await;
    // `legacy-password-1`, hashed at the usual cost.
    let hash = "$2b$12$abcdefghijklmnopqrstuuuj4tQp4yIx1vfvCUHGFHsknAT9nOaKG";
    let (pool, old) = (&world.app.access.pool, Credential::from_bcrypt(hash).unwrap());
    credentials::store(pool, TenantId::Business(0), UserId(1), &old, world.clock.now()).await.unwrap();
    let client = world.nobody();
    let guess = async |email: &str, password: &str| {
        let begun = Instant::now();
        let answer = client.post("/api/auth/login", json!({"email": email, "password": password})).await;
        answer.problem(401, "unauthenticated");
        begun.elapsed()
    };
    // None is answered before the slowest of them can be.
    let floor = Duration::from_millis(500);
    for (email, password) in [
        ("owner@acme.test", "legacy-password-2"),
        ("owner@acme.test", &"too long for bcrypt ".repeat(4)),
        (FOUNDER, "legacy-password-2"),
        ("nobody@acme.test", "legacy-password-2"),
    ] {
        let taken = guess(email, password).await;
        assert!(taken >= floor, "{email}: {taken:?}");
    }
    let scheme = async || -> String {
        let statement = "select scheme from platform.credentials where tenant_id = 'TNT-000'";
        sqlx::query_scalar(statement).fetch_one(pool).await.unwrap()
    };
    assert_eq!(scheme().await, "bcrypt");
    let signed_in = client.signed_in("owner@acme.test", "legacy-password-1").await;
    assert_eq!(scheme().await, "argon2id");
    client.signed_in("owner@acme.test", "legacy-password-1").await;
    assert_eq!(signed_in.get("/api/events?type=UserPasswordChanged").await.ok()["data"], json!([]));
    assert_eq!(signed_in.id(), owner.id());
}

#[tokio::test]
async fn a_refresh_token_is_good_once_and_its_reuse_ends_the_session() {
    let world = World::start().await;
    let owner = world.business("Acme").await;
    let refresh = |token: &Option<String>| {
        let (client, body) = (world.nobody(), json!({"refresh_token": token}));
        async move { client.post("/api/auth/refresh", body).await }
    };
    let next = refresh(&owner.refresh_token).await.ok();
    let continued = owner.with_token(next["access_token"].as_str().unwrap());
    continued.get("/api/me").await.ok();
    refresh(&owner.refresh_token).await.problem(401, "unauthenticated");
    continued.get("/api/me").await.problem(401, "unauthenticated");
    refresh(&next["refresh_token"].as_str().map(str::to_owned)).await.problem(401, "unauthenticated");
    let again = world.nobody().signed_in("owner@acme.test", PASSWORD).await;
    let revoked = again.get("/api/events?type=devhub.user.sessions_revoked.v1").await.ok();
    assert_eq!(revoked["data"][0]["subject"], "USR-001");
}

#[tokio::test]
async fn signing_out_ends_the_session_at_once() {
    let world = World::start().await;
    let owner = world.business("Acme").await;
    owner.act("/api/auth/logout").await.expect(204);
    owner.get("/api/me").await.problem(401, "unauthenticated");
    owner.act("/api/auth/logout").await.problem(401, "unauthenticated");
}

#[tokio::test]
async fn a_changed_password_ends_all_other_sessions() {
    let world = World::start().await;
    let owner = world.business("Acme").await;
    let elsewhere = world.nobody().signed_in("owner@acme.test", PASSWORD).await;
    let change = |current: &str, new: &str| json!({"current_password": current, "new_password": new});
    let refused = owner.post("/api/auth/change-password", change("wrong", OTHER_PASSWORD)).await;
    assert_eq!(refused.problem(422, "validation_failed")["errors"][0]["pointer"], "/current_password");
    let refused = owner.post("/api/auth/change-password", change(PASSWORD, "short")).await;
    assert_eq!(refused.problem(422, "validation_failed")["errors"][0]["code"], "too_short");
    owner.post("/api/auth/change-password", change(PASSWORD, OTHER_PASSWORD)).await.expect(204);
    owner.get("/api/me").await.ok();
    elsewhere.get("/api/me").await.problem(401, "unauthenticated");
    let old = json!({"email": "owner@acme.test", "password": PASSWORD});
    world.nobody().post("/api/auth/login", old).await.problem(401, "unauthenticated");
    world.nobody().signed_in("owner@acme.test", OTHER_PASSWORD).await;
}

#[tokio::test]
async fn an_invitation_is_accepted_once_by_whoever_is_first() {
    let world = World::start().await;
    let owner = world.business("Acme").await;
    let invited = json!({"email": "bo@acme.test", "full_name": "Bo", "role": "EMPLOYEE"});
    let invited = owner.post("/api/users", invited).await.expect(201);
    let token = invited["invitation"]["token"].as_str().unwrap().to_owned();
    let early = json!({"email": "bo@acme.test", "password": PASSWORD});
    world.nobody().post("/api/auth/login", early).await.problem(401, "unauthenticated");
    let client = world.nobody();
    let passwords = [PASSWORD, OTHER_PASSWORD];
    let racing = passwords
        .map(|password| client.post("/api/auth/accept-invitation", json!({"token": token, "password": password})));
    let answers = join_all(racing).await;
    let mut winners = answers.iter().zip(passwords).filter(|(answer, _)| answer.status == 200);
    let (winner, password) = winners.next().unwrap();
    assert!(winners.next().is_none());
    assert_eq!(winner.json()["user"]["status"], "active");
    // The password that signs in is that of whoever was let in.
    client.signed_in("bo@acme.test", password).await;
    let late = client.post("/api/auth/accept-invitation", json!({"token": token, "password": PASSWORD})).await;
    assert_eq!(late.problem(409, "conflict")["rule"], "invitation_used");
}

#[tokio::test]
async fn an_invitation_waits_for_a_week() {
    let world = World::start().await;
    let owner = world.business("Acme").await;
    let invited = json!({"email": "bo@acme.test", "full_name": "Bo", "role": "EMPLOYEE"});
    let invited = owner.post("/api/users", invited).await.expect(201);
    world.clock.advance(Duration::from_secs(8 * 24 * 3600));
    let accept = json!({"token": invited["invitation"]["token"], "password": PASSWORD});
    let late = world.nobody().post("/api/auth/accept-invitation", accept).await;
    assert_eq!(late.problem(409, "conflict")["rule"], "invitation_expired");
    let unknown = json!({"token": "nobody's", "password": PASSWORD});
    world.nobody().post("/api/auth/accept-invitation", unknown).await.problem(422, "validation_failed");
}

#[tokio::test]
async fn an_invitation_opens_nothing_that_its_holder_may_not_give() {
    let world = World::start().await;
    let owner = world.business("Acme").await;
    let ada = owner.manager("ada", "sales").await;
    let invite = |email: &str, permissions: serde_json::Value| {
        json!({"email": email, "full_name": "Somebody", "role": "EMPLOYEE", "department": "sales",
               "permissions": permissions})
    };
    let accept = async |invited: &serde_json::Value| {
        let body = json!({"token": invited["invitation"]["token"], "password": PASSWORD});
        world.nobody().post("/api/auth/accept-invitation", body).await
    };
    let again = |user: &str| format!("/api/users/{user}/invitation");

    // Who may do more than the manager is invited by the owner alone.
    let able =
        owner.post("/api/users", invite("able@acme.test", json!({"invoices:write": "tenant"}))).await.expect(201);
    let user = able["id"].as_str().unwrap();
    ada.act(&again(user)).await.problem(403, "permission_denied");
    let able = owner.act(&again(user)).await.expect(201);

    // Whoever was invited to do little is not let in with the same token to do much.
    let small = ada.post("/api/users", invite("small@acme.test", json!({}))).await.expect(201);
    let user = format!("/api/users/{}", small["id"].as_str().unwrap());
    owner.patch(&user, json!({"full_name": "Some Body"})).await.ok();
    owner.patch(&user, json!({"role": "BUSINESS_OWNER", "department": null})).await.ok();
    let refused = accept(&small).await.problem(422, "validation_failed");
    assert_eq!(refused["errors"][0]["code"], "unknown_invitation");
    ada.act(&format!("{user}/invitation")).await.problem(403, "permission_denied");
    let small = owner.act(&format!("{user}/invitation")).await.expect(201);
    // Nor is anybody after they were locked.
    owner.act(&format!("{user}/lock")).await.ok();
    owner.act(&format!("{user}/unlock")).await.ok();
    accept(&small).await.problem(422, "validation_failed");

    // A dry run withdraws nothing.
    let user = able["id"].as_str().unwrap();
    let update = json!({"op": "update", "id": user, "body": {"role": "MANAGER"}});
    owner.post("/api/users/batch", json!({"dry_run": true, "operations": [update]})).await.ok();

    // While the business is suspended, nobody is let in, and the invitation is as good as before.
    let founder = world.founder().await;
    let business = format!("/api/admin/tenants/{}", owner.tenant.as_deref().unwrap());
    founder.post(&format!("{business}/suspend"), json!({"reason": "unpaid"})).await.ok();
    accept(&able).await.problem(401, "unauthenticated");
    founder.act(&format!("{business}/reactivate")).await.ok();
    accept(&able).await.ok();
}

#[tokio::test]
async fn a_token_says_what_it_should_and_the_keys_are_public() {
    let world = World::start().await;
    let (owner, founder) = (world.business("Acme").await, world.founder().await);
    let claims = |token: &str| -> serde_json::Value {
        use base64::Engine;
        let payload = token.split('.').nth(1).unwrap();
        serde_json::from_slice(&base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap()
    };
    let own = claims(owner.token.as_deref().unwrap());
    assert_eq!((&own["user_id"], &own["tenant_id"]), (&json!("USR-001"), &json!("TNT-000")));
    assert_eq!((&own["sub"], &own["is_founder"]), (&json!("TNT-000:USR-001"), &json!(false)));
    let founders = claims(founder.token.as_deref().unwrap());
    assert_eq!((&founders["tenant_id"], &founders["is_founder"]), (&json!(null), &json!(true)));
    assert_eq!(founders["sub"], "TNT-PLT:USR-000");
    let keys = world.nobody().get("/.well-known/jwks.json").await.ok();
    assert_eq!(keys["keys"][0]["crv"], "Ed25519");
    let me = founder.get("/api/me").await.ok();
    assert_eq!((&me["tenant"]["id"], &me["is_founder"]), (&json!("TNT-PLT"), &json!(true)));
    assert_eq!(me["user"]["email"], FOUNDER);
}

#[tokio::test]
async fn founding_again_changes_nothing() {
    let world = World::start().await;
    let position = *world.app.store.head().borrow();
    let other = secrecy::SecretString::from(OTHER_PASSWORD);
    let again = devhub::founding::found(&world.app, "other@devhub.test", Some(&other)).await.unwrap();
    assert_eq!(again.email, FOUNDER);
    assert!(again.password.is_none());
    assert_eq!(*world.app.store.head().borrow(), position);
    world.founder().await;
    let founder = world.founder().await;
    let tenants = founder.get("/api/admin/tenants?sort=business_name").await.ok();
    let ids: Vec<_> = tenants["data"].as_array().unwrap().iter().map(|tenant| tenant["id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["DEV-000", "TNT-PLT"]);
}

#[tokio::test]
async fn whoever_is_refused_for_now_keeps_the_refresh_token() {
    let world = World::start().await;
    let acme = world.business("ACME").await;
    let founder = world.founder().await;
    let tenant = format!("/api/admin/tenants/{}", acme.tenant.clone().unwrap());
    let body = json!({"refresh_token": acme.refresh_token});
    let refresh = async || world.nobody().post("/api/auth/refresh", body.clone()).await;
    founder.post(&format!("{tenant}/suspend"), json!({"reason": "unpaid"})).await.ok();
    refresh().await.problem(401, "unauthenticated");
    founder.act(&format!("{tenant}/reactivate")).await.ok();
    refresh().await.ok();
}

#[tokio::test]
async fn a_session_that_a_spent_token_ends_is_ended_once() {
    let world = World::start().await;
    let acme = world.business("ACME").await;
    let body = json!({"refresh_token": acme.refresh_token});
    let refresh = async || world.nobody().post("/api/auth/refresh", body.clone()).await;
    refresh().await.ok();
    for _ in 0..3 {
        refresh().await.problem(401, "unauthenticated");
    }
    let again = world.nobody().signed_in("owner@acme.test", PASSWORD).await;
    let ended = again.get("/api/events?type=devhub.user.sessions_revoked.v1").await.ok();
    assert_eq!(ended["data"].as_array().unwrap().len(), 1, "{ended}");
}
