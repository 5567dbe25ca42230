//! The limits of the machine: what PostgreSQL does when nobody asks for more than the rows.

use std::process::Command;
use std::time::{Duration, Instant};

use devhub::clock::{Clock, new_event_id};
use sqlx::{Connection, PgConnection};

use crate::writers::{self, Reached};

/// An event as the log has it, without what tells it apart. Colons that are followed by a letter would be variables to
/// pgbench.
const EVENT: &str = r#"'LeadCaptured', '1',
    '{"Captured": {"name": "Mateo Rossi", "company": "Company 1", "email": "mateo@example.com", "source": "referral",
      "stage": "new", "probability": 5, "qualification": "new"}}',
    '{"actor": "TNT-001/USR-004", "correlation_id": "01920000-0000-7000-8000-000000000001"}'"#;

/// One row an insert, prepared, by `pgbench`: commits a second.
pub fn single_rows(url: &str, clients: usize, time: Duration) -> f64 {
    let script = std::env::temp_dir().join(format!("devhub-bench-{}.sql", std::process::id()));
    std::fs::write(
        &script,
        format!("insert into stock.events values ('Bare', gen_random_uuid()::text, 1, {EVENT});\n"),
    )
    .unwrap();
    let output = Command::new("pgbench")
        .args(["-n", "-M", "prepared", "-f"])
        .arg(&script)
        .args(["-c", &clients.to_string(), "-j", &clients.min(2).to_string()])
        .args(["-T", &time.as_secs().max(1).to_string()])
        .arg(url)
        .output()
        .unwrap();
    std::fs::remove_file(&script).unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().find(|line| line.starts_with("tps = ")).unwrap_or_else(|| {
        panic!("pgbench: {text}{}", String::from_utf8_lossy(&output.stderr));
    });
    line.trim_start_matches("tps = ").split_whitespace().next().unwrap().parse().unwrap()
}

/// 100 rows a statement, as arrays, by four writers: rows a second.
pub async fn hundreds(url: &str, time: Duration) -> f64 {
    const ROWS: usize = 100;
    let pool = crate::stock::pool(url).await;
    let Reached { per_second, .. } = writers::write(4, time, pool.clone(), |pool, _, _| async move {
        let ids: Vec<String> = (0..ROWS).map(|_| new_event_id(Clock::system().now()).to_string()).collect();
        sqlx::query(&format!("insert into events select 'Bare', i, 1, {EVENT} from unnest($1::text[]) i"))
            .bind(ids)
            .execute(&*pool)
            .await
            .unwrap();
    })
    .await;
    pool.close().await;
    per_second * ROWS as f64
}

/// Leads a second whose rows and index entries, all that is stored of a captured one, two sessions insert at once from
/// tables that have them ready, a statement a table: what PostgreSQL does at best if nothing is decided, sent,
/// chained, or committed one after the other.
pub async fn rows_of_leads(url: &str) -> f64 {
    const LEADS: i64 = 20_000;
    const SESSIONS: i64 = 2;
    let mut admin = PgConnection::connect(url).await.unwrap();
    sqlx::query("create schema bare").execute(&mut admin).await.unwrap();
    let mut inserts: Vec<Vec<String>> = vec![Vec::new(); SESSIONS as usize];
    for table in ["events", "activity", "leads", "lead_versions"] {
        let columns: String = sqlx::query_scalar(
            "select string_agg(quote_ident(a.attname), ', ' order by a.attnum) from pg_attribute a
             where a.attrelid = ('cell_000.' || $1)::regclass and a.attnum > 0 and not a.attisdropped and a.attgenerated = ''",
        )
        .bind(table)
        .fetch_one(&mut admin)
        .await
        .unwrap();
        for session in 0..SESSIONS {
            let ready = format!("bare.{table}_{session}");
            let sql = format!(
                "create table {ready} as select {columns} from cell_000.{table}
                 where position % {SESSIONS} = {session} and position in (
                     select position from cell_000.events where event_type = 'LeadCaptured' order by position limit {LEADS}
                 ) order by position",
            );
            sqlx::query(&sql).execute(&mut admin).await.unwrap();
            inserts[session as usize].push(format!("insert into bare.{table} ({columns}) select * from {ready}"));
        }
        let sql = format!("create table bare.{table} (like cell_000.{table} including all)");
        sqlx::query(&sql).execute(&mut admin).await.unwrap();
    }
    let mut sessions = Vec::new();
    for inserts in inserts {
        sessions.push((PgConnection::connect(url).await.unwrap(), inserts));
    }
    let begun = Instant::now();
    let inserting = sessions.into_iter().map(|(mut session, inserts)| async move {
        let mut rows = 0;
        for insert in inserts {
            rows = sqlx::query(&insert).execute(&mut session).await.unwrap().rows_affected();
        }
        rows
    });
    let leads: u64 = futures::future::join_all(inserting).await.into_iter().sum();
    let elapsed = begun.elapsed();
    sqlx::query("drop schema bare cascade").execute(&mut admin).await.unwrap();
    leads as f64 / elapsed.as_secs_f64()
}

/// Events a second that leave the log when what a projection needs of them is copied out.
pub async fn copy_out(url: &str) -> f64 {
    use futures::TryStreamExt as _;
    let mut connection = PgConnection::connect(url).await.unwrap();
    let events: i64 =
        sqlx::query_scalar("select count(*) from cell_000.events").fetch_one(&mut connection).await.unwrap();
    let begun = Instant::now();
    let mut copied = connection
        .copy_out_raw(
            "copy (select aggregate_type, aggregate_id, sequence, event_type, event_version, payload, tenant_id, position,
                          tenant_position, event_id, occurred_at, recorded_at
                   from cell_000.events order by position) to stdout",
        )
        .await
        .unwrap();
    let mut bytes = 0;
    while let Some(part) = copied.try_next().await.unwrap() {
        bytes += part.len();
    }
    assert!(bytes > 0);
    events as f64 / begun.elapsed().as_secs_f64()
}
