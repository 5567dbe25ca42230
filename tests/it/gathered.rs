//! What is asked of the database for many at once, and read ahead of the answer who is calling, is as fresh and as
//! private as if everybody had asked alone.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use axum::http::Method;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::world::{Client, FOUNDER, World};

/// Requests that are on their way at once.
const CROWD: usize = 24;
/// How many are answered before the change, so that everything that is remembered is.
const WARM: usize = 20 * CROWD;

/// Two clients ask for `path` all the time while something is changed. What either asks after that was answered gets
/// what the change makes of it; before and meanwhile, the one or the other.
async fn while_changing(path: &str, changed: (&Client, u16), other: &Client, change: impl Future<Output = ()> + Send) {
    let (is_changed, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let mut crowd = JoinSet::new();
    for number in 0..CROWD {
        let is_concerned = number % 3 > 0;
        let client = if is_concerned { changed.0 } else { other }.clone();
        let (path, then) = (path.to_owned(), if is_concerned { changed.1 } else { 200 });
        let (is_changed, answered) = (Arc::clone(&is_changed), Arc::clone(&answered));
        crowd.spawn(async move {
            let mut afterwards = 0;
            while afterwards < 10 {
                let sure = is_changed.load(Ordering::SeqCst);
                let answer = client.get(&path).await;
                let status = answer.status.as_u16();
                assert!(status == then || (!sure && status == 200), "{path}: {status} {sure} {}", answer.text);
                answered.fetch_add(1, Ordering::SeqCst);
                afterwards += usize::from(sure);
            }
        });
    }
    while answered.load(Ordering::SeqCst) < WARM {
        tokio::task::yield_now().await;
    }
    change.await;
    is_changed.store(true, Ordering::SeqCst);
    while let Some(done) = crowd.join_next().await {
        done.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_out_is_out_at_the_next_request_of_many() {
    let world = World::start().await;
    let (owner, other) = (world.business("ACME").await, world.business("Other").await);
    for business in [&owner, &other] {
        assert_eq!(business.post("/api/leads", json!({"name": "Ada"})).await.created(), "LED-000");
    }
    let people = [owner.manager("al", "sales").await, owner.manager("bo", "sales").await];
    owner.post("/api/leads/LED-000/assign", json!({"user_id": people[0].id()})).await.ok();
    let [al, bo] = people;

    let lock =
        async { drop(owner.post(&format!("/api/users/{}/lock", al.id()), json!({"reason": "lost"})).await.ok()) };
    while_changing("/api/leads/LED-000", (&al, 401), &other, lock).await;
    let deactivate = async { drop(owner.act(&format!("/api/users/{}/deactivate", bo.id())).await.ok()) };
    while_changing("/api/leads", (&bo, 401), &other, deactivate).await;

    let again = world.nobody().signed_in("owner@acme.test", crate::world::PASSWORD).await;
    let sign_out = async { drop(again.act("/api/auth/logout").await.expect(204)) };
    while_changing("/api/leads/LED-000", (&again, 401), &owner, sign_out).await;

    let founder = world.founder().await;
    let suspend = format!("/api/admin/tenants/{}/suspend", owner.tenant.as_deref().unwrap());
    let suspend = async { drop(founder.post(&suspend, json!({"reason": "unpaid"})).await.ok()) };
    while_changing("/api/leads/LED-000", (&owner, 401), &other, suspend).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_may_do_changes_at_the_next_request_of_many() {
    let world = World::start().await;
    let owner = world.business("ACME").await;
    let (al, bo) = (owner.manager("al", "sales").await, owner.manager("bo", "sales").await);
    owner.post("/api/leads", json!({"name": "Ada", "assignee_id": al.id()})).await.created();
    let (to_al, to_bo) = (format!("/api/users/{}", al.id()), format!("/api/users/{}", bo.id()));

    let moves = async { drop(owner.patch(&to_bo, json!({"department": "support"})).await.ok()) };
    while_changing("/api/leads/LED-000", (&bo, 404), &al, moves).await;
    let denied = json!({"permissions": {"leads:read": "deny"}});
    let denial = async { drop(owner.patch(&to_al, denied).await.ok()) };
    while_changing("/api/leads", (&al, 403), &owner, denial).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_withdrawn_key_and_an_ended_visit_end_at_the_next_request_of_many() {
    let world = World::start().await;
    let owner = world.business("ACME").await;
    owner.post("/api/leads", json!({"name": "Ada"})).await.created();
    let made = owner.post("/api/api-keys", json!({"name": "sync", "role": "EMPLOYEE"})).await.expect(201);
    let program = owner.with_token(made["key"].as_str().unwrap());
    let id = owner.get("/api/api-keys").await.ok()["data"][0]["id"].as_str().unwrap().to_owned();
    let withdraw = async { drop(owner.delete(&format!("/api/api-keys/{id}")).await.expect(204)) };
    while_changing("/api/leads", (&program, 401), &owner, withdraw).await;

    let founder = world.nobody().signed_in(FOUNDER, crate::world::PASSWORD).await;
    let open = format!("/api/admin/tenants/{}/support-sessions", owner.tenant.as_deref().unwrap());
    let visit = founder.post(&open, json!({"reason": "Ticket 4711"})).await.expect(201);
    let visitor = founder.with_token(visit["access_token"].as_str().unwrap());
    let leave = async { drop(founder.act("/api/auth/logout").await.expect(204)) };
    while_changing("/api/leads/LED-000", (&visitor, 401), &owner, leave).await;
}

#[tokio::test]
async fn what_is_wider_now_is_seen_by_somebody_whose_old_standing_is_remembered() {
    let world = World::start().await;
    let owner = world.business("ACME").await;
    let (al, bo) = (owner.employee("al", "sales").await, owner.employee("bo", "support").await);
    owner.post("/api/leads", json!({"name": "Ada", "assignee_id": al.id()})).await.created();
    for _ in 0..2 {
        bo.get("/api/leads/LED-000").await.problem(404, "not_found");
        assert_eq!(bo.get("/api/leads").await.ok()["data"], json!([]));
    }
    owner.patch(&format!("/api/users/{}", bo.id()), json!({"department": "sales"})).await.ok();
    assert_eq!(bo.get("/api/leads").await.ok()["data"][0]["id"], "LED-000");
    owner.patch(&format!("/api/users/{}", bo.id()), json!({"department": "support"})).await.ok();
    bo.get("/api/leads/LED-000").await.problem(404, "not_found");
    owner.patch(&format!("/api/users/{}", bo.id()), json!({"department": "sales"})).await.ok();
    bo.get("/api/leads/LED-000").await.ok();
}

/// Everybody reads records of the same ids at the same time: each gets what is their own, or nothing.
#[tokio::test(flavor = "multi_thread")]
async fn records_that_are_read_together_are_shown_apart() {
    let world = World::start().await;
    let mut asks: Vec<(Client, String, Option<String>)> = Vec::new();
    for number in 0..8 {
        let owner = world.business(&format!("Business {number}")).await;
        let (al, bo) = (owner.employee("al", "sales").await, owner.employee("bo", "support").await);
        for lead in 0..3 {
            let name = format!("Lead {lead} of {number}");
            let body = json!({"name": name, "assignee_id": al.id()});
            let id = owner.post("/api/leads", body).await.created();
            let path = format!("/api/leads/{id}");
            asks.push((bo.clone(), path.clone(), None));
            asks.extend([&owner, &al].map(|client| (client.clone(), path.clone(), Some(name.clone()))));
        }
        asks.push((owner, "/api/leads/LED-999".to_owned(), None));
    }
    let mut crowd = JoinSet::new();
    for (client, path, name) in asks {
        crowd.spawn(async move {
            for _ in 0..20 {
                let answer = client.get(&path).await;
                match &name {
                    Some(name) => assert_eq!(answer.ok()["name"], Value::from(name.as_str())),
                    None => drop(answer.problem(404, "not_found")),
                }
            }
        });
    }
    while let Some(done) = crowd.join_next().await {
        done.unwrap();
    }
}

/// A read that names the position of a write sees it, whoever else reads the same record at that moment.
#[tokio::test(flavor = "multi_thread")]
async fn a_record_is_never_older_than_the_position_that_is_asked_for() {
    let world = World::start().await;
    let owner = world.business("ACME").await;
    owner.post("/api/leads", json!({"name": "Ada"})).await.created();
    let done = Arc::new(AtomicBool::new(false));
    let mut crowd = JoinSet::new();
    for _ in 0..CROWD {
        let (owner, done) = (owner.clone(), Arc::clone(&done));
        crowd.spawn(async move {
            while !done.load(Ordering::SeqCst) {
                owner.get("/api/leads/LED-000").await.ok();
            }
        });
    }
    for turn in 0..50 {
        let company = format!("Company {turn}");
        let changed = owner.patch("/api/leads/LED-000", json!({"company": company})).await;
        changed.ok();
        let position = changed.header("devhub-position").unwrap().to_owned();
        let read = owner.send(Method::GET, "/api/leads/LED-000", &[("devhub-min-position", &position)], None).await;
        assert_eq!(read.ok()["company"], Value::from(company));
    }
    done.store(true, Ordering::SeqCst);
    while let Some(done) = crowd.join_next().await {
        done.unwrap();
    }
}

/// A read that is begun ahead and thrown away counts once.
#[tokio::test]
async fn a_request_is_counted_once_however_often_it_is_read() {
    let world = World::start().await;
    let owner = world.business("ACME").await;
    let bo = owner.employee("bo", "sales").await;
    bo.get("/api/leads").await.ok();
    owner.patch(&format!("/api/users/{}", bo.id()), json!({"department": "support"})).await.ok();
    let twice = bo.get("/api/leads").await;
    twice.ok();
    let quotas = twice.header("ratelimit").unwrap();
    assert_eq!((quotas.matches("\"user\"").count(), quotas.matches("\"tenant\"").count()), (1, 1), "{quotas}");
}
