//! API keys, and how many of them a business may have.

use axum::http::Method;
use serde_json::{Value, json};

use crate::world::{Client, PASSWORD, World};

async fn make(client: &Client) -> Client {
    let made = client.post("/api/api-keys", json!({"name": "sync"})).await.expect(201);
    client.with_token(made["key"].as_str().unwrap())
}

async fn allowed(client: &Client) -> Value {
    client.get("/api/tenant").await.ok()["plan"]["api_keys"]["limit"].clone()
}

/// What the founder sets apart from the plan.
async fn set(founder: &Client, business: &Client, change: Value) {
    let path = format!("/api/admin/tenants/{}", business.tenant.as_deref().unwrap());
    founder.patch(&path, change).await.ok();
}

#[tokio::test]
async fn a_limit_that_the_founder_sets_counts_whatever_the_plan_includes() {
    let world = World::start().await;
    let founder = world.founder().await;
    let small = world.business_on("Small", "starter").await;
    assert_eq!(allowed(&small).await, 0);
    set(&founder, &small, json!({"limits": {"api_keys": 3}})).await;
    assert_eq!(allowed(&small).await, 3);
    for _ in 0..3 {
        make(&small).await.get("/api/leads").await.ok();
    }
    let refused = small.post("/api/api-keys", json!({"name": "sync"})).await.problem(403, "plan_limit");
    assert_eq!((&refused["limit"], &refused["used"]), (&json!(3), &json!(3)));

    // Fewer than there are: no more are made, and those that are there go on.
    set(&founder, &small, json!({"limits": {"api_keys": 4}})).await;
    let program = make(&small).await;
    set(&founder, &small, json!({"limits": {"api_keys": 1}})).await;
    program.get("/api/leads").await.ok();
    small.post("/api/api-keys", json!({"name": "sync"})).await.problem(403, "plan_limit");
    // None at all: none go on.
    set(&founder, &small, json!({"limits": {"api_keys": null}})).await;
    program.get("/api/leads").await.problem(403, "plan_limit");
    // What is switched on comes as in the smallest plan that includes it.
    set(&founder, &small, json!({"features": {"api_keys": true}})).await;
    assert_eq!(allowed(&small).await, 5);
    program.get("/api/leads").await.ok();
}

#[tokio::test]
async fn the_keys_of_a_business_that_has_none_any_more_are_refused() {
    let world = World::start().await;
    let founder = world.founder().await;
    let acme = world.business_on("ACME", "professional").await;
    let program = make(&acme).await;
    for (taken, given) in [
        (json!({"features": {"api_keys": false}}), json!({"features": {"api_keys": null}})),
        (json!({"limits": {"api_keys": 0}}), json!({"limits": {"api_keys": null}})),
        (json!({"subscription_plan": "starter"}), json!({"subscription_plan": "professional"})),
    ] {
        program.get("/api/leads").await.ok();
        set(&founder, &acme, taken).await;
        assert_eq!(allowed(&acme).await, 0);
        program.get("/api/leads").await.problem(403, "plan_limit");
        acme.post("/api/api-keys", json!({"name": "sync"})).await.problem(403, "plan_limit");
        set(&founder, &acme, given).await;
        assert_eq!(allowed(&acme).await, 5);
    }
    program.get("/api/leads").await.ok();
}

#[tokio::test]
async fn a_key_that_is_over_is_none() {
    let world = World::start().await;
    let acme = world.business_on("ACME", "professional").await;
    for _ in 0..5 {
        let key = json!({"name": "sync", "expires_at": "2026-03-02T10:00:00Z"});
        acme.post("/api/api-keys", key).await.expect(201);
    }
    acme.post("/api/api-keys", json!({"name": "sync"})).await.problem(403, "plan_limit");
    world.clock.advance(std::time::Duration::from_secs(3600));
    let acme = acme.signed_in("owner@acme.test", PASSWORD).await;
    assert_eq!(acme.get("/api/api-keys").await.ok()["data"], json!([]));
    assert_eq!(acme.get("/api/tenant").await.ok()["plan"]["api_keys"]["used"], 0);
    acme.post("/api/api-keys", json!({"name": "sync"})).await.expect(201);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_asked_for_twice_at_once_is_made_once() {
    let world = World::start().await;
    let acme = world.business("ACME").await;
    for turn in 0..5 {
        let once = format!("key-{turn}");
        let ask = || {
            let (acme, once) = (acme.clone(), once.clone());
            let body = json!({"name": "sync"});
            async move { acme.send(Method::POST, "/api/api-keys", &[("idempotency-key", &once)], Some(body)).await }
        };
        let (one, other) = tokio::join!(ask(), ask());
        assert_eq!(one.expect(201)["key"], other.expect(201)["key"]);
        let keys = acme.get("/api/api-keys").await.ok();
        assert_eq!(keys["data"].as_array().unwrap().len(), turn + 1);
    }
    // What is no id is nobody's.
    for id in ["%00", "none", "a%20b"] {
        acme.delete(&format!("/api/api-keys/{id}")).await.problem(404, "not_found");
    }
}
