//! Connections that the database closes, as it does when it is started again, cost nobody an answer, and nothing that is
//! written meanwhile is lost or stored twice.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use axum::http::Method;
use devhub::access::secrets::MasterKey;
use devhub::api::limits::RateLimits;
use devhub::clock::Clock;
use devhub::event_store;
use devhub::postgres::{Installation, Options, PrivateCluster};
use serde_json::{Value, json};
use sqlx::{Connection as _, Executor as _, PgConnection};
use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::cluster;
use crate::world::{Answer, Client, World};

/// Closes every connection of these kinds; how many there were.
async fn close(admin: &mut PgConnection, kinds: &[&str]) -> i64 {
    sqlx::query_scalar(
        "select count(pg_terminate_backend(pid, 10000)) from pg_stat_activity
         where datname = current_database() and application_name = any($1)",
    )
    .bind(kinds)
    .fetch_one(admin)
    .await
    .unwrap()
}

#[tokio::test]
async fn whoever_asks_after_the_database_has_closed_its_connections_is_answered() {
    const READING: [&str; 3] = ["devhub_platform", "devhub_request", "devhub_founder"];
    let world = World::start().await;
    let (owner, founder) = (world.business("ACME").await, world.founder().await);
    owner.post("/api/leads", json!({"name": "Ada"})).await.created();
    let mut admin = PgConnection::connect(&world.url).await.unwrap();
    for (client, path) in [
        (&owner, "/api/leads/LED-000"),
        (&owner, "/api/leads?sort=name"),
        (&owner, "/api/events"),
        (&founder, "/api/admin/events"),
    ] {
        client.get(path).await.ok();
        assert!(close(&mut admin, &READING).await > 1);
        client.get(path).await.ok();
    }
}

#[tokio::test]
async fn a_command_after_the_database_has_closed_its_connections_is_stored() {
    let world = World::start().await;
    let owner = world.business("ACME").await;
    let mut admin = PgConnection::connect(&world.url).await.unwrap();
    for number in 0..3 {
        assert!(close(&mut admin, &["devhub_appender"]).await > 0);
        owner.post("/api/leads", json!({"name": format!("Ada {number}")})).await.created();
        // What is remembered of the lead is read on, over connections that are closed too.
        let second = world.second_server().await;
        let id = format!("/api/leads/LED-00{number}");
        owner.at(&second).patch(&id, json!({"company": "Analytical Engines"})).await.ok();
        assert!(close(&mut admin, &["devhub_appender"]).await > 0);
        owner.patch(&id, json!({"company": "Difference Engines"})).await.ok();
    }
    let leads = owner.get("/api/leads?count=exact").await.ok();
    assert_eq!(leads["page"]["total"], 3);
}

/// Writers on two servers, for which connections break at any moment: what was acknowledged is there, and nothing is there
/// twice.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_written_while_connections_break_is_stored_once() {
    const WRITERS: usize = 8;
    const EACH: usize = 40;
    let world = World::start().await;
    let owner = world.business("ACME").await;
    let second = world.second_server().await;
    let answered = Arc::new((AtomicUsize::new(0), Notify::new()));
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        let owner = if writer % 2 == 0 { owner.clone() } else { owner.at(&second) };
        let answered = Arc::clone(&answered);
        writers.spawn(async move {
            let mut acknowledged = Vec::new();
            for turn in 0..EACH {
                let name = format!("Lead {writer} {turn}");
                let answer = owner.post("/api/leads", json!({"name": name})).await;
                match answer.status.as_u16() {
                    201 | 202 => acknowledged.push(name),
                    // It may have been stored.
                    500 | 503 => {}
                    other => panic!("{other}: {}", answer.text),
                }
                answered.0.fetch_add(1, Ordering::SeqCst);
                answered.1.notify_one();
            }
            acknowledged
        });
    }
    let mut admin = PgConnection::connect(&world.url).await.unwrap();
    let mut closed = 0;
    for breaks in 1..WRITERS * EACH / 10 {
        while answered.0.load(Ordering::SeqCst) < breaks * 10 {
            answered.1.notified().await;
        }
        closed += close(&mut admin, &["devhub_appender"]).await;
    }
    let acknowledged: Vec<String> = writers.join_all().await.into_iter().flatten().collect();
    assert!(closed > 0);
    assert!(acknowledged.len() > WRITERS * EACH / 2, "{}", acknowledged.len());
    world.caught_up().await;
    let stored = names(&owner).await;
    for name in acknowledged {
        assert_eq!(stored.get(&name), Some(&1), "{name}");
    }
    assert!(stored.values().all(|times| *times == 1), "{stored:?}");
}

/// A batch that the database has stored, and whose connection broke before it could say so.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_stored_without_our_hearing_of_it_is_not_stored_again() {
    let options = Options { fsync: true, max_connections: 100, shared_buffers_mb: 16 };
    let installation = Installation::find().unwrap();
    let cluster = PrivateCluster::start(&cluster::scratch("unheard"), &installation, &options).await.unwrap();
    event_store::migrate(&cluster.url()).await.unwrap();
    let clock = Clock::manual("2026-03-02T09:00:00Z".parse().unwrap());
    let world = World::on(cluster.url(), clock, MasterKey::generate().unwrap(), RateLimits::default()).await;
    let owner = world.business("ACME").await;
    let mut admin = PgConnection::connect(&world.url).await.unwrap();

    // There is no such standby: whoever commits has committed, and waits to be told so.
    admin.execute("alter system set synchronous_standby_names = 'nobody'").await.unwrap();
    admin.execute("select pg_reload_conf()").await.unwrap();
    let released = Arc::new(AtomicBool::new(false));
    let writing = tokio::spawn({
        let (owner, released) = (owner.clone(), Arc::clone(&released));
        async move {
            let mut acknowledged = 0;
            loop {
                let answer = keyed(&owner, acknowledged).await;
                if answer.status != 201 || released.load(Ordering::SeqCst) {
                    return (acknowledged, answer);
                }
                acknowledged += 1;
            }
        }
    });
    let waiting = "select count(pg_terminate_backend(pid, 10000)) from pg_stat_activity
                   where application_name = 'devhub_appender' and wait_event = 'SyncRep'";
    while sqlx::query_scalar::<_, i64>(waiting).fetch_one(&mut admin).await.unwrap() == 0 {}
    released.store(true, Ordering::SeqCst);
    admin.execute("alter system reset synchronous_standby_names").await.unwrap();
    admin.execute("select pg_reload_conf()").await.unwrap();

    let (acknowledged, unheard) = writing.await.unwrap();
    unheard.problem(500, "internal");
    // Sent again, it is not done again.
    let again = keyed(&owner, acknowledged).await;
    assert_eq!(again.problem(409, "conflict")["rule"], "answer_lost");
    owner.post("/api/leads", json!({"name": "Afterwards"})).await.created();
    let stored = names(&owner).await;
    assert_eq!(stored.len(), acknowledged + 2, "{stored:?}");
    assert!(stored.values().all(|times| *times == 1), "{stored:?}");
    cluster.stop().await.unwrap();
}

/// Captures the lead of this number under a key of its own.
async fn keyed(owner: &Client, number: usize) -> Answer {
    let key = format!("lead-{number}");
    let lead = json!({"name": format!("Lead {number}")});
    owner.send(Method::POST, "/api/leads", &[("idempotency-key", &key)], Some(lead)).await
}

/// How often there is a lead of each name.
async fn names(owner: &Client) -> BTreeMap<String, usize> {
    let mut names = BTreeMap::new();
    let mut next = String::new();
    loop {
        let page = owner.get(&format!("/api/leads?limit=200{next}")).await.ok();
        for lead in page["data"].as_array().unwrap() {
            *names.entry(lead["name"].as_str().unwrap().to_owned()).or_insert(0) += 1;
        }
        match &page["page"]["next_cursor"] {
            Value::String(cursor) => next = format!("&cursor={cursor}"),
            _ => return names,
        }
    }
}
