//! Peers that do the same as `new streams` of the bench `peers`: one event to a stream of its own, durable.
//!
//! ```text
//! devhub-bench-others umadb ADDRESS WRITERS MILLISECONDS     # of the server at that address
//! devhub-bench-others umadb-server FOLDER ADDRESS            # that server; serves until killed
//! devhub-bench-others es-entity DATABASE_URL WRITERS MILLISECONDS
//! ```
//!
//! What was reached is a line of JSON.

mod es_entity_peer;
mod umadb;
#[path = "../../peers/writers.rs"]
#[allow(clippy::unwrap_used, dead_code)]
mod writers;

use std::time::Duration;

use writers::Reached;

/// What of a lead the event says, as in the bench `peers`.
pub fn lead() -> serde_json::Value {
    serde_json::json!({
        "name": "Mateo Rossi 1", "company": "Company 1", "email": "mateo.rossi@example.com", "source": "referral",
        "estimated_value": {"amount": "4000.00", "currency": "USD"}, "stage": "new", "qualification": "new",
        "assignee": "USR-004", "probability": 5, "score": 35,
    })
}

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let reached = match arguments[..] {
        ["umadb-server", folder, address] => return umadb::serve(folder, address).await,
        ["umadb", address, writers, time] => umadb::create(address, number(writers), milliseconds(time)).await,
        ["es-entity", url, writers, time] => es_entity_peer::create(url, number(writers), milliseconds(time)).await,
        _ => {
            eprintln!(
                "usage: umadb ADDRESS WRITERS MILLISECONDS | umadb-server FOLDER ADDRESS | es-entity URL WRITERS MILLISECONDS"
            );
            std::process::exit(2);
        }
    };
    let Reached { per_second, .. } = reached;
    println!("{}", serde_json::json!({"per_second": per_second, "p50": reached.p50(), "p99": reached.p99()}));
}

fn number(text: &str) -> usize {
    text.parse().expect("a number of writers")
}

fn milliseconds(text: &str) -> Duration {
    Duration::from_millis(text.parse().expect("a number of milliseconds"))
}
