//! A running server and the people who use it, beside a bare one on the same database.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use devhub::load::client::Client;
use devhub::load::{self, Plan};
use hyper::Method;
use secrecy::SecretString;
use serde_json::{Value, json};
use sqlx::{Connection, PgConnection};
use tokio::sync::Mutex;

use crate::figures::{self, Better, Figures};
use crate::writers::{self, Reached};
use crate::{Size, bare_server};

/// Connections of the clients.
const CLIENTS: usize = 64;
/// Connections where the time of one request is what counts.
const FEW: usize = 2;
/// Leads of the small list.
const SMALL: i64 = 10_000;
/// How deep the deep page is.
const DEEP: usize = 1_000;

/// Where a server can listen.
pub fn free_address() -> String {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    free.local_addr().unwrap().to_string()
}

/// A process that ends with this.
struct Server {
    child: Child,
    address: String,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    /// `devhub serve` until it answers, and how long that took.
    async fn devhub(url: &str, folder: &Path) -> (Self, Duration) {
        let address = free_address();
        let begun = Instant::now();
        let child = Command::new(env!("CARGO_BIN_EXE_devhub"))
            .arg("serve")
            .env("DATABASE_URL", url)
            .env("DEVHUB_STATE_DIR", folder.join("server"))
            .env("DEVHUB_LISTEN", &address)
            .env("DEVHUB_FOUNDER_PASSWORD", "a long walk by the sea")
            .env("DEVHUB_USER_RATE", "100000000")
            .env("DEVHUB_TENANT_RATE", "100000000")
            .env("DEVHUB_SIGN_IN_RATE", "100000000")
            .env("RUST_LOG", "warn")
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let mut server = Self { child, address };
        let mut client = Client::new(&server.address);
        while !matches!(client.call(Method::GET, "/health/ready", None).await, Ok(answer) if answer.status.is_success())
        {
            assert!(server.child.try_wait().unwrap().is_none(), "the server ended instead of answering");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        (server, begun.elapsed())
    }

    fn bare(url: &str) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([bare_server::COMMAND, url])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut address = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut address).unwrap();
        Self { child, address: address.trim().to_owned() }
    }

    /// The memory that it has, in MB.
    fn memory(&self) -> f64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1024.0
    }

    /// The memory that it has midway through what it is given to do, and towards its end, in MB.
    async fn memory_under<T>(&self, load: impl Future<Output = T>) -> (f64, f64, T) {
        figures::midway_and_towards_the_end(load, Duration::from_secs(1), || self.memory()).await
    }
}

/// A business and its owner's token.
struct Business {
    tenant: String,
    token: SecretString,
}

async fn business(address: &str, name: &str) -> Business {
    let mut client = Client::new(address);
    let email = format!("owner@{name}.example");
    let password = "a long pass phrase";
    let body = json!({
        "business_name": name, "business_email": email, "subscription_plan": "enterprise",
        "owner": {"email": email, "full_name": "Ada Lovelace", "password": password},
    });
    client.expect::<Value>(Method::POST, "/api/auth/register-business", Some(&body)).await.unwrap();
    let login = json!({"email": email, "password": password});
    let signed_in: Value = client.expect(Method::POST, "/api/auth/login", Some(&login)).await.unwrap();
    let token: SecretString = signed_in["access_token"].as_str().unwrap().to_owned().into();
    client.act_with(token.clone());
    let tenant: Value = client.expect(Method::GET, "/api/tenant", None).await.unwrap();
    Business { tenant: tenant["id"].as_str().unwrap().to_owned(), token }
}

/// So many leads as the read model would have them; the same rows for the bare server.
async fn fill(url: &str, tenant: &str, leads: i64) {
    let mut connection = PgConnection::connect(url).await.unwrap();
    let insert = "insert into cell_000.leads (tenant_id, id, version, name, company, job_title, email, phone, source, stage,
            qualification, estimated_value, currency, probability, expected_close_date, assignee_id, stage_changed_at,
            created_at, updated_at, position, occurred_from, recorded_from)
        select $1, 'LED-' || n, 1 + n % 7, 'Mateo Rossi ' || n, 'Company ' || n % 5000,
            'Head of Operations', 'mateo.rossi.' || n || '@example.com', '+1 555 0100 1000', 'referral',
            (array['new', 'contacted', 'qualified', 'proposal', 'closed_lost'])[(1 + n % 5)::integer], 'new', 1000 + n % 90000, 'USD',
            20, date '2026-01-01' + (n % 700)::integer, 'USR-001', at, at, at, n, at, at
        from generate_series(1000, 999 + $2) n,
             lateral (select timestamptz '2024-01-01' + n * 7919 % 60000000 * interval '1 second' as at) t";
    sqlx::query(insert).bind(tenant).bind(leads).execute(&mut connection).await.unwrap();
}

fn clients(address: &str, count: usize, business: &Business) -> Vec<Mutex<Client>> {
    (0..count)
        .map(|_| {
            let mut client = Client::new(address);
            client.act_with(business.token.clone());
            Mutex::new(client)
        })
        .collect()
}

/// The same request, or one of several in turn, on so many connections.
async fn get(address: &str, count: usize, time: Duration, business: &Business, paths: Vec<String>) -> Reached {
    let state = (clients(address, count, business), paths);
    writers::write(count, time, state, |state, writer, turn| async move {
        let (clients, paths) = &*state;
        let path = &paths[(turn * 31 + writer * 7919) % paths.len()];
        let answer = clients[writer].lock().await.call(Method::GET, path, None).await.unwrap();
        assert!(answer.status.is_success(), "{path}: {}", answer.status);
    })
    .await
}

async fn post(address: &str, count: usize, time: Duration, business: &Business) -> Reached {
    let state = clients(address, count, business);
    writers::write(count, time, state, |clients, writer, turn| async move {
        let lead = json!({
            "name": format!("Mateo Rossi {writer} {turn}"), "company": "Company 1", "email": "mateo.rossi@example.com",
            "source": "referral", "estimated_value": {"amount": "4000.00", "currency": "USD"},
        });
        let answer = clients[writer].lock().await.call(Method::POST, "/api/leads", Some(&lead)).await.unwrap();
        assert_eq!(answer.status, 201, "{}", String::from_utf8_lossy(&answer.body));
    })
    .await
}

const LIST: &str = "/api/leads?stage=new,contacted&sort=-updated_at&limit=50";

/// The address of a page so deep in the list, of ours and of the bare server's.
async fn deep(ours: &str, business: &Business) -> (String, String) {
    let mut client = Client::new(ours);
    client.act_with(business.token.clone());
    let (mut path, mut last) = (LIST.to_owned(), Value::Null);
    for _ in 1..DEEP {
        let page: Value = client.expect(Method::GET, &path, None).await.unwrap();
        let Some(cursor) = page["page"]["next_cursor"].as_str() else { break };
        path = format!("{LIST}&cursor={cursor}");
        last = page["data"].as_array().unwrap().last().unwrap().clone();
    }
    let bare = format!(
        "/leads/{}?updated_at={}&id={}",
        business.tenant,
        last["updated_at"].as_str().unwrap(),
        last["id"].as_str().unwrap()
    );
    (path, bare)
}

pub async fn rounds(url: &str, folder: &Path, size: Size, figures: &mut Figures) {
    let Size { time, .. } = size;
    // The first start migrates and makes keys; what counts is one on a cluster that is there.
    drop(Server::devhub(url, folder).await);
    for _ in 0..size.rounds {
        let (server, took) = Server::devhub(url, folder).await;
        figures.against_goal("start of the server to its first answer", "s", took.as_secs_f64(), 1.0);
        drop(server);
    }
    let (server, _) = Server::devhub(url, folder).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    figures.against_goal("memory, idle", "MB", server.memory(), 50.0);

    let small = business(&server.address, "small").await;
    let large = business(&server.address, "large").await;
    let writing = business(&server.address, "writing").await;
    fill(url, &small.tenant, SMALL).await;
    fill(url, &large.tenant, size.leads).await;
    let mut admin = PgConnection::connect(url).await.unwrap();
    copy_for_the_bare_server(&mut admin).await;
    for statement in ["vacuum (analyze) cell_000.leads", "vacuum (analyze) stock.leads", "checkpoint"] {
        sqlx::query(statement).execute(&mut admin).await.unwrap();
    }
    let bare = Server::bare(url);
    let (deep_ours, deep_bare) = deep(&server.address, &large).await;
    let ids = |step: usize| (1_000..1_000 + SMALL as usize).step_by(step).map(|n| format!("LED-{n}"));

    for _ in 0..size.rounds {
        let bare_paths: Vec<String> = ids(7).map(|id| format!("/leads/{}/{id}", small.tenant)).collect();
        let bare_read = get(&bare.address, CLIENTS, time, &small, bare_paths).await;
        let our_paths: Vec<String> = ids(7).map(|id| format!("/api/leads/{id}")).collect();
        let read = get(&server.address, CLIENTS, time, &small, our_paths).await;
        let write = post(&server.address, CLIENTS, time, &writing).await;
        figures.note("bare read of one record, 64 connections, p99", "ms", bare_read.p99());
        figures.note("read of one record, 64 connections, p99", "ms", read.p99());
        figures.note("POST /api/leads, 64 connections, p99", "ms", write.p99());
        let against = "bare read, axum + sqlx, 64 connections";
        let bare_rate = bare_read.per_second;
        figures.compare(
            "POST /api/leads, durable and visible, 64 connections",
            "requests/s",
            write.per_second,
            against,
            bare_rate,
            Better::AtLeast(0.4),
        );
        figures.compare(
            "GET of one record, 64 connections",
            "requests/s",
            read.per_second,
            against,
            bare_rate,
            Better::AtLeast(1.0),
        );

        let page = async |address: &str, business: &Business, path: &str| {
            get(address, FEW, time, business, vec![path.to_owned()]).await.latencies.mean() / 1_000.0
        };
        let bare_small = page(&bare.address, &small, &format!("/leads/{}", small.tenant)).await;
        let ours_small = page(&server.address, &small, LIST).await;
        let bare_first = page(&bare.address, &large, &format!("/leads/{}", large.tenant)).await;
        let ours_first = page(&server.address, &large, LIST).await;
        let bare_deep = page(&bare.address, &large, &deep_bare).await;
        let ours_deep = page(&server.address, &large, &deep_ours).await;
        let many = format!("{} leads", size.leads);
        figures.compare(
            "first page of 50, 10,000 leads",
            "ms",
            ours_small,
            "the bare server's",
            bare_small,
            Better::AtMost(1.3),
        );
        figures.compare(
            &format!("first page of 50, {many}"),
            "ms",
            ours_first,
            "the bare server's",
            bare_first,
            Better::AtMost(1.3),
        );
        figures.compare(
            &format!("page 1,000, {many}"),
            "ms",
            ours_deep,
            "the bare server's",
            bare_deep,
            Better::AtMost(1.3),
        );
        figures.compare(
            &format!("first page of 50, {many}"),
            "ms",
            ours_first,
            "with 10,000 leads",
            ours_small,
            Better::AtMost(1.3),
        );
    }
    drop(bare);

    let plan = Plan {
        address: server.address.clone(),
        connections: CLIENTS,
        time: size.load,
        mix: "read=50,list=25,command=20,report=5".parse().unwrap(),
        tenants: 16,
        leads: 100,
    };
    // The same businesses all the time: those of a second load would come on top of them.
    let (half, memory, report) = server.memory_under(async { load::run(&plan, false).await.unwrap() }).await;
    figures.note("mix of 16 businesses, 64 connections", "requests/s", report.per_second);
    for line in &report.actions {
        figures.note(&format!("the same, {}: p99", line.action.name()), "ms", line.p99_ms);
    }
    let name = format!("memory after {} s of full load", size.load.as_secs());
    figures.against_goal(&name, "MB", memory, 300.0);
    figures.compare(&name, "MB", memory, "after half of it", half, Better::AtMost(1.1));
}

/// Generated columns are not copied but worked out again.
async fn copy_for_the_bare_server(admin: &mut PgConnection) {
    let columns: Vec<String> = sqlx::query_scalar(
        "select attname::text from pg_attribute
         where attrelid = 'cell_000.leads'::regclass and attnum > 0 and not attisdropped and attgenerated = '' order by attnum",
    )
    .fetch_all(&mut *admin)
    .await
    .unwrap();
    let columns = columns.join(", ");
    sqlx::query("drop table if exists stock.leads").execute(&mut *admin).await.unwrap();
    sqlx::query("create table stock.leads (like cell_000.leads including all)").execute(&mut *admin).await.unwrap();
    sqlx::query(&format!("insert into stock.leads ({columns}) select {columns} from cell_000.leads"))
        .execute(&mut *admin)
        .await
        .unwrap();
}
