//! What an answer includes, on every route and any server.

use axum::http::Method;
use serde_json::json;

use crate::world::World;

#[tokio::test]
async fn every_answer_says_what_it_includes_and_every_read_waits_for_what_it_is_told() {
    let world = World::start().await;
    let acme = world.business("ACME").await;
    let other = world.business("Other").await;
    let founder = world.founder().await;
    let tenant = acme.tenant.clone().unwrap();
    let written = acme.post("/api/leads", json!({"name": "Grace"})).await;
    let position: i64 = written.header("devhub-position").unwrap().parse().unwrap();
    world.caught_up().await;
    let admin = format!("/api/admin/tenants/{tenant}/leads");
    for path in ["/api/me", "/api/tenant", "/api/leads", "/api/leads/LED-000", "/api/leads/LED-999", "/api/events"] {
        let read = acme.get(path).await;
        assert_eq!(read.header("devhub-position"), Some(position.to_string().as_str()), "{path}");
    }
    // The founder is told of the history of the business that is looked at.
    let theirs = founder.get(&admin).await;
    assert_eq!(theirs.header("devhub-position"), Some(position.to_string().as_str()));
    // Nobody else hears anything of it.
    let refused = other.get(&admin).await;
    let (refused, own) = (refused.header("devhub-position"), other.get("/api/me").await);
    assert_eq!(refused, own.header("devhub-position"));
    assert_eq!(world.nobody().get("/api/me").await.header("devhub-position"), None);

    let second = world.second_server().await;
    let wait = [("devhub-min-position", written.header("devhub-position").unwrap())];
    for (client, path) in [(acme.at(&second), "/api/leads/LED-000"), (founder.at(&second), admin.as_str())] {
        let there = client.send(Method::GET, path, &wait, None).await;
        there.ok();
        assert!(there.header("devhub-position").unwrap().parse::<i64>().unwrap() >= position, "{path}");
    }
    let far = [("devhub-min-position", "9223372036854775808")];
    for (client, path) in [(&acme, "/api/tenant"), (&founder, admin.as_str())] {
        client.send(Method::GET, path, &far, None).await.problem(503, "projection_lagging");
        let nonsense = [("devhub-min-position", "soon")];
        client.send(Method::GET, path, &nonsense, None).await.problem(400, "malformed_request");
    }
}
