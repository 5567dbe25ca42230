//! Read models that can be thrown away: made anew beside the live ones, compared with the log row by row.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::http::Method;
use devhub::access::secrets::MasterKey;
use devhub::aggregates::ids::TenantId;
use devhub::api::limits::RateLimits;
use devhub::clock::Clock;
use devhub::event_store::{self, Cell};
use devhub::projections::rebuild::{self, Rebuild, RebuildError, Rebuilt};
use devhub::projections::replay;
use devhub::projections::verify::{self, Scope};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};
use sqlx::{Connection, Executor, PgConnection, Row};

use crate::cluster::{fresh_database, scratch};
use crate::world::{Client, World};

pub const PATH: &str = "/api/admin/projections";

pub fn cell(world: &World) -> &Cell {
    world.app.database.cell_of(TenantId::Platform)
}

/// The account that owns the tables.
pub async fn owner(world: &World) -> PgConnection {
    let mut connection = PgConnection::connect(&world.url).await.unwrap();
    connection.execute("set search_path = cell_000").await.unwrap();
    connection
}

/// A business with a little of everything.
pub async fn busy(world: &World, name: &str) -> Client {
    let owner = world.business(name).await;
    for lead in 0..3 {
        let value = json!({"amount": "1500.50", "currency": "USD"});
        let lead = json!({"name": format!("Grace {lead}"), "company": "Navy", "estimated_value": value,
            "address": {"line1": "1 Main Street", "city": "Arlington", "country": "US"}});
        owner.post("/api/leads", lead).await.created();
    }
    owner.patch("/api/leads/LED-000", json!({"source": "referral", "job_title": "Admiral \"G\""})).await.ok();
    owner.post("/api/leads/LED-000/interactions", json!({"type": "call", "subject": "Hello"})).await.created();
    owner.act("/api/leads/LED-000/convert").await.ok();
    owner.delete("/api/leads/LED-001").await.ok();
    owner.post("/api/customers", json!({"company": "ACME", "email": "a@acme.test"})).await.created();
    owner.post("/api/customers/CUS-001/notes", json!({"content": "Careful"})).await.created();
    owner.post("/api/projects", json!({"name": "Moon", "customer_ids": ["CUS-001"]})).await.created();
    let amount = json!({"amount": "100", "currency": "USD"});
    owner.post("/api/invoices", json!({"customer_id": "CUS-001", "amount": amount})).await.created();
    owner.employee("bo", "sales").await;
    owner
}

pub async fn rebuild(world: &World, projection: &str, tenant: Option<TenantId>) -> Rebuilt {
    rebuild::rebuild(cell(world), &world.clock, projection, tenant).await.unwrap()
}

pub async fn verify(world: &World, projection: &str) -> verify::Record {
    verify::verify(cell(world), &world.clock, projection, Scope::default()).await.unwrap()
}

/// Every row of a projection's tables, as text.
async fn rows(world: &World, projection: &str) -> Vec<String> {
    let mut connection = owner(world).await;
    let mut all = Vec::new();
    for table in replay::named(projection).unwrap().tables {
        let select = format!("select t::text from {} t order by 1", table.name);
        let rows: Vec<String> = sqlx::query_scalar(&select).fetch_all(&mut connection).await.unwrap();
        all.extend(rows.into_iter().map(|row| format!("{} {row}", table.name)));
    }
    all
}

/// What the catalogue says of the tables of a projection: what a dump would.
async fn catalogue(world: &World, projection: &str) -> Vec<String> {
    let mut connection = owner(world).await;
    let mut lines = Vec::new();
    for table in replay::named(projection).unwrap().tables {
        for query in [
            "select format('%s %s %s %s %s %s', relname, relowner, relrowsecurity, relforcerowsecurity, relacl, reloptions)
             from pg_class where oid = $1::regclass",
            "select format('%s %s %s %s %s %s %s %s', row_number() over (order by attnum), attname, format_type(atttypid, atttypmod),
                           attnotnull, attgenerated, pg_get_expr(adbin, adrelid), attstattarget, attoptions)
             from pg_attribute a left join pg_attrdef d on adrelid = attrelid and adnum = attnum
             where attrelid = $1::regclass and attnum > 0 and not attisdropped order by attnum",
            "select indexdef from pg_indexes where (schemaname || '.' || tablename)::regclass = $1::regclass order by 1",
            "select format('%s %s', conname, pg_get_constraintdef(oid)) from pg_constraint
             where conrelid = $1::regclass order by 1",
            "select format('%s %s %s %s %s %s', policyname, permissive, roles, cmd, qual, with_check) from pg_policies
             where (schemaname || '.' || tablename)::regclass = $1::regclass order by 1",
        ] {
            let name = format!("cell_000.{}", table.name);
            let found: Vec<String> = sqlx::query_scalar(query).bind(name).fetch_all(&mut connection).await.unwrap();
            lines.extend(found.into_iter().map(|line| format!("{}: {line}", table.name)));
        }
    }
    assert!(lines.len() > 10, "{lines:?}");
    lines
}

/// What lies in the schemas beside the cell.
async fn left_behind(world: &World) -> Vec<String> {
    sqlx::query_scalar(
        "select nspname || '.' || relname from pg_class c join pg_namespace n on n.oid = c.relnamespace
         where nspname in ('cell_000_rebuild', 'cell_000_replaced') order by 1",
    )
    .fetch_all(&mut owner(world).await)
    .await
    .unwrap()
}

#[tokio::test]
async fn every_read_model_is_made_anew_as_it_was() {
    let world = World::start().await;
    busy(&world, "ACME").await;
    busy(&world, "Other").await;
    world.caught_up().await;
    for projection in replay::all() {
        let name = projection.name;
        let before = (rows(&world, name).await, catalogue(&world, name).await);
        assert!(before.0.len() > 1, "{name}");
        let rebuilt = rebuild(&world, name, None).await;
        assert_eq!(rebuilt.rows, before.0.len() as u64, "{name}");
        let after = (rows(&world, name).await, catalogue(&world, name).await);
        assert_eq!(before, after, "{name}");
        let verified = verify(&world, name).await;
        assert_eq!(
            (verified.differences, verified.rows),
            (0, i64::try_from(before.0.len()).unwrap()),
            "{name}: {:?}",
            verified.found
        );
    }
    assert_eq!(left_behind(&world).await, [""; 0]);
    // And the projector goes on with what it finds.
    let more = busy(&world, "More").await;
    more.get("/api/leads/LED-002").await.ok();
    for projection in replay::all() {
        assert_eq!(verify(&world, projection.name).await.differences, 0, "{}", projection.name);
    }
}

#[tokio::test]
async fn a_read_model_that_is_wrong_is_right_after_a_rebuild_for_the_projector_too() {
    let world = World::start().await;
    let acme = busy(&world, "ACME").await;
    world.caught_up().await;
    let mut connection = owner(&world).await;
    connection.execute("update leads set company = 'Wrong' where id = 'LED-002'").await.unwrap();
    connection.execute("delete from lead_versions where id = 'LED-002'").await.unwrap();
    rebuild(&world, "leads", None).await;
    assert_eq!(acme.get("/api/leads/LED-002").await.ok()["company"], "Navy");
    acme.patch("/api/leads/LED-002", json!({"job_title": "Admiral"})).await.ok();
    assert_eq!(acme.get("/api/leads/LED-002").await.ok()["company"], "Navy");
    assert_eq!(verify(&world, "leads").await.differences, 0);
    let listed = world.founder().await.get(&format!("{PATH}/leads")).await.ok();
    assert_eq!((&listed["generation"], &listed["rebuild"]["state"]), (&json!(1), &json!("done")));
}

/// A client that changes its own record and reads it, until it is told to stop: how often it did.
async fn write_and_read(client: Client, lead: String, stop: Arc<AtomicBool>) -> u32 {
    let path = format!("/api/leads/{lead}");
    let (mut seen, mut rounds) = (0, 0);
    while !stop.load(Ordering::Relaxed) {
        let title = format!("Round {rounds}");
        let written = client.patch(&path, json!({"job_title": title})).await.ok()["version"].as_i64().unwrap();
        for _ in 0..2 {
            let read = client.get(&path).await.ok();
            let version = read["version"].as_i64().unwrap();
            assert!(version >= seen && version >= written, "{lead} went back from {seen} to {version}");
            assert_eq!(read["job_title"], title, "{lead} does not show what was written");
            seen = version;
        }
        assert_eq!(client.get("/api/leads?limit=1&count=exact").await.ok()["page"]["total"], 16);
        rounds += 1;
    }
    rounds
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_notices_a_rebuild() {
    let world = World::start().await;
    let acme = world.business("ACME").await;
    let mut leads = Vec::new();
    for number in 0..16 {
        leads.push(acme.post("/api/leads", json!({"name": format!("Lead {number}")})).await.created());
    }
    let before = catalogue(&world, "leads").await;
    let stop = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> =
        leads.into_iter().map(|lead| tokio::spawn(write_and_read(acme.clone(), lead, Arc::clone(&stop)))).collect();
    for _ in 0..3 {
        rebuild(&world, "leads", None).await;
        rebuild(&world, "leads", Some(acme.tenant.as_ref().unwrap().parse().unwrap())).await;
        rebuild(&world, "activity", None).await;
    }
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        assert!(client.await.unwrap() > 0);
    }
    world.caught_up().await;
    assert_eq!(catalogue(&world, "leads").await, before);
    for projection in ["leads", "activity"] {
        let verified = verify(&world, projection).await;
        assert_eq!(verified.differences, 0, "{projection}: {:?}", verified.found);
    }
}

#[tokio::test]
async fn rows_that_do_not_fit_into_memory_are_put_aside_and_taken_back() {
    let world = World::start().await;
    let acme = world.business("ACME").await;
    for number in 0..12 {
        acme.post("/api/leads", json!({"name": format!("Lead {number}")})).await.created();
    }
    for round in 0..3 {
        for number in 0..12 {
            let path = format!("/api/leads/LED-{number:03}");
            acme.patch(&path, json!({"job_title": format!("Round {round}")})).await.ok();
        }
    }
    world.caught_up().await;
    let before = rows(&world, "leads").await;
    let rebuild = Rebuild::begin(cell(&world), &world.clock, "leads", None).await.unwrap();
    rebuild.keeping(2).run(|_| {}).await.unwrap();
    assert_eq!(rows(&world, "leads").await, before);
}

#[tokio::test]
async fn one_business_is_made_anew_and_the_others_stay_untouched() {
    let world = World::start().await;
    let (acme, other) = (busy(&world, "ACME").await, busy(&world, "Other").await);
    world.caught_up().await;
    let mut connection = owner(&world).await;
    let (acme, other): (String, String) = (acme.tenant.unwrap(), other.tenant.unwrap());
    for projection in replay::all() {
        let before = rows(&world, projection.name).await;
        for table in projection.tables {
            let tamper = match projection.name {
                "activity" => format!("update activity set actor = 'nobody' where tenant_id = '{acme}'"),
                _ => format!("update {} set version = version + 100 where tenant_id = '{acme}'", table.name),
            };
            connection.execute(&*tamper).await.unwrap();
        }
        // Where a row lies says whether it was written again.
        let places = format!(
            "select t.ctid::text || t.xmin::text || t::text from {} t where tenant_id = '{other}' order by 1",
            projection.tables.last().unwrap().name
        );
        let theirs: Vec<String> = sqlx::query_scalar(&places).fetch_all(&mut connection).await.unwrap();
        rebuild(&world, projection.name, Some(acme.parse().unwrap())).await;
        assert_eq!(rows(&world, projection.name).await, before, "{}", projection.name);
        let now: Vec<String> = sqlx::query_scalar(&places).fetch_all(&mut connection).await.unwrap();
        assert_eq!(now, theirs, "{}", projection.name);
        assert_eq!(verify(&world, projection.name).await.differences, 0);
    }
    assert_eq!(left_behind(&world).await, [""; 0]);
}

/// Events come right before the rebuild of one business takes over, and somebody keeps it from doing so.
#[tokio::test(flavor = "multi_thread")]
async fn one_business_that_changes_while_its_rebuild_is_kept_waiting_is_made_anew() {
    let world = World::start().await;
    let acme = busy(&world, "ACME").await;
    world.caught_up().await;
    let tenant = acme.tenant.as_ref().unwrap().parse().unwrap();
    let rebuild = Rebuild::begin(cell(&world), &world.clock, "leads", Some(tenant)).await.unwrap();
    let (about_to, is_about_to) = tokio::sync::oneshot::channel();
    let (go_on, may_go_on) = std::sync::mpsc::channel();
    let moment = Mutex::new(Some((about_to, may_go_on)));
    let rebuilding = tokio::spawn(rebuild.run(move |record| {
        if record.state == "switching"
            && let Some((about_to, may_go_on)) = moment.lock().unwrap().take()
        {
            about_to.send(()).unwrap();
            may_go_on.recv().unwrap();
        }
    }));
    is_about_to.await.unwrap();
    acme.post("/api/leads", json!({"name": "Late"})).await.created();
    acme.post("/api/leads/LED-002/stage", json!({"stage": "contacted"})).await.ok();
    world.caught_up().await;
    let mut holder = owner(&world).await;
    holder.execute("begin").await.unwrap();
    let hold = "select pg_backend_pid() from projection_checkpoints where projection = 'leads' for update";
    let pid: i32 = sqlx::query_scalar(hold).fetch_one(&mut holder).await.unwrap();
    go_on.send(()).unwrap();
    let mut watching = owner(&world).await;
    let waits = "select exists (select from pg_stat_activity
                 where application_name = 'devhub_owner' and $1 = any(pg_blocking_pids(pid)))";
    // Until it waits, and until it has given up.
    for waited in [true, false] {
        while sqlx::query_scalar::<_, bool>(waits).bind(pid).fetch_one(&mut watching).await.unwrap() != waited {
            tokio::task::yield_now().await;
        }
    }
    holder.execute("rollback").await.unwrap();
    rebuilding.await.unwrap().unwrap();
    assert_eq!(verify(&world, "leads").await.differences, 0);
    assert_eq!(acme.get("/api/leads/LED-002").await.ok()["stage"], "contacted");
}

#[tokio::test]
async fn a_rebuild_that_dies_leaves_the_old_rows_and_the_next_one_works() {
    let world = World::start().await;
    let acme = busy(&world, "ACME").await;
    world.caught_up().await;
    let before = rows(&world, "leads").await;
    for state in ["replaying", "indexing", "catching_up", "switching"] {
        let rebuild = Rebuild::begin(cell(&world), &world.clock, "leads", None).await.unwrap();
        let id = rebuild.record().rebuild_id;
        // Whoever looks at its progress in that state never comes back: the process might as well have been killed.
        let (reached, mut at) = tokio::sync::mpsc::unbounded_channel();
        let task = tokio::spawn(rebuild.run(move |record| {
            let _ = reached.send(record.state.clone());
        }));
        if state != "replaying" {
            while let Some(reached) = at.recv().await {
                if reached == state || reached == "done" {
                    break;
                }
            }
        }
        task.abort();
        let ended = task.await;
        assert_eq!(acme.get("/api/leads/LED-002").await.ok()["company"], "Navy");
        // Another server starts on what is left.
        let second = world.second_server().await;
        let found = rebuild::read(&cell(&second).founder, "leads", id).await.unwrap().unwrap();
        if ended.is_err() {
            assert!(["abandoned", "done"].contains(&found.state.as_str()), "{state}: {found:?}");
        }
        assert_eq!(rows(&world, "leads").await, before, "{state}");
    }
    // The session of one that was ended may live a little longer than its task.
    let rebuilt = loop {
        match rebuild::rebuild(cell(&world), &world.clock, "leads", None).await {
            Err(RebuildError::Busy(_)) => tokio::task::yield_now().await,
            other => break other.unwrap(),
        }
    };
    assert_eq!(rebuilt.rows, before.len() as u64);
    assert_eq!(rows(&world, "leads").await, before);
    assert_eq!(left_behind(&world).await, [""; 0]);
}

#[tokio::test]
async fn one_rebuild_of_a_read_model_runs_at_a_time() {
    let world = World::start().await;
    let founder = world.founder().await;
    let running = Rebuild::begin(cell(&world), &world.clock, "leads", None).await.unwrap();
    let refused = founder.act(&format!("{PATH}/leads/rebuild")).await.problem(409, "conflict");
    assert_eq!(refused["rule"], "one_rebuild_at_a_time");
    rebuild(&world, "customers", None).await;
    running.run(|_| {}).await.unwrap();
    founder.act(&format!("{PATH}/leads/rebuild")).await.expect(202);
}

#[tokio::test]
async fn a_rebuild_needs_no_connection_but_its_own() {
    let world = World::start().await;
    busy(&world, "ACME").await;
    world.caught_up().await;
    let before = rows(&world, "leads").await;
    let rebuild = Rebuild::begin(cell(&world), &world.clock, "leads", None).await.unwrap();
    let owners = &cell(&world).owner;
    let mut taken = Vec::new();
    for _ in 0..owners.options().get_max_connections() {
        taken.push(owners.acquire().await.unwrap());
    }
    rebuild.run(|_| {}).await.unwrap();
    assert_eq!(rows(&world, "leads").await, before);
}

#[tokio::test]
async fn an_event_that_cannot_be_folded_stops_the_rebuild_and_the_old_rows_stay() {
    let world = World::start().await;
    let acme = busy(&world, "ACME").await;
    world.caught_up().await;
    let mut connection = owner(&world).await;
    let spoilt: i64 = sqlx::query(
        "update events set payload = '{\"Nonsense\": {}}' where aggregate_type = 'Lead' and sequence = 2
         and aggregate_id like '%LED-000' returning position",
    )
    .fetch_one(&mut connection)
    .await
    .unwrap()
    .get(0);
    let error = rebuild::rebuild(cell(&world), &world.clock, "leads", None).await.unwrap_err();
    assert!(error.to_string().contains(&format!("event {spoilt} ")), "{error}");
    acme.get("/api/leads/LED-000").await.ok();
    assert_eq!(left_behind(&world).await, [""; 0]);
    let last = world.founder().await.get(&format!("{PATH}/leads")).await.ok()["rebuild"].clone();
    assert_eq!(last["state"], "failed");
    assert!(last["error"].as_str().unwrap().contains("is not understood"), "{last}");
}

#[tokio::test]
async fn tables_that_are_changed_by_hand_are_copied_with_the_change_and_views_are_named() {
    let world = World::start().await;
    busy(&world, "ACME").await;
    world.caught_up().await;
    let mut connection = owner(&world).await;
    connection
        .execute(
            "create index leads_by_hand on leads (tenant_id, lower(name)) where stage <> 'new';
             alter table leads set (fillfactor = 80);
             alter table leads alter column phone set statistics 7, alter column phone set (n_distinct = -0.5);
             alter table leads add constraint leads_score check (score between 0 and 100);
             grant update (name), select on leads to devhub_platform;
             comment on table leads is 'It''s ours';
             create policy nobody on leads as restrictive for update to public using (false) with check (false);",
        )
        .await
        .unwrap();
    let before = catalogue(&world, "leads").await;
    rebuild(&world, "leads", None).await;
    assert_eq!(catalogue(&world, "leads").await, before);
    connection.execute("create view open_leads as select * from leads").await.unwrap();
    let error = rebuild::rebuild(cell(&world), &world.clock, "leads", None).await.unwrap_err();
    assert!(matches!(&error, RebuildError::Views(views) if views.ends_with("open_leads")), "{error}");
}

#[tokio::test]
async fn the_founder_rebuilds_over_http_and_looks_how_far_it_is() {
    let world = World::start().await;
    let acme = busy(&world, "ACME").await;
    let founder = world.founder().await;
    let listed = founder.get(PATH).await.ok();
    let names: Vec<_> = listed["data"].as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap()).collect();
    assert_eq!(names, replay::all().iter().map(|projection| projection.name).collect::<Vec<_>>());
    let body = json!({"tenant_id": acme.tenant});
    let begun = founder.post(&format!("{PATH}/leads/rebuild"), body).await;
    let address = begun.header("location").unwrap().to_owned();
    assert_eq!(begun.expect(202)["tenant_id"], json!(acme.tenant));
    let ended = loop {
        let now = founder.get(&address).await.ok();
        if !now["finished_at"].is_null() {
            break now;
        }
        tokio::task::yield_now().await;
    };
    assert_eq!((&ended["state"], &ended["error"]), (&json!("done"), &Value::Null));
    assert_eq!(founder.get(&format!("{PATH}/leads/rebuilds")).await.ok()["data"], json!([ended]));

    founder.get(&format!("{PATH}/nothing")).await.problem(404, "not_found");
    founder.get(&format!("{PATH}/leads/rebuilds/x")).await.problem(404, "not_found");
    founder.act(&format!("{PATH}/nothing/rebuild")).await.problem(404, "not_found");
    founder
        .post(&format!("{PATH}/leads/rebuild"), json!({"tenant": "TNT-001"}))
        .await
        .problem(400, "unknown_parameter");
    founder
        .post(&format!("{PATH}/leads/verify"), json!({"tenant_id": "TNT-999"}))
        .await
        .problem(422, "validation_failed");
    founder.post(&format!("{PATH}/leads/verify"), json!({"sample": 0})).await.problem(422, "validation_failed");
    let refused = acme.act(&format!("{PATH}/leads/rebuild")).await.problem(403, "permission_denied");
    assert_eq!(refused["permission"], "platform:admin");
}

/// A moment at which a rebuild is killed: what holds it up there, and how it is known that it has come there.
const MOMENTS: [(&str, &str); 4] = [
    // before there is anything beside
    ("lock table leads in access exclusive mode", "waiting"),
    // while it replays
    ("lock table events in access exclusive mode", "waiting"),
    // before the projector has to wait for it
    ("lock table leads in row exclusive mode", "switching"),
    // in the transaction that exchanges the tables
    ("lock table lead_versions in access share mode", "switching"),
];

#[tokio::test]
async fn a_process_that_is_killed_at_any_moment_leaves_nothing_of_its_rebuild() {
    let world = World::start().await;
    let acme = busy(&world, "ACME").await;
    world.caught_up().await;
    let (before, catalogued) = (rows(&world, "leads").await, catalogue(&world, "leads").await);
    let state = scratch("killed-rebuild");
    for (holding, moment) in MOMENTS {
        let mut holder = owner(&world).await;
        holder.execute("begin").await.unwrap();
        holder.execute(holding).await.unwrap();
        let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_devhub"))
            .args(["projections", "rebuild", "leads", "--format", "json"])
            .env("DATABASE_URL", &world.url)
            .env("DEVHUB_STATE_DIR", &state)
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let mut watching = owner(&world).await;
        let come = "select exists (select from projection_rebuilds where finished_at is null and (state = $1 or
            $1 = 'waiting' and exists (select from pg_locks l join pg_stat_activity a using (pid)
                                       where not granted and a.application_name in ('devhub_owner', 'devhub_projector')
                                         and a.query ~ '^create table|from events.*cardinality')))";
        while !sqlx::query_scalar::<_, bool>(come).bind(moment).fetch_one(&mut watching).await.unwrap() {
            assert!(child.try_wait().unwrap().is_none(), "it ended before it was {moment}, held by {holding}");
            tokio::task::yield_now().await;
        }
        child.kill().unwrap();
        child.wait().unwrap();
        holder.execute("rollback").await.unwrap();
        assert_eq!(acme.get("/api/leads/LED-002").await.ok()["company"], "Navy");
        assert_eq!(rows(&world, "leads").await, before, "{holding}");
        // The server notices that its client is gone, and lets go of the lock.
        let held = "select exists (select from pg_locks where locktype = 'advisory' and database =
            (select oid from pg_database where datname = current_database()))";
        while sqlx::query_scalar::<_, bool>(held).fetch_one(&mut watching).await.unwrap() {
            tokio::task::yield_now().await;
        }
        // What every server does when it starts.
        rebuild::clean_up(cell(&world), &world.clock).await.unwrap();
        assert_eq!(left_behind(&world).await, [""; 0], "{holding}");
        let last = &rebuild::list(&cell(&world).founder, "leads", 1).await.unwrap()[0];
        assert_eq!(last.state, "abandoned", "{holding}");
    }
    let ended = std::process::Command::new(env!("CARGO_BIN_EXE_devhub"))
        .args(["projections", "rebuild", "leads", "--format", "json"])
        .env("DATABASE_URL", &world.url)
        .env("DEVHUB_STATE_DIR", &state)
        .output()
        .unwrap();
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    let rebuilt: Value = serde_json::from_slice(&ended.stdout).unwrap();
    assert_eq!(rebuilt["rows"], json!(before.len()));
    assert_eq!(rows(&world, "leads").await, before);
    assert_eq!(catalogue(&world, "leads").await, catalogued);
}

/// A server whose database belongs to an account that is no superuser and so sees no rows of its own tables.
async fn owned_by_a_plain_account() -> World {
    let url = fresh_database("nothing", async |_: &str| Ok::<(), sqlx::Error>(())).await;
    let mut admin = PgConnection::connect(&url).await.unwrap();
    // The roles belong to the server, where other tests need them as well.
    event_store::migrate(&fresh_database("devhub", event_store::migrate).await).await.unwrap();
    let database: String = sqlx::query_scalar("select current_database()").fetch_one(&mut admin).await.unwrap();
    let account = format!("{database}_owner");
    for statement in [
        format!("create role {account} noinherit"),
        format!("alter database {database} owner to {account}"),
        format!(
            "grant devhub_request, devhub_founder, devhub_appender, devhub_projector, devhub_importer, devhub_platform
             to {account}"
        ),
    ] {
        admin.execute(&*statement).await.unwrap();
    }
    let theirs = format!("{url}&options=-c%20role%3D{account}");
    event_store::migrate(&theirs).await.unwrap();
    let clock = Clock::manual("2026-03-02T09:00:00Z".parse().unwrap());
    let many = 1_000_000.try_into().unwrap();
    let limits =
        RateLimits { user_per_minute: many, tenant_per_minute: many, sign_in_per_minute: many, behind_proxy: false };
    let mut world = World::on(theirs, clock, MasterKey::generate().unwrap(), limits).await;
    // The test looks at everything.
    world.url = url;
    world
}

#[tokio::test]
async fn an_account_that_owns_the_tables_and_sees_no_rows_rebuilds_them() {
    let world = owned_by_a_plain_account().await;
    let acme = busy(&world, "ACME").await;
    world.caught_up().await;
    let unseen: i64 = sqlx::query_scalar("select count(*) from leads").fetch_one(&cell(&world).owner).await.unwrap();
    assert_eq!(unseen, 0);
    for projection in replay::all() {
        let name = projection.name;
        let before = (rows(&world, name).await, catalogue(&world, name).await);
        rebuild(&world, name, None).await;
        rebuild(&world, name, Some(acme.tenant.as_ref().unwrap().parse().unwrap())).await;
        assert_eq!((rows(&world, name).await, catalogue(&world, name).await), before, "{name}");
        let verified = verify(&world, name).await;
        assert_eq!((verified.differences, verified.rows), (0, i64::try_from(before.0.len()).unwrap()), "{name}");
    }
    acme.patch("/api/leads/LED-002", json!({"job_title": "Admiral"})).await.ok();
}

/// One step of a business's history. What the rules refuse does not happen.
fn step() -> impl Strategy<Value = (Method, String, Value)> {
    let path =
        |noun: &'static str, prefix: &'static str| (0..4_u32).prop_map(move |n| format!("/api/{noun}/{prefix}-{n:03}"));
    let post = |path: String, body: Value| (Method::POST, path, body);
    prop_oneof![
        3 => "[A-Z][a-z]{1,8}".prop_map(move |name| post("/api/leads".into(), json!({"name": name}))),
        2 => "[A-Z][a-z]{1,8}".prop_map(move |name| post("/api/customers".into(), json!({"company": name}))),
        4 => (path("leads", "LED"), "[ -~]{1,12}", any::<bool>()).prop_map(|(path, title, cleared)| {
            let company = if cleared { Value::Null } else { json!("Navy") };
            (Method::PATCH, path, json!({"job_title": title, "company": company}))
        }),
        2 => (path("leads", "LED"), "[a-z]{3,9}").prop_map(move |(path, subject)| {
            post(format!("{path}/interactions"), json!({"type": "call", "subject": subject}))
        }),
        2 => (path("customers", "CUS"), "[a-z]{3,9}").prop_map(move |(path, subject)| {
            post(format!("{path}/interactions"), json!({"type": "meeting", "subject": subject}))
        }),
        2 => (path("customers", "CUS"), "[ -~]{1,12}").prop_map(move |(path, content)| {
            post(format!("{path}/notes"), json!({"content": content}))
        }),
        1 => (path("notes", "NOT"), "[a-z]{1,9}")
            .prop_map(|(path, content)| (Method::PATCH, path, json!({"content": content}))),
        1 => path("leads", "LED").prop_map(move |path| post(format!("{path}/convert"), json!({}))),
        1 => path("leads", "LED").prop_map(|path| (Method::DELETE, path, Value::Null)),
        1 => path("leads", "LED").prop_map(move |path| post(format!("{path}/restore"), json!({}))),
        1 => path("customers", "CUS").prop_map(|path| (Method::DELETE, path, Value::Null)),
        1 => (path("customers", "CUS"), 0..4_u32).prop_map(move |(path, other)| {
            post(format!("{path}/merge"), json!({"into": format!("CUS-{other:03}")}))
        }),
        1 => (0..4_u32, 1..900_u32).prop_map(move |(customer, amount)| {
            let amount = json!({"amount": amount.to_string(), "currency": "USD"});
            post("/api/invoices".into(), json!({"customer_id": format!("CUS-{customer:03}"), "amount": amount}))
        }),
        1 => path("invoices", "INV").prop_map(move |path| post(format!("{path}/send"), json!({}))),
        1 => "[A-Z][a-z]{1,8}".prop_map(move |name| post("/api/projects".into(), json!({"name": name}))),
    ]
}

#[tokio::test]
async fn whatever_happened_a_rebuild_makes_the_rows_that_the_projector_made() {
    let world = World::start().await;
    let mut runner = TestRunner::deterministic();
    let histories = (proptest::collection::vec(step(), 40), 1..6_usize);
    for number in 0..8 {
        let (steps, kept) = histories.new_tree(&mut runner).unwrap().current();
        let business = world.business(&format!("Business {number}")).await;
        let mut happened = 0;
        for (method, path, body) in &steps {
            let body = (!body.is_null()).then(|| body.clone());
            let answer = business.send(method.clone(), path, &[], body).await;
            assert!(answer.status.as_u16() < 500, "{method} {path}: {}", answer.text);
            happened += u32::from(answer.status.is_success());
            world.clock.advance(Duration::from_secs(1));
        }
        assert!(happened > 10, "{steps:?}");
        world.caught_up().await;
        let tenant = business.tenant.as_ref().unwrap().parse().unwrap();
        for projection in replay::all() {
            let name = projection.name;
            let before = rows(&world, name).await;
            let whole = Rebuild::begin(cell(&world), &world.clock, name, None).await.unwrap();
            whole.keeping(kept).run(|_| {}).await.unwrap();
            assert_eq!(rows(&world, name).await, before, "{name} after {steps:?}");
            rebuild(&world, name, Some(tenant)).await;
            assert_eq!(rows(&world, name).await, before, "{name} of one business after {steps:?}");
        }
    }
}
