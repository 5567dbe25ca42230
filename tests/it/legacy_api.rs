//! What the founder sees of imports: the runs with their reports, and the rows that were kept aside.

use std::time::Duration;

use devhub::aggregates::ids::TenantId;
use devhub::legacy::{self, Options, Progress, Report};
use serde_json::{Value, json};

use crate::legacy::OldDatabase;
use crate::world::{Client, World};

const IMPORTS: &str = "/api/admin/legacy/imports";

/// What must stay in the old database: a hash, a token, a password in clear text.
const SECRETS: [&str; 3] = ["$2b$12$", "tok_4711", "hunter2"];

/// An old database with two leads that were won by nobody, and three invoices without a readable amount.
const OLD: &str = "
    create table alembic_version (version_num text);
    insert into alembic_version values ('fef60ef31522');
    create table users (
        id bigint, system_id text, email text, full_name text, hashed_password text, reset_token text,
        is_active boolean, created_at timestamp, updated_at timestamp);
    insert into users values
        (1, 'USR-001', 'ada@old.test', 'Ada', '$2b$12$abcdefghijklmnopqrstuuabcdefghijklmnopqrstuvwxyz01234', 'tok_4711',
         true, '2020-01-01', '2020-01-01');
    create table password_vault (id bigint, user_system_id text, original_password text);
    insert into password_vault values (1, 'USR-001', 'hunter2');
    create table customers (
        id bigint, system_id text, name text, company text, is_active boolean, created_at timestamp, updated_at timestamp);
    insert into customers values (1, 'CUS-001', 'Grace', 'Navy', true, '2020-01-02', '2020-01-02');
    create table leads (
        id bigint, system_id text, name text, company text, stage text, is_active boolean, created_at timestamp,
        updated_at timestamp);
    insert into leads values
        (1, 'LED-001', 'Zoë', 'ACME', 'new', true, '2020-01-03', '2020-01-03'),
        (2, 'LED-002', 'Bo', null, 'Closed Won', true, '2020-01-03', '2020-01-03'),
        (10, 'LED-010', 'Cy', null, 'closed_won', true, '2020-01-03', '2020-01-03');
    create table invoices (
        id bigint, system_id text, customer_id text, amount text, currency text, status text, created_at timestamp,
        updated_at timestamp);
    insert into invoices values
        (1, 'INV-001', 'CUS-001', null, 'USD', 'draft', '2020-01-04', '2020-01-04'),
        (2, 'INV-002', 'CUS-001', 'TBD', 'USD', 'draft', '2020-01-04', '2020-01-04'),
        (10, 'INV-010', 'CUS-001', null, 'USD', 'draft', '2020-01-04', '2020-01-04');";

/// One run, a minute after what was before.
async fn import(world: &World, old: &OldDatabase, tenant: TenantId, dry_run: bool) -> Report {
    world.clock.advance(Duration::from_secs(60));
    let options = Options { tenant, dry_run, accept_deletions: false, mappings: Vec::new() };
    legacy::import(&world.app, &old.url.as_str().into(), &options, &Progress::hidden()).await.unwrap()
}

/// A world with a dry run, the import, and one into a business that was there before; the founder; the owner of that.
async fn imported() -> (World, Client, Client, [Report; 3]) {
    let world = World::start().await;
    let owner = world.business("Zanzibar").await;
    let theirs = owner.tenant.as_ref().unwrap().parse().unwrap();
    let old = OldDatabase::of(OLD).await;
    let runs = [
        import(&world, &old, TenantId::Legacy, true).await,
        import(&world, &old, TenantId::Legacy, false).await,
        import(&world, &old, theirs, false).await,
    ];
    let founder = world.founder().await;
    (world, founder, owner, runs)
}

/// The ids of a list's rows, from this address on to its last page.
async fn walked(client: &Client, address: &str, id: impl Fn(&Value) -> String) -> Vec<Vec<String>> {
    let mut pages = Vec::new();
    let mut next = Some(address.to_owned());
    while let Some(address) = next {
        let answer = client.get(&address).await;
        let page = answer.ok();
        pages.push(page["data"].as_array().unwrap().iter().map(&id).collect());
        let link = answer.header("link").map(|link| link.split(['<', '>']).nth(1).unwrap().to_owned());
        assert_eq!(page["page"]["has_more"], link.is_some());
        assert_eq!(page["page"]["next_cursor"].is_string(), link.is_some());
        next = link;
    }
    pages
}

fn import_id(run: &Value) -> String {
    run["id"].as_str().unwrap().to_owned()
}

fn place(row: &Value) -> String {
    format!("{}/{}", row["table"].as_str().unwrap(), row["key"])
}

#[tokio::test]
async fn the_founder_sees_every_run_the_newest_first() {
    let (world, founder, owner, runs) = imported().await;
    let [dry, whole, theirs] = runs.map(|report| report.import_id.to_string());
    let found = walked(&founder, &format!("{IMPORTS}?limit=2"), import_id).await;
    assert_eq!(found, [vec![theirs.clone(), whole.clone()], vec![dry.clone()]]);
    let tenant = owner.tenant.as_ref().unwrap();
    for (filter, expected) in [
        (format!("tenant_id={tenant}"), vec![&theirs]),
        ("tenant_id=DEV-000&dry_run=false".to_owned(), vec![&whole]),
        ("dry_run=true".to_owned(), vec![&dry]),
        ("status=done,failed&sort=started_at".to_owned(), vec![&dry, &whole, &theirs]),
        ("status=reading".to_owned(), vec![]),
    ] {
        let found = walked(&founder, &format!("{IMPORTS}?{filter}"), import_id).await.concat();
        assert_eq!(found.iter().collect::<Vec<_>>(), expected, "{filter}");
    }

    let newest = &founder.get(IMPORTS).await.ok()["data"][1];
    let database = newest["source"].as_str().unwrap();
    assert!(database.contains("/devhub_test_") && !database.contains(['@', ':', '?']), "{database}");
    assert_eq!(
        *newest,
        json!({
            "id": whole, "tenant_id": "DEV-000", "source": database, "revision": "fef60ef31522", "dry_run": false,
            "status": "done", "started_at": "2026-03-02T09:02:00Z", "ended_at": "2026-03-02T09:02:00Z",
            "planned_events": newest["planned_events"], "appended_events": newest["planned_events"],
        })
    );
    assert!(newest["planned_events"].as_i64().unwrap() > 0);
    drop(world);
}

#[tokio::test]
async fn a_run_has_the_report_that_the_command_prints_once_it_is_done() {
    let (world, founder, _, runs) = imported().await;
    for report in runs {
        let shown = founder.get(&format!("{IMPORTS}/{}", report.import_id)).await.ok();
        assert_eq!(shown["report"], serde_json::to_value(&report).unwrap());
        assert_eq!((&shown["status"], &shown["dry_run"]), (&json!("done"), &json!(report.dry_run)));
        assert_eq!(shown["report"]["tables"]["invoices"]["reasons"]["amount_missing"], 2);
    }
    let at_work = "01928d3e-7a10-7c3e-9f5b-0a6f5e8a1c11";
    sqlx::query(
        "insert into legacy_imports (import_id, tenant_id, source, revision, dry_run, status, started_at)
         values ($1::uuid, 'DEV-000', 'old-server/devhub', 'fef60ef31522', false, 'reading', '2026-03-02T12:00:00Z')",
    )
    .bind(at_work)
    .execute(&world.app.database.cell_of(TenantId::Legacy).importer)
    .await
    .unwrap();
    let shown = founder.get(&format!("{IMPORTS}/{at_work}")).await.ok();
    assert_eq!(
        (&shown["status"], &shown["ended_at"], &shown["report"]),
        (&json!("reading"), &Value::Null, &Value::Null)
    );

    for nothing in ["00000000-0000-7000-8000-000000000000", "none", "LED-001"] {
        founder.get(&format!("{IMPORTS}/{nothing}")).await.problem(404, "not_found");
        founder.get(&format!("{IMPORTS}/{nothing}/quarantine")).await.problem(404, "not_found");
    }
}

#[tokio::test]
async fn rows_in_quarantine_are_found_by_table_and_reason() {
    let (_world, founder, _, [dry, whole, _]) = imported().await;
    let heap = format!("{IMPORTS}/{}/quarantine", whole.import_id);
    let all = ["invoices/1", "invoices/2", "invoices/10", "leads/2", "leads/10"];
    assert_eq!(walked(&founder, &heap, place).await, [all]);
    assert_eq!(
        walked(&founder, &format!("{heap}?limit=2"), place).await,
        [vec!["invoices/1", "invoices/2"], vec!["invoices/10", "leads/2"], vec!["leads/10"]]
    );
    // The heap is the business's, whichever of its runs is asked.
    assert_eq!(walked(&founder, &format!("{IMPORTS}/{}/quarantine", dry.import_id), place).await, [all]);
    for (filter, expected) in [
        ("table=leads", vec!["leads/2", "leads/10"]),
        ("reason=amount_missing&limit=1", vec!["invoices/1", "invoices/10"]),
        ("table=leads&reason=amount_missing", vec![]),
        ("table=password_vault", vec![]),
    ] {
        assert_eq!(walked(&founder, &format!("{heap}?{filter}"), place).await.concat(), expected, "{filter}");
    }
    let row = &founder.get(&format!("{heap}?table=leads")).await.ok()["data"][0];
    assert_eq!((&row["legacy_id"], &row["reason"]), (&json!("LED-002"), &json!("converted_without_customer")));
    assert_eq!(row["row"]["stage"], "Closed Won");
    assert_eq!(row["repairs"][0]["rule"], "stage_spelling");
    assert_ne!(row["detail"], "");
}

#[tokio::test]
async fn what_is_not_understood_is_refused() {
    let (_world, founder, _, [dry, whole, _]) = imported().await;
    let [heap, other] = [&whole, &dry].map(|run| format!("{IMPORTS}/{}/quarantine", run.import_id));
    for unknown in ["?colour=red", "?limit=1&only=this_run", "?table[ne]=leads"] {
        founder.get(&format!("{IMPORTS}{unknown}")).await.problem(400, "unknown_parameter");
        founder.get(&format!("{heap}{unknown}")).await.problem(400, "unknown_parameter");
    }
    for wrong in [
        format!("{IMPORTS}?status=over"),
        format!("{IMPORTS}?dry_run=maybe"),
        format!("{IMPORTS}?limit=201"),
        format!("{heap}?table=secrets"),
        format!("{heap}?limit=0"),
        format!("{heap}?limit=201"),
    ] {
        founder.get(&wrong).await.problem(422, "validation_failed");
    }

    let cursor = async |address: &str| {
        let page = founder.get(&format!("{address}?limit=1")).await.ok()["page"].clone();
        page["next_cursor"].as_str().unwrap().to_owned()
    };
    let (of_runs, of_heap) = (cursor(IMPORTS).await, cursor(&heap).await);
    founder.get(&format!("{IMPORTS}?cursor={of_runs}")).await.ok();
    founder.get(&format!("{heap}?cursor={of_heap}")).await.ok();
    let tampered = |cursor: &str| {
        let turned: String = cursor.chars().take(8).map(|c| if c == 'A' { 'B' } else { 'A' }).collect();
        turned + &cursor[8..]
    };
    for bad in [
        format!("{IMPORTS}?cursor={of_heap}"),
        format!("{IMPORTS}?dry_run=false&cursor={of_runs}"),
        format!("{IMPORTS}?cursor={}", tampered(&of_runs)),
        format!("{heap}?cursor={of_runs}"),
        format!("{heap}?table=invoices&cursor={of_heap}"),
        format!("{heap}?reason=amount_missing&cursor={of_heap}"),
        format!("{heap}?cursor={}", tampered(&of_heap)),
        format!("{other}?cursor={of_heap}"),
    ] {
        founder.get(&bad).await.problem(400, "invalid_cursor");
    }
}

#[tokio::test]
async fn nobody_but_the_founder_sees_anything_and_no_secret_is_shown_to_anybody() {
    let (world, founder, owner, [_, whole, theirs]) = imported().await;
    let employee = owner.employee("bo", "sales").await;
    let mut addresses = vec![IMPORTS.to_owned(), format!("{IMPORTS}?tenant_id={}", owner.tenant.as_ref().unwrap())];
    for run in [&whole, &theirs] {
        addresses.extend(["", "/quarantine"].map(|part| format!("{IMPORTS}/{}{part}", run.import_id)));
    }
    for address in &addresses {
        let shown = founder.get(address).await;
        shown.ok();
        assert_eq!(shown.header("cache-control"), Some("no-store"));
        for secret in SECRETS {
            assert!(!shown.text.contains(secret), "{address} shows {secret}: {}", shown.text);
        }
        for refused in [&owner, &employee] {
            let refused = refused.get(address).await;
            let problem = refused.problem(403, "permission_denied");
            assert_eq!(problem["permission"], "platform:admin");
            assert!(!refused.text.contains("INV-001") && !refused.text.contains("DEV-000"), "{}", refused.text);
        }
        world.nobody().get(address).await.problem(401, "unauthenticated");
    }
}

#[tokio::test]
async fn an_imported_event_says_from_which_row() {
    let (_world, founder, owner, _) = imported().await;
    let events = founder.get("/api/admin/events?tenant_id=DEV-000&subject=LED-001&type=LeadCaptured").await.ok();
    assert_eq!(events["data"][0]["importedfrom"], "leads/1");
    owner.post("/api/leads", json!({"name": "Ada"})).await.created();
    let events = owner.get("/api/events?type=LeadCaptured&limit=1").await.ok();
    assert_eq!(events["data"][0].get("importedfrom"), None);
}
