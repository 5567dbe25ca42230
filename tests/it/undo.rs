//! What one command or batch did, taken back as far as the rules allow, and precisely no further.

use axum::http::Method;
use serde_json::{Value, json};

use crate::revert::told;
use crate::world::{Answer, Client, World};

impl Answer {
    /// The correlation id of what the write changed.
    #[track_caller]
    pub fn command(&self) -> String {
        assert!(self.status.is_success(), "{}", self.text);
        self.header("devhub-correlation-id").expect("it changed something").to_owned()
    }
}

impl Client {
    /// Undoes a command.
    pub async fn undo(&self, command: &str) -> Answer {
        self.act(&format!("/api/commands/{command}/undo")).await
    }
}

/// `[("LED-000", "stage", "already_converted")]`
fn kept(undoing: &Value) -> Vec<(&str, &str, &str)> {
    let text = |value: &'_ Value| -> &'static str {
        Box::leak(value.as_str().unwrap_or_default().to_owned().into_boxed_str())
    };
    let all = undoing["not_undone"].as_array().unwrap().iter();
    all.map(|not| (text(&not["id"]), text(&not["field"]), text(&not["code"]))).collect()
}

/// `[("LED-000", "deleted")]`
fn done(undoing: &Value) -> Vec<(&str, &str)> {
    let all = undoing["undone"].as_array().unwrap().iter();
    all.map(|undone| (undone["id"].as_str().unwrap(), undone["effect"].as_str().unwrap())).collect()
}

#[tokio::test]
async fn fifty_leads_reassigned_in_one_batch_are_undone_in_one_call() {
    let world = World::start().await;
    let acme = world.business("ACME").await;
    let (bo, cy) = (acme.employee("bo", "sales").await, acme.employee("cy", "sales").await);
    let create: Vec<Value> = (0..50)
        .map(|n| json!({"op": "create", "body": {"name": format!("Lead {n}"), "assignee_id": bo.id()}}))
        .collect();
    let created = acme.post("/api/leads/batch", json!({"operations": create})).await;
    let captured = created.command();
    assert_eq!(created.ok()["succeeded"], 50);
    let assign: Vec<Value> =
        (0..50).map(|n| json!({"op": "assign", "id": format!("LED-{n:03}"), "body": {"user_id": cy.id()}})).collect();
    let assigned = acme.post("/api/leads/batch", json!({"operations": assign})).await;
    assert_eq!(assigned.ok()["correlation_id"], assigned.command());
    let of = async |who: &Client| acme.get(&format!("/api/leads?assignee_id={}&count=exact", who.id())).await.ok();
    assert_eq!(of(&cy).await["page"]["total"], 50);
    let events = acme.get(&format!("/api/events?correlation_id={}&limit=200", assigned.command())).await.ok();
    assert_eq!(events["data"].as_array().unwrap().len(), 50);

    let rehearsed =
        acme.post(&format!("/api/commands/{}/undo", assigned.command()), json!({"dry_run": true})).await.ok();
    assert_eq!((rehearsed["undone"].as_array().unwrap().len(), &rehearsed["correlation_id"]), (50, &Value::Null));
    assert_eq!(of(&cy).await["page"]["total"], 50);

    let undoing = acme.undo(&assigned.command()).await;
    let told = undoing.ok();
    assert_eq!(told["undone"].as_array().unwrap().len(), 50);
    assert_eq!(told["not_undone"], json!([]));
    let one = told["undone"].as_array().unwrap().iter().find(|undone| undone["id"] == "LED-007").unwrap();
    assert_eq!(
        one,
        &json!({"noun": "lead", "id": "LED-007", "effect": "changed_back",
                "fields": [{"field": "assignee_id", "from": cy.id(), "to": bo.id()}]})
    );
    assert!(undoing.header("devhub-position").is_some());
    assert_eq!((of(&bo).await["page"]["total"].clone(), of(&cy).await["page"]["total"].clone()), (json!(50), json!(0)));

    // The undo is undone, and undone again.
    let undo = told["correlation_id"].as_str().unwrap();
    assert_eq!(undo, undoing.command());
    let redone = acme.undo(undo).await.command();
    assert_eq!(of(&cy).await["page"]["total"], 50);
    acme.undo(&redone).await.ok();
    assert_eq!(of(&bo).await["page"]["total"], 50);

    // Everything that was captured goes, too, since it stands as it was captured.
    let gone = acme.undo(&captured).await.ok();
    assert!(done(&gone).iter().all(|(_, effect)| *effect == "deleted"));
    assert_eq!(acme.get("/api/leads?count=exact").await.ok()["page"]["total"], 0);
}

#[tokio::test]
async fn what_somebody_changed_since_is_left_alone_and_said() {
    let world = World::start().await;
    let acme = world.business("ACME").await;
    let bo = acme.employee("bo", "sales").await;
    acme.post("/api/leads", json!({"name": "Ada", "phone": "1", "company": "A", "assignee_id": bo.id()}))
        .await
        .created();
    let command = acme.patch("/api/leads/LED-000", json!({"phone": "2", "company": "B"})).await.command();
    bo.patch("/api/leads/LED-000", json!({"phone": "3"})).await.ok();
    let undoing = acme.undo(&command).await.ok();
    assert_eq!(kept(&undoing), [("LED-000", "phone", "changed_since")]);
    let not = &undoing["not_undone"][0];
    assert_eq!((&not["current"], &not["changed_by"]), (&json!("3"), &json!(bo.id())));
    assert_eq!(not["changed_at"], "2026-03-02T09:00:00Z");
    assert_eq!(undoing["undone"][0]["fields"], json!([{"field": "company", "from": "B", "to": "A"}]));
    let lead = acme.get("/api/leads/LED-000").await.ok();
    assert_eq!((&lead["phone"], &lead["company"]), (&json!("3"), &json!("A")));

    // Once it stands as before, there is nothing left to undo.
    bo.patch("/api/leads/LED-000", json!({"phone": "1"})).await.ok();
    let nothing = acme.undo(&command).await;
    assert_eq!(nothing.header("devhub-correlation-id"), None);
    let nothing = nothing.ok();
    assert_eq!((done(&nothing), kept(&nothing), &nothing["correlation_id"]), (vec![], vec![], &Value::Null));
}

#[tokio::test]
async fn a_lead_that_was_moved_lost_or_captured_goes_back_and_a_conversion_stays() {
    let world = World::start().await;
    let acme = world.business("ACME").await;
    let captured = acme.post("/api/leads", json!({"name": "Ada"})).await.command();
    let moved = acme.post("/api/leads/LED-000/stage", json!({"stage": "proposal"})).await.command();
    assert_eq!(done(&acme.undo(&moved).await.ok()), [("LED-000", "changed_back")]);
    let lead = acme.get("/api/leads/LED-000").await.ok();
    assert_eq!((&lead["stage"], &lead["probability"]), (&json!("new"), &json!(5)));
    let lost = acme.post("/api/leads/LED-000/lose", json!({"reason": "no budget"})).await.command();
    acme.undo(&lost).await.ok();
    assert_eq!(acme.get("/api/leads/LED-000").await.ok()["lost_reason"], Value::Null);

    let deleted = acme.delete("/api/leads/LED-000").await.command();
    assert_eq!(done(&acme.undo(&deleted).await.ok()), [("LED-000", "restored")]);
    assert_eq!(done(&acme.undo(&captured).await.ok()), [("LED-000", "deleted")]);
    acme.get("/api/leads/LED-000").await.problem(404, "not_found");
    acme.act("/api/leads/LED-000/restore").await.ok();

    let converted = acme.act("/api/leads/LED-000/convert").await.command();
    let undoing = acme.undo(&converted).await.ok();
    assert_eq!(done(&undoing), []);
    assert_eq!(
        kept(&undoing),
        [
            ("LED-000", "customer_id", "already_converted"),
            ("LED-000", "stage", "already_converted"),
            ("CUS-000", "", "already_converted"),
        ]
    );
    acme.get("/api/customers/CUS-000").await.ok();
}

#[tokio::test]
async fn what_was_made_goes_unless_somebody_worked_with_it() {
    let world = World::start().await;
    let acme = world.business("ACME").await;
    let made = acme.post("/api/customers", json!({"company": "A"})).await.command();
    acme.post("/api/customers/CUS-000/interactions", json!({"type": "call", "subject": "S"})).await.created();
    assert_eq!(kept(&acme.undo(&made).await.ok()), [("CUS-000", "", "changed_since")]);

    let made = acme.post("/api/customers", json!({"company": "B"})).await.command();
    let amount = json!({"amount": "5", "currency": "USD"});
    let drafted = acme.post("/api/invoices", json!({"customer_id": "CUS-001", "amount": amount})).await.command();
    let sent = acme.act("/api/invoices/INV-000/send").await.command();
    assert_eq!(kept(&acme.undo(&sent).await.ok()), [("INV-000", "status", "already_sent")]);
    let owing = acme.undo(&made).await.ok();
    assert_eq!(kept(&owing), [("CUS-001", "", "unpaid_invoice")]);
    assert_eq!(owing["not_undone"][0]["detail"], "a customer with an unpaid invoice is not deleted");
    assert_eq!(kept(&acme.undo(&drafted).await.ok()), [("INV-000", "", "changed_since")]);
    let voided = acme.act("/api/invoices/INV-000/void").await.command();
    assert_eq!(kept(&acme.undo(&voided).await.ok()), [("INV-000", "status", "invoice_void")]);
    assert_eq!(done(&acme.undo(&made).await.ok()), [("CUS-001", "deleted")]);

    acme.post("/api/customers", json!({"company": "C"})).await.created();
    let amount = json!({"amount": "5", "currency": "USD"});
    let drafted = acme.post("/api/invoices", json!({"customer_id": "CUS-002", "amount": amount})).await.command();
    assert_eq!(done(&acme.undo(&drafted).await.ok()), [("INV-001", "voided")]);
    assert_eq!(done(&acme.undo(&drafted).await.ok()), []);
}

#[tokio::test]
async fn notes_contact_hours_and_people_go_back_as_the_rules_allow() {
    let world = World::start().await;
    let acme = world.business("ACME").await;
    acme.post("/api/customers", json!({"company": "A"})).await.created();
    let noted = acme.post("/api/customers/CUS-000/notes", json!({"content": "one"})).await.command();
    let edited = acme.patch("/api/notes/NOT-000", json!({"content": "two"})).await.command();
    assert_eq!(acme.undo(&edited).await.ok()["undone"][0]["fields"][0]["to"], "one");
    let undone = acme.undo(&noted).await;
    assert_eq!(done(&undone.ok()), [("NOT-000", "deleted")]);
    assert_eq!(done(&acme.undo(&undone.command()).await.ok()), [("NOT-000", "restored")]);
    assert_eq!(acme.get("/api/notes/NOT-000").await.ok()["content"], "one");

    let plan = json!({"type": "call", "subject": "Offer", "scheduled_at": "2026-03-09T10:00:00Z"});
    let planned = acme.post("/api/customers/CUS-000/interactions", plan).await.command();
    let completed = acme.post("/api/interactions/INT-000/complete", json!({"outcome": "Yes"})).await.command();
    acme.undo(&completed).await.ok();
    assert_eq!(acme.get("/api/interactions/INT-000").await.ok()["status"], "scheduled");
    let cancelled = acme.undo(&planned).await;
    assert_eq!(done(&cancelled.ok()), [("INT-000", "cancelled")]);
    acme.undo(&cancelled.command()).await.ok();
    assert_eq!(acme.get("/api/interactions/INT-000").await.ok()["status"], "scheduled");
    let log = json!({"type": "call", "subject": "Took place"});
    let logged = acme.post("/api/customers/CUS-000/interactions", log).await.command();
    assert_eq!(kept(&acme.undo(&logged).await.ok()), [("INT-001", "", "interaction_completed")]);

    acme.post("/api/projects", json!({"name": "P"})).await.created();
    let hours = acme.post("/api/projects/PRJ-000/hours", json!({"hours": "6.5"})).await.command();
    acme.post("/api/projects/PRJ-000/hours", json!({"hours": "1"})).await.ok();
    let undone = acme.undo(&hours).await;
    assert_eq!(done(&undone.ok()), [("PRJ-000", "made_up_for")]);
    assert_eq!(acme.get("/api/projects/PRJ-000").await.ok()["logged_hours"], "1.00");
    assert_eq!(done(&acme.undo(&hours).await.ok()), [], "only once");
    acme.undo(&undone.command()).await.ok();
    assert_eq!(acme.get("/api/projects/PRJ-000").await.ok()["logged_hours"], "7.50");
    acme.undo(&hours).await.ok();
    assert_eq!(acme.get("/api/projects/PRJ-000").await.ok()["logged_hours"], "1.00");

    let bo = acme.employee("bo", "sales").await;
    let path = format!("/api/users/{}", bo.id());
    let change = json!({"role": "MANAGER", "department": "support", "permissions": {"invoices:read": "tenant"}});
    let before = acme.get(&path).await.ok();
    let changed = acme.patch(&path, change).await.command();
    acme.undo(&changed).await.ok();
    assert_eq!(told(acme.get(&path).await.ok()), told(before));
    let locked = acme.post(&format!("{path}/lock"), json!({"reason": "lost phone"})).await.command();
    acme.undo(&locked).await.ok();
    assert_eq!(acme.get(&path).await.ok()["status"], "active");
    let gone = acme.act(&format!("{path}/deactivate")).await.command();
    acme.undo(&gone).await.ok();
    assert_eq!(acme.get(&path).await.ok()["status"], "active");
    let body = json!({"email": "new@acme.test", "full_name": "New", "role": "EMPLOYEE"});
    let invited = acme.post("/api/users", body).await.command();
    assert_eq!(done(&acme.undo(&invited).await.ok()), [("USR-003", "deactivated")]);
    assert_eq!(acme.get("/api/users/USR-003").await.ok()["status"], "deactivated");
}

#[tokio::test]
async fn customers_that_were_merged_stay_merged() {
    let world = World::start().await;
    let acme = world.business("ACME").await;
    for company in ["A", "B"] {
        acme.post("/api/customers", json!({"company": company})).await.created();
    }
    acme.post("/api/customers/CUS-000/notes", json!({"content": "one"})).await.created();
    let merged = acme.post("/api/customers/CUS-000/merge", json!({"into": "CUS-001"})).await.command();
    let undoing = acme.undo(&merged).await.ok();
    assert_eq!(done(&undoing), []);
    assert_eq!(kept(&undoing), [("CUS-001", "absorbed_ids", "merged"), ("CUS-000", "merged_into", "merged")]);
}

#[tokio::test]
async fn an_undo_needs_the_permissions_that_each_record_needs() {
    let world = World::start().await;
    let acme = world.business("ACME").await;
    let bo = acme.employee("bo", "sales").await;
    let cy = acme.employee("cy", "support").await;
    let operations = json!({"operations": [
        {"op": "create", "body": {"name": "Bo's", "assignee_id": bo.id()}},
        {"op": "create", "body": {"name": "Nobody's", "assignee_id": null}},
    ]});
    let created = acme.post("/api/leads/batch", operations).await;
    let command = created.command();
    let made: Vec<String> =
        created.ok()["results"].as_array().unwrap().iter().map(|r| r["id"].as_str().unwrap().to_owned()).collect();
    // Who may not know of any of it finds nothing; of another business, nobody does.
    cy.undo(&command).await.problem(404, "not_found");
    world.business("Other").await.undo(&command).await.problem(404, "not_found");
    acme.undo("0192f8e3-7c1a-7d4e-9b7a-3f5d2c1b0a99").await.problem(404, "not_found");
    acme.undo("nonsense").await.problem(404, "not_found");

    let own = bo.undo(&command).await.ok();
    assert_eq!(done(&own), [(made[0].as_str(), "deleted")]);
    let not = own["not_undone"].as_array().unwrap();
    assert_eq!((not.len(), &not[0]["code"], not[0].get("id")), (1, &json!("not_found"), None), "{own}");

    // Who sees all of it and may change none of it is told so.
    let ada = acme.person("ada", "EMPLOYEE", Some("sales")).await;
    let command = acme.post("/api/leads", json!({"name": "Bo's", "assignee_id": bo.id()})).await.command();
    let denied = ada.undo(&command).await.problem(403, "permission_denied");
    assert_eq!(denied["permission"], "leads:write");
}

#[tokio::test]
async fn an_undo_that_is_repeated_with_its_key_is_done_once() {
    let world = World::start().await;
    let acme = world.business("ACME").await;
    acme.post("/api/customers", json!({"company": "A"})).await.created();
    let command = acme.patch("/api/customers/CUS-000", json!({"company": "B"})).await.command();
    let path = format!("/api/commands/{command}/undo");
    let key = [("idempotency-key", "once")];
    let first = acme.send(Method::POST, &path, &key, None).await;
    let again = acme.send(Method::POST, &path, &key, None).await;
    assert_eq!(again.header("idempotent-replayed"), Some("true"));
    assert_eq!((first.ok(), first.command()), (again.ok(), again.command()));
    assert_eq!(acme.get("/api/customers/CUS-000").await.ok()["version"], 3);
    // Why it was done stands in its events.
    let events = acme.get(&format!("/api/events?correlation_id={}", first.command())).await.ok();
    assert_eq!(events["data"][0]["causationid"], json!(command));
}

#[tokio::test]
async fn what_left_no_trace_in_a_record_is_named_by_its_event() {
    let world = World::start().await;
    let acme = world.business("ACME").await;
    acme.employee("bo", "sales").await;
    let ended = acme.delete("/api/users/USR-002/sessions").await.command();
    let undoing = acme.undo(&ended).await.ok();
    assert_eq!(undoing["not_undone"][0]["event_type"], "UserSessionsRevoked");
    assert_eq!(undoing["not_undone"][0]["code"], "not_undoable");
    let changed = acme.patch("/api/tenant", json!({"business_phone": "+1 555 0100"})).await.command();
    assert_eq!(acme.undo(&changed).await.ok()["not_undone"][0]["noun"], "tenant");
}
