//! Whether the log is whole: it ends where its head says, both positions are dense, every event's hash follows from the
//! one before it, and no event stands in it twice.
//!
//! The chain alone does not tell of events that were cut off at its end: for those, the head says how many there were.

use std::collections::HashMap;

use serde::Serialize;
use sqlx::PgPool;

use super::Recorded;
use super::canonical;
use super::cell::Cell;
use super::hash::{GENESIS, Link};
use super::reader::{events_after, events_of};
use crate::aggregates::ids::TenantId;

/// Events that are read at once.
const PAGE: i64 = 2_000;
/// Faults that are told one by one; the others are counted.
const TOLD: usize = 100;

/// The log is not what it says it is, or cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ChainError {
    /// Events are missing at its end, or stand behind it.
    #[error(
        "the log of {cell} ends at position {last}, and its head says {head}: it was cut off, or restored in part; \
         nothing is served on it. `devhub log verify` looks at all of it"
    )]
    Cut {
        /// The schema of the log.
        cell: String,
        /// Where its head says that it ends.
        head: i64,
        /// Where it ends.
        last: i64,
    },
    /// The database failed, or an event cannot be read.
    #[error("the log could not be read: {0}")]
    Database(#[from] sqlx::Error),
    /// A payload cannot be written down as the chain covers it.
    #[error("an event cannot be written down: {0}")]
    Encode(#[from] serde_json::Error),
}

/// Something that is wrong with the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// Where, in the cell's log.
    pub position: i64,
    /// Whose event stands there; none: it is about the end of the log.
    pub tenant_id: Option<TenantId>,
    /// What.
    pub what: String,
}

/// What became of looking at the log.
#[derive(Debug, Clone, Serialize)]
pub struct Walked {
    /// One tenant's events only.
    pub tenant_id: Option<TenantId>,
    /// The position up to which it was looked at: the head as it was at the beginning.
    pub position: i64,
    /// How many events there are.
    pub events: u64,
    /// How many tenants they are of.
    pub tenants: usize,
    /// How much is wrong.
    pub faults: u64,
    /// The first of it.
    pub found: Vec<Fault>,
}

impl Walked {
    fn fault(&mut self, position: i64, tenant_id: Option<TenantId>, what: String) {
        self.faults += 1;
        if self.found.len() < TOLD {
            self.found.push(Fault { position, tenant_id, what });
        }
    }
}

/// Where the head says that the log ends, and where it does, at one moment.
async fn ends(pool: &PgPool, cell: &str) -> sqlx::Result<(i64, i64)> {
    sqlx::query_as("select position, coalesce((select max(position) from events), 0) from cell_head where cell = $1")
        .bind(cell)
        .fetch_one(pool)
        .await
}

/// Sees to it that the log ends where its head says.
///
/// # Errors
/// [`ChainError::Cut`] if it does not, or the database's.
pub async fn check_end(cell: &Cell) -> Result<(), ChainError> {
    let (head, last) = ends(&cell.appender, &cell.name).await?;
    if head == last { Ok(()) } else { Err(ChainError::Cut { cell: cell.name.to_string(), head, last }) }
}

/// Walks through the log, or through one tenant's part of it, as far as it goes at this moment. `watch` is told how far it is,
/// of how far.
///
/// # Errors
/// The database's; what is wrong with the log is no error, but part of the answer.
pub async fn walk(cell: &Cell, tenant: Option<TenantId>, watch: impl Fn(i64, i64)) -> Result<Walked, ChainError> {
    let pool = &cell.replayer;
    let (head, last) = ends(pool, &cell.name).await?;
    let mut walked = Walked { tenant_id: tenant, position: head, events: 0, tenants: 0, faults: 0, found: Vec::new() };
    if head != last {
        walked.fault(last, None, format!("the log ends here, and its head says {head}"));
    }
    // What comes in while it is looked at is looked at the next time.
    let upto = head.max(last);
    let mut chains: HashMap<TenantId, (i64, Vec<u8>)> = HashMap::new();
    let (mut place, mut at) = (0, 0);
    loop {
        let page = match tenant {
            None => events_after(pool, place, PAGE).await?,
            Some(tenant) => events_of(pool, tenant, place, PAGE).await?,
        };
        let mut ended = true;
        for event in page.into_iter().take_while(|event| event.position <= upto) {
            ended = false;
            walked.events += 1;
            if tenant.is_none() && event.position != at + 1 {
                walked.fault(event.position, Some(event.tenant_id), format!("the position before it is {at}"));
            } else if event.position <= at {
                walked.fault(event.position, Some(event.tenant_id), format!("it comes after position {at}"));
            }
            at = event.position;
            let (before, hash) = chains.entry(event.tenant_id).or_insert_with(|| (0, GENESIS.to_vec()));
            if event.tenant_position != *before + 1 {
                let what = format!("it is {} of its tenant, and the one before is {before}", event.tenant_position);
                walked.fault(event.position, Some(event.tenant_id), what);
            }
            if link(&event, hash)? != *event.hash {
                let what = "its hash does not follow from what it says and the hash before it".to_owned();
                walked.fault(event.position, Some(event.tenant_id), what);
            }
            place = if tenant.is_some() { event.tenant_position } else { event.position };
            // From here on as it stands there: one event that was changed is one fault.
            (*before, *hash) = (event.tenant_position, event.hash);
        }
        if ended {
            break;
        }
        watch(at, upto);
    }
    walked.tenants = chains.len();
    for (position, tenant_id, first) in told_again(pool, tenant, upto).await? {
        walked.fault(position, tenant_id.parse().ok(), format!("its id is that of the event at position {first}"));
    }
    Ok(walked)
}

/// Where events stand whose ids were used before, whose they are, and where that was first.
async fn told_again(pool: &PgPool, tenant: Option<TenantId>, upto: i64) -> sqlx::Result<Vec<(i64, String, i64)>> {
    sqlx::query_as(
        "with looked_at as (
             select event_id, position, tenant_id from events
             where position <= $1 and ($2::text is null or tenant_id = $2)
         ), again as (
             select event_id, min(position) as first from looked_at group by event_id having count(*) > 1
         )
         select l.position, l.tenant_id, a.first from again a join looked_at l using (event_id)
         where l.position > a.first order by l.position",
    )
    .bind(upto)
    .bind(tenant.map(|tenant| tenant.to_string()))
    .fetch_all(pool)
    .await
}

/// The hash that an event has to have.
fn link(event: &Recorded, before: &[u8]) -> serde_json::Result<[u8; 32]> {
    let (payload, metadata) = (canonical::of(&event.payload)?, canonical::to_string(&event.metadata)?);
    let link = Link {
        tenant_id: &event.tenant_id.to_string(),
        tenant_position: event.tenant_position,
        aggregate_type: &event.aggregate_type,
        aggregate_id: &event.aggregate_id,
        sequence: event.sequence,
        event_id: event.event_id,
        event_type: &event.event_type,
        event_version: &event.event_version,
        occurred_at: event.occurred_at,
        recorded_at: event.recorded_at,
        payload: payload.as_bytes(),
        metadata: metadata.as_bytes(),
    };
    Ok(link.hash(before))
}
