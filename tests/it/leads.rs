//! Leads: captured, moved, scored, converted once, lost, reopened.

use std::collections::BTreeSet;

use axum::http::Method;
use serde_json::{Value, json};

use crate::world::World;

#[tokio::test]
async fn a_lead_is_captured_moved_scored_and_converted_once() {
    let world = World::start().await;
    let acme = world.business("ACME").await;
    let bo = acme.employee("bo", "sales").await;

    let captured = bo
        .post(
            "/api/leads",
            json!({"name": "Grace Hopper", "company": "Navy", "email": "grace@navy.test", "source": "referral",
                   "estimated_value": {"amount": "25000", "currency": "USD"}}),
        )
        .await;
    let lead = captured.expect(201);
    assert_eq!(lead["id"], "LED-000");
    assert_eq!(lead["version"], 1);
    assert_eq!(lead["stage"], "new");
    assert_eq!(lead["probability"], 5);
    assert_eq!(lead["assignee_id"], bo.id());
    assert_eq!(lead["estimated_value"], json!({"amount": "25000.00", "currency": "USD"}));
    assert_eq!(captured.header("location"), Some("/api/leads/LED-000"));
    assert_eq!(captured.header("etag"), Some("\"v1\""));
    assert!(captured.header("devhub-position").unwrap().parse::<u64>().unwrap() > 0);

    let moved = bo.post("/api/leads/LED-000/stage", json!({"stage": "proposal"})).await.ok();
    assert_eq!(
        (&moved["stage"], &moved["probability"], &moved["version"]),
        (&json!("proposal"), &json!(60), &json!(2))
    );
    let inputs = json!({"engagement": 75, "fit": 85, "budget_confirmed": true, "decision_maker": false, "urgency": 60});
    let scored = bo.post("/api/leads/LED-000/score", inputs.clone()).await.ok();
    assert_eq!(scored["score"], 70);
    assert_eq!(scored["score_inputs"], inputs);
    bo.post("/api/leads/LED-000/interactions", json!({"type": "call", "subject": "First call"})).await.expect(201);

    let converted = bo.act("/api/leads/LED-000/convert").await.ok();
    assert_eq!(converted["stage"], "closed_won");
    assert_eq!(converted["customer_id"], "CUS-000");
    let customer = bo.get("/api/customers/CUS-000").await.ok();
    assert_eq!(customer["company"], "Navy");
    assert_eq!(customer["owner_id"], bo.id());
    assert_eq!(customer["lead_ids"], json!(["LED-000"]));
    let contact = bo.get("/api/customers/CUS-000/interactions").await.ok();
    assert_eq!(contact["data"][0]["subject"], "First call");

    let again = bo.act("/api/leads/LED-000/convert").await;
    assert_eq!(again.problem(409, "conflict")["rule"], "already_converted");
    assert_eq!(acme.get("/api/customers").await.ok()["data"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_lost_lead_keeps_its_reason_until_it_is_reopened() {
    let world = World::start().await;
    let acme = world.business("ACME").await;
    acme.post("/api/leads", json!({"name": "Ada", "stage": "qualified"})).await.created();
    let lost = acme.post("/api/leads/LED-000/lose", json!({"reason": "no budget"})).await.ok();
    assert_eq!((&lost["stage"], &lost["lost_reason"]), (&json!("closed_lost"), &json!("no budget")));
    let refused = acme.post("/api/leads/LED-000/stage", json!({"stage": "proposal"})).await;
    assert_eq!(refused.problem(409, "conflict")["rule"], "lead_closed");
    let reopened = acme.act("/api/leads/LED-000/reopen").await.ok();
    assert_eq!((&reopened["stage"], &reopened["lost_reason"]), (&json!("qualified"), &Value::Null));
}

#[tokio::test]
async fn a_manager_sees_the_leads_of_the_department_only() {
    let world = World::start().await;
    let acme = world.business("ACME").await;
    let (ada, bo) = (acme.manager("ada", "sales").await, acme.employee("bo", "support").await);
    let lead = bo.post("/api/leads", json!({"name": "Grace", "company": "Navy"})).await.created();
    ada.get(&format!("/api/leads/{lead}")).await.problem(404, "not_found");
    assert_eq!(ada.get("/api/leads").await.ok()["data"], json!([]));
    ada.post(&format!("/api/leads/{lead}/stage"), json!({"stage": "contacted"})).await.problem(404, "not_found");
    acme.get(&format!("/api/leads/{lead}")).await.ok();
}

#[tokio::test]
async fn an_employee_reads_the_departments_leads_and_changes_only_the_own() {
    let world = World::start().await;
    let acme = world.business("ACME").await;
    let (al, bo) = (acme.employee("al", "sales").await, acme.employee("bo", "sales").await);
    let lead = al.post("/api/leads", json!({"name": "Grace"})).await.created();
    bo.get(&format!("/api/leads/{lead}")).await.ok();
    let refused = bo.patch(&format!("/api/leads/{lead}"), json!({"company": "Navy"})).await;
    assert_eq!(refused.problem(403, "permission_denied")["permission"], "leads:write");
}

#[tokio::test]
async fn what_is_wrong_with_a_lead_is_said_all_at_once() {
    let world = World::start().await;
    let acme = world.business("ACME").await;
    let refused = acme
        .post(
            "/api/leads",
            json!({"name": "Ada", "estimated_value": {"amount": "1.999", "currency": "USD"}, "stage": "won", "email": "x"}),
        )
        .await;
    let problem = refused.problem(422, "validation_failed");
    let pointers: BTreeSet<_> =
        problem["errors"].as_array().unwrap().iter().map(|e| e["pointer"].as_str().unwrap()).collect();
    assert_eq!(pointers, BTreeSet::from(["/email", "/estimated_value/amount", "/stage"]), "{problem}");
    acme.post("/api/leads", json!({"name": "Ada", "colour": "red"})).await.problem(400, "unknown_parameter");
    assert_eq!(acme.get("/api/leads").await.ok()["data"], json!([]));
}

#[tokio::test]
async fn a_change_for_an_old_version_is_applied_unless_the_same_field_was_changed() {
    let world = World::start().await;
    let acme = world.business("ACME").await;
    let lead = acme.post("/api/leads", json!({"name": "Ada", "company": "A"})).await.created();
    let path = format!("/api/leads/{lead}");
    acme.patch(&path, json!({"company": "B"})).await.ok();
    let on_top = acme.send(Method::PATCH, &path, &[("if-match", "\"v1\"")], Some(json!({"phone": "123"}))).await.ok();
    assert_eq!((&on_top["company"], &on_top["phone"], &on_top["version"]), (&json!("B"), &json!("123"), &json!(3)));
    let refused = acme.send(Method::PATCH, &path, &[("if-match", "\"v1\"")], Some(json!({"company": "C"}))).await;
    let problem = refused.problem(412, "version_conflict");
    assert_eq!(problem["current_version"], 3);
    assert_eq!(problem["changes_since"][0], json!({"field": "company", "from": "A", "to": "B"}));
}

#[tokio::test]
async fn a_repeated_request_has_one_effect_and_the_same_answer() {
    let world = World::start().await;
    let acme = world.business("ACME").await;
    let key = [("idempotency-key", "first-lead")];
    let first = acme.send(Method::POST, "/api/leads", &key, Some(json!({"name": "Ada"}))).await;
    acme.patch("/api/leads/LED-000", json!({"name": "Ada Lovelace"})).await.ok();
    let again = acme.send(Method::POST, "/api/leads", &key, Some(json!({"name": "Ada"}))).await;
    assert_eq!((again.status, &again.text), (first.status, &first.text));
    assert_eq!(again.header("idempotent-replayed"), Some("true"));
    assert_eq!(again.header("etag"), first.header("etag"));
    acme.send(Method::POST, "/api/leads", &key, Some(json!({"name": "Bo"}))).await.problem(422, "idempotency_mismatch");
    assert_eq!(acme.get("/api/leads").await.ok()["data"].as_array().unwrap().len(), 1);
    // Another business may use the same word.
    let other = world.business("Other").await;
    let theirs = other.send(Method::POST, "/api/leads", &key, Some(json!({"name": "Ada"}))).await;
    theirs.expect(201);
    assert_eq!(theirs.header("idempotent-replayed"), None);
}

#[tokio::test]
async fn simultaneous_requests_with_one_key_have_one_effect() {
    let world = World::start().await;
    let acme = world.business("ACME").await;
    let send = || acme.send(Method::POST, "/api/leads", &[("idempotency-key", "k")], Some(json!({"name": "Ada"})));
    let answers = futures::future::join_all((0..8).map(|_| send())).await;
    let bodies: BTreeSet<_> = answers.iter().map(|answer| (answer.status.as_u16(), answer.text.clone())).collect();
    assert_eq!(bodies.len(), 1, "{bodies:?}");
    assert_eq!(acme.get("/api/leads").await.ok()["data"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_thousand_simultaneous_leads_get_a_thousand_rising_numbers() {
    let world = World::start().await;
    let acme = world.business("ACME").await;
    let created = futures::future::join_all((0..1000).map(|n| {
        let acme = acme.clone();
        tokio::spawn(async move {
            let answer = acme.post("/api/leads", json!({"name": format!("Lead {n}")})).await;
            let position: u64 = answer.header("devhub-position").unwrap().parse().unwrap();
            (position, answer.created())
        })
    }))
    .await;
    let mut created: Vec<(u64, String)> = created.into_iter().map(Result::unwrap).collect();
    created.sort_unstable();
    let expected: Vec<String> = (0..1000).map(|n| format!("LED-{n:03}")).collect();
    let numbers: Vec<String> = created.into_iter().map(|(_, id)| id).collect();
    assert_eq!(numbers, expected);
}

#[tokio::test]
async fn what_has_no_amount_comes_last_and_is_no_small_amount() {
    let world = World::start().await;
    let acme = world.business("ACME").await;
    for amount in [None, Some("100"), Some("50"), None] {
        let amount = amount.map(|amount| json!({"amount": amount, "currency": "USD"}));
        acme.post("/api/leads", json!({"name": "Ada", "estimated_value": amount})).await.created();
        acme.post("/api/projects", json!({"name": "Next", "budget": amount})).await.created();
    }
    for (noun, field) in [("leads", "estimated_value"), ("projects", "budget")] {
        for when in ["", "&as_of=2100-01-01"] {
            let amounts = async |query: &str| -> Vec<Value> {
                let page = acme.get(&format!("/api/{noun}?{query}{when}")).await.ok();
                page["data"].as_array().unwrap().iter().map(|row| row[field]["amount"].clone()).collect()
            };
            let none = Value::Null;
            let (small, large) = (json!("50.00"), json!("100.00"));
            let ascending = amounts(&format!("sort={field}")).await;
            assert_eq!(ascending, [&small, &large, &none, &none].map(Clone::clone), "{noun} {when}");
            let descending = amounts(&format!("sort=-{field}")).await;
            assert_eq!(descending, [&large, &small, &none, &none].map(Clone::clone), "{noun} {when}");
            assert_eq!(amounts(&format!("{field}[lte]=99")).await, [small], "{noun} {when}");
        }
    }
}
