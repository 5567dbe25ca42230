//! The private PostgreSQL: it keeps its data over stops, crashes and our own end.

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::Path,
    process::Command,
};

use devhub::postgres::{ClusterError, Installation, Options, PrivateCluster};
use sqlx::{Connection, PgConnection};

use crate::cluster;

async fn start(state: &Path) -> Result<PrivateCluster, ClusterError> {
    start_with(state, false).await
}

async fn start_with(state: &Path, fsync: bool) -> Result<PrivateCluster, ClusterError> {
    let options = Options { fsync, max_connections: 20, shared_buffers_mb: 16 };
    PrivateCluster::start(state, &Installation::find().unwrap(), &options).await
}

async fn connect(cluster: &PrivateCluster) -> PgConnection {
    PgConnection::connect(&cluster.url()).await.unwrap()
}

async fn write_a_row(cluster: &PrivateCluster) {
    let mut connection = connect(cluster).await;
    sqlx::raw_sql("create table kept (word text); insert into kept values ('still here')")
        .execute(&mut connection)
        .await
        .unwrap();
    connection.close().await.unwrap();
}

async fn the_row(cluster: &PrivateCluster) -> String {
    sqlx::query_scalar("select word from kept").fetch_one(&mut connect(cluster).await).await.unwrap()
}

fn kill_at_once(pid: u32) {
    assert!(Command::new("kill").args(["-9", &pid.to_string()]).status().unwrap().success());
}

#[tokio::test]
async fn a_second_start_finds_the_data_of_the_first() {
    let state = cluster::scratch("restart");
    let first = start(&state).await.unwrap();
    write_a_row(&first).await;
    first.stop().await.unwrap();

    let second = start(&state).await.unwrap();
    assert!(!second.is_adopted());
    assert_eq!(the_row(&second).await, "still here");
    second.stop().await.unwrap();
}

#[tokio::test]
async fn a_server_that_survived_us_is_adopted() {
    let state = cluster::scratch("adoption");
    let first = start(&state).await.unwrap();
    write_a_row(&first).await;
    let pid = first.pid();
    drop(first);

    let second = start(&state).await.unwrap();
    assert!(second.is_adopted());
    assert_eq!(second.pid(), pid);
    assert_eq!(the_row(&second).await, "still here");
    second.stop().await.unwrap();
}

#[tokio::test]
async fn a_killed_server_recovers_on_the_next_start() {
    let state = cluster::scratch("recovery");
    // As data is kept: without fsync, a commit may be lost with the server.
    let first = start_with(&state, true).await.unwrap();
    write_a_row(&first).await;
    // A session that is still open is an orphan of the killed server for a moment.
    let _orphan = connect(&first).await;
    kill_at_once(first.pid());
    drop(first);

    let second = start_with(&state, true).await.unwrap();
    assert!(!second.is_adopted());
    assert_eq!(the_row(&second).await, "still here");
    second.stop().await.unwrap();
}

#[tokio::test]
async fn a_number_that_a_stranger_has_got_since_is_no_server() {
    let state = cluster::scratch("stranger");
    let first = start(&state).await.unwrap();
    write_a_row(&first).await;
    let file = first.folder().join("data/postmaster.pid");
    let traces = fs::read_to_string(&file).unwrap();
    first.stop().await.unwrap();
    let (_, rest) = traces.split_once('\n').unwrap();
    fs::write(&file, format!("{}\n{rest}", std::process::id())).unwrap();

    let second = start(&state).await.unwrap();
    assert!(!second.is_adopted());
    assert_eq!(the_row(&second).await, "still here");
    second.stop().await.unwrap();
}

#[tokio::test]
async fn a_folder_serves_one_of_us_at_a_time() {
    let state = cluster::scratch("twice");
    let first = start(&state).await.unwrap();
    let refusal = start(&state).await.unwrap_err();
    assert!(matches!(refusal, ClusterError::InUse { .. }), "{refusal}");
    assert!(refusal.to_string().contains(&std::process::id().to_string()), "{refusal}");
    first.stop().await.unwrap();
}

#[tokio::test]
async fn a_state_folder_that_the_server_may_not_enter_points_to_the_data() {
    let closed = cluster::scratch("private");
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o700)).unwrap();
    let state = closed.join("state");
    let first = start(&state).await.unwrap();
    write_a_row(&first).await;
    let folder = first.folder().to_path_buf();
    first.stop().await.unwrap();

    let second = start(&state).await.unwrap();
    assert_eq!(second.folder(), folder);
    assert_eq!(the_row(&second).await, "still here");
    second.stop().await.unwrap();

    // Only root has somebody else run the server, who may not go where root may.
    if let Ok(pointer) = fs::read_to_string(state.join("postgres.location")) {
        assert_eq!(Path::new(pointer.trim()), folder);
        fs::remove_dir_all(folder).unwrap();
    }
}

#[tokio::test]
async fn a_deep_state_folder_has_its_socket_elsewhere() {
    let state = cluster::scratch("deep").join("a folder with a name, and a long one".repeat(3));
    let cluster = start(&state).await.unwrap();
    write_a_row(&cluster).await;
    assert_eq!(the_row(&cluster).await, "still here");
    cluster.stop().await.unwrap();
}

#[tokio::test]
async fn nobody_else_may_enter_the_folder() {
    let state = cluster::scratch("closed");
    let cluster = start(&state).await.unwrap();
    assert_eq!(fs::metadata(cluster.folder()).unwrap().mode() & 0o777, 0o700);
    cluster.stop().await.unwrap();
}

#[tokio::test]
async fn data_of_another_version_is_refused() {
    let state = cluster::scratch("version");
    let cluster = start(&state).await.unwrap();
    let version = cluster.folder().join("data/PG_VERSION");
    cluster.stop().await.unwrap();
    fs::write(version, "9\n").unwrap();
    let refusal = start(&state).await.unwrap_err();
    assert!(refusal.to_string().contains("was made by PostgreSQL 9"), "{refusal}");
}

#[tokio::test]
async fn a_server_that_does_not_start_shows_why() {
    let state = cluster::scratch("failure");
    let cluster = start(&state).await.unwrap();
    let configuration = cluster.folder().join("data/postgresql.conf");
    cluster.stop().await.unwrap();
    fs::write(configuration, "no_such_setting = 1\n").unwrap();
    let refusal = start(&state).await.unwrap_err();
    assert!(refusal.to_string().contains("no_such_setting"), "{refusal}");
}
