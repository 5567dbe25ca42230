//! What happened to a record: by whom, when, why, and what was before; whoever may see it now, and nobody else.

use std::time::Duration;

use axum::http::Method;
use serde_json::{Value, json};

use crate::world::{Client, FOUNDER, PASSWORD, World};

/// A field, what it was, and what it became.
type FieldTold = (String, Value, Value);

/// The changes of a history: version, type, fields.
fn told(history: &Value) -> Vec<(i64, String, Vec<FieldTold>)> {
    let change = |change: &Value| {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let fields = change["changes"].as_array().unwrap().iter();
        let fields = fields.map(|field| (text(&field["field"]), field["before"].clone(), field["after"].clone()));
        (change["version"].as_i64().unwrap(), text(&change["type"]), fields.collect())
    };
    history["data"].as_array().unwrap().iter().map(change).collect()
}

fn types(history: &Value) -> Vec<&str> {
    history["data"].as_array().unwrap().iter().map(|change| change["type"].as_str().unwrap()).collect()
}

fn minute(world: &World) {
    world.clock.advance(Duration::from_secs(60));
}

/// The same address as the founder has it.
fn of(owner: &Client, path: &str) -> String {
    format!("/api/admin/tenants/{}{path}", owner.tenant.as_ref().unwrap())
}

#[tokio::test]
async fn a_phone_that_was_changed_three_times_tells_by_whom_and_what_it_was() {
    let world = World::start().await;
    let owner = world.business("ACME").await;
    let (ada, bo) = (owner.manager("ada", "sales").await, owner.employee("bo", "sales").await);
    let customer = json!({"company": "Navy", "phone": "+1 555 0100"});
    assert_eq!(bo.post("/api/customers", customer).await.created(), "CUS-000");
    for (who, phone) in [(&bo, "+1 555 0101"), (&ada, "+1 555 0102"), (&owner, "+1 555 0103")] {
        minute(&world);
        who.patch("/api/customers/CUS-000", json!({"phone": phone})).await.ok();
    }
    let history = bo.get("/api/customers/CUS-000/history").await.ok();
    let phone = |before: &str, after: &str| ("phone".to_owned(), json!(before), json!(after));
    let changed = "devhub.customer.details_changed.v1".to_owned();
    let told = told(&history);
    assert_eq!(
        told[..3],
        [
            (4, changed.clone(), vec![phone("+1 555 0102", "+1 555 0103")]),
            (3, changed.clone(), vec![phone("+1 555 0101", "+1 555 0102")]),
            (2, changed, vec![phone("+1 555 0100", "+1 555 0101")]),
        ]
    );
    // It began with what it began with.
    let (version, began, fields) = &told[3];
    assert_eq!((*version, began.as_str(), told.len()), (1, "devhub.customer.registered.v1", 4));
    assert!(fields.contains(&("company".into(), Value::Null, json!("Navy"))), "{fields:?}");
    assert!(fields.iter().all(|(name, ..)| !["id", "version", "updated_at"].contains(&name.as_str())), "{fields:?}");

    let changes = history["data"].as_array().unwrap();
    let who = |n: usize| (changes[n]["actor"]["id"].clone(), changes[n]["actor"]["name"].clone());
    assert_eq!(who(0), (json!(owner.id()), json!("Owner of ACME")));
    assert_eq!(who(1), (json!(ada.id()), json!("ada")));
    assert_eq!(who(2), (json!(bo.id()), json!("bo")));
    assert_eq!((&changes[1]["role"], &changes[1]["summary"]), (&json!("MANAGER"), &json!("Customer details changed")));
    assert_eq!(changes[2]["occurred_at"], "2026-03-02T09:01:00Z");
    assert_eq!(changes[2]["recorded_at"], "2026-03-02T09:01:00Z");
    assert_eq!(changes[2].get("effective_from"), None);
    assert_eq!(history.get("limited_to"), None, "the enterprise plan shows everything");

    // Any version, and any two compared.
    assert_eq!(bo.get("/api/customers/CUS-000/versions/2").await.ok()["phone"], "+1 555 0101");
    let second = bo.get("/api/customers/CUS-000/versions/2").await;
    assert_eq!(second.header("etag"), Some("\"v2\""));
    let diff = bo.get("/api/customers/CUS-000/diff?from=1&to=4").await.ok();
    let change = json!([{"field": "phone", "before": "+1 555 0100", "after": "+1 555 0103"}]);
    assert_eq!(diff, json!({"from": 1, "to": 4, "changes": change}));
    let back = bo.get("/api/customers/CUS-000/diff?from=4&to=4").await.ok();
    assert_eq!(back["changes"], json!([]));
    for nowhere in ["versions/5", "versions/0", "versions/first", "diff?from=1&to=9"] {
        bo.get(&format!("/api/customers/CUS-000/{nowhere}")).await.problem(404, "not_found");
    }
    bo.get("/api/customers/CUS-000/diff?from=1").await.problem(422, "validation_failed");
    bo.get("/api/customers/CUS-000/history?since=2020").await.problem(400, "unknown_parameter");

    // The founder reads the same from outside.
    let founder = world.founder().await;
    for path in ["history", "versions/2", "diff?from=1&to=4"] {
        let path = format!("/customers/CUS-000/{path}");
        let own = bo.get(&format!("/api{path}")).await.ok();
        assert_eq!(founder.get(&of(&owner, &path)).await.ok(), own, "{path}");
    }
}

#[tokio::test]
async fn a_lead_that_was_taken_away_keeps_its_history() {
    let world = World::start().await;
    let owner = world.business("ACME").await;
    let bo = owner.employee("bo", "sales").await;
    let value = json!({"amount": "25000", "currency": "USD"});
    bo.post("/api/leads", json!({"name": "Grace", "estimated_value": value})).await.created();
    bo.post("/api/leads/LED-000/stage", json!({"stage": "proposal"})).await.ok();
    bo.patch("/api/leads/LED-000", json!({"estimated_value": {"amount": "30000", "currency": "USD"}})).await.ok();
    bo.post("/api/leads/LED-000/lose", json!({"reason": "Too expensive"})).await.ok();
    minute(&world);
    owner.delete("/api/leads/LED-000").await.ok();
    bo.get("/api/leads/LED-000").await.problem(404, "not_found");

    let history = bo.get("/api/leads/LED-000/history").await.ok();
    assert_eq!(
        types(&history),
        [
            "devhub.lead.deleted.v1",
            "devhub.lead.lost.v1",
            "devhub.lead.details_changed.v1",
            "devhub.lead.stage_changed.v1",
            "devhub.lead.captured.v1"
        ]
    );
    let told = told(&history);
    assert_eq!(told[0].2, [("deleted_at".to_owned(), Value::Null, json!("2026-03-02T09:01:00Z"))]);
    let amount = |amount: &str| json!({"amount": amount, "currency": "USD"});
    assert_eq!(told[2].2, [("estimated_value".to_owned(), amount("25000.00"), amount("30000.00"))]);
    assert_eq!(history["data"][1]["reason"], "Too expensive");
    assert_eq!(bo.get("/api/leads/LED-000/versions/4").await.ok()["lost_reason"], "Too expensive");
    let diff = bo.get("/api/leads/LED-000/diff?from=3&to=5").await.ok();
    let fields: Vec<&str> = diff["changes"].as_array().unwrap().iter().map(|c| c["field"].as_str().unwrap()).collect();
    assert!(fields.contains(&"lost_reason") && fields.contains(&"deleted_at"), "{fields:?}");

    // It can be read as it was before, and not as it is now.
    assert_eq!(bo.get("/api/leads/LED-000?as_of=2026-03-02T09:00:30Z").await.ok()["stage"], "closed_lost");
    bo.get("/api/leads/LED-000?as_of=2026-03-02T09:01:00Z").await.problem(404, "not_found");
    let then = bo.get("/api/leads?as_of=2026-03-02T09:00:30Z&count=exact").await.ok();
    assert_eq!(then["page"]["total"], 1);
    assert_eq!(bo.get("/api/leads?as_of=2026-03-02T09:01:00Z").await.ok()["data"], json!([]));
}

#[tokio::test]
async fn a_history_is_read_page_by_page() {
    let world = World::start().await;
    let owner = world.business("ACME").await;
    for name in ["Ada", "Bo"] {
        owner.post("/api/leads", json!({"name": name})).await.created();
    }
    for company in ["A", "B", "C", "D"] {
        owner.patch("/api/leads/LED-000", json!({"company": company})).await.ok();
    }
    let whole = owner.get("/api/leads/LED-000/history").await.ok();
    assert_eq!(whole["page"], json!({"next_cursor": null, "has_more": false}));
    let mut pages = Vec::new();
    let mut next = Some("/api/leads/LED-000/history?limit=2".to_owned());
    while let Some(path) = next {
        let answer = owner.get(&path).await;
        let page = answer.ok();
        pages.extend(page["data"].as_array().unwrap().clone());
        let link = answer.header("link").map(|link| link.trim_start_matches('<').split('>').next().unwrap().to_owned());
        assert_eq!(link.is_some(), page["page"]["has_more"] == true);
        if let Some(cursor) = page["page"]["next_cursor"].as_str() {
            owner.get(&format!("/api/leads/LED-001/history?cursor={cursor}")).await.problem(400, "invalid_cursor");
            owner.get(&format!("/api/leads?cursor={cursor}")).await.problem(400, "invalid_cursor");
        }
        next = link;
    }
    assert_eq!(json!(pages), whole["data"]);
    owner.get("/api/leads/LED-000/history?limit=0").await.problem(422, "validation_failed");
}

#[tokio::test]
async fn who_may_not_see_a_record_now_sees_nothing_of_its_past() {
    let world = World::start().await;
    let owner = world.business("ACME").await;
    let (bo, cy) = (owner.employee("bo", "sales").await, owner.employee("cy", "support").await);
    let mara = owner.manager("mara", "support").await;
    bo.post("/api/leads", json!({"name": "Grace"})).await.created();
    bo.post("/api/leads/LED-000/interactions", json!({"type": "call", "subject": "First"})).await.created();
    minute(&world);
    owner.post("/api/leads/LED-000/assign", json!({"user_id": cy.id()})).await.ok();
    let before = "as_of=2026-03-02T09:00:30Z";
    let everything = [
        "leads/LED-000/history".to_owned(),
        "leads/LED-000/versions/1".to_owned(),
        "leads/LED-000/diff?from=1&to=2".to_owned(),
        format!("leads/LED-000?{before}"),
        format!("leads/LED-000/interactions?{before}"),
        "interactions/INT-000/history".to_owned(),
        "interactions/INT-000/versions/2".to_owned(),
        format!("interactions/INT-000?{before}"),
    ];
    let other = world.business("Other").await;
    for path in &everything {
        let path = format!("/api/{path}");
        // It was Bo's and no longer is; it is Cy's now, and so is what it was, and the department's manager's.
        bo.get(&path).await.problem(404, "not_found");
        other.get(&path).await.problem(404, "not_found");
        cy.get(&path).await.ok();
        mara.get(&path).await.ok();
    }
    let list = format!("/api/leads?{before}");
    assert_eq!(bo.get(&list).await.ok()["data"], json!([]));
    for sees in [&cy, &mara, &owner] {
        let seen = sees.get(&list).await.ok();
        assert_eq!((&seen["data"][0]["id"], &seen["data"][0]["assignee_id"]), (&json!("LED-000"), &json!(bo.id())));
    }
    // Neither does somebody who changed department, nor who may no longer read leads at all.
    owner.patch(&format!("/api/users/{}", mara.id()), json!({"department": "sales"})).await.ok();
    assert_eq!(mara.get(&list).await.ok()["data"], json!([]));
    owner.patch(&format!("/api/users/{}", cy.id()), json!({"permissions": {"leads:read": "deny"}})).await.ok();
    cy.get("/api/leads/LED-000/history").await.problem(403, "permission_denied");
    cy.get(&list).await.problem(403, "permission_denied");
}

#[tokio::test]
async fn what_was_private_stays_its_authors() {
    let world = World::start().await;
    let owner = world.business("ACME").await;
    let bo = owner.manager("bo", "sales").await;
    bo.post("/api/customers", json!({"company": "Navy"})).await.created();
    let mut diary = vec!["2026-03-02T09:00:30Z"];
    bo.post("/api/customers/CUS-000/notes", json!({"content": "open", "private": false})).await.created();
    for (at, body) in [
        ("2026-03-02T09:01:30Z", json!({"content": "between us", "private": true})),
        ("2026-03-02T09:02:30Z", json!({"content": "for all", "private": false})),
    ] {
        minute(&world);
        bo.patch("/api/notes/NOT-000", body).await.ok();
        diary.push(at);
    }
    let contents = async |who: &Client, path: &str| -> Vec<Value> {
        let mut seen = Vec::new();
        for at in &diary {
            let answer = who.get(&format!("/api/{path}?as_of={at}")).await;
            let row = if path.ends_with("notes") {
                answer.ok()["data"][0]["content"].clone()
            } else {
                answer.json()["content"].clone()
            };
            seen.push(row);
        }
        seen
    };
    for path in ["customers/CUS-000/notes", "notes/NOT-000"] {
        assert_eq!(contents(&bo, path).await, [json!("open"), json!("between us"), json!("for all")], "{path}");
        assert_eq!(contents(&owner, path).await, [json!("open"), Value::Null, json!("for all")], "{path}");
    }
    let own = bo.get("/api/notes/NOT-000/history").await.ok();
    assert_eq!(own["data"].as_array().unwrap().len(), 3);
    let theirs = owner.get("/api/notes/NOT-000/history").await.ok();
    let content = ("content".to_owned(), json!("open"), json!("for all"));
    let latest = &told(&theirs)[0];
    assert_eq!((theirs["data"].as_array().unwrap().len(), &latest.2), (2, &vec![content]));
    assert!(!theirs.to_string().contains("between us"));
    let hidden = own["data"][1]["version"].as_i64().unwrap();
    owner.get(&format!("/api/notes/NOT-000/versions/{hidden}")).await.problem(404, "not_found");
    bo.get(&format!("/api/notes/NOT-000/versions/{hidden}")).await.ok();
    // The customer's own history does not tell that there are notes.
    assert_eq!(types(&owner.get("/api/customers/CUS-000/history").await.ok()), ["devhub.customer.registered.v1"]);

    // Private now: of no concern to anybody else, whatever it was.
    bo.patch("/api/notes/NOT-000", json!({"private": true})).await.ok();
    assert_eq!(contents(&owner, "customers/CUS-000/notes").await, [Value::Null, Value::Null, Value::Null]);
    let founder = world.founder().await;
    for path in ["history", "versions/2", "diff?from=2&to=3"] {
        owner.get(&format!("/api/notes/NOT-000/{path}")).await.problem(404, "not_found");
        founder.get(&of(&owner, &format!("/notes/NOT-000/{path}"))).await.problem(404, "not_found");
    }
    bo.delete("/api/notes/NOT-000").await.ok();
    assert_eq!(types(&bo.get("/api/notes/NOT-000/history").await.ok())[0], "devhub.customer.note_removed.v1");
}

#[tokio::test]
async fn what_a_private_note_says_stands_in_no_event_that_others_read() {
    let world = World::start().await;
    let (owner, founder) = (world.business("ACME").await, world.founder().await);
    let bo = owner.manager("bo", "sales").await;
    for company in ["Navy", "Army"] {
        bo.post("/api/customers", json!({"company": company})).await.created();
    }
    let diary = json!({"title": "Diary of Bo", "content": "They drink too much.", "private": true});
    bo.post("/api/customers/CUS-000/notes", diary).await.created();
    bo.patch("/api/notes/NOT-000", json!({"content": "They drink far too much."})).await.ok();
    bo.post("/api/customers/CUS-000/notes", json!({"title": "For all", "content": "Pays late."})).await.created();
    bo.patch("/api/notes/NOT-001", json!({"content": "Pays very late."})).await.ok();
    bo.post("/api/customers/CUS-000/notes", json!({"content": "Said aloud."})).await.created();
    bo.patch("/api/notes/NOT-002", json!({"content": "Not any more.", "private": true})).await.ok();
    // Whoever merges takes over notes that they may not read.
    owner.post("/api/customers/CUS-000/merge", json!({"into": "CUS-001"})).await.ok();

    let tenant = owner.tenant.as_deref().unwrap();
    let reason = json!({"reason": "Ticket 4711", "mode": "write"});
    let visit = founder.post(&format!("/api/admin/tenants/{tenant}/support-sessions"), reason).await.expect(201);
    let visitor = founder.with_token(visit["access_token"].as_str().unwrap());
    let (own, all) = ("/api/events?limit=200".to_owned(), format!("/api/admin/events?tenant_id={tenant}&limit=200"));
    for (reader, path) in [(&owner, &own), (&visitor, &own), (&founder, &all)] {
        for accept in ["application/json", "application/x-ndjson", "text/csv"] {
            let read = reader.send(Method::GET, path, &[("accept", accept)], None).await;
            assert_eq!(read.status, 200, "{}", read.text);
            for hidden in ["Diary of Bo", "drink", "Said aloud", "Not any more"] {
                assert!(!read.text.contains(hidden), "{path} as {accept} says {hidden}: {}", read.text);
            }
            for said in ["For all", "Pays late.", "Pays very late."] {
                assert!(read.text.contains(said), "{path} as {accept} does not say {said}");
            }
        }
        let events = reader.get(path).await.ok();
        let of = |kind: &str| -> Vec<Value> {
            let events = events["data"].as_array().unwrap().iter();
            events.filter(|event| event["type"] == kind).map(|event| event["data"].clone()).collect()
        };
        let added = &of("devhub.customer.note_added.v1")[2];
        assert_eq!(*added, json!({"id": "NOT-000", "author": bo.id(), "private": true, "withheld": true}));
        let edited = &of("devhub.customer.note_edited.v1")[2];
        assert_eq!(*edited, json!({"id": "NOT-000", "changes": {"withheld": true}}));
        let notes = of("devhub.customer.absorbed.v1")[0]["notes"].as_array().unwrap().clone();
        let withheld: Vec<(&Value, bool)> =
            notes.iter().map(|note| (&note["id"], note.get("withheld").is_some())).collect();
        assert_eq!(withheld, [(&json!("NOT-000"), true), (&json!("NOT-001"), false), (&json!("NOT-002"), true)]);
    }
    let bos = bo.get(&own).await.text;
    assert!(!bos.contains("withheld"), "{bos}");
    for said in ["Diary of Bo", "They drink too much.", "They drink far too much.", "Said aloud.", "Not any more."] {
        assert!(bos.contains(said), "{said}");
    }
    // What everybody may read today is told as what it was when everybody might read it, and no more.
    bo.patch("/api/notes/NOT-000", json!({"content": "They like wine.", "private": false})).await.ok();
    let told = owner.get(&own).await.text;
    assert!(told.contains("They like wine.") && !told.contains("drink"), "{told}");
}

#[tokio::test]
async fn a_note_that_was_private_is_brought_back_by_its_author_alone() {
    let world = World::start().await;
    let owner = world.business("ACME").await;
    let bo = owner.manager("bo", "sales").await;
    bo.post("/api/customers", json!({"company": "Navy"})).await.created();
    bo.post("/api/customers/CUS-000/notes", json!({"content": "between us", "private": true})).await.created();
    let published = bo.patch("/api/notes/NOT-000", json!({"content": "for all", "private": false})).await.command();
    bo.delete("/api/notes/NOT-000").await.ok();
    bo.act("/api/notes/NOT-000/restore").await.ok();
    assert_eq!(types(&owner.get("/api/customers/CUS-000/history").await.ok()), ["devhub.customer.registered.v1"]);
    for fields in [json!(["content"]), json!(["content", "title"])] {
        let revert = json!({"to_version": 2, "fields": fields});
        let refused = owner.post("/api/notes/NOT-000/revert", revert).await.problem(409, "conflict");
        assert_eq!(refused["rule"], "cannot_go_back");
        assert!(!refused.to_string().contains("between us"), "{refused}");
    }
    // Nor is it told to whoever changes the note for that version.
    let when_private = [("if-match", "\"v2\"")];
    let patch = Some(json!({"content": "mine"}));
    let late = owner.send(Method::PATCH, "/api/notes/NOT-000", &when_private, patch).await;
    assert!(!late.problem(412, "version_conflict").to_string().contains("between us"), "{}", late.text);
    let undone = owner.act(&format!("/api/commands/{published}/undo")).await;
    assert!(!undone.text.contains("between us"), "{}", undone.text);
    assert_eq!(owner.get("/api/notes/NOT-000").await.ok()["content"], "for all");
    let back = bo.post("/api/notes/NOT-000/revert", json!({"to_version": 2, "fields": ["content"]})).await.ok();
    assert_eq!(back["content"], "between us");
}

#[tokio::test]
async fn a_visitor_and_a_program_are_told_apart_from_people() {
    let world = World::start().await;
    let owner = world.business("ACME").await;
    owner.post("/api/leads", json!({"name": "Ada"})).await.created();
    let made = owner.post("/api/api-keys", json!({"name": "sync", "role": "MANAGER"})).await.expect(201);
    let program = owner.with_token(made["key"].as_str().unwrap());
    program.patch("/api/leads/LED-000", json!({"company": "Synced"})).await.ok();
    let founder = world.nobody().signed_in(FOUNDER, PASSWORD).await;
    let open = of(&owner, "/support-sessions");
    let visit = founder.post(&open, json!({"reason": "Ticket 4711", "mode": "write"})).await.expect(201);
    let visitor = founder.with_token(visit["access_token"].as_str().unwrap());
    visitor.patch("/api/leads/LED-000", json!({"company": "Fixed"})).await.ok();

    let history = visitor.get("/api/leads/LED-000/history").await.ok();
    let by_visitor = &history["data"][0];
    assert_eq!(by_visitor["actor"], json!({"id": "TNT-PLT:USR-000"}));
    assert!(by_visitor["support_session"].is_string(), "{by_visitor}");
    let by_program = &history["data"][1];
    assert_eq!(by_program["actor"], json!({"id": owner.id(), "name": "Owner of ACME"}));
    assert_eq!(by_program["api_key"], made["id"]);
    assert_eq!(by_program.get("support_session"), None);
    assert_eq!(history["data"][2].get("api_key"), None);
}

#[tokio::test]
async fn a_plan_shows_so_much_of_the_history_and_says_so() {
    let world = World::start().await;
    let owner = world.business_on("ACME", "starter").await;
    owner.post("/api/leads", json!({"name": "Ada", "company": "Old"})).await.created();
    world.clock.advance(Duration::from_secs(100 * 24 * 3600));
    let mut again = world.nobody().signed_in("owner@acme.test", PASSWORD).await;
    again.tenant = owner.tenant;
    let owner = again;
    owner.patch("/api/leads/LED-000", json!({"company": "New"})).await.ok();
    let history = owner.get("/api/leads/LED-000/history").await.ok();
    assert_eq!(types(&history), ["devhub.lead.details_changed.v1"]);
    assert_eq!(told(&history)[0].2, [("company".to_owned(), json!("Old"), json!("New"))]);
    assert_eq!(history["limited_to"], json!({"days": 90, "since": "2026-03-12T09:00:00Z"}));
    assert_eq!(history["page"]["has_more"], false);
    // What it was can be read all the same, and the founder reads everything.
    assert_eq!(owner.get("/api/leads/LED-000?as_of=2026-03-02").await.ok()["company"], "Old");
    let whole = world.founder().await.get(&of(&owner, "/leads/LED-000/history")).await.ok();
    assert_eq!((types(&whole).len(), whole.get("limited_to")), (2, None));
}

#[tokio::test]
async fn a_business_and_its_people_have_a_history_too() {
    let world = World::start().await;
    let owner = world.business("ACME").await;
    let bo = owner.employee("bo", "sales").await;
    let founder = world.founder().await;
    minute(&world);
    owner.patch("/api/tenant", json!({"business_name": "ACME & Sons"})).await.ok();
    founder.patch(&of(&owner, ""), json!({"seat_limit": 3})).await.ok();
    founder.post(&of(&owner, "/suspend"), json!({"reason": "Unpaid"})).await.ok();
    founder.act(&of(&owner, "/reactivate")).await.ok();
    let history = owner.get("/api/tenant/history").await.ok();
    assert_eq!(history, founder.get(&of(&owner, "/history")).await.ok());
    let suspended = &history["data"][1];
    assert_eq!((&suspended["reason"], &suspended["actor"]["id"]), (&json!("Unpaid"), &json!("TNT-PLT:USR-000")));
    assert_eq!(types(&history).last(), Some(&"devhub.tenant.registered.v1"));
    let fields = told(&history).pop().unwrap().2;
    assert!(fields.contains(&("business_name".into(), Value::Null, json!("ACME"))), "{fields:?}");
    assert_eq!(owner.get("/api/tenant/versions/1").await.ok()["business_name"], "ACME");
    assert_eq!(founder.get(&of(&owner, "/versions/1")).await.ok()["business_name"], "ACME");
    let renamed = json!([{"field": "business_name", "before": "ACME", "after": "ACME & Sons"}]);
    assert_eq!(owner.get("/api/tenant/diff?from=1&to=2").await.ok()["changes"], renamed);
    assert_eq!(founder.get(&of(&owner, "/diff?from=1&to=2")).await.ok()["changes"], renamed);
    let then = owner.get("/api/tenant?as_of=2026-03-02T09:00:30Z").await.ok();
    assert_eq!((&then["business_name"], then.get("plan")), (&json!("ACME"), None));
    let then = founder.get(&of(&owner, "?as_of=2026-03-02T09:00:30Z")).await.ok();
    assert_eq!((&then["business_name"], &then["counts"]["users"]), (&json!("ACME"), &json!(2)));
    let listed = founder.get("/api/admin/tenants?as_of=2026-03-02T09:00:30Z&q=ACME").await.ok();
    assert_eq!(
        (&listed["data"][0]["business_name"], &listed["data"][0]["counts"]["users"]),
        (&json!("ACME"), &json!(2))
    );
    assert_eq!(founder.get("/api/admin/tenants?as_of=2026-03-01&q=ACME").await.ok()["data"], json!([]));

    owner.post(&format!("/api/users/{}/lock", bo.id()), json!({"reason": "Lost laptop"})).await.ok();
    let person = format!("/api/users/{}/history", bo.id());
    let history = owner.get(&person).await.ok();
    assert_eq!(history["data"][0]["reason"], "Lost laptop");
    let status = told(&history).into_iter().next().unwrap().2;
    assert!(status.contains(&("status".into(), json!("active"), json!("locked"))), "{status:?}");
    // When somebody signed in is not for every colleague to read.
    assert_eq!(
        types(&owner.employee("cy", "sales").await.get(&person).await.ok()),
        ["devhub.user.locked.v1", "devhub.user.invitation_accepted.v1", "devhub.user.invited.v1"]
    );
}

#[tokio::test]
async fn invoices_projects_and_contact_tell_what_became_of_them() {
    let world = World::start().await;
    let owner = world.business("ACME").await;
    owner.post("/api/leads", json!({"name": "Grace", "company": "Navy"})).await.created();
    owner.post("/api/leads/LED-000/interactions", json!({"type": "call", "subject": "First"})).await.created();
    minute(&world);
    owner.act("/api/leads/LED-000/convert").await.ok();
    owner.post("/api/projects", json!({"name": "Roll-out", "customer_ids": ["CUS-000"]})).await.created();
    owner.post("/api/projects/PRJ-000/status", json!({"status": "in_progress"})).await.ok();
    let amount = json!({"amount": "100", "currency": "USD"});
    let draft = json!({"customer_id": "CUS-000", "amount": amount, "due_date": "2026-03-10"});
    owner.post("/api/invoices", draft).await.created();
    owner.act("/api/invoices/INV-000/send").await.ok();

    // What is worked out from the day is no change, and follows the day that is asked for.
    let sent = told(&owner.get("/api/invoices/INV-000/history").await.ok());
    assert!(sent[0].2.contains(&("status".into(), json!("draft"), json!("sent"))), "{sent:?}");
    assert!(sent.iter().all(|(.., fields)| fields.iter().all(|(name, ..)| name != "overdue")), "{sent:?}");
    let on = async |day: &str| owner.get(&format!("/api/invoices/INV-000?as_of={day}")).await.ok()["overdue"].clone();
    assert_eq!((on("2026-03-10").await, on("2026-03-11").await), (json!(false), json!(true)));
    let overdue = owner.get("/api/invoices?status=overdue&as_of=2026-03-11").await.ok();
    assert_eq!((&overdue["data"][0]["id"], &overdue["data"][0]["overdue"]), (&json!("INV-000"), &json!(true)));
    assert_eq!(owner.get("/api/invoices?status=overdue&as_of=2026-03-10").await.ok()["data"], json!([]));

    let project = told(&owner.get("/api/projects/PRJ-000/history").await.ok());
    assert!(project[0].2.contains(&("status".into(), json!("planned"), json!("in_progress"))), "{project:?}");

    // Contact goes over to the customer that the lead became, and from there to the one that it is merged into.
    minute(&world);
    owner.post("/api/customers", json!({"company": "The Navy"})).await.created();
    owner.post("/api/customers/CUS-000/merge", json!({"into": "CUS-001"})).await.ok();
    let contact = told(&owner.get("/api/interactions/INT-000/history").await.ok());
    let customer = |before: Value, after: &str| vec![("customer_id".to_owned(), before, json!(after))];
    assert_eq!(contact[0].2, customer(json!("CUS-000"), "CUS-001"));
    assert_eq!(contact[1].2, customer(Value::Null, "CUS-000"));
    assert_eq!(contact[2].1, "devhub.lead.interaction_logged.v1");
    let listed = async |path: &str| {
        let page = owner.get(&format!("/api/{path}")).await.ok();
        page["data"].as_array().unwrap().iter().map(|row| row["id"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let (first, second) = ("as_of=2026-03-02T09:00:30Z", "as_of=2026-03-02T09:01:30Z");
    assert_eq!(listed(&format!("leads/LED-000/interactions?{first}")).await, ["INT-000"]);
    owner.get(&format!("/api/customers/CUS-000/interactions?{first}")).await.problem(404, "not_found");
    assert_eq!(listed(&format!("customers/CUS-000/interactions?{second}")).await, ["INT-000"]);
    assert_eq!(listed("customers/CUS-001/interactions?as_of=2026-03-02").await, ["INT-000"]);
    let with = owner.get(&format!("/api/interactions/INT-000?{second}")).await.ok();
    assert_eq!(with["customer_id"], "CUS-000");
    // A customer that gave way can still be read, as it is now.
    let merged = owner.get("/api/customers/CUS-000?as_of=2026-03-02").await.ok();
    assert_eq!(merged["merged_into"], "CUS-001");
    assert_eq!(types(&owner.get("/api/customers/CUS-000/history").await.ok())[0], "devhub.customer.merged_into.v1");
}

#[tokio::test]
async fn contact_that_belongs_to_somebody_elses_customer_now_is_not_shown_through_what_it_was() {
    let world = World::start().await;
    let owner = world.business("ACME").await;
    let bo = owner.employee("bo", "sales").await;
    owner.patch(&format!("/api/users/{}", bo.id()), json!({"permissions": {"customers:read": "own"}})).await.ok();
    bo.post("/api/customers", json!({"company": "Navy"})).await.created();
    bo.post("/api/customers/CUS-000/interactions", json!({"type": "call", "subject": "First"})).await.created();
    bo.post("/api/customers/CUS-000/notes", json!({"content": "Asked for an offer"})).await.created();
    owner.post("/api/customers", json!({"company": "The Navy"})).await.created();
    minute(&world);
    owner.post("/api/customers/CUS-000/merge", json!({"into": "CUS-001"})).await.ok();
    let then = "as_of=2026-03-02T09:00:30Z";
    for path in ["interactions", "notes"] {
        let path = format!("/api/customers/CUS-000/{path}?{then}");
        assert_eq!(bo.get(&path).await.ok()["data"], json!([]), "it is the owner's now");
        assert_eq!(owner.get(&path).await.ok()["data"].as_array().unwrap().len(), 1);
    }
    bo.get(&format!("/api/interactions/INT-000?{then}")).await.problem(404, "not_found");
    bo.get(&format!("/api/notes/NOT-000?{then}")).await.problem(404, "not_found");
}

#[tokio::test]
async fn a_read_waits_for_what_was_written_and_refuses_what_it_cannot_read() {
    let world = World::start().await;
    let owner = world.business("ACME").await;
    owner.post("/api/leads", json!({"name": "Ada"})).await.created();
    let changed = owner.patch("/api/leads/LED-000", json!({"company": "Navy"})).await;
    let position = changed.header("devhub-position").unwrap();
    let history =
        owner.send(Method::GET, "/api/leads/LED-000/history", &[("devhub-min-position", position)], None).await.ok();
    assert_eq!(types(&history).len(), 2);
    for path in ["leads", "leads/LED-000", "tenant", "users/USR-001"] {
        for (query, code) in [
            ("as_of=yesterday", "malformed_request"),
            ("as_of=2026-13-01", "malformed_request"),
            ("as_of=2026-03-02&axis=valid", "malformed_request"),
            ("axis=recorded", "malformed_request"),
            ("asof=2026-03-02", "unknown_parameter"),
        ] {
            owner.get(&format!("/api/{path}?{query}")).await.problem(400, code);
        }
        owner.get(&format!("/api/{path}?as_of=2026-03-02&axis=recorded")).await.ok();
    }
    owner.get("/api/users/USR-001?as_of=2026-03-01").await.problem(404, "not_found");
    owner.get("/api/tenant?as_of=2026-03-01").await.problem(404, "not_found");
}
