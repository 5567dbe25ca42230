//! A date or time that is stored is one that everybody can read: no request stores another.

use axum::http::Method;
use serde_json::{Value, json};

use crate::isolation::aimed;
use crate::world::World;

/// What no calendar or clock shows, and what nobody writes so.
const DATES: [&str; 6] = ["-9999-01-01", "+12026-01-01", "0000-01-01", "2026-02-30", "2026-1-1", "soon"];
const TIMES: [&str; 5] = [
    "-9999-01-01T00:00:00Z",
    "+12026-01-01T00:00:00Z",
    "0000-12-31T00:00:00Z",
    "0001-01-01T00:30:00+01:00",
    "2026-01-01",
];

/// The schema itself, wherever it stands.
fn resolved<'a>(document: &'a Value, schema: &'a Value) -> Vec<&'a Value> {
    if let Some(name) = schema["$ref"].as_str() {
        return resolved(document, document.pointer(name.trim_start_matches('#')).unwrap());
    }
    let parts = ["oneOf", "anyOf", "allOf"].into_iter().filter_map(|kind| schema[kind].as_array()).flatten();
    let inner: Vec<&Value> = parts.flat_map(|part| resolved(document, part)).collect();
    if inner.is_empty() { vec![schema] } else { inner }
}

#[tokio::test]
async fn no_request_takes_a_day_that_no_calendar_has() {
    let world = World::start().await;
    let owner = world.business("ACME").await;
    let document = world.nobody().get("/api/openapi.json").await.ok();
    let mut tried = 0;
    for (path, operations) in document["paths"].as_object().unwrap() {
        for method in ["post", "patch"] {
            let body = &operations[method]["requestBody"]["content"];
            let schemas = body.as_object().into_iter().flat_map(|content| content.values());
            for schema in schemas.flat_map(|content| resolved(&document, &content["schema"])) {
                for (name, property) in schema["properties"].as_object().into_iter().flatten() {
                    let formats = resolved(&document, property);
                    let wrong: &[&str] = match formats.iter().find_map(|schema| schema["format"].as_str()) {
                        Some("date") => &DATES,
                        Some("date-time") => &TIMES,
                        _ => continue,
                    };
                    for text in wrong {
                        let aim = aimed(path, "TNT-000", "none");
                        let method = Method::from_bytes(method.to_uppercase().as_bytes()).unwrap();
                        let answer = owner.send(method, &aim, &[], Some(json!({name: text}))).await;
                        let problem = answer.problem(422, "validation_failed");
                        let pointer = format!("/{name}");
                        let told = problem["errors"].as_array().unwrap().iter();
                        let code = told.clone().find(|error| error["pointer"] == pointer.as_str());
                        assert_eq!(code.map(|error| &error["code"]), Some(&json!("wrong_type")), "{path}: {problem}");
                        tried += 1;
                    }
                }
            }
        }
    }
    // 3 of a lead, 4 of contact, 5 of an invoice, 5 of a project, 1 of an API key, to say the least
    assert!(tried > 60, "{tried}");
}

#[tokio::test]
async fn what_is_asked_for_is_a_day_that_a_calendar_has() {
    let world = World::start().await;
    let (owner, founder) = (world.business("ACME").await, world.founder().await);
    for text in DATES {
        let text = text.replace('+', "%2B");
        for name in ["from", "to"] {
            for (reader, path) in [(&owner, "/api/events"), (&founder, "/api/admin/events")] {
                reader.get(&format!("{path}?{name}={text}")).await.problem(422, "validation_failed");
            }
        }
        owner.get(&format!("/api/leads?created_at[gte]={text}")).await.problem(422, "validation_failed");
        owner.get(&format!("/api/leads?as_of={text}")).await.problem(400, "malformed_request");
    }
    owner.get("/api/events?from=0001-01-01&to=9999-12-31").await.ok();
    owner.get("/api/leads?created_at[gte]=0001-01-01&created_at[lte]=9999-12-31").await.ok();
    owner.get("/api/leads?as_of=9999-12-31").await.ok();
    let amount = json!({"amount": "1", "currency": "USD"});
    owner.post("/api/customers", json!({"company": "Navy"})).await.created();
    let last = json!({"customer_id": "CUS-000", "amount": amount, "issue_date": "9999-12-31"});
    let last = owner.post("/api/invoices", last).await.expect(201);
    assert_eq!(last["due_date"], "9999-12-31");
    for day in ["0001-01-01", "9999-12-31"] {
        let lead = owner.post("/api/leads", json!({"name": "Ada", "expected_close_date": day})).await.expect(201);
        assert_eq!(lead["expected_close_date"], day);
    }
}
