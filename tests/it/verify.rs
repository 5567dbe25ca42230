//! Whether the read models say what the log says: on demand, on the command line, and every night.

use std::time::Duration;

use devhub::projections::replay;
use devhub::projections::verify::{self, Kind};
use serde_json::{Value, json};
use sqlx::Executor;

use crate::cluster::scratch;
use crate::rebuild::{PATH, busy, cell, owner, rebuild, verify};
use crate::world::World;

#[tokio::test]
async fn verify_names_what_is_wrong_with_its_columns_and_values() {
    let world = World::start().await;
    let acme = busy(&world, "ACME").await;
    let tenant = acme.tenant.clone().unwrap();
    world.caught_up().await;
    let mut connection = owner(&world).await;
    for tampering in [
        "update leads set company = 'Wrong', score = 3 where id = 'LED-002'",
        "delete from lead_versions where id = 'LED-000' and recorded_to < 'infinity'
            and position = (select min(position) from lead_versions where id = 'LED-000')",
        "insert into leads (tenant_id, id, version, name, source, stage, qualification, stage_changed_at, created_at,
             updated_at, position, occurred_from, recorded_from)
         select tenant_id, 'LED-999', version, name, source, stage, qualification, stage_changed_at, created_at,
             updated_at, position, occurred_from, recorded_from from leads where id = 'LED-002'",
    ] {
        assert_eq!(connection.execute(tampering).await.unwrap().rows_affected(), 1, "{tampering}");
    }
    let verified = verify(&world, "leads").await;
    assert_eq!(verified.differences, 3);
    let found: Vec<_> = verified.found.iter().map(|d| (d.table.as_str(), d.id.as_str(), d.kind)).collect();
    assert_eq!(
        found,
        [
            ("leads", "LED-002", Kind::Differs),
            ("leads", "LED-999", Kind::Unexpected),
            ("lead_versions", "LED-000", Kind::Missing),
        ]
    );
    assert!(verified.found.iter().all(|difference| difference.tenant_id == tenant && difference.position > Some(0)));
    let columns: Vec<_> =
        verified.found[0].columns.iter().map(|c| (c.column.as_str(), c.live.clone(), c.replayed.clone())).collect();
    assert_eq!(columns, [("company", json!("Wrong"), json!("Navy")), ("score", json!(3), Value::Null)]);

    // The same over HTTP, and in what operators look at.
    let founder = world.founder().await;
    let asked = founder.post(&format!("{PATH}/leads/verify"), json!({"tenant_id": tenant, "sample": 50})).await.ok();
    assert_eq!((&asked["differences"], &asked["state"]), (&json!(3), &json!("done")), "{asked}");
    assert_eq!(asked["found"][0]["columns"][0], json!({"column": "company", "live": "Wrong", "replayed": "Navy"}));
    let again = format!("{PATH}/leads/verifications/{}", asked["verification_id"].as_str().unwrap());
    assert_eq!(founder.get(&again).await.ok(), asked);
    let ready = founder.anonymous().get("/health/ready").await.ok();
    assert_eq!((&ready["status"], &ready["differing"][0]["projection"]), (&json!("degraded"), &json!("leads")));
    let metrics = founder.anonymous().get("/metrics").await.text;
    assert!(metrics.contains("projection_verify_rows{projection=\"leads\"}"), "{metrics}");

    // A sample of what is right takes nothing back; a rebuild does.
    let other = world.business("Other").await.tenant.unwrap();
    founder.post(&format!("{PATH}/leads/verify"), json!({"tenant_id": other})).await.ok();
    assert_eq!(founder.get(&format!("{PATH}/leads")).await.ok()["differences"], 3);
    rebuild(&world, "leads", None).await;
    assert_eq!(founder.anonymous().get("/health/ready").await.ok()["status"], "ok");
    assert_eq!(verify(&world, "leads").await.differences, 0);
}

#[tokio::test]
async fn every_night_a_sample_of_each_read_model_is_verified_once_whichever_server_does_it() {
    let world = World::start().await;
    busy(&world, "ACME").await;
    world.caught_up().await;
    owner(&world).await.execute("update leads set company = 'Wrong' where id = 'LED-002'").await.unwrap();
    let other = world.second_server().await;
    let (one, two) =
        tokio::join!(verify::run_if_due(cell(&world), &world.clock), verify::run_if_due(cell(&other), &other.clock));
    let mut done: Vec<_> = one.unwrap().into_iter().chain(two.unwrap()).collect();
    done.sort_by_key(|record| record.projection.clone());
    let mut names: Vec<_> = replay::all().iter().map(|projection| projection.name).collect();
    names.sort_unstable();
    assert_eq!(done.iter().map(|record| record.projection.as_str()).collect::<Vec<_>>(), names);
    for record in &done {
        assert_eq!(record.differences, i64::from(record.projection == "leads"), "{record:?}");
        assert!(record.rows > 0 && record.sample == Some(verify::SAMPLE.into()), "{record:?}");
    }
    assert!(verify::run_if_due(cell(&world), &world.clock).await.unwrap().is_empty());
    world.clock.advance(Duration::from_secs(24 * 3600));
    assert_eq!(verify::run_if_due(cell(&world), &world.clock).await.unwrap().len(), names.len());
}

#[tokio::test]
async fn the_command_line_tells_differences_by_its_exit_code() {
    let world = World::start().await;
    busy(&world, "ACME").await;
    world.caught_up().await;
    let state = scratch("projections-cli");
    let devhub = |arguments: &[&str]| {
        let ended = std::process::Command::new(env!("CARGO_BIN_EXE_devhub"))
            .arg("projections")
            .args(arguments)
            .env("DATABASE_URL", &world.url)
            .env("DEVHUB_STATE_DIR", &state)
            .output()
            .unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (ended.status.code().unwrap(), text(ended.stdout), text(ended.stderr))
    };
    let (code, told, _) = devhub(&["verify", "leads"]);
    assert_eq!(code, 0);
    assert!(told.starts_with("leads is as the log says: "), "{told}");
    owner(&world).await.execute("update leads set company = 'Wrong' where id = 'LED-002'").await.unwrap();
    let (code, told, _) = devhub(&["verify", "leads", "--format", "json"]);
    assert_eq!(code, 1);
    let told: Value = serde_json::from_str(&told).unwrap();
    assert_eq!(told["found"][0]["columns"], json!([{"column": "company", "live": "Wrong", "replayed": "Navy"}]));
    let (code, told, _) = devhub(&["verify", "leads", "--sample", "100"]);
    assert_eq!(code, 1);
    assert!(told.contains("\"Wrong\"") && told.contains("\"Navy\"") && told.contains("LED-002"), "{told}");
    let (code, told, _) = devhub(&["status", "leads", "--format", "json"]);
    assert_eq!((code, &serde_json::from_str::<Value>(&told).unwrap()["differences"]), (0, &json!(1)));
    let (code, told, _) = devhub(&["rebuild", "leads"]);
    assert_eq!(code, 0);
    assert!(told.starts_with("leads was made anew up to position "), "{told}");
    let (code, told, _) = devhub(&["list"]);
    assert!(code == 0 && told.contains("activity") && told.contains("done"), "{told}");
    let (code, _, told) = devhub(&["rebuild", "nothing"]);
    assert!(code == 1 && told.contains("there is no projection nothing"), "{told}");
}
