//! Peers that are a program of their own (`benches/others`), so that DevHub is not built with what they are built with.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::http::free_address;

/// What else is in its lock file.
pub const LOCK: &str = include_str!("../others/Cargo.lock");

/// That program.
pub struct Others(PathBuf);

/// What one of them came to.
pub struct Reached {
    /// Commands a second.
    pub per_second: f64,
    /// In milliseconds.
    pub p99: f64,
}

/// The server of UmaDB, which ends with this.
pub struct UmaDb<'o> {
    others: &'o Others,
    child: Child,
    address: String,
}

impl Others {
    /// Where `scripts/build-bench-others` has put it; none if that has not been run.
    pub fn find() -> Option<Self> {
        let default = || Path::new(env!("CARGO_MANIFEST_DIR")).join("target/others/release/devhub-bench-others");
        let program = std::env::var_os("DEVHUB_BENCH_OTHERS").map_or_else(default, PathBuf::from);
        if program.is_file() {
            return Some(Self(program));
        }
        eprintln!("UmaDB and es-entity are left out: scripts/build-bench-others makes {}", program.display());
        None
    }

    /// New entities of es-entity, one event each.
    pub async fn es_entity(&self, url: &str, writers: usize, time: Duration) -> Reached {
        self.run(&["es-entity", url], writers, time).await
    }

    /// UmaDB with a log of its own in `folder`.
    pub async fn umadb(&self, folder: &Path) -> UmaDb<'_> {
        std::fs::create_dir_all(folder).unwrap();
        let address = free_address();
        let mut child =
            Command::new(&self.0).arg("umadb-server").arg(folder).arg(&address).stdout(Stdio::null()).spawn().unwrap();
        while tokio::net::TcpStream::connect(&address).await.is_err() {
            assert!(child.try_wait().unwrap().is_none(), "UmaDB ended instead of answering");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        UmaDb { others: self, child, address }
    }

    async fn run(&self, peer: &[&str; 2], writers: usize, time: Duration) -> Reached {
        let output = tokio::process::Command::new(&self.0)
            .args(peer)
            .args([writers.to_string(), time.as_millis().to_string()])
            .stderr(Stdio::inherit())
            .output()
            .await
            .unwrap();
        assert!(output.status.success(), "{peer:?} failed");
        let reached: Value = serde_json::from_slice(&output.stdout).unwrap();
        Reached { per_second: reached["per_second"].as_f64().unwrap(), p99: reached["p99"].as_f64().unwrap() }
    }
}

impl UmaDb<'_> {
    /// New streams, one event each.
    pub async fn create(&self, writers: usize, time: Duration) -> Reached {
        self.others.run(&["umadb", &self.address], writers, time).await
    }
}

impl Drop for UmaDb<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
