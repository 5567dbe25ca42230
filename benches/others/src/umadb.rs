//! UmaDB as its server sets it up: fsync at every commit, over gRPC.

use std::time::Duration;

use tokio::sync::oneshot;
use umadb_client::UmaDbClient;
use umadb_dcb::{DcbAppendCondition, DcbEvent, DcbEventStoreAsync as _, DcbQuery, DcbQueryItem};
use umadb_server::{ServerOptions, StorageOptions, start_server_with_options};
use uuid::Uuid;

use crate::writers::{self, Reached};

/// Clients that the writers share: one connection is not to be what is measured.
const CLIENTS: usize = 4;

/// Serves until it is killed.
pub async fn serve(folder: &str, address: &str) {
    let (_until_killed, shutdown) = oneshot::channel();
    let storage = StorageOptions::default().db_path(folder);
    let options = ServerOptions { listen_addr: address.to_owned(), tls: None, api_key: None, storage };
    start_server_with_options(options, shutdown).await.expect("a server");
}

/// New streams, one event each, which nobody else may have begun.
pub async fn create(address: &str, count: usize, time: Duration) -> Reached {
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        clients.push(UmaDbClient::new(format!("http://{address}")).connect_async().await.expect("a server"));
    }
    writers::write(count, time, clients, |clients, writer, _| async move {
        let stream = Uuid::now_v7().to_string();
        let query = DcbQuery::new().item(DcbQueryItem::new().tags([stream.as_str()]));
        let event = DcbEvent {
            event_type: "LeadCaptured".to_owned(),
            tags: vec![stream, "TNT-001".to_owned()],
            data: crate::lead().to_string().into_bytes(),
            uuid: Some(Uuid::now_v7()),
            metadata: vec![
                ("actor".to_owned(), "TNT-001/USR-004".to_owned()),
                ("correlation_id".to_owned(), Uuid::now_v7().to_string()),
            ],
        };
        let begins = DcbAppendCondition { fail_if_events_match: query, after: None };
        clients[writer % CLIENTS].append(vec![event], Some(begins), None).await.expect("an event");
    })
    .await
}
