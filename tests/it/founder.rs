//! What the founder reads of each business, under the path of that business and no other.

use std::time::Duration;

use devhub::aggregates::ids::TenantId;
use devhub::legacy::{self, Options, Progress};
use serde_json::{Value, json};

use crate::legacy::OldDatabase;
use crate::world::{Client, PASSWORD, World};

/// A business with a lead and a customer, a call with the lead, two with the customer, and two notes of which one is
/// private.
async fn busy(world: &World, name: &str) -> Client {
    let owner = world.business(name).await;
    owner.post("/api/leads", json!({"name": "Ada"})).await.created();
    owner.post("/api/customers", json!({"company": "Navy"})).await.created();
    let call = |subject: &str| json!({"type": "call", "subject": format!("{name} {subject}")});
    owner.post("/api/leads/LED-000/interactions", call("first")).await.created();
    for subject in ["second", "third"] {
        owner.post("/api/customers/CUS-000/interactions", call(subject)).await.created();
    }
    let note = |private: bool| json!({"content": format!("{name} wrote"), "private": private});
    owner.post("/api/customers/CUS-000/notes", note(false)).await.created();
    owner.post("/api/customers/CUS-000/notes", note(true)).await.created();
    owner
}

fn ids(page: &Value) -> Vec<&str> {
    page["data"].as_array().unwrap().iter().map(|row| row["id"].as_str().unwrap()).collect()
}

/// The same address as the founder has it.
fn of(owner: &Client, path: &str) -> String {
    format!("/api/admin/tenants/{}{path}", owner.tenant.as_ref().unwrap())
}

/// What a problem says, whichever request it answers.
fn told(mut problem: Value) -> Value {
    problem["request_id"] = Value::Null;
    problem
}

const LISTS: [&str; 3] = ["/leads/LED-000/interactions", "/customers/CUS-000/interactions", "/customers/CUS-000/notes"];
const RECORDS: [&str; 3] = ["/interactions/INT-000", "/interactions/INT-001", "/notes/NOT-000"];

#[tokio::test]
async fn the_founder_reads_a_businesss_contact_and_notes_as_it_does_itself() {
    let world = World::start().await;
    let (acme, founder) = (busy(&world, "ACME").await, world.founder().await);
    for path in LISTS {
        let theirs = founder.get(&of(&acme, path)).await.ok();
        assert!(!ids(&theirs).is_empty(), "{path}");
        // Its own private note is what the business sees besides.
        let mut own = acme.get(&format!("/api{path}?count=exact")).await.ok();
        own["data"].as_array_mut().unwrap().retain(|row| row["private"] != true);
        assert_eq!(theirs["data"], own["data"], "{path}");
    }
    for path in RECORDS {
        let (theirs, own) = (founder.get(&of(&acme, path)).await, acme.get(&format!("/api{path}")).await);
        assert_eq!(theirs.ok(), own.ok(), "{path}");
        assert_eq!(theirs.header("etag"), own.header("etag"), "{path}");
    }
    // Filters, sorts and cursors are those of the business.
    let calls = of(&acme, "/customers/CUS-000/interactions");
    let first = founder.get(&format!("{calls}?type=call&sort=id&limit=1&count=exact")).await;
    let page = first.ok();
    assert_eq!((ids(&page), &page["page"]["total"]), (vec!["INT-001"], &json!(2)));
    let next = first.header("link").unwrap().split(['<', '>']).nth(1).unwrap().to_owned();
    assert!(next.starts_with(&calls), "{next}");
    assert_eq!(ids(&founder.get(&next).await.ok()), ["INT-002"]);
    assert_eq!(founder.get(&format!("{calls}?type=meeting")).await.ok()["data"], json!([]));
    founder.get(&format!("{calls}?colour=red")).await.problem(400, "unknown_parameter");
    let cursor = next.rsplit_once("cursor=").unwrap().1;
    let elsewhere = of(&acme, &format!("/leads/LED-000/interactions?type=call&sort=id&limit=1&cursor={cursor}"));
    founder.get(&elsewhere).await.problem(400, "invalid_cursor");
}

#[tokio::test]
async fn what_one_business_has_is_not_found_under_the_path_of_another() {
    let world = World::start().await;
    let (acme, founder) = (busy(&world, "ACME").await, world.founder().await);
    let other = world.business("Other").await;
    let nothing = told(founder.get(&of(&acme, "/notes/NOT-999")).await.problem(404, "not_found"));
    for path in LISTS.iter().chain(&RECORDS) {
        let elsewhere = founder.get(&of(&other, path)).await.problem(404, "not_found");
        assert_eq!(told(elsewhere), nothing, "{path}");
        let nowhere = founder.get(&format!("/api/admin/tenants/TNT-999{path}")).await.problem(404, "not_found");
        assert_eq!(told(nowhere), nothing, "{path}");
        // Nobody but the founder asks at all, not even for what is one's own.
        for owner in [&acme, &other] {
            let refused = owner.get(&of(&acme, path)).await.problem(403, "permission_denied");
            assert_eq!(refused["permission"], "platform:admin", "{path}");
        }
    }
    // Where both have a record of the same id, each path shows its own.
    let second = busy(&world, "Second").await;
    for (owner, name) in [(&acme, "ACME"), (&second, "Second")] {
        for path in LISTS.iter().chain(&RECORDS) {
            let shown = founder.get(&of(owner, path)).await;
            shown.ok();
            let texts = ["ACME", "Second"].map(|text| shown.text.contains(text));
            assert_eq!(texts, ["ACME", "Second"].map(|text| text == name), "{path}: {}", shown.text);
        }
    }
}

#[tokio::test]
async fn a_private_note_is_not_there_for_the_founder_who_did_not_write_it() {
    let world = World::start().await;
    let (acme, founder) = (busy(&world, "ACME").await, world.founder().await);
    let notes = of(&acme, "/customers/CUS-000/notes");
    assert_eq!(ids(&acme.get("/api/customers/CUS-000/notes?sort=id").await.ok()), ["NOT-000", "NOT-001"]);
    for filter in ["", "&private=false", "&author_id=USR-001", "&q=wrote"] {
        let listed = founder.get(&format!("{notes}?count=exact{filter}")).await.ok();
        assert_eq!((ids(&listed), &listed["page"]["total"]), (vec!["NOT-000"], &json!(1)), "{filter}");
    }
    assert_eq!(founder.get(&format!("{notes}?private=true")).await.ok()["data"], json!([]));
    let hidden = founder.get(&of(&acme, "/notes/NOT-001")).await.problem(404, "not_found");
    let nothing = founder.get(&of(&acme, "/notes/NOT-999")).await.problem(404, "not_found");
    assert_eq!(told(hidden), told(nothing));

    // The founder's own are: those of the platform's CRM …
    founder.post("/api/customers", json!({"company": "Navy"})).await.created();
    let secret = json!({"content": "Mine", "private": true});
    founder.post("/api/customers/CUS-000/notes", secret).await.created();
    let own = "/api/admin/tenants/TNT-PLT";
    assert_eq!(ids(&founder.get(&format!("{own}/customers/CUS-000/notes")).await.ok()), ["NOT-000"]);
    assert_eq!(founder.get(&format!("{own}/notes/NOT-000")).await.ok()["content"], "Mine");
}

#[tokio::test]
async fn what_the_founder_wrote_in_private_before_an_import_is_still_the_founders() {
    let world = World::start().await;
    let old = OldDatabase::of(
        "create table alembic_version (version_num text);
         insert into alembic_version values ('fef60ef31522');
         create table users (id bigint, system_id text, email text, full_name text, user_role text,
             is_founder boolean, is_active boolean, created_at timestamp, updated_at timestamp);
         insert into users values
             (1, 'USR-000', 'boss@old.test', 'Boss', 'FOUNDER', true, true, '2020-01-01', '2020-01-01'),
             (2, 'USR-001', 'ada@old.test', 'Ada', 'EMPLOYEE', false, true, '2020-01-01', '2020-01-01');
         create table customers (id bigint, system_id text, company text, is_active boolean, created_at timestamp,
             updated_at timestamp);
         insert into customers values (1, 'CUS-001', 'Navy', true, '2020-01-02', '2020-01-02');
         create table customer_notes (id bigint, system_id text, customer_id text, user_id text, content text,
             is_private boolean, created_at timestamp, updated_at timestamp);
         insert into customer_notes values
             (1, 'NOT-001', 'CUS-001', 'USR-000', 'The boss', true, '2020-01-03', '2020-01-03'),
             (2, 'NOT-002', 'CUS-001', 'USR-001', 'Ada', true, '2020-01-03', '2020-01-03');",
    )
    .await;
    world.clock.advance(Duration::from_secs(60));
    let options = Options { tenant: TenantId::Legacy, dry_run: false, accept_deletions: false, mappings: Vec::new() };
    let report = legacy::import(&world.app, &old.url.as_str().into(), &options, &Progress::hidden()).await.unwrap();
    assert_eq!(report.tables["customer_notes"].quarantined, 0);
    let founder = world.founder().await;
    let business = format!("/api/admin/tenants/{}", TenantId::Legacy);
    assert_eq!(ids(&founder.get(&format!("{business}/customers/CUS-001/notes")).await.ok()), ["NOT-001"]);
    assert_eq!(founder.get(&format!("{business}/notes/NOT-001")).await.ok()["content"], "The boss");
    founder.get(&format!("{business}/notes/NOT-002")).await.problem(404, "not_found");
}

#[tokio::test]
async fn contact_and_notes_go_with_the_record_that_they_belong_to() {
    let world = World::start().await;
    let (acme, founder) = (busy(&world, "ACME").await, world.founder().await);
    // The customer that a lead became has the contact from then on.
    let customer = acme.act("/api/leads/LED-000/convert").await.ok()["customer_id"].as_str().unwrap().to_owned();
    for parent in [format!("/customers/{customer}"), "/leads/LED-000".to_owned()] {
        let calls = founder.get(&of(&acme, &format!("{parent}/interactions"))).await.ok();
        assert_eq!(ids(&calls), ["INT-000"], "{parent}");
    }
    acme.delete("/api/notes/NOT-000").await.ok();
    founder.get(&of(&acme, "/notes/NOT-000")).await.problem(404, "not_found");
    assert_eq!(founder.get(&of(&acme, "/customers/CUS-000/notes")).await.ok()["data"], json!([]));
    acme.delete("/api/customers/CUS-000").await.ok();
    for path in ["/customers/CUS-000/interactions", "/customers/CUS-000/notes", "/interactions/INT-001"] {
        acme.get(&format!("/api{path}")).await.problem(404, "not_found");
        founder.get(&of(&acme, path)).await.problem(404, "not_found");
    }
    founder.get(&of(&acme, "/interactions/INT-000")).await.ok();
}

#[tokio::test]
async fn the_founder_finds_what_is_overdue_as_the_business_does() {
    let world = World::start().await;
    let (acme, founder) = (busy(&world, "ACME").await, world.founder().await);
    let draft = json!({"customer_id": "CUS-000", "amount": {"amount": "100", "currency": "USD"},
        "issue_date": "2026-01-01", "due_date": "2026-01-31"});
    acme.post("/api/invoices", draft).await.created();
    acme.act("/api/invoices/INV-000/send").await.ok();
    for (status, found) in [("overdue", vec!["INV-000"]), ("paid", Vec::new())] {
        let page = founder.get(&of(&acme, &format!("/invoices?status={status}"))).await.ok();
        assert_eq!(ids(&page), found, "{status}");
    }
}

#[tokio::test]
async fn the_metrics_name_businesses_to_the_founder_only() {
    let world = World::start().await;
    let acme = world.business("ACME").await;
    metrics::gauge!("projection_tenant_lag", "projection" => "leads", "tenant" => "TNT-777").set(3.0);
    let lag = "projection_tenant_lag{projection=\"leads\",tenant=\"TNT-777\"} 3";
    assert!(world.founder().await.get("/metrics").await.text.contains(lag));
    for client in [world.nobody(), acme] {
        let text = client.get("/metrics").await.text;
        assert!(!text.contains("TNT-777") && text.contains("projection_position{projection=\"leads\"}"), "{text}");
    }
}

#[tokio::test]
async fn durations_are_counted_by_bounds() {
    let world = World::start().await;
    world.nobody().get("/health/live").await.ok();
    let text = world.nobody().get("/metrics").await.text;
    let bucket = "http_request_duration_seconds_bucket{method=\"GET\",route=\"/health/live\",status=\"200\",le=\"10\"}";
    assert!(text.contains(bucket) && !text.contains("quantile="), "{text}");
}

#[tokio::test]
async fn the_documentation_shows_the_document_of_these_routes() {
    let nobody = World::start().await.nobody();
    let page = nobody.get("/api/docs/swagger-initializer.js").await.text;
    assert!(page.contains("\"/api/openapi.json\""), "{page}");
    let document: Value = serde_json::from_str(&devhub::api::document().unwrap()).unwrap();
    for _ in 0..2 {
        let served = nobody.get("/api/openapi.json").await;
        assert_eq!(served.headers["content-type"], "application/json");
        assert!(served.ok() == document, "the document that is served is another");
    }
}

#[tokio::test]
async fn whom_the_founder_invited_is_told_whole_who_that_was() {
    let world = World::start().await;
    let founder = world.founder().await;
    let body = json!({"business_name": "ACME", "business_email": "office@acme.test", "subscription_plan": "professional",
        "owner": {"email": "ada@acme.test", "full_name": "Ada"}});
    let made = founder.post("/api/admin/tenants", body).await.expect(201);
    assert_eq!(made["owner"]["invited_by"], "TNT-PLT:USR-000");
    let tenant = made["id"].as_str().unwrap();
    let accept = json!({"token": made["invitation"]["token"], "password": PASSWORD});
    let ada = world.nobody().post("/api/auth/accept-invitation", accept).await.ok();
    let ada = world.nobody().with_tokens(&ada);
    assert_eq!(ada.get("/api/users/USR-001").await.ok()["invited_by"], "TNT-PLT:USR-000");
    let bo = ada.employee("bo", "sales").await;
    assert_eq!(ada.get(&format!("/api/users/{}", bo.id())).await.ok()["invited_by"], "USR-001");

    let path = format!("/api/admin/tenants/{tenant}");
    let refused = founder.patch(&path, json!({"subscription_plan": null})).await.problem(422, "validation_failed");
    assert_eq!(refused["errors"][0]["pointer"], "/subscription_plan");
    assert_eq!(founder.get(&path).await.ok()["subscription_plan"], "professional");
}
