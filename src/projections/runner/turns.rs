//! Whose turn it is: between those who stand at different positions, and between the main line and the lanes.

use std::collections::HashMap;

use sqlx::postgres::PgConnection;
use tokio::time::Instant;

use super::{AGAIN, BATCH, Projector, RoundError};
use crate::aggregates::ids::TenantId;
use crate::event_store::reader::Entry;
use crate::projections::standing::{Lane, MOVED, Member, Place, opening};

impl Projector {
    /// Those whose turn it is, and where they stand: everybody who stands at the same place, in turn with those who
    /// stand elsewhere, if there is anything to do for them. Projections that have stopped are tried again at times.
    pub(super) fn whose_turn(&mut self) -> Option<(Vec<Member>, Place)> {
        let mut groups: Vec<(Place, bool, Vec<Member>)> = Vec::new();
        for standing in &self.standings {
            let stopped = standing.stopped.is_some();
            let tried = self.tried.get(&standing.name).is_some_and(|tried| tried.elapsed() < AGAIN);
            let nothing = standing.place.position >= self.head && standing.place.lanes.is_empty();
            if nothing || (stopped && tried) {
                continue;
            }
            let member = Member { name: standing.name.clone(), generation: standing.place.generation };
            let alike = groups.iter_mut().find(|(place, was_stopped, _)| {
                *was_stopped == stopped
                    && place.position == standing.place.position
                    && place.lanes == standing.place.lanes
            });
            match alike {
                Some((.., members)) => members.push(member),
                None => groups.push((standing.place.clone(), stopped, vec![member])),
            }
        }
        self.turns.0 = self.turns.0.wrapping_add(1);
        let turn = self.turns.0.checked_rem(groups.len())?;
        let (place, stopped, members) = groups.swap_remove(turn);
        if stopped {
            self.tried.extend(members.iter().map(|member| (member.name.clone(), Instant::now())));
        }
        Some((members, place))
    }

    /// The lane whose turn it is; none if it is the main line's.
    pub(super) fn lane_whose_turn(&mut self, place: &Place) -> Option<(TenantId, Lane)> {
        let lanes = place.lanes.len();
        if lanes == 0 {
            return None;
        }
        self.turns.1 = self.turns.1.wrapping_add(1);
        let turn = (self.turns.1 / 2) % lanes;
        let (tenant, lane) = place.lanes.iter().nth(turn)?;
        // A lane that is level with the main line has nothing before it: it waits until that has gone on.
        let mains = self.turns.1.is_multiple_of(2) || lane.position == place.position;
        if mains && place.position < self.head { None } else { Some((*tenant, *lane)) }
    }

    /// The tenants who have more than a batch waiting after `to` while others wait as well; none if nobody stands
    /// behind them. `seen` says how far each comes until there.
    pub(super) async fn crowding(
        &self,
        connection: &mut PgConnection,
        seen: &HashMap<TenantId, i64>,
        to: i64,
    ) -> sqlx::Result<Vec<TenantId>> {
        let tenants: Vec<String> = seen.keys().map(ToString::to_string).collect();
        let ends: Vec<(String, i64, i64)> = sqlx::query_as(
            "select t.tenant_id,
                    (select e.tenant_position from events e where e.tenant_id = t.tenant_id
                     order by e.tenant_position desc limit 1),
                    (select h.position from cell_head h where h.cell = $2)
             from unnest($1::text[]) as t (tenant_id)",
        )
        .bind(tenants)
        .bind(&*self.cell)
        .fetch_all(connection)
        .await?;
        let mut waiting = ends.first().map_or(0, |(.., head)| head - to);
        let mut crowding = Vec::new();
        for (tenant, end, _) in &ends {
            let tenant = tenant.parse().map_err(|error| sqlx::Error::Decode(Box::new(error)))?;
            let left = end - seen.get(&tenant).copied().unwrap_or(*end);
            if left > BATCH {
                crowding.push(tenant);
                waiting -= left;
            }
        }
        if crowding.len() < 2 && waiting <= 0 {
            crowding.clear();
        }
        Ok(crowding)
    }

    /// Gives tenants lanes of their own from `from`, where the members are; `entries` are the first after that.
    pub(super) async fn open_lanes(
        &mut self,
        connection: &mut PgConnection,
        members: Vec<Member>,
        from: i64,
        entries: &[Entry],
        crowding: &[TenantId],
    ) -> Result<(), RoundError> {
        let first = |tenant: &TenantId| {
            let first = entries.iter().find(|entry| entry.recorded.tenant_id == *tenant)?;
            Some((*tenant, first.recorded.tenant_position - 1))
        };
        let tenants: Vec<(TenantId, i64)> = crowding.iter().filter_map(first).collect();
        let (text, arguments) = opening(&members, from, &tenants)?.ending(MOVED);
        let moved: i64 = sqlx::query_scalar_with(&text, arguments).fetch_one(connection).await?;
        if moved > 0 {
            for (tenant, _) in &tenants {
                tracing::info!(%tenant, from, "{tenant} has much to read and is read in a lane of its own from {from}");
            }
            let opened = tenants
                .iter()
                .map(|(tenant, tenant_position)| (*tenant, Lane { position: from, tenant_position: *tenant_position }));
            self.move_members(&members, |place| {
                place.lanes.extend(opened.clone());
                place.generation += 1;
            });
        }
        Ok(())
    }
}

/// The last position of each tenant in its own history, among these.
pub(super) fn last_of_each(entries: &[Entry]) -> HashMap<TenantId, i64> {
    entries.iter().map(|entry| (entry.recorded.tenant_id, entry.recorded.tenant_position)).collect()
}
