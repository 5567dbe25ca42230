//! Records brought back to earlier versions: field by field, all or nothing, and back again.

use axum::http::Method;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Value, json};

use crate::world::{Client, World};

/// What every change changes, or what follows from the rest.
const FOLLOWS: [&str; 7] = [
    "version",
    "updated_at",
    "stage_changed_at",
    "last_contacted_at",
    "last_interaction_at",
    "converted_at",
    "customer_id",
];

/// A record without what follows from the rest.
pub fn told(mut record: Value) -> Value {
    let fields = record.as_object_mut().unwrap();
    fields.retain(|name, _| !FOLLOWS.contains(&name.as_str()));
    if let Some(members) = fields.get_mut("members").and_then(Value::as_array_mut) {
        members.sort_by_key(|member| member["user_id"].as_str().unwrap().to_owned());
    }
    record
}

#[tokio::test]
async fn a_phone_changed_three_times_goes_back_to_the_first_and_the_revert_is_undone() {
    let world = World::start().await;
    let acme = world.business("ACME").await;
    let customer = json!({"company": "Northwind", "name": "Nancy", "phone": "+1 555 0100"});
    acme.post("/api/customers", customer).await.created();
    for phone in ["+1 555 0101", "+1 555 0102", "+1 555 0103"] {
        acme.patch("/api/customers/CUS-000", json!({"phone": phone})).await.ok();
    }
    acme.patch("/api/customers/CUS-000", json!({"name": "Nancy Davolio"})).await.ok();

    let reverted = acme.post("/api/customers/CUS-000/revert", json!({"to_version": 1, "fields": ["phone"]})).await;
    assert!(reverted.header("devhub-position").is_some());
    assert_eq!(reverted.header("etag"), Some("\"v6\""));
    let customer = reverted.ok();
    assert_eq!((&customer["phone"], &customer["name"]), (&json!("+1 555 0100"), &json!("Nancy Davolio")));

    // The version before the revert undoes it; nothing was overwritten.
    let back = acme.post("/api/customers/CUS-000/revert", json!({"to_version": 5})).await.ok();
    assert_eq!((&back["phone"], &back["version"]), (&json!("+1 555 0103"), &json!(7)));
    let events = acme.get("/api/events?subject=CUS-000").await.ok();
    assert_eq!(events["data"].as_array().unwrap().len(), 7);

    // Back to where it stands already changes nothing.
    let same = acme.post("/api/customers/CUS-000/revert", json!({"to_version": 7})).await;
    assert_eq!(same.header("devhub-correlation-id"), None);
    assert_eq!(same.ok()["version"], 7);
}

#[tokio::test]
async fn what_is_asked_for_must_be_there() {
    let world = World::start().await;
    let acme = world.business("ACME").await;
    acme.post("/api/leads", json!({"name": "Ada"})).await.created();
    let path = "/api/leads/LED-000/revert";
    for version in [-1, 0, 2] {
        let refused = acme.post(path, json!({"to_version": version})).await.problem(422, "validation_failed");
        assert_eq!(refused["errors"][0]["pointer"], "/to_version");
        assert_eq!(refused["errors"][0]["code"], "unknown_version");
    }
    let refused = acme.post(path, json!({"to_version": 1, "fields": ["name", "shoe"]})).await;
    let refused = refused.problem(422, "validation_failed");
    assert_eq!(refused["errors"][0]["pointer"], "/fields/1");
    assert!(refused["errors"][0]["detail"].as_str().unwrap().contains("phone, "), "{refused}");
    acme.post(path, json!({"to_version": 1, "shoe": 1})).await.problem(400, "unknown_parameter");
    acme.post(path, json!({})).await.problem(422, "validation_failed");
    acme.post("/api/leads/LED-007/revert", json!({"to_version": 1})).await.problem(404, "not_found");
    acme.delete("/api/leads/LED-000").await.ok();
    acme.post(path, json!({"to_version": 1})).await.problem(404, "not_found");
}

#[tokio::test]
async fn a_lead_goes_back_with_stage_score_qualification_and_assignee() {
    let world = World::start().await;
    let acme = world.business("ACME").await;
    let bo = acme.employee("bo", "sales").await;
    let lead = json!({"name": "Ada", "company": "Navy", "estimated_value": {"amount": "10", "currency": "USD"}});
    acme.post("/api/leads", lead).await.created();
    let first = told(acme.get("/api/leads/LED-000").await.ok());
    acme.patch("/api/leads/LED-000", json!({"company": null, "probability": 77, "source": "event"})).await.ok();
    acme.post("/api/leads/LED-000/stage", json!({"stage": "proposal"})).await.ok();
    acme.post("/api/leads/LED-000/qualify", json!({"qualification": "sales_qualified"})).await.ok();
    let inputs = json!({"engagement": 75, "fit": 85, "budget_confirmed": true, "decision_maker": false, "urgency": 60});
    acme.post("/api/leads/LED-000/score", inputs).await.ok();
    acme.post("/api/leads/LED-000/assign", json!({"user_id": bo.id()})).await.ok();
    let lost = acme.post("/api/leads/LED-000/lose", json!({"reason": "no budget"})).await.ok();
    let version = lost["version"].as_i64().unwrap();

    let back = acme.post("/api/leads/LED-000/revert", json!({"to_version": 1})).await.ok();
    assert_eq!(told(back), first);
    let again = acme.post("/api/leads/LED-000/revert", json!({"to_version": version})).await.ok();
    assert_eq!(told(again), told(lost));
}

#[tokio::test]
async fn all_of_it_goes_back_or_nothing_and_each_field_says_why() {
    let world = World::start().await;
    let acme = world.business("ACME").await;
    let bo = acme.employee("bo", "sales").await;
    acme.post("/api/leads", json!({"name": "Ada", "phone": "1", "assignee_id": bo.id()})).await.created();
    acme.patch("/api/leads/LED-000", json!({"phone": "2"})).await.ok();
    acme.post("/api/leads/LED-000/assign", json!({"user_id": null})).await.ok();
    acme.act("/api/leads/LED-000/convert").await.ok();
    acme.act(&format!("/api/users/{}/deactivate", bo.id())).await.ok();

    let refused = acme.post("/api/leads/LED-000/revert", json!({"to_version": 1})).await.problem(409, "conflict");
    assert_eq!(refused["rule"], "cannot_go_back");
    let why: Vec<(&str, &str)> = refused["errors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|error| (error["pointer"].as_str().unwrap(), error["code"].as_str().unwrap()))
        .collect();
    assert_eq!(why, [("/stage", "already_converted"), ("/assignee_id", "unknown_user")]);
    let untouched = acme.get("/api/leads/LED-000").await.ok();
    assert_eq!((&untouched["phone"], &untouched["version"]), (&json!("2"), &json!(4)));
    // What can go back alone does.
    let phone = acme.post("/api/leads/LED-000/revert", json!({"to_version": 1, "fields": ["phone"]})).await.ok();
    assert_eq!(phone["phone"], "1");
}

#[tokio::test]
async fn a_revert_made_for_an_older_version_does_not_undo_what_others_did() {
    let world = World::start().await;
    let acme = world.business("ACME").await;
    acme.post("/api/customers", json!({"company": "Northwind", "phone": "1"})).await.created();
    acme.patch("/api/customers/CUS-000", json!({"phone": "2"})).await.ok();
    acme.patch("/api/customers/CUS-000", json!({"email": "a@b.test"})).await.ok();
    let path = "/api/customers/CUS-000/revert";
    let made_for = [("if-match", "\"v2\"")];
    let phone = json!({"to_version": 1, "fields": ["phone"]});
    let both = json!({"to_version": 1});
    acme.send(Method::POST, path, &made_for, Some(both)).await.problem(412, "version_conflict");
    let merged = acme.send(Method::POST, path, &made_for, Some(phone)).await.ok();
    assert_eq!((&merged["phone"], &merged["email"]), (&json!("1"), &json!("a@b.test")));
}

#[tokio::test]
async fn whoever_may_not_change_a_record_does_not_revert_it() {
    let world = World::start().await;
    let acme = world.business("ACME").await;
    let (bo, cy) = (acme.employee("bo", "sales").await, acme.employee("cy", "sales").await);
    bo.post("/api/leads", json!({"name": "Ada"})).await.created();
    bo.patch("/api/leads/LED-000", json!({"name": "Ada Lovelace"})).await.ok();
    let revert = json!({"to_version": 1});
    cy.post("/api/leads/LED-000/revert", revert.clone()).await.problem(403, "permission_denied");
    let other = world.business("Other").await;
    other.post("/api/leads/LED-000/revert", revert.clone()).await.problem(404, "not_found");
    assert_eq!(bo.post("/api/leads/LED-000/revert", revert).await.ok()["name"], "Ada");

    // A role that they do not look after is not what a manager gives back.
    let ada = acme.manager("ada", "sales").await;
    let manager =
        acme.patch(&format!("/api/users/{}", bo.id()), json!({"role": "MANAGER"})).await.ok()["version"].clone();
    acme.patch(&format!("/api/users/{}", bo.id()), json!({"role": "EMPLOYEE"})).await.ok();
    let path = format!("/api/users/{}/revert", bo.id());
    ada.post(&path, json!({"to_version": manager})).await.problem(403, "permission_denied");
    assert_eq!(acme.post(&path, json!({"to_version": manager})).await.ok()["role"], "MANAGER");
    bo.get("/api/me").await.expect(401);
}

#[tokio::test]
async fn a_project_goes_back_with_its_members_and_customers() {
    let world = World::start().await;
    let acme = world.business("ACME").await;
    let bo = acme.employee("bo", "sales").await;
    for company in ["A", "B", "C"] {
        acme.post("/api/customers", json!({"company": company})).await.created();
    }
    let project = json!({"name": "Roll-out", "start_date": "2026-03-01", "due_date": "2026-04-01",
        "customer_ids": ["CUS-000", "CUS-001"], "members": [{"user_id": bo.id(), "role": "Lead"}]});
    acme.post("/api/projects", project).await.created();
    let planned = acme.get("/api/projects/PRJ-000").await.ok();
    acme.patch("/api/projects/PRJ-000", json!({"start_date": "2026-05-01", "due_date": "2026-06-01"})).await.ok();
    acme.delete("/api/projects/PRJ-000/customers/CUS-000").await.ok();
    acme.post("/api/projects/PRJ-000/customers", json!({"customer_id": "CUS-002"})).await.ok();
    acme.delete(&format!("/api/projects/PRJ-000/members/{}", bo.id())).await.ok();
    acme.post("/api/projects/PRJ-000/status", json!({"status": "on_hold"})).await.ok();
    acme.post("/api/projects/PRJ-000/owner", json!({"user_id": bo.id()})).await.ok();
    let held = acme.get("/api/projects/PRJ-000").await.ok();
    acme.post("/api/projects/PRJ-000/status", json!({"status": "cancelled"})).await.ok();

    let version = planned["version"].clone();
    let back = acme.post("/api/projects/PRJ-000/revert", json!({"to_version": version})).await.ok();
    assert_eq!(told(back), told(planned));
    acme.post("/api/projects/PRJ-000/status", json!({"status": "completed"})).await.ok();
    // A closed project goes on hold by way of being worked on.
    let again = acme.post("/api/projects/PRJ-000/revert", json!({"to_version": held["version"]})).await.ok();
    assert_eq!(told(again), told(held));
}

#[tokio::test]
async fn a_draft_goes_back_and_an_invoice_that_was_sent_does_not() {
    let world = World::start().await;
    let acme = world.business("ACME").await;
    acme.post("/api/customers", json!({"company": "A"})).await.created();
    let lines = json!([{"description": "Training", "quantity": "6", "unit_price": "120.00", "tax_rate": "8"}]);
    let draft = json!({"customer_id": "CUS-000", "lines": lines, "issue_date": "2026-03-01", "due_date": "2026-04-01"});
    acme.post("/api/invoices", draft).await.created();
    let drafted = acme.get("/api/invoices/INV-000").await.ok();
    let change = json!({"amount": {"amount": "50", "currency": "EUR"}, "currency": "EUR", "number": "R-1",
        "issue_date": "2026-05-01", "due_date": "2026-06-01", "notes": "Thanks"});
    let changed = acme.patch("/api/invoices/INV-000", change).await.ok();
    let back = acme.post("/api/invoices/INV-000/revert", json!({"to_version": 1})).await.ok();
    assert_eq!(told(back), told(drafted));
    let again = acme.post("/api/invoices/INV-000/revert", json!({"to_version": 2})).await.ok();
    assert_eq!(told(again), told(changed));
    acme.act("/api/invoices/INV-000/send").await.ok();
    let refused = acme.post("/api/invoices/INV-000/revert", json!({"to_version": 1, "fields": ["notes"]})).await;
    let refused = refused.problem(409, "conflict");
    assert_eq!(
        (&refused["errors"][0]["pointer"], &refused["errors"][0]["code"]),
        (&json!("/notes"), &json!("not_a_draft"))
    );
}

#[tokio::test]
async fn a_note_goes_back_and_is_brought_back() {
    let world = World::start().await;
    let acme = world.business("ACME").await;
    let bo = acme.employee("bo", "sales").await;
    acme.post("/api/customers", json!({"company": "A"})).await.created();
    acme.post("/api/customers/CUS-000/notes", json!({"content": "first", "private": true})).await.created();
    acme.patch("/api/notes/NOT-000", json!({"content": "second", "title": "T"})).await.ok();
    bo.post("/api/notes/NOT-000/revert", json!({"to_version": 2})).await.problem(404, "not_found");
    let back = acme.post("/api/notes/NOT-000/revert", json!({"to_version": 2})).await.ok();
    assert_eq!((&back["content"], &back["title"]), (&json!("first"), &Value::Null));
    acme.post("/api/notes/NOT-000/revert", json!({"to_version": 1})).await.problem(422, "validation_failed");

    acme.delete("/api/notes/NOT-000").await.ok();
    acme.get("/api/notes/NOT-000").await.problem(404, "not_found");
    bo.act("/api/notes/NOT-000/restore").await.problem(404, "not_found");
    assert_eq!(acme.act("/api/notes/NOT-000/restore").await.ok()["content"], "first");
    assert_eq!(acme.act("/api/notes/NOT-000/restore").await.ok()["content"], "first");
    assert_eq!(acme.get("/api/notes/NOT-000").await.ok()["content"], "first");
    acme.act("/api/notes/NOT-001/restore").await.problem(404, "not_found");
}

#[tokio::test]
async fn planned_contact_is_planned_again() {
    let world = World::start().await;
    let acme = world.business("ACME").await;
    acme.post("/api/leads", json!({"name": "Ada"})).await.created();
    let plan = json!({"type": "call", "subject": "Offer", "scheduled_at": "2026-03-09T10:00:00Z"});
    acme.post("/api/leads/LED-000/interactions", plan).await.created();
    acme.post("/api/interactions/INT-000/complete", json!({"outcome": "No", "hours": "1"})).await.ok();
    let back = acme.post("/api/interactions/INT-000/revert", json!({"to_version": 2})).await.ok();
    assert_eq!(
        (&back["status"], &back["outcome"], &back["completed_at"]),
        (&json!("scheduled"), &Value::Null, &Value::Null)
    );
    let again = acme.post("/api/interactions/INT-000/revert", json!({"to_version": 3})).await.ok();
    assert_eq!(
        (&again["status"], &again["outcome"], &again["hours"]),
        (&json!("completed"), &json!("No"), &json!("1.00"))
    );

    acme.post("/api/leads/LED-000/interactions", json!({"type": "call", "subject": "Took place"})).await.created();
    acme.post("/api/interactions/INT-001/revert", json!({"to_version": 2})).await.problem(422, "validation_failed");
}

/// One change of a lead, by number.
async fn change_lead(acme: &Client, people: &[String], change: u8, value: u8) {
    let lead = |path: &str| format!("/api/leads/LED-000{path}");
    let word = |words: &[&str]| words[usize::from(value) % words.len()].to_owned();
    let answer = match change {
        0 => acme.patch(&lead(""), json!({"phone": value.to_string(), "name": format!("N{value}")})).await,
        1 => acme.patch(&lead(""), json!({"company": null, "probability": value % 100})).await,
        2 => acme.patch(&lead(""), json!({"probability": null, "company": format!("C{value}")})).await,
        3 => {
            let stage = word(&["new", "contacted", "qualified", "proposal", "negotiation"]);
            acme.post(&lead("/stage"), json!({"stage": stage})).await
        }
        4 => {
            let q = word(&["new", "unqualified", "marketing_qualified", "sales_qualified", "nurturing"]);
            acme.post(&lead("/qualify"), json!({"qualification": q})).await
        }
        5 => {
            let inputs = json!({"engagement": value % 100, "fit": 1, "budget_confirmed": value.is_multiple_of(2),
                "decision_maker": true, "urgency": 3});
            acme.post(&lead("/score"), inputs).await
        }
        6 => {
            let user = people.get(usize::from(value) % (people.len() + 1));
            acme.post(&lead("/assign"), json!({"user_id": user})).await
        }
        7 => acme.post(&lead("/lose"), json!({"reason": format!("R{value}")})).await,
        8 => acme.act(&lead("/reopen")).await,
        _ => acme.patch(&lead(""), json!({"estimated_value": {"amount": value.to_string(), "currency": "EUR"}})).await,
    };
    assert!(answer.status.is_success() || answer.status == 409, "{}", answer.text);
}

/// One change of a customer, by number.
async fn change_customer(acme: &Client, people: &[String], change: u8, value: u8) {
    let customer = |path: &str| format!("/api/customers/CUS-000{path}");
    let answer = match change % 5 {
        0 => acme.patch(&customer(""), json!({"phone": value.to_string(), "email": null})).await,
        1 => acme.patch(&customer(""), json!({"email": format!("a{value}@b.test"), "phone": null})).await,
        2 => {
            acme.patch(&customer(""), json!({"name": format!("N{value}"), "address": {"city": format!("Y{value}")}}))
                .await
        }
        3 => {
            let status = ["prospect", "active", "inactive", "churned"][usize::from(value) % 4];
            acme.post(&customer("/status"), json!({"status": status})).await
        }
        _ => {
            let user = people.get(usize::from(value) % (people.len() + 1));
            acme.post(&customer("/owner"), json!({"user_id": user})).await
        }
    };
    assert!(answer.status.is_success(), "{}", answer.text);
}

#[test]
fn any_history_goes_back_to_any_of_its_versions_and_every_command_is_undone() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let mut runner = TestRunner::new(Config { cases: 6, failure_persistence: None, ..Config::default() });
    let changes = prop::collection::vec((0..10_u8, any::<u8>()), 1..12);
    runner
        .run(&(changes, any::<u16>()), |(changes, chosen)| {
            runtime.block_on(async {
                let world = World::start().await;
                let acme = world.business("ACME").await;
                let people = vec![acme.employee("bo", "sales").await.id().to_owned(), acme.id().to_owned()];
                acme.post("/api/leads", json!({"name": "Ada"})).await.created();
                acme.post("/api/customers", json!({"company": "A", "name": "B"})).await.created();
                for path in ["/api/leads/LED-000", "/api/customers/CUS-000"] {
                    let mut versions = vec![acme.get(path).await.ok()];
                    for (change, value) in &changes {
                        let before = acme.get(path).await.ok();
                        if path.contains("LED") {
                            change_lead(&acme, &people, *change, *value).await;
                        } else {
                            change_customer(&acme, &people, *change, *value).await;
                        }
                        let after = acme.get(path).await.ok();
                        if before == after {
                            continue;
                        }
                        // Undone at once, it is as it was; and undone again, as it was then.
                        let events =
                            acme.get(&format!("/api/events?subject={}&limit=1", &path[path.len() - 7..])).await;
                        let id = events.ok()["data"][0]["correlationid"].as_str().unwrap().to_owned();
                        let undone = acme.act(&format!("/api/commands/{id}/undo")).await.ok();
                        assert_eq!(undone["not_undone"], json!([]), "{undone}");
                        assert_eq!(told(acme.get(path).await.ok()), told(before));
                        let undo = undone["correlation_id"].as_str().unwrap();
                        acme.act(&format!("/api/commands/{undo}/undo")).await.ok();
                        assert_eq!(told(acme.get(path).await.ok()), told(after));
                        versions.push(acme.get(path).await.ok());
                    }
                    let wanted = &versions[usize::from(chosen) % versions.len()];
                    let back =
                        acme.post(&format!("{path}/revert"), json!({"to_version": wanted["version"]})).await.ok();
                    assert_eq!(told(back), told(wanted.clone()));
                }
            });
            Ok(())
        })
        .unwrap();
}
