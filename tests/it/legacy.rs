//! The old application's database becomes the history of DEV-000.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use devhub::aggregates::ids::TenantId;
use devhub::legacy::quarantine::{self, Which};
use devhub::legacy::{self, ImportError, Options, Progress, Report, verify};
use secrecy::SecretString;
use serde_json::{Value, json};
use sqlx::{Connection, PgConnection};

use crate::cluster::{fresh_database, scratch};
use crate::world::{FOUNDER, World};

mod again;

/// A part of a real old database, with what is wrong in it.
const SAMPLE: &str = include_str!("legacy/sample.sql");

/// An old database.
pub struct OldDatabase {
    pub url: String,
}

impl OldDatabase {
    pub async fn of(sql: &str) -> Self {
        let url = fresh_database("blank", async |_: &str| Ok::<(), Infallible>(())).await;
        let old = Self { url };
        old.run(sql).await;
        old
    }

    /// The part of a real one.
    pub async fn sample() -> Self {
        Self::of(SAMPLE).await
    }

    pub async fn run(&self, sql: &str) {
        let mut connection = PgConnection::connect(&self.url).await.unwrap();
        sqlx::raw_sql(sql).execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
    }
}

fn options() -> Options {
    Options { tenant: TenantId::Legacy, dry_run: false, accept_deletions: false, mappings: Vec::new() }
}

async fn try_import(world: &World, old: &OldDatabase, options: &Options) -> Result<Report, ImportError> {
    legacy::import(&world.app, &SecretString::from(old.url.as_str()), options, &Progress::hidden()).await
}

async fn import(world: &World, old: &OldDatabase) -> Report {
    let report = try_import(world, old, &options()).await.unwrap();
    assert_heaps_add_up(&report);
    report
}

fn assert_heaps_add_up(report: &Report) {
    for (name, table) in &report.tables {
        assert_eq!(table.read, table.replayed + table.repaired + table.quarantined, "{name}");
        assert_eq!(table.read, report.source.rows[name], "{name}");
        assert_eq!(table.reasons.values().sum::<i64>(), table.quarantined, "{name}");
    }
}

async fn assert_proven(world: &World, old: &OldDatabase) -> verify::Proof {
    let from = SecretString::from(old.url.as_str());
    let proof = verify::verify(&world.app, &from, TenantId::Legacy, &Progress::hidden()).await.unwrap();
    assert_eq!(proof.differences, [], "{}", verify::described(&proof));
    proof
}

async fn aside(world: &World) -> BTreeMap<String, (String, String)> {
    let which = Which { limit: 10_000, ..Which::default() };
    let pool = &world.app.database.cell_of(TenantId::Legacy).founder;
    let rows = quarantine::list(pool, TenantId::Legacy, &which).await.unwrap();
    rows.into_iter().map(|row| (format!("{}/{}", row.table, row.key), (row.reason, row.detail))).collect()
}

/// The log of the imported business: everything but when it was recorded.
async fn log(url: &str) -> Vec<Value> {
    let mut connection = PgConnection::connect(url).await.unwrap();
    sqlx::query_scalar(
        "select to_jsonb(e) - 'recorded_at' - 'hash' - 'position' from cell_000.events e
         where metadata ->> 'source' = 'legacy' order by position",
    )
    .fetch_all(&mut connection)
    .await
    .unwrap()
}

#[tokio::test]
async fn the_old_business_becomes_the_history_of_dev_000() {
    let world = World::unfounded().await;
    let old = OldDatabase::sample().await;
    let report = import(&world, &old).await;
    assert_eq!(report.revision, "fef60ef31522");
    assert_eq!(report.source.missing_tables, [""; 0]);
    assert_eq!(report.tables.values().map(|table| table.events).sum::<i64>(), report.events);
    assert_proven(&world, &old).await;

    // The old founder is the platform's, and signs in with the old password.
    let founder = world.nobody().signed_in("founder@devhub.example", "legacy-founder-1").await;
    assert_eq!(founder.get("/api/me").await.ok()["user"]["id"], "USR-000");
    let leads = founder.get("/api/admin/tenants/DEV-000/leads?limit=1&count=exact").await.ok();
    assert_eq!(leads["page"]["total"], 229, "231 of which two were won without a customer");

    // A real hash signs its owner in, and is another one the second time.
    let anna = world.nobody().signed_in("anna.snelling@devhub.example", "legacy-password-1").await;
    world.nobody().signed_in("anna.snelling@devhub.example", "legacy-password-1").await;
    assert_eq!(anna.get("/api/me").await.ok()["user"]["id"], "USR-007");

    // Ids stay, and counting goes on after the highest.
    for path in ["leads/LED-8799", "customers/CUS-1042", "customers/CUS-100"] {
        founder.get(&format!("/api/admin/tenants/DEV-000/{path}")).await.ok();
    }
    let cara = world.nobody().signed_in("cara.losch@devhub.example", "legacy-password-1").await;
    let next = cara.post("/api/leads", json!({"name": "Next"})).await.created();
    assert_eq!(next, "LED-8800");

    // A lead's history is what the old rows imply, at the old times.
    let lead = founder.get("/api/admin/tenants/DEV-000/leads/LED-001").await.ok();
    assert_eq!(
        (lead["stage"].clone(), lead["customer_id"].clone(), lead["created_at"].clone(), lead["converted_at"].clone()),
        (json!("closed_won"), json!("CUS-038"), json!("2016-10-23T14:38:00Z"), json!("2017-03-11T16:27:00Z"))
    );
    let told: Vec<String> = log(&world.url)
        .await
        .into_iter()
        .filter(|event| event["aggregate_id"] == "DEV-000:LED-001")
        .map(|event| event["event_type"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(
        told,
        [
            "LeadCaptured",
            "LeadInteractionScheduled",
            "LeadInteractionCompleted",
            "LeadStageChanged",
            "LeadInteractionScheduled",
            "LeadInteractionCompleted",
            "LeadScored",
            "LeadConverted"
        ]
    );
}

#[tokio::test]
async fn the_log_is_in_the_order_in_which_things_happened_and_carries_every_row() {
    let world = World::start().await;
    let old = OldDatabase::sample().await;
    let report = import(&world, &old).await;
    let log = log(&world.url).await;
    assert_eq!(i64::try_from(log.len()).unwrap(), report.events);
    let times: Vec<&str> = log.iter().map(|event| event["occurred_at"].as_str().unwrap()).collect();
    assert!(times.is_sorted());
    let carried = log.iter().filter(|event| event["metadata"].get("legacy_row").is_some()).count();
    let with_events: i64 = sqlx::query_scalar("select count(*) from cell_000.legacy_rows where events > 0")
        .fetch_one(&mut PgConnection::connect(&world.url).await.unwrap())
        .await
        .unwrap();
    assert_eq!(i64::try_from(carried).unwrap(), with_events);
    let captured = log.iter().find(|event| event["aggregate_id"] == "DEV-000:LED-001").unwrap();
    let metadata = &captured["metadata"];
    assert_eq!(
        (&metadata["legacy_table"], &metadata["legacy_key"], &metadata["legacy_revision"]),
        (&json!("leads"), &json!("2"), &json!("fef60ef31522"))
    );
    let row: Value = serde_json::from_str(metadata["legacy_row"].as_str().unwrap()).unwrap();
    assert_eq!(row["lead_score"], 5);
}

#[tokio::test]
async fn no_password_of_the_old_system_is_anywhere_but_where_people_sign_in() {
    let world = World::unfounded().await;
    let old = OldDatabase::sample().await;
    old.run("alter table users add column temp_password varchar; update users set temp_password = 'by-hand-secret'")
        .await;
    let report = import(&world, &old).await;
    assert!(report.source.added_columns.contains(&"users.temp_password".to_owned()));
    assert!(!serde_json::to_string(&report).unwrap().contains("$2b$"));
    let mut connection = PgConnection::connect(&world.url).await.unwrap();
    let tables: Vec<(String, String)> = sqlx::query_as(
        "select table_schema::text, table_name::text from information_schema.tables
         where table_schema in ('cell_000', 'platform') and table_name <> 'credentials'",
    )
    .fetch_all(&mut connection)
    .await
    .unwrap();
    assert!(tables.len() > 20);
    for (schema, table) in tables {
        let found: i64 = sqlx::query_scalar(&format!(
            "select count(*) from {schema}.{table} t
             where t::text like '%vault-value%' or t::text like '%$2b$%' or t::text like '%by-hand-secret%'"
        ))
        .fetch_one(&mut connection)
        .await
        .unwrap();
        assert_eq!(found, 0, "{schema}.{table}");
    }
    let listed: Vec<&str> = report.needs_reset.iter().map(|user| user.id.as_str()).collect();
    assert!(listed.contains(&"USR-008") && listed.contains(&"USR-009"), "without and with a placeholder");
    assert!(report.needs_reset.iter().any(|user| user.reasons == ["password_in_vault"]));
    assert_eq!(report.tables["password_vault"].read, 19);
}

#[tokio::test]
async fn a_second_run_appends_nothing_and_a_dry_run_only_tells() {
    let world = World::start().await;
    let old = OldDatabase::sample().await;
    let dry = Options { dry_run: true, ..options() };
    let would = try_import(&world, &old, &dry).await.unwrap();
    assert_eq!(log(&world.url).await.len(), 0);
    let first = import(&world, &old).await;
    assert_eq!((would.events, &would.tables), (first.events, &first.tables));
    let second = import(&world, &old).await;
    assert_eq!((second.events, second.new_rows, second.changed_rows, second.vanished_rows), (0, 0, 0, 0));
    for (name, table) in &second.tables {
        let first = &first.tables[name];
        assert_eq!(
            (table.read, table.replayed, table.repaired, &table.repairs, &table.reasons),
            (first.read, first.replayed, first.repaired, &first.repairs, &first.reasons),
            "{name}"
        );
    }
    assert_eq!(i64::try_from(log(&world.url).await.len()).unwrap(), first.events);
}

#[tokio::test]
async fn the_founder_that_is_there_stays_and_the_import_says_so() {
    let world = World::start().await;
    let report = import(&world, &OldDatabase::sample().await).await;
    assert!(report.founder.contains("same person"), "{}", report.founder);
    assert_eq!(report.tables["users"].repairs["founder_already_there"], 1);
    world.founder().await;
    assert_eq!(
        world
            .nobody()
            .post("/api/auth/login", json!({"email": "founder@devhub.example", "password": "legacy-founder-1"}))
            .await
            .status,
        401
    );
    assert_ne!(FOUNDER, "founder@devhub.example");
}

#[tokio::test]
async fn what_changed_in_the_old_system_since_comes_in_as_changes() {
    let world = World::start().await;
    let old = OldDatabase::sample().await;
    import(&world, &old).await;
    let open: String = {
        let mut connection = PgConnection::connect(&old.url).await.unwrap();
        sqlx::query_scalar("select system_id from leads where stage = 'negotiation' and is_active order by id limit 1")
            .fetch_one(&mut connection)
            .await
            .unwrap()
    };
    old.run(&format!(
        "update leads set phone = '+1-555-9999', stage = 'closed_won', converted_to_customer = true,
                converted_customer_id = 'CUS-003', is_active = false, updated_at = '2018-01-05 10:00'
         where system_id = '{open}';
         insert into lead_interactions (id, system_id, lead_id, user_id, interaction_type, subject, status,
                                        scheduled_at, completed_at, created_at)
         values (900001, 'LI-900001', '{open}', 'USR-010', 'call', 'Signed', 'completed',
                 '2018-01-05 09:00', '2018-01-05 09:00', '2018-01-05 09:00');
         insert into customers (id, system_id, name, is_active, created_at) values
             (900001, 'CUS-2000', 'Brand New', true, '2018-01-06 10:00');
         update customers set email = 'mended@example.com', updated_at = '2018-01-06 11:00' where id = 1;
         delete from customer_notes where id = 2;
         delete from project_customers where project_id = 'PRJ-001';
         update invoices set amount = '120.50' where id = 1"
    ))
    .await;
    let report = import(&world, &old).await;
    assert_eq!((report.new_rows, report.changed_rows), (2, 3));
    assert!(report.vanished_rows >= 2);
    assert_proven(&world, &old).await;
    let founder = world.founder().await;
    let at = |path: &str| format!("/api/admin/tenants/DEV-000/{path}");
    let lead = founder.get(&at(&format!("leads/{open}"))).await.ok();
    assert_eq!(
        (&lead["phone"], &lead["stage"], &lead["customer_id"], &lead["converted_at"]),
        (&json!("+1-555-9999"), &json!("closed_won"), &json!("CUS-003"), &json!("2018-01-05T10:00:00Z"))
    );
    assert_eq!(founder.get(&at("customers/CUS-000")).await.ok()["email"], "mended@example.com");
    founder.get(&at("customers/CUS-2000")).await.ok();
    assert_eq!(
        founder.get(&at("invoices/INV-000")).await.ok()["amount"],
        json!({"amount": "120.50", "currency": "USD"})
    );
    assert_eq!(founder.get(&at("projects/PRJ-001")).await.ok()["customer_ids"], json!([]));
    assert_eq!(import(&world, &old).await.events, 0);
}

#[tokio::test]
async fn a_change_made_here_is_kept_and_told_apart_from_a_defect() {
    let world = World::unfounded().await;
    let old = OldDatabase::sample().await;
    import(&world, &old).await;
    let cara = world.nobody().signed_in("cara.losch@devhub.example", "legacy-password-1").await;
    let mine = cara.post("/api/leads", json!({"name": "Mine"})).await.created();
    assert_eq!(mine, "LED-8800");
    world.caught_up().await;
    let mut connection = PgConnection::connect(&world.url).await.unwrap();
    sqlx::query("update cell_000.leads set phone = 'tampered with' where id = 'LED-001'")
        .execute(&mut connection)
        .await
        .unwrap();
    let from = SecretString::from(old.url.as_str());
    let proof = verify::verify(&world.app, &from, TenantId::Legacy, &Progress::hidden()).await.unwrap();
    assert_eq!(proof.tables["leads"].changed_since, 0, "nobody changed it by an event");
    assert_eq!(proof.differences.len(), 1);
    sqlx::query("update cell_000.lead_versions set phone = 'tampered with' where id = 'LED-001'")
        .execute(&mut connection)
        .await
        .unwrap();
    let proof = verify::verify(&world.app, &from, TenantId::Legacy, &Progress::hidden()).await.unwrap();
    assert_eq!(proof.differences.len(), 1);
    assert_eq!(
        (proof.differences[0].id.as_deref(), proof.differences[0].field.as_deref()),
        (Some("LED-001"), Some("phone"))
    );
}

#[tokio::test]
async fn quarantine_is_worked_off_with_a_mapping() {
    let world = World::start().await;
    let old = OldDatabase::sample().await;
    let imported = import(&world, &old).await;
    let before = aside(&world).await;
    let won: Vec<&String> =
        before.iter().filter(|(_, (why, _))| why == "converted_without_customer").map(|(row, _)| row).collect();
    let children = before.values().filter(|(why, _)| why == "parent_quarantined").count();
    assert_eq!((won.len(), children), (2, 2));
    assert!(before.values().any(|(why, detail)| why == "parent_quarantined" && detail.contains("leads LED-")));
    let mappings = won.iter().map(|row| format!("{row}.converted_customer_id=CUS-005").parse().unwrap()).collect();
    let retry = Options { mappings, ..options() };
    let report = quarantine::retry(&world.app, &retry, &Which::default(), &Progress::hidden()).await.unwrap();
    assert!(report.events > 0);
    assert_eq!(report.tables["leads"].repairs["mapped"], 2);
    assert_eq!(report.needs_reset, imported.needs_reset, "a retry knows no passwords, and says nothing new of them");
    let after = aside(&world).await;
    assert_eq!(after.len(), before.len() - 4, "{after:?}");
    // The mapping stays: the next run does not take it back.
    assert_eq!(import(&world, &old).await.events, 0);
    assert_proven(&world, &old).await;
}

#[tokio::test]
async fn an_id_that_is_used_already_is_given_the_next_number_and_everything_follows() {
    let world = World::start().await;
    let founder = world.founder().await;
    let visit = json!({"reason": "a hand", "mode": "write"});
    let visit = founder.post("/api/admin/tenants/DEV-000/support-sessions", visit).await.expect(201);
    let inside = world.nobody().with_tokens(&visit);
    let used = inside.post("/api/leads", json!({"name": "Already here"})).await.created();
    assert_eq!(used, "LED-000");
    let old = OldDatabase::sample().await;
    let report = import(&world, &old).await;
    assert_eq!(report.tables["leads"].repairs["id_changed"], 1);
    let at = |path: &str| format!("/api/admin/tenants/DEV-000/{path}");
    assert_eq!(founder.get(&at("leads/LED-000")).await.ok()["name"], "Already here");
    let moved = founder.get(&at("leads/LED-8800")).await.ok();
    assert_eq!(moved["name"], "Mei Weiß");
    let contact = inside.get("/api/leads/LED-8800/interactions").await.ok();
    assert!(!contact["data"].as_array().unwrap().is_empty());
    assert_proven(&world, &old).await;
}

#[tokio::test]
async fn a_database_that_lost_most_of_its_rows_is_not_believed_at_once() {
    let world = World::start().await;
    let old = OldDatabase::sample().await;
    import(&world, &old).await;
    old.run("delete from lead_interactions; delete from leads").await;
    let refused = try_import(&world, &old, &options()).await.unwrap_err();
    assert!(matches!(refused, ImportError::ManyGone { .. }), "{refused}");
    let accepted = try_import(&world, &old, &Options { accept_deletions: true, ..options() }).await.unwrap();
    assert_eq!(accepted.events, 229, "each lead is deleted, its history stays");
    let founder = world.founder().await;
    assert_eq!(founder.get("/api/admin/tenants/DEV-000/leads").await.ok()["data"], json!([]));
}

#[tokio::test]
async fn two_imports_at_once_keep_out_of_each_others_way() {
    let world = World::start().await;
    let mut other = PgConnection::connect(&world.url).await.unwrap();
    sqlx::query("select pg_advisory_lock(hashtext('devhub legacy'))").execute(&mut other).await.unwrap();
    let old = OldDatabase::sample().await;
    assert!(matches!(try_import(&world, &old, &options()).await, Err(ImportError::Busy)));
    other.close().await.unwrap();
    import(&world, &old).await;
}

#[tokio::test]
async fn what_was_changed_here_stays_where_the_old_system_did_not_change_it() {
    let world = World::unfounded().await;
    let old = OldDatabase::sample().await;
    import(&world, &old).await;
    let founder = world.nobody().signed_in("founder@devhub.example", "legacy-founder-1").await;
    let visit = json!({"reason": "a hand", "mode": "write"});
    let visit = founder.post("/api/admin/tenants/DEV-000/support-sessions", visit).await.expect(201);
    let inside = world.nobody().with_tokens(&visit);
    inside.patch("/api/customers/CUS-001", json!({"company": "Changed here", "phone": "+1 555 0000"})).await.ok();
    old.run("update customers set phone = '+1-555-1111', updated_at = '2018-02-01' where system_id = 'CUS-001'").await;
    assert_eq!(import(&world, &old).await.events, 1);
    let customer = inside.get("/api/customers/CUS-001").await.ok();
    assert_eq!(
        (&customer["company"], &customer["phone"]),
        (&json!("Changed here"), &json!("+1-555-1111")),
        "what changed in the old system came later"
    );
    assert_proven(&world, &old).await;
}

#[tokio::test]
async fn what_is_no_old_database_is_refused_with_a_sentence() {
    let world = World::start().await;
    let empty = OldDatabase::of("create table something_else (id int)").await;
    let refused = try_import(&world, &empty, &options()).await.unwrap_err().to_string();
    assert!(refused.contains("neither users nor customers"), "{refused}");
    let nowhere = OldDatabase { url: "postgres://nobody@127.0.0.1:1/nothing".into() };
    assert!(try_import(&world, &nowhere, &options()).await.unwrap_err().to_string().contains("cannot be reached"));
    let other = Options { tenant: TenantId::Business(77), ..options() };
    let sample = OldDatabase::sample().await;
    assert!(matches!(try_import(&world, &sample, &other).await, Err(ImportError::NoTenant(_))));
}

/// An import in a process of its own, which can be killed.
fn importer(world: &World, old: &OldDatabase, state: &Path) -> Child {
    Command::new(env!("CARGO_BIN_EXE_devhub"))
        .args(["legacy", "import", "--format", "json", "--from", &old.url])
        .env("DATABASE_URL", &world.url)
        .env("DEVHUB_STATE_DIR", state)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// The importer is killed at ten moments, told by how far it is.
#[tokio::test]
async fn an_import_that_is_killed_again_and_again_makes_the_same_log() {
    let old = OldDatabase::sample().await;
    let undisturbed = World::unfounded().await;
    import(&undisturbed, &old).await;
    let expected = log(&undisturbed.url).await;

    let disturbed = World::unfounded().await;
    let state = scratch("killed-import");
    for kill_at in [-2, -1, 0, 1, 40, 400, 1_001, 1_500, 2_001, 2_300] {
        let mut child = importer(&disturbed, &old, &state);
        let mut connection = PgConnection::connect(&disturbed.url).await.unwrap();
        while child.try_wait().unwrap().is_none() && how_far(&mut connection).await < kill_at {
            tokio::task::yield_now().await;
        }
        let _ = child.kill();
        child.wait().unwrap();
    }
    import(&disturbed, &old).await;
    let made = log(&disturbed.url).await;
    assert_eq!(made.len(), expected.len());
    for (made, expected) in made.iter().zip(&expected) {
        assert_eq!(made, expected);
    }
    assert_proven(&disturbed, &old).await;
}

/// What a run that was killed has still on its way to the log is written once: the next run waits for what it was told,
/// and finds it there.
#[tokio::test]
async fn what_a_killed_import_had_on_its_way_is_written_once() {
    let old = OldDatabase::sample().await;
    let undisturbed = World::start().await;
    import(&undisturbed, &old).await;
    let expected = log(&undisturbed.url).await;

    let world = World::start().await;
    let mut holder = PgConnection::connect(&world.url).await.unwrap();
    sqlx::raw_sql(
        "create function cell_000.held() returns trigger language plpgsql as $$ begin
             if new.metadata ->> 'source' = 'legacy' then perform pg_advisory_xact_lock(4711); end if;
             return new;
         end $$;
         create trigger held before insert on cell_000.events for each row execute function cell_000.held();
         select pg_advisory_lock(4711)",
    )
    .execute(&mut holder)
    .await
    .unwrap();
    let mut child = importer(&world, &old, &scratch("held-import"));
    while appends_that_wait(&mut holder).await < 1 {
        assert!(child.try_wait().unwrap().is_none(), "it ended before it appended");
        tokio::task::yield_now().await;
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let second = import(&world, &old);
    let release = async {
        while appends_that_wait(&mut holder).await < 2 {
            tokio::task::yield_now().await;
        }
        sqlx::query("select pg_advisory_unlock(4711)").execute(&mut holder).await.unwrap();
    };
    tokio::join!(second, release);
    assert_eq!(log(&world.url).await, expected);
    assert_proven(&world, &old).await;
}

/// Sessions that wait for others while they append.
async fn appends_that_wait(connection: &mut PgConnection) -> i64 {
    sqlx::query_scalar(
        "select count(distinct pid) from pg_locks join pg_stat_activity a using (pid)
         where not granted and a.datname = current_database() and a.application_name = 'devhub_appender'",
    )
    .fetch_one(connection)
    .await
    .unwrap()
}

/// A run that was killed leaves its lock behind until the server notices.
#[tokio::test]
async fn an_import_waits_for_the_end_of_one_that_is_about_to_end() {
    let world = World::start().await;
    let old = OldDatabase::sample().await;
    let mut other = PgConnection::connect(&world.url).await.unwrap();
    let mut watching = PgConnection::connect(&world.url).await.unwrap();
    sqlx::query("select pg_advisory_lock(hashtext('devhub legacy'))").execute(&mut other).await.unwrap();
    let run = import(&world, &old);
    let end = async {
        let waits = "select exists (select 1 from pg_locks where locktype = 'advisory' and not granted and database =
            (select oid from pg_database where datname = current_database()))";
        while !sqlx::query_scalar::<_, bool>(waits).fetch_one(&mut watching).await.unwrap() {
            tokio::task::yield_now().await;
        }
        other.close().await.unwrap();
    };
    tokio::join!(run, end);
    assert_proven(&world, &old).await;
}

/// Events of the import in the log; -1 while it plans, -2 while it reads, less before.
async fn how_far(connection: &mut PgConnection) -> i64 {
    sqlx::query_scalar(
        "select case
             when exists (select 1 from cell_000.events where metadata ->> 'source' = 'legacy')
                 then (select count(*) from cell_000.events where metadata ->> 'source' = 'legacy')
             when exists (select 1 from cell_000.legacy_imports where status = 'appending') then 0
             when exists (select 1 from cell_000.legacy_imports where status = 'planning') then -1
             when exists (select 1 from cell_000.legacy_imports where status = 'reading') then -2
             else -3 end",
    )
    .fetch_one(connection)
    .await
    .unwrap()
}

/// The tables of the old application as it made them, without a row.
fn schema(revision: &str) -> String {
    let crm = "
        create table leads (id serial primary key, system_id varchar, name varchar, email varchar, phone varchar,
            company varchar, job_title varchar, source varchar, lead_score integer, qualification_status varchar,
            stage varchar, estimated_value varchar, probability integer, expected_close_date timestamp,
            assigned_to varchar, address_line1 varchar, address_line2 varchar, city varchar, state varchar,
            postal_code varchar, country varchar, is_active boolean, converted_to_customer boolean,
            converted_customer_id varchar, created_at timestamp, updated_at timestamp, last_contacted timestamp);
        create table lead_interactions (id serial primary key, system_id varchar, lead_id varchar, user_id varchar,
            interaction_type varchar, subject varchar, description text, outcome varchar, scheduled_at timestamp,
            completed_at timestamp, follow_up_date timestamp, status varchar, created_at timestamp,
            updated_at timestamp);
        create table customer_interactions (id serial primary key, system_id varchar, customer_id varchar,
            user_id varchar, interaction_type varchar, subject varchar, description text, outcome varchar,
            priority varchar, scheduled_at timestamp, completed_at timestamp, follow_up_date timestamp, status varchar,
            is_billable boolean, billable_hours varchar, created_at timestamp, updated_at timestamp);
        create table customer_notes (id serial primary key, system_id varchar, customer_id varchar, user_id varchar,
            title varchar, content text, note_type varchar, is_private boolean, created_at timestamp,
            updated_at timestamp);";
    let base = "
        create table alembic_version (version_num varchar(32) primary key);
        create table users (id serial primary key, system_id varchar, display_id varchar, email varchar,
            full_name varchar, hashed_password varchar, is_active boolean, is_founder boolean, created_at timestamp,
            updated_at timestamp, tenant_id varchar, tenant_name varchar, user_role varchar);
        create table customers (id serial primary key, system_id varchar, name varchar, email varchar, phone varchar,
            company varchar, address_line1 varchar, address_line2 varchar, city varchar, state varchar,
            postal_code varchar, country varchar, is_active boolean, created_at timestamp, updated_at timestamp);
        create table projects (id serial primary key, system_id varchar, name varchar, description text,
            status varchar, owner_id varchar, created_at timestamp, updated_at timestamp, start_date timestamp,
            due_date timestamp);
        create table project_customers (id serial primary key, project_id varchar, customer_id varchar,
            linked_at timestamp);
        create table project_assignments (id serial primary key, user_id varchar, project_id varchar, role varchar,
            assigned_at timestamp);
        create table invoices (id serial primary key, system_id varchar, customer_id varchar, amount varchar,
            currency varchar, status varchar, issue_date timestamp, due_date timestamp, paid_date timestamp,
            created_at timestamp, updated_at timestamp);";
    let tenants = "
        create table tenants (id serial primary key, system_id varchar, business_name varchar, business_email varchar,
            business_phone varchar, address_line1 varchar, address_line2 varchar, city varchar, state varchar,
            postal_code varchar, country varchar, subscription_plan varchar, is_active boolean, max_users integer,
            created_at timestamp, updated_at timestamp);
        alter table users drop column tenant_name, add column department varchar, add column permissions text;
        alter table customers add column tenant_id varchar; alter table leads add column tenant_id varchar;
        alter table projects add column tenant_id varchar;";
    let mut sql = format!("{base} insert into alembic_version values ('{revision}');");
    if revision != "fa5b1aceebaf" {
        sql.push_str(crm);
    }
    if revision == "47d23c886898" {
        sql.push_str(tenants);
    }
    sql
}

/// The reasons and repairs of a table, by name.
fn told<'a>(report: &'a Report, table: &str) -> (Vec<&'a str>, Vec<&'a str>) {
    let table = &report.tables[table];
    (table.repairs.keys().map(String::as_str).collect(), table.reasons.keys().map(String::as_str).collect())
}

#[tokio::test]
async fn the_revision_before_has_no_leads_and_says_so() {
    let world = World::unfounded().await;
    let old = OldDatabase::of(&schema("fa5b1aceebaf")).await;
    old.run(
        "insert into users (system_id, email, full_name, user_role, is_founder, is_active, created_at) values
             ('USR-000', 'boss@old.example', 'Boss', 'FOUNDER', true, true, '2015-01-01'),
             ('USR-001', 'ann@old.example', 'Ann', 'OWNER', false, true, '2015-02-01');
         insert into customers (system_id, company, is_active, created_at) values ('CUS-000', 'First', true, '2015-03-01');
         alter table customers add column vat_id varchar; update customers set vat_id = 'DE123';
         drop table project_assignments; create table audit_log (id int)",
    )
    .await;
    let report = import(&world, &old).await;
    assert_eq!(report.revision, "fa5b1aceebaf");
    assert_eq!(report.source.missing_tables, ["project_assignments"]);
    assert_eq!(report.source.added_columns, ["customers.vat_id"]);
    assert_eq!(report.source.other_tables, ["audit_log"]);
    assert_proven(&world, &old).await;
    let founder: Value = sqlx::query_scalar("select to_jsonb(u) from cell_000.users u where tenant_id = 'TNT-PLT'")
        .fetch_one(&mut PgConnection::connect(&world.url).await.unwrap())
        .await
        .unwrap();
    assert_eq!((&founder["email"], &founder["id"]), (&json!("boss@old.example"), &json!("USR-000")));
    let kept = log(&world.url).await.into_iter().any(|event| event["metadata"].to_string().contains("DE123"));
    assert!(kept, "a column that somebody added is kept with the event");
}

#[tokio::test]
async fn the_revision_after_has_businesses_and_all_becomes_one() {
    let world = World::start().await;
    let old = OldDatabase::of(&schema("47d23c886898")).await;
    old.run(
        r#"insert into tenants (system_id, business_name, business_email, country) values
             ('DEV-000', 'Default Business', 'hello@old.example', 'France'), ('TNT-PLT', 'DevHub Entreprise', null, null),
             ('TNT-001', 'TechFlow', 'tech@old.example', null);
         insert into users (system_id, email, full_name, user_role, tenant_id, is_active, department, permissions) values
             ('USR-001', 'a@old.example', 'A', 'BUSINESS_OWNER', 'DEV-000', true, 'sales', '{"crm": true, "invoices": false}'),
             ('USR-002', 'b@old.example', 'B', 'EMPLOYEE', 'TNT-001', true, null, 'not json'),
             ('USR-003', 'c@old.example', 'C', 'EMPLOYEE', null, true, null, '{"vault": true, "users": "manage"}');
         insert into customers (system_id, name, tenant_id, is_active) values ('CUS-000', 'One', 'DEV-000', true),
             ('CUS-001', 'Two', 'TNT-001', true), ('CUS-002', 'Three', null, true)"#,
    )
    .await;
    let report = import(&world, &old).await;
    assert_eq!((report.revision.as_str(), &report.source.added_columns), ("47d23c886898", &Vec::new()));
    assert_eq!(told(&report, "tenants"), (vec!["platform_already_there"], vec!["another_business"]));
    assert_eq!(report.tables["customers"].repairs["tenant_folded"], 1);
    assert_eq!(report.tables["users"].repairs["permissions_unreadable"], 1);
    assert_eq!(report.tables["users"].repairs["permissions_left_out"], 1);
    assert_proven(&world, &old).await;
    let founder = world.founder().await;
    let user = founder.get("/api/admin/tenants/DEV-000/users/USR-001").await.ok();
    assert_eq!(user["department"], "sales");
    assert_eq!(user["permissions"]["invoices:read"], "deny", "{user}");
    assert_eq!(founder.get("/api/admin/tenants/DEV-000").await.ok()["country"], "France");
}

#[tokio::test]
async fn every_mess_that_the_old_code_allowed_ends_on_a_heap_with_its_name() {
    let world = World::start().await;
    let old = OldDatabase::of(&schema("fef60ef31522")).await;
    old.run(
        "insert into users (system_id, email, full_name, user_role, is_founder, is_active, tenant_id) values
             ('USR-001', 'own@x.example', 'Own', 'owner', false, true, 'TEN-001'),
             ('USR-002', 'Own@X.example', 'Twin', 'EMPLOYEE', false, true, null),
             ('USR-003', '', 'No mail', 'EMPLOYEE', false, true, null),
             ('USR-004', 'not an address', 'Bad mail', 'EMPLOYEE', false, true, null),
             ('USR-005', 'client@x.example', 'Client', 'CLIENT', false, true, null),
             ('USR-006', 'flag@x.example', 'Flag', 'EMPLOYEE', true, true, null),
             ('USR-007', 'boss@x.example', 'Boss', 'PLATFORM_FOUNDER', true, true, null),
             ('USR-000', 'zero@x.example', 'Zero', 'EMPLOYEE', false, true, null),
             (null, 'noid@x.example', null, null, null, null, null);
         insert into customers (system_id, name, company, email, is_active, created_at, updated_at) values
             ('CUS-000', 'A', 'A', 'same@x.example', true, '2015-01-01', '2014-01-01'),
             ('cus-000', 'B', null, 'same@x.example', null, '1815-01-01', null),
             (null, null, null, 'only@x.example', false, '9999-12-31', null),
             ('CUS-1000', null, null, null, true, 'infinity', '2015-01-01'),
             ('CUS-1001', E'ctrl\\x07', repeat('x', 300), 'n/a', true, '2015-01-01', '2015-01-01');
         insert into leads (system_id, name, company, stage, source, lead_score, probability, estimated_value,
                            converted_to_customer, converted_customer_id, assigned_to, is_active, created_at, updated_at)
         values
             ('LED-000', 'a', null, 'Closed Won', 'Trade Show', 101, null, '1.5k', true, 'CUS-000', 'USR-001', false, '2015-02-01', '2015-03-01'),
             ('LED-001', 'b', null, 'lost', 'events', -5, 250, '1500,50', false, null, 'USR-003', false, '2015-02-01', '2015-03-01'),
             ('LED-002', 'c', null, null, null, null, 50, 'a lot', true, null, 'USR-999', true, null, null),
             ('LED-003', 'd', null, 'won', 'unknown', 1, 1, '', true, null, null, true, '2015-02-01', '2015-03-01'),
             ('LED-004', 'e', null, 'NEGOTIATION', 'Cold Call', 1, 80, '$1,500.00', true, 'CUS-000', null, true, '2015-02-01', '2015-03-01'),
             ('LED-005', 'f', null, 'weird', 'x', 1, 1, '-5', false, 'CUS-000', null, false, '2015-02-01', '2015-03-01'),
             ('LED-006', null, null, 'qualified', 'website', 1, 40, '10.005', false, null, null, true, '2015-02-01', '2015-03-01'),
             ('LED-007', 'g', null, 'closed_won', 'website', 1, 100, '1', true, 'CUS-404', null, true, '2015-02-01', '2015-03-01'),
             ('LED-008', 'h', null, 'closed_lost', 'website', 1, 0, '1', true, 'CUS-000', null, true, '2015-02-01', '2015-03-01');
         insert into lead_interactions (system_id, lead_id, user_id, interaction_type, subject, status, scheduled_at,
                                        completed_at, created_at) values
             ('LI-000', 'LED-000', 'USR-001', 'Phone', null, 'pending', '2015-02-02', '2015-02-02', '2014-01-01'),
             ('INT-000', 'LED-003', 'USR-001', 'call', 'x', 'completed', null, '2015-02-02', '2015-02-02'),
             ('LINT-2', null, null, 'call', 'x', 'completed', null, '2015-02-02', '2015-02-02'),
             (null, 'LED-404', null, 'call', 'x', 'completed', null, '2015-02-02', '2015-02-02'),
             ('LIN-4', 'LED-001', 'USR-404', 'unheard of', 'x', null, null, null, null),
             ('LIN-5', 'LED-001', null, 'meeting', 'x', 'cancelled', null, null, '2015-02-02');
         insert into customer_interactions (system_id, customer_id, user_id, interaction_type, subject, priority,
                                            status, billable_hours, is_billable, created_at) values
             ('INT-000', 'CUS-000', 'USR-001', 'demo', 'y', 'Urgent!', 'completed', '1,5', true, '2015-02-02'),
             ('INT-000', 'CUS-000', 'USR-001', 'demo', 'y', 'whatever', 'scheduled', 'long', true, '2015-02-02');
         insert into customer_notes (system_id, customer_id, user_id, title, content, is_private, created_at) values
             ('CN-000', 'CUS-000', 'USR-001', 't', 'c', true, '2015-02-02'),
             ('NOTE-000', 'CUS-000', null, 't', 'c', null, '2015-02-02'),
             ('NOT-001', 'CUS-000', 'USR-001', 'only a title', null, null, '2014-02-02'),
             ('NOT-002', 'CUS-000', 'USR-003', 't', 'c', true, '2015-02-02'),
             ('NOT-003', 'CUS-000', 'USR-001', null, null, true, '2015-02-02'),
             ((select string_agg(md5(n::text), '') from generate_series(1, 300) n), 'CUS-000', 'USR-001', 't', 'c', true, '2015-02-02');
         insert into projects (system_id, name, status, owner_id, start_date, due_date, created_at) values
             ('PRJ-000', 'p', 'on-hold', 'USR-001', '2015-02-01', '2015-01-01', '2015-02-01'),
             ('PRJ-001', null, 'unheard of', 'USR-404', null, null, null);
         insert into project_customers (project_id, customer_id, linked_at) values ('PRJ-000', 'CUS-000', null),
             ('PRJ-000', 'CUS-000', '2015-02-02'), ('PRJ-000', null, null), (null, 'CUS-000', null), ('PRJ-000', 'CUS-404', null);
         insert into project_assignments (project_id, user_id, role) values ('PRJ-000', 'USR-001', null),
             ('PRJ-000', 'USR-001', 'lead'), ('PRJ-000', 'USR-003', 'lead'), ('PRJ-404', 'USR-001', 'lead');
         insert into invoices (system_id, customer_id, amount, currency, status, issue_date, due_date, paid_date, created_at) values
             ('INV-000', 'CUS-000', '1500', 'usd', 'PAID', '2015-03-01', '2015-02-01', null, '2015-03-01'),
             ('INV-001', 'CUS-000', '€ 1.500,00', null, 'pending', null, null, '2015-04-01', '2015-03-01'),
             ('INV-002', 'CUS-000', '', 'USD', 'draft', '2015-03-01', '2015-04-01', null, '2015-03-01'),
             ('INV-003', 'CUS-000', 'words', 'USD', 'draft', '2015-03-01', '2015-04-01', null, '2015-03-01'),
             ('INV-004', 'CUS-000', '0', 'USD', 'draft', '2015-03-01', '2015-04-01', null, '2015-03-01'),
             ('INV-005', 'CUS-000', '5', 'doubloons', 'draft', '2015-03-01', '2015-04-01', null, '2015-03-01'),
             ('INV-006', 'CUS-404', '5', 'USD', 'draft', '2015-03-01', '2015-04-01', null, '2015-03-01'),
             ('INV-007', 'CUS-000', '5', 'USD', 'paid', '2015-03-01', '2015-04-01', '2015-02-01', '2015-03-01'),
             ('INV-008', 'CUS-000', '5', 'JPY', 'Cancelled', '2015-03-01', '2015-04-01', '2015-03-02', '2015-03-01');",
    )
    .await;
    let report = import(&world, &old).await;
    assert_proven(&world, &old).await;
    assert_eq!(import(&world, &old).await.events, 0);
    assert_eq!(
        told(&report, "users"),
        (
            vec![
                "active_missing",
                "client_locked_out",
                "created_at_missing",
                "founder_already_there",
                "founder_flag_ignored",
                "id_changed",
                "id_missing",
                "name_missing",
                "role_missing",
                "role_renamed"
            ],
            vec!["email_invalid", "email_missing", "email_taken"]
        )
    );
    assert_eq!(
        told(&report, "customers").0,
        [
            "control_characters",
            "created_at_missing",
            "email_invalid",
            "id_changed",
            "id_missing",
            "name_missing",
            "status_missing",
            "text_too_long",
            "time_not_believed",
            "time_unreadable",
            "updated_before_created"
        ]
    );
    assert_eq!(told(&report, "leads").1, ["converted_without_customer", "customer_unknown"]);
    assert_eq!(told(&report, "lead_interactions").1, ["lead_id_missing", "lead_id_unknown", "parent_quarantined"]);
    assert_eq!(told(&report, "customer_notes").1, ["author_missing", "content_missing", "parent_quarantined"]);
    assert_eq!(
        told(&report, "project_customers"),
        (vec!["linked_twice"], vec!["customer_id_missing", "customer_id_unknown", "project_id_missing"])
    );
    assert_eq!(
        told(&report, "invoices").1,
        ["amount_missing", "amount_not_positive", "amount_unreadable", "currency_unknown", "customer_id_unknown"]
    );
    let founder = world.founder().await;
    let at = |path: &str| format!("/api/admin/tenants/DEV-000/{path}");
    for (lead, stage) in
        [("000", "closed_won"), ("001", "closed_lost"), ("002", "new"), ("004", "closed_won"), ("006", "qualified")]
    {
        assert_eq!(founder.get(&at(&format!("leads/LED-{lead}"))).await.ok()["stage"], stage, "{lead}");
    }
    assert_eq!(
        founder.get(&at("invoices/INV-001")).await.ok()["amount"],
        json!({"amount": "1500.00", "currency": "EUR"})
    );
    let client = founder.get(&at("users/USR-005")).await.ok();
    assert_ne!(client["status"], "active", "a customer does not sign in");
}

mod any_mess {
    use proptest::prelude::*;
    use proptest::strategy::ValueTree;
    use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

    use super::*;

    /// Values that were seen, and what the columns allow beside them.
    fn one_of(values: &'static [&'static str]) -> impl Strategy<Value = String> {
        prop::sample::select(values).prop_map(str::to_owned)
    }

    const TIMES: &[&str] = &[
        "null",
        "'2015-03-01 10:00'",
        "'2016-07-01'",
        "'2014-01-01'",
        "'infinity'",
        "'-infinity'",
        "'0044-03-15 BC'",
        "'9999-12-31'",
        "'2015-03-01 10:00:00.123456'",
    ];
    const USERS: &[&str] = &["null", "'USR-000'", "'USR-001'", "'USR-002'", "'usr-003'", "'USR-999'", "''"];
    const CUSTOMERS: &[&str] = &["null", "'CUS-000'", "'CUS-001'", "'cus-002'", "'CUS-1000'", "'nobody'", "''"];
    const LEADS: &[&str] = &["null", "'LED-000'", "'LED-001'", "'LED-002'", "'led-3'", "'LED-999'"];
    const TEXTS: &[&str] =
        &["null", "''", "'  '", "'Müller & Söhne'", "E'a\\x01b'", "repeat('x', 12000)", "'O''Brien'"];
    const EMAILS: &[&str] = &["null", "''", "'n/a'", "'a@x.example'", "'A@X.example'", "'b..c@x.example'"];
    const MONEY: &[&str] = &[
        "null",
        "''",
        "'1500'",
        "'$1,500.00'",
        "'1.5k'",
        "'1500,50'",
        "'words'",
        "'-5'",
        "'0'",
        "'1e9'",
        "repeat('9', 40)",
    ];
    const FLAGS: &[&str] = &["null", "true", "false"];
    const STAGES: &[&str] =
        &["null", "''", "'new'", "'prospect'", "'Closed Won'", "'won'", "'CLOSED_LOST'", "'Negotiation'", "'???'"];
    const NUMBERS: &[&str] = &["null", "0", "50", "100", "-1", "150", "2147483647"];
    const WORDS: &[&str] = &[
        "null",
        "''",
        "'Trade Show'",
        "'active'",
        "'on-hold'",
        "'PAID'",
        "'pending'",
        "'scheduled'",
        "'cancelled'",
        "'what'",
        "'completed'",
    ];
    const CODES: &[&str] = &["null", "'usd'", "'EUR'", "'JPY'", "'gold'"];
    const ROLES: &[&str] = &["null", "'FOUNDER'", "'owner'", "'MANAGER'", "'CLIENT'", "'USER'", "'wizard'"];

    /// So many rows of a table, each column from its own values.
    fn rows(
        table: &'static str,
        columns: &'static [(&'static str, &'static [&'static str])],
    ) -> impl Strategy<Value = String> {
        let names: Vec<&str> = columns.iter().map(|(name, _)| *name).collect();
        let head = format!("insert into {table} ({}) values", names.join(", "));
        let row = columns.iter().map(|(_, values)| one_of(values)).collect::<Vec<_>>();
        prop::collection::vec(row, 1..8).prop_map(move |rows| {
            let rows: Vec<String> = rows.iter().map(|row| format!("({})", row.join(", "))).collect();
            format!("{head} {};", rows.join(", "))
        })
    }

    fn database() -> impl Strategy<Value = String> {
        let people = rows(
            "users",
            &[
                ("system_id", USERS),
                ("email", EMAILS),
                ("full_name", TEXTS),
                ("user_role", ROLES),
                ("is_founder", FLAGS),
                ("is_active", FLAGS),
                ("created_at", TIMES),
                ("updated_at", TIMES),
            ],
        );
        let customers = rows(
            "customers",
            &[
                ("system_id", CUSTOMERS),
                ("name", TEXTS),
                ("company", TEXTS),
                ("email", EMAILS),
                ("phone", TEXTS),
                ("city", TEXTS),
                ("is_active", FLAGS),
                ("created_at", TIMES),
                ("updated_at", TIMES),
            ],
        );
        let leads = rows(
            "leads",
            &[
                ("system_id", LEADS),
                ("name", TEXTS),
                ("company", TEXTS),
                ("email", EMAILS),
                ("stage", STAGES),
                ("source", WORDS),
                ("lead_score", NUMBERS),
                ("probability", NUMBERS),
                ("estimated_value", MONEY),
                ("assigned_to", USERS),
                ("converted_to_customer", FLAGS),
                ("converted_customer_id", CUSTOMERS),
                ("is_active", FLAGS),
                ("created_at", TIMES),
                ("updated_at", TIMES),
                ("last_contacted", TIMES),
                ("expected_close_date", TIMES),
            ],
        );
        let contact = rows(
            "lead_interactions",
            &[
                ("lead_id", LEADS),
                ("user_id", USERS),
                ("interaction_type", WORDS),
                ("subject", TEXTS),
                ("status", WORDS),
                ("scheduled_at", TIMES),
                ("completed_at", TIMES),
                ("created_at", TIMES),
                ("outcome", TEXTS),
            ],
        );
        let support = rows(
            "customer_interactions",
            &[
                ("customer_id", CUSTOMERS),
                ("user_id", USERS),
                ("interaction_type", WORDS),
                ("subject", TEXTS),
                ("priority", WORDS),
                ("status", WORDS),
                ("scheduled_at", TIMES),
                ("completed_at", TIMES),
                ("is_billable", FLAGS),
                ("billable_hours", MONEY),
                ("created_at", TIMES),
            ],
        );
        let notes = rows(
            "customer_notes",
            &[
                ("customer_id", CUSTOMERS),
                ("user_id", USERS),
                ("title", TEXTS),
                ("content", TEXTS),
                ("is_private", FLAGS),
                ("created_at", TIMES),
            ],
        );
        let projects = rows(
            "projects",
            &[
                ("system_id", &["null", "'PRJ-000'", "'PRJ-001'", "'prj-1'"]),
                ("name", TEXTS),
                ("description", TEXTS),
                ("status", WORDS),
                ("owner_id", USERS),
                ("start_date", TIMES),
                ("due_date", TIMES),
                ("created_at", TIMES),
                ("updated_at", TIMES),
            ],
        );
        let links = rows(
            "project_customers",
            &[
                ("project_id", &["null", "'PRJ-000'", "'PRJ-001'", "'PRJ-9'"]),
                ("customer_id", CUSTOMERS),
                ("linked_at", TIMES),
            ],
        );
        let members = rows(
            "project_assignments",
            &[
                ("project_id", &["null", "'PRJ-000'", "'PRJ-001'", "'PRJ-9'"]),
                ("user_id", USERS),
                ("role", TEXTS),
                ("assigned_at", TIMES),
            ],
        );
        let invoices = rows(
            "invoices",
            &[
                ("system_id", &["null", "'INV-000'", "'INV-09'", "'inv-1'"]),
                ("customer_id", CUSTOMERS),
                ("amount", MONEY),
                ("currency", CODES),
                ("status", WORDS),
                ("issue_date", TIMES),
                ("due_date", TIMES),
                ("paid_date", TIMES),
                ("created_at", TIMES),
                ("updated_at", TIMES),
            ],
        );
        let first = (people, customers, leads, contact, support);
        let second = (notes, projects, links, members, invoices);
        (first, second).prop_map(|((a, b, c, d, e), (f, g, h, i, j))| [a, b, c, d, e, f, g, h, i, j].concat())
    }

    /// Whatever the columns allow: no row stops a run, the heaps add up, the proof holds, a second run finds nothing, and
    /// whatever it is changed into comes in, too.
    #[tokio::test]
    async fn always_ends_on_three_heaps() {
        // The same every time, so that what fails can be looked at; another first seed explores further.
        let first: u64 = std::env::var("DEVHUB_TEST_SEED").map_or(0, |seed| seed.parse().unwrap());
        for seed in first..first + 4 {
            let mut bytes = [0; 32];
            bytes[..8].copy_from_slice(&seed.to_le_bytes());
            let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
            let mut runner = TestRunner::new_with_rng(Config::default(), rng);
            let mut next = || database().new_tree(&mut runner).unwrap().current();
            ends_on_three_heaps(seed, &next(), &next()).await;
        }
    }

    async fn ends_on_three_heaps(seed: u64, before: &str, after: &str) {
        let world = World::unfounded().await;
        let old = OldDatabase::of(&schema("fef60ef31522")).await;
        old.run(before).await;
        let first = try_import(&world, &old, &options()).await.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        assert_heaps_add_up(&first);
        let from = SecretString::from(old.url.as_str());
        let proof = verify::verify(&world.app, &from, TenantId::Legacy, &Progress::hidden()).await.unwrap();
        assert_eq!(proof.differences, [], "seed {seed}");
        assert_eq!(import(&world, &old).await.events, 0, "seed {seed}: {:?}", log(&world.url).await.last());
        let emptied: String = TABLES.map(|table| format!("truncate {table} restart identity; ")).concat();
        old.run(&format!("{emptied}{after}")).await;
        let accept = Options { accept_deletions: true, ..options() };
        let second = try_import(&world, &old, &accept).await.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        assert_heaps_add_up(&second);
        assert_eq!(import(&world, &old).await.events, 0, "seed {seed}: {:?}", log(&world.url).await.last());
    }

    const TABLES: [&str; 10] = [
        "users",
        "customers",
        "leads",
        "lead_interactions",
        "customer_interactions",
        "customer_notes",
        "projects",
        "project_customers",
        "project_assignments",
        "invoices",
    ];
}
