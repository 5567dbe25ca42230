//! Connections that the database closes, as it does when it is started again, cost nobody an answer, and nothing that is
//! written meanwhile is lost or stored twice.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use axum::http::Method;
use devhub::access::secrets::MasterKey;
use devhub::aggregates::ids::TenantId;
use devhub::api::limits::RateLimits;
use devhub::clock::Clock;
use devhub::event_store::{self, Append, AppendError, Appended, Cell, Database, EventStore, StreamWrite, Target};
use devhub::postgres::{Installation, Options, PrivateCluster};
use devhub::projections::{self, Projector};
use serde_json::{Value, json};
use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection as _, Executor as _, PgConnection, PgPool};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

use crate::cluster::{self, fresh_database};
use crate::told;
use crate::world::{Answer, Client, World};

/// Closes every connection of these kinds; how many there were.
async fn close(admin: &mut PgConnection, kinds: &[&str]) -> i64 {
    sqlx::query_scalar(
        "select count(pg_terminate_backend(pid, 10000)) from pg_stat_activity
         where datname = current_database() and application_name = any($1)",
    )
    .bind(kinds)
    .fetch_one(admin)
    .await
    .unwrap()
}

#[tokio::test]
async fn whoever_asks_after_the_database_has_closed_its_connections_is_answered() {
    const READING: [&str; 3] = ["devhub_platform", "devhub_request", "devhub_founder"];
    let world = World::start().await;
    let (owner, founder) = (world.business("ACME").await, world.founder().await);
    owner.post("/api/leads", json!({"name": "Ada"})).await.created();
    let mut admin = PgConnection::connect(&world.url).await.unwrap();
    for (client, path) in [
        (&owner, "/api/leads/LED-000"),
        (&owner, "/api/leads?sort=name"),
        (&owner, "/api/events"),
        (&founder, "/api/admin/events"),
    ] {
        client.get(path).await.ok();
        assert!(close(&mut admin, &READING).await > 1);
        client.get(path).await.ok();
    }
}

#[tokio::test]
async fn a_command_after_the_database_has_closed_its_connections_is_stored() {
    let world = World::start().await;
    let owner = world.business("ACME").await;
    let mut admin = PgConnection::connect(&world.url).await.unwrap();
    for number in 0..3 {
        assert!(close(&mut admin, &["devhub_appender"]).await > 0);
        owner.post("/api/leads", json!({"name": format!("Ada {number}")})).await.created();
        // What is remembered of the lead is read on, over connections that are closed too.
        let second = world.second_server().await;
        let id = format!("/api/leads/LED-00{number}");
        owner.at(&second).patch(&id, json!({"company": "Analytical Engines"})).await.ok();
        assert!(close(&mut admin, &["devhub_appender"]).await > 0);
        owner.patch(&id, json!({"company": "Difference Engines"})).await.ok();
    }
    let leads = owner.get("/api/leads?count=exact").await.ok();
    assert_eq!(leads["page"]["total"], 3);
}

/// Writers on two servers, for which connections break at any moment: what was acknowledged is there, and nothing is there
/// twice.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_written_while_connections_break_is_stored_once() {
    const WRITERS: usize = 8;
    const EACH: usize = 40;
    let world = World::start().await;
    let owner = world.business("ACME").await;
    let second = world.second_server().await;
    let answered = Arc::new((AtomicUsize::new(0), Notify::new()));
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        let owner = if writer % 2 == 0 { owner.clone() } else { owner.at(&second) };
        let answered = Arc::clone(&answered);
        writers.spawn(async move {
            let mut acknowledged = Vec::new();
            for turn in 0..EACH {
                let name = format!("Lead {writer} {turn}");
                let answer = owner.post("/api/leads", json!({"name": name})).await;
                match answer.status.as_u16() {
                    201 | 202 => acknowledged.push(name),
                    // It may have been stored.
                    500 | 503 => {}
                    other => panic!("{other}: {}", answer.text),
                }
                answered.0.fetch_add(1, Ordering::SeqCst);
                answered.1.notify_one();
            }
            acknowledged
        });
    }
    let mut admin = PgConnection::connect(&world.url).await.unwrap();
    let mut closed = 0;
    for breaks in 1..WRITERS * EACH / 10 {
        while answered.0.load(Ordering::SeqCst) < breaks * 10 {
            answered.1.notified().await;
        }
        closed += close(&mut admin, &["devhub_appender"]).await;
    }
    let acknowledged: Vec<String> = writers.join_all().await.into_iter().flatten().collect();
    assert!(closed > 0);
    assert!(acknowledged.len() > WRITERS * EACH / 2, "{}", acknowledged.len());
    world.caught_up().await;
    let stored = names(&owner).await;
    for name in acknowledged {
        assert_eq!(stored.get(&name), Some(&1), "{name}");
    }
    assert!(stored.values().all(|times| *times == 1), "{stored:?}");
}

/// A batch that the database has stored, and whose connection broke before it could say so.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_stored_without_our_hearing_of_it_is_not_stored_again() {
    let options = Options { fsync: true, max_connections: 100, shared_buffers_mb: 16 };
    let installation = Installation::find().unwrap();
    let cluster = PrivateCluster::start(&cluster::scratch("unheard"), &installation, &options).await.unwrap();
    event_store::migrate(&cluster.url()).await.unwrap();
    let clock = Clock::manual("2026-03-02T09:00:00Z".parse().unwrap());
    let world = World::on(cluster.url(), clock, MasterKey::generate().unwrap(), RateLimits::default()).await;
    let owner = world.business("ACME").await;
    let mut admin = PgConnection::connect(&world.url).await.unwrap();

    // There is no such standby: whoever commits has committed, and waits to be told so.
    admin.execute("alter system set synchronous_standby_names = 'nobody'").await.unwrap();
    admin.execute("select pg_reload_conf()").await.unwrap();
    let released = Arc::new(AtomicBool::new(false));
    let writing = tokio::spawn({
        let (owner, released) = (owner.clone(), Arc::clone(&released));
        async move {
            let mut acknowledged = 0;
            loop {
                let answer = keyed(&owner, acknowledged).await;
                if answer.status != 201 || released.load(Ordering::SeqCst) {
                    return (acknowledged, answer);
                }
                acknowledged += 1;
            }
        }
    });
    let waiting = "select count(pg_terminate_backend(pid, 10000)) from pg_stat_activity
                   where application_name = 'devhub_appender' and wait_event = 'SyncRep'";
    while sqlx::query_scalar::<_, i64>(waiting).fetch_one(&mut admin).await.unwrap() == 0 {}
    released.store(true, Ordering::SeqCst);
    admin.execute("alter system reset synchronous_standby_names").await.unwrap();
    admin.execute("select pg_reload_conf()").await.unwrap();

    let (acknowledged, unheard) = writing.await.unwrap();
    unheard.problem(500, "internal");
    // Sent again, it is not done again.
    let again = keyed(&owner, acknowledged).await;
    assert_eq!(again.problem(409, "conflict")["rule"], "answer_lost");
    owner.post("/api/leads", json!({"name": "Afterwards"})).await.created();
    let stored = names(&owner).await;
    assert_eq!(stored.len(), acknowledged + 2, "{stored:?}");
    assert!(stored.values().all(|times| *times == 1), "{stored:?}");
    cluster.stop().await.unwrap();
}

/// A network between the program and the database that can fall silent without closing anything.
struct Network {
    /// The database's address through it.
    url: String,
    silence: watch::Sender<Silence>,
    connections: Arc<AtomicUsize>,
}

/// What does not come through, of the connections before this one.
#[derive(Debug, Clone, Copy, Default)]
struct Silence {
    before: usize,
    /// Only what the database answers.
    of_answers: bool,
}

impl Network {
    async fn to(database: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (base, settings) = database.split_once('?').unwrap_or((database, ""));
        let kept = settings.split('&').filter(|setting| !setting.starts_with("host=") && !setting.starts_with("port="));
        let url = format!("{base}?{}&host=127.0.0.1&port={port}", kept.collect::<Vec<_>>().join("&"));
        let (silence, silent) = watch::channel(Silence::default());
        let connections = Arc::new(AtomicUsize::new(0));
        let options: PgConnectOptions = database.parse().unwrap();
        let accepted = Arc::clone(&connections);
        tokio::spawn(async move {
            while let Ok((program, _)) = listener.accept().await {
                let number = accepted.fetch_add(1, Ordering::SeqCst);
                let (asks, hears) = program.into_split();
                match options.get_socket() {
                    Some(folder) => {
                        let socket = folder.join(format!(".s.PGSQL.{}", options.get_port()));
                        let (answers, hears_of) = UnixStream::connect(socket).await.unwrap().into_split();
                        tokio::spawn(pass(asks, hears_of, silent.clone(), number, false));
                        tokio::spawn(pass(answers, hears, silent.clone(), number, true));
                    }
                    None => {
                        let server = (options.get_host(), options.get_port());
                        let (answers, hears_of) = TcpStream::connect(server).await.unwrap().into_split();
                        tokio::spawn(pass(asks, hears_of, silent.clone(), number, false));
                        tokio::spawn(pass(answers, hears, silent.clone(), number, true));
                    }
                }
            }
        });
        Self { url, silence, connections }
    }

    /// Nothing comes through any more over the connections that there are; later ones work.
    fn fall_silent(&self, of_answers: bool) {
        let before = self.connections.load(Ordering::SeqCst);
        self.silence.send(Silence { before, of_answers }).unwrap();
    }

    /// What was on its way arrives after all.
    fn speak_again(&self) {
        self.silence.send(Silence::default()).unwrap();
    }
}

/// Passes on what comes, as soon as it may.
async fn pass(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut silence: watch::Receiver<Silence>,
    number: usize,
    answers: bool,
) {
    let mut bytes = vec![0; 65_536];
    while let Ok(count @ 1..) = from.read(&mut bytes).await {
        let comes_through = |silence: &Silence| number >= silence.before || (silence.of_answers && !answers);
        if silence.wait_for(comes_through).await.is_err() || to.write_all(&bytes[..count]).await.is_err() {
            return;
        }
    }
}

/// A program whose connections to the database go through a network that can fall silent, with little patience.
struct Remote {
    network: Network,
    cell: Cell,
    store: EventStore,
    pool: PgPool,
}

impl Remote {
    async fn new() -> Self {
        let url = fresh_database("devhub", event_store::migrate).await;
        let network = Network::to(&url).await;
        let database = Database::connect(&network.url).await.unwrap();
        let cell = Cell { patience: Duration::from_secs(2), ..database.cells().next().unwrap().clone() };
        let (store, _) = EventStore::open(&cell, Clock::system());
        Self { network, cell, store, pool: PgPool::connect(&url).await.unwrap() }
    }

    async fn capture(&self, name: &str) -> Result<Appended, AppendError> {
        let target = Target::Next { aggregate_type: "Lead", tenant: TenantId::Legacy, prefix: "LED" };
        let events = vec![told::captured(Clock::system().now(), name)];
        let writes = vec![StreamWrite { target, expected: 0, events }];
        let append = Append { tenant: TenantId::Legacy, writes, guards: vec![], conditions: vec![], idempotency: None };
        self.store.append_all(vec![append]).await.remove(0)
    }

    /// The names of the leads in the log, in order.
    async fn stored(&self) -> Vec<String> {
        let names = "select payload->'Captured'->'name'->>'personal' from cell_000.events order by position";
        sqlx::query_scalar(names).fetch_all(&self.pool).await.unwrap()
    }
}

#[tokio::test]
async fn what_is_written_when_the_network_falls_silent_is_stored_once() {
    let remote = Remote::new().await;
    remote.capture("Before").await.unwrap();
    let writers =
        "select pid from pg_stat_activity where datname = current_database() and query like '%update cell_head%'
                   and pid <> pg_backend_pid()";
    let writers: Vec<i32> = sqlx::query_scalar(writers).fetch_all(&remote.pool).await.unwrap();
    remote.network.fall_silent(false);
    // The batch is sent and does not arrive; it is taken again over another connection.
    remote.capture("Meanwhile").await.unwrap();
    // What was on its way comes too late, and the session that it came to ends.
    remote.network.speak_again();
    let left = "select count(*) from pg_stat_activity where pid = any($1)";
    while sqlx::query_scalar::<_, i64>(left).bind(&writers).fetch_one(&remote.pool).await.unwrap() > 0 {}
    remote.capture("Afterwards").await.unwrap();
    assert_eq!(remote.stored().await, ["Before", "Meanwhile", "Afterwards"]);
}

#[tokio::test]
async fn what_was_stored_by_a_database_that_fell_silent_is_not_stored_again() {
    let remote = Remote::new().await;
    remote.capture("Before").await.unwrap();
    remote.network.fall_silent(true);
    let unheard = remote.capture("Unheard").await;
    assert!(matches!(unheard, Err(AppendError::Store(_))), "{unheard:?}");
    assert_eq!(remote.stored().await, ["Before", "Unheard"]);
    remote.capture("Afterwards").await.unwrap();
    assert_eq!(remote.stored().await, ["Before", "Unheard", "Afterwards"]);
}

#[tokio::test]
async fn the_read_models_go_on_when_the_network_has_fallen_silent() {
    let remote = Remote::new().await;
    let (_stop, stopping) = watch::channel(false);
    let models = projections::all();
    let (projections, _) = Projector::start(&remote.cell, Clock::system(), models, remote.store.tail(), stopping);
    let before = remote.capture("Before").await.unwrap().position;
    projections.reached(before, Duration::from_secs(60)).await.unwrap();
    for of_answers in [false, true] {
        remote.network.fall_silent(of_answers);
        let _ = remote.capture("Meanwhile").await;
        let after = remote.capture("Afterwards").await.unwrap().position;
        projections.reached(after, Duration::from_secs(60)).await.unwrap();
    }
    let leads: i64 = sqlx::query_scalar("select count(*) from cell_000.leads").fetch_one(&remote.pool).await.unwrap();
    assert_eq!(leads, i64::try_from(remote.stored().await.len()).unwrap());
}

/// Captures the lead of this number under a key of its own.
async fn keyed(owner: &Client, number: usize) -> Answer {
    let key = format!("lead-{number}");
    let lead = json!({"name": format!("Lead {number}")});
    owner.send(Method::POST, "/api/leads", &[("idempotency-key", &key)], Some(lead)).await
}

/// How often there is a lead of each name.
async fn names(owner: &Client) -> BTreeMap<String, usize> {
    let mut names = BTreeMap::new();
    let mut next = String::new();
    loop {
        let page = owner.get(&format!("/api/leads?limit=200{next}")).await.ok();
        for lead in page["data"].as_array().unwrap() {
            *names.entry(lead["name"].as_str().unwrap().to_owned()).or_insert(0) += 1;
        }
        match &page["page"]["next_cursor"] {
            Value::String(cursor) => next = format!("&cursor={cursor}"),
            _ => return names,
        }
    }
}
