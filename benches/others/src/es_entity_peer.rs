//! es-entity as its book sets it up: an entity, its events, and a row that indexes it.

use std::time::Duration;

use es_entity::*;
use serde::{Deserialize, Serialize};
use sqlx::PgPool;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};

use crate::writers::{self, Reached};

/// Connections of the pool, as many as the other peers have.
const CONNECTIONS: u32 = 16;

es_entity::entity_id! { LeadId }

#[derive(EsEvent, Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
#[es_event(id = "LeadId")]
pub enum LeadEvent {
    Captured { id: LeadId, tenant: String, actor: String, lead: serde_json::Value },
}

#[derive(EsEntity)]
#[expect(dead_code, reason = "the column is read by nobody; that it is written is what counts")]
pub struct Lead {
    pub id: LeadId,
    pub tenant: String,
    events: EntityEvents<LeadEvent>,
}

impl TryFromEvents<LeadEvent> for Lead {
    fn try_from_events(events: EntityEvents<LeadEvent>) -> Result<Self, EntityHydrationError> {
        let mut lead = Lead::hydrator();
        for event in events.iter_all() {
            let LeadEvent::Captured { id, tenant, .. } = event;
            lead.id(*id).tenant(tenant.clone());
        }
        lead.build(events)
    }
}

pub struct NewLead {
    tenant: String,
}

impl IntoEvents<LeadEvent> for NewLead {
    type IdSource = FromRepo;

    fn into_events(self, builder: EntityEventsBuilder<LeadEvent, FromRepo>) -> EntityEvents<LeadEvent> {
        let id = builder.id();
        let actor = "TNT-001/USR-004".to_owned();
        builder.initial_events([LeadEvent::Captured { id, tenant: self.tenant, actor, lead: crate::lead() }])
    }
}

#[derive(EsRepo)]
#[es_repo(entity = "Lead", columns(tenant(ty = "String")))]
pub struct Leads {
    pool: PgPool,
}

/// New entities, one event each.
pub async fn create(url: &str, count: usize, time: Duration) -> Reached {
    let options: PgConnectOptions = url.parse().expect("the address of a database");
    let pool = PgPoolOptions::new()
        .max_connections(CONNECTIONS)
        .connect_with(options.options([("search_path", "es_entity")]))
        .await
        .expect("a database");
    sqlx::raw_sql(include_str!("../es_entity.sql")).execute(&pool).await.expect("tables");
    writers::write(count, time, Leads { pool }, |leads, _, _| async move {
        leads.create(NewLead { tenant: "TNT-001".to_owned() }).await.expect("an entity");
    })
    .await
}
