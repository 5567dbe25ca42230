//! `If-Match`: of those who change the same thing of the same version, one does; the others are told what has changed.

use axum::http::Method;
use serde_json::{Value, json};
use sqlx::Executor as _;
use tokio::task::JoinSet;

use crate::rebuild::owner;
use crate::world::{Client, World};

/// A change, and the version that it was made for.
async fn change(
    client: &Client,
    (method, path): (Method, &str),
    version: u64,
    body: Option<Value>,
) -> crate::world::Answer {
    client.send(method, path, &[("if-match", &format!("\"v{version}\""))], body).await
}

#[tokio::test]
async fn a_version_that_cannot_be_read_yet_counts() {
    let world = World::start().await;
    let acme = world.business("ACME").await;
    let second = world.second_server().await;
    acme.post("/api/leads", json!({"name": "Grace"})).await.created();
    let mut holder = owner(&world).await;
    holder.execute("begin; lock table leads, notes in share mode").await.unwrap();
    let lead = (Method::PATCH, "/api/leads/LED-000");
    change(&acme, lead.clone(), 1, Some(json!({"phone": "1"}))).await.expect(202);
    for other in [acme.clone(), acme.at(&second)] {
        let refused = change(&other, lead.clone(), 1, Some(json!({"phone": "2"}))).await;
        refused.problem(503, "projection_lagging");
    }
    holder.execute("rollback").await.unwrap();
    world.caught_up().await;
    for other in [acme.clone(), acme.at(&second)] {
        let refused = change(&other, lead.clone(), 1, Some(json!({"phone": "2"}))).await;
        let problem = refused.problem(412, "version_conflict");
        assert_eq!(problem["current_version"], 2);
        assert_eq!(problem["changes_since"][0]["to"], "1");
    }
    // What others changed does not matter to who changes something else.
    change(&acme.at(&second), lead, 1, Some(json!({"company": "Navy"}))).await.ok();
    let now = acme.get("/api/leads/LED-000").await.ok();
    assert_eq!((&now["phone"], &now["company"]), (&json!("1"), &json!("Navy")));
}

/// Whatever is changed, on however many servers, and however many do it at once.
#[tokio::test(flavor = "multi_thread")]
async fn of_many_who_change_the_same_version_exactly_one_does() {
    let world = World::start().await;
    let second = world.second_server().await;
    let acme = world.business("ACME").await;
    acme.post("/api/leads", json!({"name": "Grace"})).await.created();
    acme.post("/api/customers", json!({"name": "Ada"})).await.created();
    acme.post("/api/customers/CUS-000/notes", json!({"content": "new"})).await.created();
    acme.post("/api/projects", json!({"name": "Roll-out"})).await.created();
    for (path, field) in [
        ("/api/leads/LED-000", "company"),
        ("/api/customers/CUS-000", "company"),
        ("/api/projects/PRJ-000", "description"),
        ("/api/notes/NOT-000", "content"),
        ("/api/tenant", "business_name"),
    ] {
        for writers in [2, 5, 12] {
            world.caught_up().await;
            let version = acme.get(path).await.ok()["version"].as_u64().unwrap();
            let mut changes = JoinSet::new();
            for writer in 0..writers {
                let client = if writer % 2 == 0 { acme.clone() } else { acme.at(&second) };
                let body = json!({field: format!("writer {writer} of {writers}")});
                changes.spawn(async move {
                    change(&client, (Method::PATCH, path), version, Some(body)).await.status.as_u16()
                });
            }
            let mut statuses = changes.join_all().await;
            statuses.sort_unstable();
            let mut expected = vec![412; writers];
            expected[0] = 200;
            assert_eq!(statuses, expected, "{path} by {writers}");
        }
    }
}

#[tokio::test]
async fn what_was_changed_and_taken_away_again_is_not_brought_back_unseen() {
    let world = World::start().await;
    let acme = world.business("ACME").await;
    acme.post("/api/leads", json!({"name": "Grace"})).await.created();
    acme.post("/api/customers", json!({"name": "Ada"})).await.created();
    acme.post("/api/customers/CUS-000/notes", json!({"content": "new"})).await.created();
    for (path, field, version) in [("/api/leads/LED-000", "company", 2), ("/api/notes/NOT-000", "content", 3)] {
        acme.delete(path).await.ok();
        let restore = format!("{path}/restore");
        acme.act(&restore).await.ok();
        let mut holder = owner(&world).await;
        holder.execute("begin; lock table leads, notes in share mode").await.unwrap();
        acme.patch(path, json!({field: "changed"})).await.expect(202);
        acme.delete(path).await.expect(202);
        let restore = (Method::POST, restore.as_str());
        change(&acme, restore.clone(), version, None).await.problem(503, "projection_lagging");
        holder.execute("rollback").await.unwrap();
        world.caught_up().await;
        let refused = change(&acme, restore.clone(), version, None).await.problem(412, "version_conflict");
        assert_eq!(refused["changes_since"][0]["field"], field);
        change(&acme, restore, refused["current_version"].as_u64().unwrap(), None).await.ok();
    }
}

#[tokio::test]
async fn what_changes_a_record_by_one_of_its_parts_heeds_its_version() {
    let world = World::start().await;
    let acme = world.business("ACME").await;
    let bo = acme.employee("bo", "sales").await;
    acme.post("/api/customers", json!({"name": "Ada"})).await.created();
    acme.post("/api/projects", json!({"name": "Roll-out"})).await.created();
    let planned = json!({"type": "call", "subject": "First call", "scheduled_at": "2026-03-03T09:00:00Z"});
    acme.post("/api/customers/CUS-000/interactions", planned.clone()).await.created();
    acme.post("/api/customers/CUS-000/interactions", planned).await.created();
    let tag = |answer: &crate::world::Answer| answer.header("etag").unwrap().to_owned();
    let project = tag(&acme.get("/api/projects/PRJ-000").await);
    let calls = [tag(&acme.get("/api/interactions/INT-000").await), tag(&acme.get("/api/interactions/INT-001").await)];
    let post = |path, tag: &str, body| {
        let (acme, tag) = (acme.clone(), tag.to_owned());
        async move { acme.send(Method::POST, path, &[("if-match", &tag)], body).await }
    };

    let member = json!({"user_id": bo.id()});
    post("/api/projects/PRJ-000/members", &project, Some(member.clone())).await.ok();
    post("/api/projects/PRJ-000/members", &project, Some(member)).await.problem(412, "version_conflict");
    let path = format!("/api/projects/PRJ-000/members/{}", bo.id());
    let stale = [("if-match", project.as_str())];
    acme.send(Method::DELETE, &path, &stale, None).await.problem(412, "version_conflict");
    // Nobody else has changed for whom it is done, or how long it took.
    let customer = json!({"customer_id": "CUS-000"});
    post("/api/projects/PRJ-000/customers", &project, Some(customer)).await.ok();
    acme.send(Method::DELETE, "/api/projects/PRJ-000/customers/CUS-000", &stale, None)
        .await
        .problem(412, "version_conflict");
    post("/api/projects/PRJ-000/hours", &project, Some(json!({"hours": "2"}))).await.ok();
    post("/api/projects/PRJ-000/hours", &project, Some(json!({"hours": "2"}))).await.problem(412, "version_conflict");

    post("/api/interactions/INT-000/complete", &calls[0], None).await.ok();
    let refused = post("/api/interactions/INT-000/cancel", &calls[0], None).await.problem(412, "version_conflict");
    let changed = refused["changes_since"].as_array().unwrap();
    assert!(changed.iter().any(|change| change["field"] == "status" && change["to"] == "completed"), "{refused}");
    // What happened to the other call is none of this one's changes.
    post("/api/interactions/INT-001/cancel", &calls[1], None).await.ok();
}
