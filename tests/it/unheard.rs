//! What was asked for is carried out to its end, whether or not anybody is still there to hear the answer.

use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Method, Request};
use devhub::access::secrets::MasterKey;
use devhub::api::limits::RateLimits;
use devhub::api::{self, App};
use devhub::clock::Clock;
use devhub::event_store::{self, Database};
use serde_json::{Value, json};
use sqlx::{Connection as _, Executor as _, PgConnection};
use tower::ServiceExt as _;

use crate::cluster::fresh_database;
use crate::rebuild::owner;
use crate::world::{Answer, Client, PASSWORD, World};

/// Sends a request under a key, and goes away as soon as something of it is stored and nothing of it can be read.
async fn gone(world: &World, client: &Client, (method, path): (Method, &'static str), body: &Value) {
    world.caught_up().await;
    let mut holder = owner(world).await;
    holder.execute("begin; lock table leads, users in share mode").await.unwrap();
    let mut head = world.app.store.head();
    let before = *head.borrow_and_update();
    let (client, body) = (client.clone(), body.clone());
    let request = tokio::spawn(async move { keyed(&client, (method, path), &body).await });
    head.wait_for(|head| *head > before).await.unwrap();
    request.abort();
    assert!(request.await.is_err_and(|ended| ended.is_cancelled()));
    holder.execute("rollback").await.unwrap();
}

async fn keyed(client: &Client, (method, path): (Method, &str), body: &Value) -> Answer {
    client.send(method, path, &[("idempotency-key", "once")], Some(body.clone())).await
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_went_away_and_asks_again_gets_the_answer() {
    let world = World::start().await;
    let acme = world.business("ACME").await;
    let (asked, body) = ((Method::POST, "/api/leads"), json!({"name": "Grace"}));
    gone(&world, &acme, asked.clone(), &body).await;
    let again = keyed(&acme, asked, &body).await;
    assert!(matches!(again.status.as_u16(), 201 | 202), "{}", again.text);
    assert_eq!(again.header("idempotent-replayed"), Some("true"));
    assert_eq!(acme.get("/api/leads?count=exact").await.ok()["page"]["total"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_is_carried_out_to_its_end() {
    let world = World::start().await;
    let acme = world.business("ACME").await;
    let invited = |name| {
        let body = json!({"email": format!("{name}@acme.test"), "full_name": name, "role": "EMPLOYEE"});
        json!({"op": "create", "body": body})
    };
    let body = json!({"operations": [invited("ada"), invited("bo"), invited("cy")]});
    let asked = (Method::POST, "/api/users/batch");
    gone(&world, &acme, asked.clone(), &body).await;
    let again = keyed(&acme, asked, &body).await;
    assert_eq!(again.ok()["succeeded"], 3, "{}", again.text);
    assert_eq!(again.header("idempotent-replayed"), Some("true"));
    assert_eq!(acme.get("/api/users?count=exact").await.ok()["page"]["total"], 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_follows_from_a_change_is_done_too() {
    let world = World::start().await;
    let acme = world.business("ACME").await;
    let bo = acme.employee("bo", "sales").await;
    let reset = acme.act(&format!("/api/users/{}/password-reset", bo.id())).await.ok();
    let (asked, body) = ((Method::PATCH, "/api/users/USR-002"), json!({"role": "MANAGER"}));
    assert_eq!(bo.id(), "USR-002");
    gone(&world, &acme, asked.clone(), &body).await;
    let again = keyed(&acme, asked, &body).await;
    assert_eq!(again.header("idempotent-replayed"), Some("true"), "{}", again.text);
    // The token was handed out for an employee.
    let choose = json!({"token": reset["token"], "password": format!("{PASSWORD} again")});
    world.nobody().post("/api/auth/reset-password", choose).await.problem(422, "validation_failed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_stopped_waits_for_what_nobody_waits_for() {
    let url = fresh_database("devhub", event_store::migrate).await;
    let database = Database::connect(&url).await.unwrap();
    let clock = Clock::manual("2026-03-02T09:00:00Z".parse().unwrap());
    let master = MasterKey::generate().unwrap();
    let (app, tasks) = App::start(database, clock, master, RateLimits::default()).await.unwrap();
    let router: Router = api::router(&app);
    let mut holder = PgConnection::connect(&url).await.unwrap();
    holder.execute("begin; lock table cell_000.users in share mode").await.unwrap();
    let mut head = app.store.head();
    let body = json!({"business_name": "ACME", "business_email": "office@acme.test",
        "owner": {"email": "owner@acme.test", "full_name": "Ada", "password": PASSWORD}});
    let request = Request::post("/api/auth/register-business")
        .header("content-type", "application/json")
        .header("idempotency-key", "once")
        .body(Body::from(body.to_string()))
        .unwrap();
    let request = tokio::spawn(router.oneshot(request));
    head.wait_for(|head| *head > 0).await.unwrap();
    request.abort();
    assert!(request.await.is_err_and(|ended| ended.is_cancelled()));
    drop((app, head));
    tasks.stop(Duration::from_secs(30)).await;
    let kept: bool = sqlx::query_scalar("select response is not null from cell_000.idempotency_keys")
        .fetch_one(&mut holder)
        .await
        .unwrap();
    assert!(kept);
}
