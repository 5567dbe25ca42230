//! A server under load: what `devhub load` asks of it is answered.

use std::net::SocketAddr;
use std::time::Duration;

use devhub::load::client::Client;
use devhub::load::mix::Action;
use devhub::load::{self, Plan};
use hyper::Method;
use serde_json::{Value, json};

use crate::world::{FOUNDER, PASSWORD, World};

/// Where a world's router listens.
async fn address(world: &World) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let service = world.router.clone().into_make_service_with_connect_info::<SocketAddr>();
    tokio::spawn(async move { axum::serve(listener, service).await });
    address
}

#[tokio::test]
async fn every_kind_of_request_of_every_business_is_answered() {
    let world = World::start().await;
    let address = address(&world).await;
    let plan = Plan {
        address: address.clone(),
        connections: 4,
        time: Duration::from_secs(2),
        mix: "read=1,list=1,command=1,report=1".parse().unwrap(),
        tenants: 2,
        leads: 3,
    };
    let report = load::run(&plan, false).await.unwrap();
    let actions: Vec<Action> = report.actions.iter().map(|line| line.action).collect();
    assert_eq!(actions, Action::ALL);
    for line in &report.actions {
        assert!(line.refused.is_empty(), "{line:?}");
        assert!(line.requests > 0 && line.p50_ms <= line.p99_ms && line.p99_ms <= line.max_ms, "{line:?}");
    }

    // What it wrote is in the log, in businesses of its own.
    let mut client = Client::new(&address);
    let login = json!({"email": FOUNDER, "password": PASSWORD});
    let founder: Value = client.expect(Method::POST, "/api/auth/login", Some(&login)).await.unwrap();
    client.act_with(founder["access_token"].as_str().unwrap().to_owned().into());
    let tenants: Value = client.expect(Method::GET, "/api/admin/tenants?q=Load", None).await.unwrap();
    assert_eq!(tenants["data"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn a_load_that_outlives_its_tokens_goes_on() {
    let world = World::start().await;
    let plan = Plan {
        address: address(&world).await,
        connections: 4,
        time: Duration::from_secs(2),
        mix: "read=1,command=1".parse().unwrap(),
        tenants: 2,
        leads: 3,
    };
    let mut head = world.app.store.head();
    let begun = *head.borrow();
    let later = async {
        // The businesses are there with their leads, and everybody is at it.
        head.wait_for(|position| *position > begun + 40).await.unwrap();
        world.clock.advance(Duration::from_secs(16 * 60));
        world.app.head()
    };
    let (report, then) = tokio::join!(load::run(&plan, false), later);
    for line in &report.unwrap().actions {
        assert!(line.requests > 0 && line.refused.is_empty(), "{line:?}");
    }
    assert!(world.app.head() > then, "nothing was written after the tokens had expired");
}

#[tokio::test]
async fn a_server_that_refuses_is_told_by_its_answer() {
    let world = World::start().await;
    let mut client = Client::new(&address(&world).await);
    let refused = client.expect::<Value>(Method::GET, "/api/leads", None).await.unwrap_err().to_string();
    assert!(refused.contains("GET /api/leads answered 401") && refused.contains("unauthenticated"), "{refused}");
}
