//! What a write answers is what a read says: the row that the projector has just made, and the row that is kept.

use axum::http::Method;
use serde_json::{Value, json};

use crate::world::{Client, World};

/// Writes of one business, each on the records that those before it made; texts, amounts, days and hours in every shape
/// that they are taken in.
fn writes() -> Vec<(Method, &'static str, Value)> {
    let address = json!({"line1": "1 \"Quoted\" \\ Street", "city": "Zürich", "postal_code": "08001", "country": "CH"});
    let line =
        |quantity: &str, price: &str| json!({"description": "Work ☂", "quantity": quantity, "unit_price": price});
    vec![
        (Method::POST, "leads", json!({"name": "Ada", "source": "website"})),
        (
            Method::POST,
            "leads",
            json!({"name": "  Grace Hopper ", "company": "Navy, {\"NULL\"}", "email": "Grace@Navy.TEST", "phone": "+1 555 0100",
                   "job_title": "Admiral\tof the fleet", "address": address, "source": "referral", "qualification": "nurturing",
                   "estimated_value": {"amount": "25000.5", "currency": "USD"}, "probability": 0,
                   "expected_close_date": "2028-02-29", "assignee_id": null}),
        ),
        (
            Method::PATCH,
            "leads/LED-001",
            json!({"estimated_value": {"amount": "1200", "currency": "JPY"}, "phone": null}),
        ),
        (Method::POST, "leads/LED-001/assign", json!({"user_id": "USR-001"})),
        (Method::POST, "leads/LED-001/stage", json!({"stage": "negotiation"})),
        (Method::POST, "leads/LED-001/qualify", json!({"qualification": "sales_qualified"})),
        (
            Method::POST,
            "leads/LED-001/score",
            json!({"engagement": 75, "fit": 85, "budget_confirmed": true, "decision_maker": false, "urgency": 60}),
        ),
        (Method::POST, "leads/LED-001/convert", json!({})),
        (Method::POST, "leads/LED-000/lose", json!({"reason": "No budget"})),
        (Method::POST, "leads/LED-000/reopen", json!({})),
        (
            Method::POST,
            "customers",
            json!({"company": "ACME", "name": "Bo", "email": "bo@acme.test", "address": address}),
        ),
        (Method::PATCH, "customers/CUS-001", json!({"name": null, "phone": "+44 20 7946 0000"})),
        (
            Method::POST,
            "customers/CUS-001/interactions",
            json!({"type": "call", "subject": "Hello", "hours": "1.50",
            "billable": true, "scheduled_at": "2026-07-01T10:00:00.1234567+02:00"}),
        ),
        (Method::POST, "customers/CUS-001/notes", json!({"title": "T", "content": "Two\nlines", "private": true})),
        (Method::POST, "customers/CUS-001/status", json!({"status": "inactive"})),
        (Method::POST, "customers/CUS-001/owner", json!({"user_id": null})),
        (
            Method::POST,
            "projects",
            json!({"name": "Roll-out", "customer_ids": ["CUS-000", "CUS-001"], "budget": {"amount": "0.1", "currency": "USD"},
                   "start_date": "2026-01-01", "due_date": "2026-12-31", "estimated_hours": "100.25"}),
        ),
        (Method::POST, "projects/PRJ-000/status", json!({"status": "in_progress"})),
        (Method::POST, "projects/PRJ-000/hours", json!({"hours": "0.5"})),
        (Method::PATCH, "projects/PRJ-000", json!({"budget": null, "description": "D"})),
        (
            Method::POST,
            "invoices",
            json!({"customer_id": "CUS-000", "project_id": "PRJ-000", "currency": "USD",
                   "lines": [line("3", "9.9"), line("0.333", "100")], "issue_date": "2026-02-01", "due_date": "2026-03-10", "notes": "N"}),
        ),
        (Method::PATCH, "invoices/INV-000", json!({"lines": [line("1.0", "10.00")], "terms": "30 days"})),
        (Method::POST, "invoices/INV-000/send", json!({})),
        (Method::POST, "invoices/INV-000/pay", json!({"paid_on": "2026-03-01"})),
        (Method::PATCH, "users/USR-001", json!({"full_name": "Ada King", "department": "Sales & Co"})),
    ]
}

async fn written(client: &Client, (method, path, body): (Method, &str, Value)) {
    let answer = client.send(method, &format!("/api/{path}"), &[], Some(body)).await;
    assert!(answer.status.is_success(), "{path}: {} {}", answer.status, answer.text);
    let said = answer.json();
    let id = said["id"].as_str().unwrap();
    let noun = match id.split_once('-').unwrap().0 {
        "LED" => "leads",
        "CUS" => "customers",
        "PRJ" => "projects",
        "INV" => "invoices",
        "USR" => "users",
        "INT" => "interactions",
        "NOT" => "notes",
        other => panic!("{path}: what is {other}?"),
    };
    let read = client.get(&format!("/api/{noun}/{id}")).await;
    assert_eq!(said, read.ok(), "{path}");
    assert_eq!(answer.header("etag"), read.header("etag"), "{path}");
}

#[tokio::test]
async fn a_write_answers_what_is_read_afterwards() {
    let world = World::start().await;
    let acme = world.business("ACME").await;
    for write in writes() {
        written(&acme, write).await;
    }
}

/// The read models are fed by one server; the other one has nothing at hand to answer with.
#[tokio::test]
async fn a_write_answers_the_same_at_a_server_that_does_not_feed_the_read_models() {
    let world = World::start().await;
    let acme = world.business("ACME").await;
    let other = world.second_server().await;
    let there = acme.at(&other);
    for write in writes() {
        written(&there, write).await;
    }
}

/// Whoever writes the same record through one server and then the other never gets to see a version of before.
#[tokio::test]
async fn what_is_at_hand_is_never_older_than_what_was_written() {
    let world = World::start().await;
    let acme = world.business("ACME").await;
    let other = world.second_server().await;
    let there = acme.at(&other);
    acme.post("/api/leads", json!({"name": "Ada"})).await.created();
    for number in 2..40 {
        let client = if number % 2 == 0 { &there } else { &acme };
        let name = format!("Ada {number}");
        let changed = client.patch("/api/leads/LED-000", json!({"name": name})).await.ok();
        assert_eq!((&changed["version"], &changed["name"]), (&json!(number), &json!(name)));
    }
}
