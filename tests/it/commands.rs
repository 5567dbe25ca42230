//! Commands that work beside the server, or look after its database from another folder.

use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::process::Command;

use devhub::event_store::StreamId;
use serde_json::{Value, json};
use sqlx::{Connection, PgConnection};

use crate::cluster::{fresh_database, scratch};
use crate::told;
use crate::world::World;

/// What a command said, and whether it went well.
struct Said {
    well: bool,
    out: String,
    err: String,
}

fn devhub(database: &str, state: &Path, arguments: &[&str]) -> Said {
    let output = Command::new(env!("CARGO_BIN_EXE_devhub"))
        .args(arguments)
        .env("DATABASE_URL", database)
        .env("DEVHUB_STATE_DIR", state)
        .env_remove("DEVHUB_MASTER_KEY")
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Said { well: output.status.success(), out: text(output.stdout), err: text(output.stderr) }
}

async fn run(database: &str, statement: &str) {
    let mut connection = PgConnection::connect(database).await.unwrap();
    sqlx::raw_sql(statement).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

/// The files of a folder whose names end so.
fn files(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let all = std::fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap().path());
    all.filter(|path| path.to_string_lossy().ends_with(ending)).collect()
}

#[tokio::test]
async fn maintenance_from_another_folder_needs_no_master_key_and_makes_none() {
    let world = World::start().await;
    let founder = world.founder().await;
    let elsewhere = scratch("elsewhere");
    for arguments in
        [["projections", "list"].as_slice(), &["projections", "verify", "leads"], &["legacy", "quarantine", "list"]]
    {
        let said = devhub(&world.url, &elsewhere, arguments);
        assert!(said.well, "{arguments:?}: {}", said.err);
    }
    assert!(files(&elsewhere, "master.key").is_empty());
    // On a database that no server has served, they seal nothing that a server could not open.
    let blank = fresh_database("blank", async |_: &str| Ok::<(), Infallible>(())).await;
    let said = devhub(&blank, &elsewhere, &["projections", "list"]);
    assert!(said.well, "{}", said.err);
    let keys: i64 = sqlx::query_scalar("select count(*) from platform.signing_keys")
        .fetch_one(&mut PgConnection::connect(&blank).await.unwrap())
        .await
        .unwrap();
    assert_eq!((keys, files(&elsewhere, "master.key").len()), (0, 0));
    founder.get("/api/me").await.ok();
}

#[tokio::test]
async fn a_business_that_is_not_there_is_neither_rebuilt_nor_compared() {
    let world = World::start().await;
    let state = scratch("no-business");
    for verb in ["rebuild", "verify"] {
        let said = devhub(&world.url, &state, &["projections", verb, "leads", "--tenant", "TNT-999"]);
        assert!(!said.well && said.err.contains("there is no business TNT-999"), "{} {}", said.out, said.err);
        let said = devhub(&world.url, &state, &["projections", verb, "leads", "--tenant", "DEV-000"]);
        assert!(said.well, "{}", said.err);
    }
}

/// What the doctor finds wrong about the read models and the migrations.
fn wrong(database: &str, state: &Path) -> Vec<String> {
    let said = devhub(database, state, &["doctor", "--format", "json"]);
    let findings: Vec<Value> = serde_json::from_str(&said.out).unwrap();
    let wrong: Vec<&Value> = findings.iter().filter(|finding| finding["ok"] == false).collect();
    assert_eq!(said.well, wrong.is_empty());
    let ours =
        wrong.into_iter().filter(|finding| ["read models", "migrations"].iter().any(|of| finding["check"] == *of));
    ours.map(|finding| finding["detail"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn the_doctor_sees_read_models_that_are_wrong_and_migrations_that_are_missing() {
    let (world, state) = (World::start().await, scratch("doctor"));
    let acme = world.business("ACME").await;
    acme.post("/api/customers", json!({"company": "Initech"})).await.created();
    assert_eq!(wrong(&world.url, &state), [""; 0]);

    run(&world.url, "alter table cell_000.leads add constraint no_mallory check (name <> 'Mallory')").await;
    let tenant = acme.tenant.as_ref().unwrap().parse().unwrap();
    let mallory = told::one(StreamId::new("Lead", tenant, "LED-007"), 0, told::captured(world.clock.now(), "Mallory"));
    world.app.store.append_all(vec![mallory]).await.remove(0).unwrap();
    world.caught_up().await;
    let found = wrong(&world.url, &state);
    assert!(found.len() == 1 && found[0].starts_with("leads has set 1 record"), "{found:?}");

    run(&world.url, "update cell_000.customers set company = 'Tampered'").await;
    devhub(&world.url, &state, &["projections", "verify", "customers"]);
    let found = wrong(&world.url, &state);
    assert!(found.len() == 2 && found[1].starts_with("customers differs from the log in 1 row"), "{found:?}");

    // A kind of event of a later version of the program: nobody can tell which row it is about.
    let unknown = told::event(world.clock.now(), "CustomerEnlightened", &json!({"Enlightened": {}}));
    let unknown = told::one(StreamId::new("Customer", tenant, "CUS-000"), 1, unknown);
    world.app.store.append_all(vec![unknown]).await.remove(0).unwrap();
    world.app.projections.watch().wait_for(|progress| !progress.stopped.is_empty()).await.unwrap();
    assert!(wrong(&world.url, &state).iter().any(|found| found.contains(" has stopped: ")));

    run(&world.url, "delete from cell_000._sqlx_migrations where version = 8").await;
    let found = wrong(&world.url, &state);
    assert!(found.len() == 1 && found[0].starts_with("cell_000 0008 ") && found[0].contains("is missing"), "{found:?}");
}

#[tokio::test]
async fn the_samples_of_one_database_say_nothing_of_another_in_the_same_folder() {
    let state = scratch("samples");
    let load = async || {
        let database = fresh_database("blank", async |_: &str| Ok::<(), Infallible>(())).await;
        let said = devhub(&database, &state, &["samples"]);
        assert!(said.well && said.out.contains("The samples are loaded"), "{} {}", said.out, said.err);
        (database, said.out)
    };
    let ((first, one), (_, other)) = (load().await, load().await);
    let password = |said: &str| said.split("The password of everybody below is ").nth(1).unwrap()[..20].to_owned();
    assert_ne!(password(&one), password(&other));
    let kept = files(&state, ".txt");
    assert_eq!(kept.len(), 2, "{kept:?}");
    assert!(devhub(&first, &state, &["samples"]).out.contains("nothing was loaded"));

    // Loading was interrupted for one database; another, with businesses of its own, is left alone.
    for file in kept {
        let text = std::fs::read_to_string(&file).unwrap();
        std::fs::write(file.with_extension("part"), password(&text)).unwrap();
        std::fs::remove_file(file).unwrap();
    }
    let world = World::start().await;
    let acme = world.business("ACME").await;
    assert_eq!(acme.tenant.as_deref(), Some("TNT-000"));
    let credentials = async || -> Vec<String> {
        sqlx::query_scalar("select c::text from platform.credentials c order by 1")
            .fetch_all(&mut PgConnection::connect(&world.url).await.unwrap())
            .await
            .unwrap()
    };
    let before = credentials().await;
    let said = devhub(&world.url, &state, &["samples"]);
    assert!(said.well && said.out.contains("nothing was loaded"), "{} {}", said.out, said.err);
    assert_eq!(credentials().await, before);
    // Where it was interrupted, it goes on, with the same password.
    let said = devhub(&first, &state, &["samples"]);
    assert!(said.well && password(&said.out) == password(&one), "{} {}", said.out, said.err);
}
