//! Users, their rights, their seats; the founder's visits and the keys of programs.

use axum::http::Method;
use serde_json::json;

use crate::world::{FOUNDER, PASSWORD, World};

#[tokio::test]
async fn a_business_always_keeps_one_active_owner() {
    let world = World::start().await;
    let owner = world.business("ACME").await;
    let me = format!("/api/users/{}", owner.id());
    owner.patch(&me, json!({"role": "EMPLOYEE"})).await.problem(409, "conflict");
    owner.act(&format!("{me}/deactivate")).await.problem(409, "conflict");
    let second = owner.person("second", "BUSINESS_OWNER", None).await;
    // Both give up at the same moment: one of them stays.
    let theirs = format!("/api/users/{}", second.id());
    let (a, b) = futures::join!(
        owner.patch(&me, json!({"role": "EMPLOYEE"})),
        second.patch(&theirs, json!({"role": "EMPLOYEE"})),
    );
    let mut statuses = [a.status.as_u16(), b.status.as_u16()];
    statuses.sort_unstable();
    assert!(matches!(statuses, [200, 403 | 409]), "{statuses:?} {} {}", a.text, b.text);
    let founder = world.founder().await;
    let tenant = owner.tenant.clone().unwrap();
    let owners =
        founder.get(&format!("/api/admin/tenants/{tenant}/users?role=BUSINESS_OWNER&status=active")).await.ok();
    assert_eq!(owners["data"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn who_owns_open_work_hands_it_over_before_leaving() {
    let world = World::start().await;
    let owner = world.business("ACME").await;
    let (bo, al) = (owner.employee("bo", "sales").await, owner.employee("al", "sales").await);
    let lead = bo.post("/api/leads", json!({"name": "Ada"})).await.created();
    let leave = format!("/api/users/{}/deactivate", bo.id());
    owner.act(&leave).await.problem(409, "conflict");
    owner.post(&format!("/api/leads/{lead}/assign"), json!({"user_id": al.id()})).await.ok();
    owner.act(&leave).await.ok();
    // Nobody can be given work who is no longer there.
    let refused = owner.post(&format!("/api/leads/{lead}/assign"), json!({"user_id": bo.id()})).await;
    assert_eq!(refused.problem(422, "validation_failed")["errors"][0]["pointer"], "/user_id");
}

#[tokio::test]
async fn a_plan_has_so_many_seats() {
    let world = World::start().await;
    let owner = world.business_on("ACME", "starter").await;
    for name in ["a", "b", "c", "d"] {
        owner.employee(name, "sales").await;
    }
    let sixth = json!({"email": "e@acme.test", "full_name": "E", "role": "EMPLOYEE"});
    let problem = owner.post("/api/users", sixth.clone()).await.problem(403, "plan_limit");
    assert_eq!((&problem["limit"], &problem["used"], &problem["plan"]), (&json!(5), &json!(5), &json!("professional")));
    let founder = world.founder().await;
    let tenant = owner.tenant.clone().unwrap();
    founder.patch(&format!("/api/admin/tenants/{tenant}"), json!({"seat_limit": 6})).await.ok();
    owner.post("/api/users", sixth).await.expect(201);
}

#[tokio::test]
async fn a_manager_manages_the_employees_of_the_own_department() {
    let world = World::start().await;
    let owner = world.business("ACME").await;
    let ada = owner.manager("ada", "sales").await;
    let invite = |email: &str, role: &str, department: &str| json!({"email": email, "full_name": "X", "role": role, "department": department});
    ada.post("/api/users", invite("x@acme.test", "EMPLOYEE", "sales")).await.expect(201);
    ada.post("/api/users", invite("y@acme.test", "MANAGER", "sales")).await.problem(403, "permission_denied");
    ada.post("/api/users", invite("z@acme.test", "EMPLOYEE", "support")).await.problem(403, "permission_denied");
    let bo = owner.employee("bo", "support").await;
    ada.act(&format!("/api/users/{}/lock", bo.id())).await.problem(403, "permission_denied");
}

#[tokio::test]
async fn a_denial_wins_and_a_grant_adds_at_once() {
    let world = World::start().await;
    let owner = world.business("ACME").await;
    let bo = owner.employee("bo", "sales").await;
    let lead = bo.post("/api/leads", json!({"name": "Ada"})).await.created();
    assert_eq!(bo.get("/api/invoices").await.problem(403, "permission_denied")["permission"], "invoices:read");
    let grants = json!({"permissions": {"invoices:read": "tenant", "leads:convert": "deny"}});
    owner.patch(&format!("/api/users/{}", bo.id()), grants).await.ok();
    bo.get("/api/invoices").await.ok();
    let refused = bo.act(&format!("/api/leads/{lead}/convert")).await.problem(403, "permission_denied");
    assert_eq!(refused["permission"], "leads:convert");
}

#[tokio::test]
async fn the_founder_visits_openly_and_touches_nothing_unless_asked_for() {
    let world = World::start().await;
    let owner = world.business("ACME").await;
    owner.post("/api/leads", json!({"name": "Ada"})).await.created();
    let founder = world.nobody().signed_in(FOUNDER, PASSWORD).await;
    let tenant = owner.tenant.clone().unwrap();
    // At home, the founder's CRM is TNT-PLT's own.
    assert_eq!(founder.get("/api/leads").await.ok()["data"], json!([]));
    let open = format!("/api/admin/tenants/{tenant}/support-sessions");
    let visit = founder.post(&open, json!({"reason": "Ticket 4711"})).await.expect(201);
    let visitor = founder.with_token(visit["access_token"].as_str().unwrap());
    assert_eq!(visitor.get("/api/leads/LED-000").await.ok()["name"], "Ada");
    visitor.post("/api/leads", json!({"name": "Eve"})).await.problem(403, "permission_denied");
    visitor.get("/api/admin/tenants").await.problem(403, "permission_denied");
    let write = founder.post(&open, json!({"reason": "Ticket 4712", "mode": "write"})).await.expect(201);
    let visitor = founder.with_token(write["access_token"].as_str().unwrap());
    visitor.patch("/api/leads/LED-000", json!({"company": "Fixed"})).await.ok();
    let events = owner.get("/api/events?limit=50").await.ok();
    let of =
        |kind: &str| events["data"].as_array().unwrap().iter().find(|event| event["type"] == kind).cloned().unwrap();
    assert_eq!(of("devhub.tenant.support_session_opened.v1")["data"]["reason"], "Ticket 4712");
    assert_eq!(of("devhub.lead.details_changed.v1")["actorid"], "TNT-PLT:USR-000");
}

#[tokio::test]
async fn an_api_key_is_shown_once_and_never_exceeds_its_maker() {
    let world = World::start().await;
    let owner = world.business("ACME").await;
    let made = owner.post("/api/api-keys", json!({"name": "sync", "role": "EMPLOYEE"})).await.expect(201);
    let program = owner.with_token(made["key"].as_str().unwrap());
    program.post("/api/leads", json!({"name": "Ada"})).await.expect(201);
    program.get("/api/invoices").await.problem(403, "permission_denied");
    let listed = owner.get("/api/api-keys").await.ok();
    assert!(!listed.to_string().contains(made["key"].as_str().unwrap().rsplit('_').next().unwrap()));
    let id = listed["data"][0]["id"].as_str().unwrap().to_owned();
    let gone = owner.delete(&format!("/api/api-keys/{id}")).await;
    assert!(gone.status.is_success(), "{}", gone.text);
    program.get("/api/leads").await.expect(401);
    let starter = world.business_on("Small", "starter").await;
    starter.post("/api/api-keys", json!({"name": "sync"})).await.problem(403, "plan_limit");
}

#[tokio::test]
async fn a_customer_who_owes_something_is_not_deleted() {
    let world = World::start().await;
    let owner = world.business("ACME").await;
    owner.post("/api/customers", json!({"company": "Navy"})).await.created();
    let amount = json!({"amount": "100", "currency": "USD"});
    let draft =
        json!({"customer_id": "CUS-000", "amount": amount, "issue_date": "2026-01-01", "due_date": "2026-01-31"});
    owner.post("/api/invoices", draft).await.created();
    owner.act("/api/invoices/INV-000/send").await.ok();
    let overdue = owner.get("/api/invoices?status=overdue").await.ok();
    assert_eq!((&overdue["data"][0]["status"], &overdue["data"][0]["overdue"]), (&json!("sent"), &json!(true)));
    owner.delete("/api/customers/CUS-000").await.problem(409, "conflict");
    owner.post("/api/invoices/INV-000/pay", json!({})).await.problem(422, "validation_failed");
    owner.post("/api/invoices/INV-000/pay", json!({"paid_on": "2026-03-01"})).await.ok();
    owner.delete("/api/customers/CUS-000").await.ok();
    owner.get("/api/customers/CUS-000").await.problem(404, "not_found");
    owner.act("/api/customers/CUS-000/restore").await.ok();
}

#[tokio::test]
async fn what_breaks_the_rules_of_http_is_a_problem_too() {
    let world = World::start().await;
    let owner = world.business("ACME").await;
    owner.get("/api/nothing").await.problem(404, "not_found");
    owner.send(Method::PUT, "/api/leads", &[], Some(json!({}))).await.problem(405, "method_not_allowed");
    owner.get("/api/leads?colour=red").await.problem(400, "unknown_parameter");
    let text = [("content-type", "text/plain")];
    owner.send(Method::POST, "/api/leads", &text, Some(json!({}))).await.problem(415, "unsupported_media_type");
    let huge = json!({"name": "x".repeat(1_100_000)});
    owner.post("/api/leads", huge).await.problem(413, "payload_too_large");
    let far = [("devhub-min-position", "999999")];
    owner.send(Method::GET, "/api/leads", &far, None).await.problem(503, "projection_lagging");
}

#[tokio::test]
async fn what_happened_is_found_by_type_and_leaves_as_lines_or_a_table() {
    let world = World::start().await;
    let owner = world.business("ACME").await;
    for name in ["Ada", "Bo", "Cy"] {
        owner.post("/api/leads", json!({"name": name})).await.created();
    }
    owner.post("/api/leads/LED-001/stage", json!({"stage": "contacted"})).await.ok();
    for filter in ["type=LeadCaptured", "type=devhub.lead.captured.v1"] {
        let found = owner.get(&format!("/api/events?{filter}")).await.ok();
        let subjects: Vec<_> = found["data"].as_array().unwrap().iter().map(|event| event["subject"].clone()).collect();
        assert_eq!(subjects, ["LED-002", "LED-001", "LED-000"], "{filter}");
    }
    let lines = [("accept", "application/x-ndjson")];
    let streamed = owner.send(Method::GET, "/api/events?type=LeadCaptured", &lines, None).await;
    assert_eq!(streamed.text.lines().filter(|line| line.contains("devhub.lead.captured.v1")).count(), 3);
    let table = [("accept", "text/csv")];
    let exported = owner.send(Method::GET, "/api/events?type=LeadStageChanged", &table, None).await;
    assert!(exported.header("content-type").unwrap().starts_with("text/csv"));
    assert_eq!(exported.text.lines().count(), 2, "{}", exported.text);
    let bo = owner.employee("bo", "sales").await;
    let own = bo.get("/api/events").await.ok();
    assert!(own["data"].as_array().unwrap().iter().all(|event| event["actorid"].as_str().unwrap().ends_with(bo.id())));
}

#[tokio::test]
async fn whoever_manages_a_department_takes_nobody_out_of_it() {
    let world = World::start().await;
    let owner = world.business("ACME").await;
    let ada = owner.manager("ada", "sales").await;
    let bo = owner.person("bo", "EMPLOYEE", None).await;
    let path = format!("/api/users/{}", bo.id());
    let nowhere = owner.get(&path).await.ok()["version"].clone();
    owner.patch(&path, json!({"department": "sales"})).await.ok();
    ada.patch(&path, json!({"department": null})).await.problem(403, "permission_denied");
    let revert = json!({"to_version": nowhere, "fields": ["department"]});
    ada.post(&format!("{path}/revert"), revert.clone()).await.problem(403, "permission_denied");
    assert_eq!(ada.get(&path).await.ok()["department"], "sales");
    ada.patch(&path, json!({"full_name": "Bo B.", "department": "sales"})).await.ok();
    assert_eq!(owner.post(&format!("{path}/revert"), revert).await.ok()["department"], json!(null));
}

#[tokio::test]
async fn work_that_is_open_again_is_nobodys_who_has_left() {
    let world = World::start().await;
    let owner = world.business("ACME").await;
    let (bo, cy) = (owner.employee("bo", "sales").await, owner.employee("cy", "sales").await);
    for name in ["lost", "deleted", "undone", "reverted"] {
        owner.post("/api/leads", json!({"name": name, "assignee_id": bo.id()})).await.created();
        owner.post("/api/projects", json!({"name": name, "owner_id": bo.id()})).await.created();
    }
    owner.post("/api/leads", json!({"name": "kept", "assignee_id": cy.id()})).await.created();
    let command = |answer: &crate::world::Answer| answer.header("devhub-correlation-id").unwrap().to_owned();
    let moved = command(&owner.post("/api/leads/LED-004/stage", json!({"stage": "contacted"})).await);
    owner.delete("/api/leads/LED-004").await.ok();
    // What was taken away is not brought back by an undo of something else.
    owner.post(&format!("/api/commands/{moved}/undo"), json!({})).await;
    owner.get("/api/leads/LED-004").await.problem(404, "not_found");
    owner.post(&format!("/api/users/{}/lock", cy.id()), json!({})).await.ok();

    owner.post("/api/leads/LED-000/lose", json!({"reason": "price"})).await.ok();
    owner.delete("/api/leads/LED-001").await.ok();
    let lead = command(&owner.delete("/api/leads/LED-002").await);
    owner.post("/api/leads/LED-003/lose", json!({"reason": "price"})).await.ok();
    owner.post("/api/projects/PRJ-000/status", json!({"status": "completed"})).await.ok();
    owner.delete("/api/projects/PRJ-001").await.ok();
    let project = command(&owner.delete("/api/projects/PRJ-002").await);
    owner.post("/api/projects/PRJ-003/status", json!({"status": "cancelled"})).await.ok();
    owner.act(&format!("/api/users/{}/deactivate", bo.id())).await.ok();

    owner.act("/api/leads/LED-000/reopen").await.ok();
    owner.act("/api/leads/LED-001/restore").await.ok();
    owner.post("/api/leads/LED-003/revert", json!({"to_version": 1})).await.ok();
    owner.post("/api/projects/PRJ-000/status", json!({"status": "in_progress"})).await.ok();
    owner.act("/api/projects/PRJ-001/restore").await.ok();
    owner.post("/api/projects/PRJ-003/revert", json!({"to_version": 1})).await.ok();
    for deleted in [lead, project] {
        owner.post(&format!("/api/commands/{deleted}/undo"), json!({})).await.ok();
    }
    for number in 0..4 {
        let lead = owner.get(&format!("/api/leads/LED-00{number}")).await.ok();
        assert_eq!(lead["assignee_id"], json!(null), "{lead}");
        let project = owner.get(&format!("/api/projects/PRJ-00{number}")).await.ok();
        assert_eq!(project["owner_id"], json!(null), "{project}");
    }
    // Whoever is only locked out has not left.
    assert_eq!(owner.act("/api/leads/LED-004/restore").await.ok()["assignee_id"], cy.id());
}

#[tokio::test]
async fn a_customer_that_may_not_be_looked_for_is_not_unknown() {
    let world = World::start().await;
    let owner = world.business("ACME").await;
    let bo = owner.employee("bo", "sales").await;
    owner.post("/api/customers", json!({"name": "Ada"})).await.created();
    bo.post("/api/leads", json!({"name": "Grace"})).await.created();
    let into = json!({"customer_id": "CUS-009"});
    bo.post("/api/leads/LED-000/convert", into.clone()).await.problem(422, "validation_failed");
    let denied = json!({"permissions": {"customers:read": "deny"}});
    owner.patch(&format!("/api/users/{}", bo.id()), denied).await.ok();
    let refused = bo.post("/api/leads/LED-000/convert", into).await.problem(403, "permission_denied");
    assert_eq!(refused["permission"], "customers:read");
}

#[tokio::test]
async fn a_search_is_measured_in_characters() {
    let world = World::start().await;
    let owner = world.business("ACME").await;
    let search = async |letters: usize| owner.get(&format!("/api/leads?q={}", "%C3%A9".repeat(letters))).await;
    search(200).await.ok();
    search(201).await.problem(422, "validation_failed");
}
