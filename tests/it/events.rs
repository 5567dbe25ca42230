//! What happened, read to its beginning: each event once, in order, whoever reads and however late the page.

use std::time::Duration;

use axum::http::Method;
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};

use crate::world::{Client, PASSWORD, World};

/// Every event that a reader comes to page by page, in the order in which they come.
async fn to_the_beginning(reader: &Client, path: &str) -> Vec<Value> {
    let mut events = Vec::new();
    let mut next = path.to_owned();
    loop {
        let page = reader.get(&next).await.ok();
        events.extend(page["data"].as_array().unwrap().iter().cloned());
        let Some(cursor) = page["page"]["next_cursor"].as_str() else { return events };
        next = format!("{path}&cursor={cursor}");
    }
}

fn places(events: &[Value]) -> Vec<i64> {
    events.iter().map(|event| event["sequence"].as_str().unwrap().parse().unwrap()).collect()
}

#[tokio::test]
async fn a_business_reads_all_that_happened_page_by_page_while_others_write() {
    let world = World::start().await;
    let (acme, other) = (world.business("ACME").await, world.business("Other").await);
    for number in 0..5 {
        acme.post("/api/leads", json!({"name": format!("Lead {number}")})).await.created();
        other.post("/api/leads", json!({"name": format!("Theirs {number}")})).await.created();
    }
    let events = to_the_beginning(&acme, "/api/events?limit=3").await;
    let count = i64::try_from(events.len()).unwrap();
    assert!(count > 5);
    assert_eq!(places(&events), (1..=count).rev().collect::<Vec<_>>());
    let captured = to_the_beginning(&acme, "/api/events?type=LeadCaptured&limit=2").await;
    let subjects: Vec<&str> = captured.iter().map(|event| event["subject"].as_str().unwrap()).collect();
    assert_eq!(subjects, ["LED-004", "LED-003", "LED-002", "LED-001", "LED-000"]);

    // The founder's view of that business, and of all: the same events, and the others' in between.
    let founder = world.founder().await;
    let tenant = acme.tenant.clone().unwrap();
    let ids = |events: &[Value]| events.iter().map(|event| event["id"].clone()).collect::<Vec<_>>();
    let seen = to_the_beginning(&founder, &format!("/api/admin/events?tenant_id={tenant}&limit=4")).await;
    assert_eq!(ids(&seen), ids(&events));
    let all = to_the_beginning(&founder, "/api/admin/events?limit=4").await;
    let ours: Vec<Value> = all.iter().filter(|event| event["tenantid"] == tenant.as_str()).cloned().collect();
    assert_eq!(ids(&ours), ids(&events));
    assert!(all.len() > events.len() + 5);
}

#[tokio::test]
async fn a_plan_shows_the_events_since_then_and_no_others() {
    let world = World::start().await;
    let acme = world.business_on("ACME", "starter").await;
    let path = format!("/api/admin/events?limit=200&tenant_id={}", acme.tenant.clone().unwrap());
    let mut left_out = Vec::new();
    for month in 0..5 {
        let acme = signed_in_again(&world, &acme).await;
        // The clock stands: all of these are recorded at the same instant.
        for number in 0..5 {
            acme.post("/api/leads", json!({"name": format!("Lead {number} of {month}")})).await.created();
        }
        let since = world.clock.now() - TimeDelta::days(90);
        let mut expected = to_the_beginning(&world.founder().await, &path).await;
        let all = expected.len();
        expected.retain(|event| event["recordedat"].as_str().unwrap().parse::<DateTime<Utc>>().unwrap() >= since);
        left_out.push(all - expected.len());
        for limit in [2, 100] {
            let shown = to_the_beginning(&acme, &format!("/api/events?limit={limit}")).await;
            assert_eq!(places(&shown), places(&expected), "month {month}, {limit} a page");
        }
        let of_one = to_the_beginning(&acme, "/api/events?subject=LED-002").await;
        expected.retain(|event| event["subject"] == "LED-002");
        assert_eq!(places(&of_one), places(&expected), "month {month}");
        world.clock.advance(Duration::from_secs(30 * 24 * 3600));
    }
    // Ninety days are shown to the instant; after that there is what happened on the first day.
    assert!(left_out[..4] == [0; 4] && left_out[4] > 5, "{left_out:?}");
    let acme = signed_in_again(&world, &acme).await;
    assert_eq!(to_the_beginning(&acme, "/api/events?subject=LED-002").await, [] as [Value; 0]);
    assert!(to_the_beginning(&acme, "/api/events").await.len() > 15);
    world.clock.advance(Duration::from_secs(91 * 24 * 3600));
    let acme = signed_in_again(&world, &acme).await;
    let shown = to_the_beginning(&acme, "/api/events").await;
    assert_eq!(shown.iter().map(|event| &event["type"]).collect::<Vec<_>>(), ["devhub.user.logged_in.v1"]);
}

async fn signed_in_again(world: &World, client: &Client) -> Client {
    let mut again = world.nobody().signed_in("owner@acme.test", PASSWORD).await;
    again.tenant.clone_from(&client.tenant);
    again
}

#[tokio::test]
async fn what_leaves_as_lines_is_the_whole_history_however_many_pages_that_is() {
    let world = World::start().await;
    let acme = world.business("ACME").await;
    for _ in 0..3 {
        let operations: Vec<Value> =
            (0..400).map(|n| json!({"op": "create", "body": {"name": format!("Lead {n}")}})).collect();
        assert_eq!(acme.post("/api/leads/batch", json!({"operations": operations})).await.ok()["failed"], 0);
    }
    let lines = acme.send(Method::GET, "/api/events", &[("accept", "application/x-ndjson")], None).await;
    let events: Vec<Value> = lines.text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let count = i64::try_from(events.len()).unwrap();
    assert!(count > 1_200);
    assert_eq!(places(&events), (1..=count).rev().collect::<Vec<_>>());
}
