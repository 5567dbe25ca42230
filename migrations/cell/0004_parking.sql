-- What the projector does with events that a projection refuses, and with tenants that have much more to read than
-- others. Written by the projector and by whoever mends; the founder reads it.

-- `generation` changes whenever somebody but the owner of the checkpoint changes what it stands for (rows that were
-- parked are put right, a table takes the place of another, a lane opens or ends): a projector that knows another one
-- writes nothing and reads again. `stopped_reason`: the projection does not move, and why.
alter table projection_checkpoints
    add column generation     bigint not null default 0,
    add column stopped_reason text,
    add column stopped_at     timestamptz;

-- Entities of a projection whose row stays as it was before an event that was refused, at `position`.
create table parked_entities (
    projection text        not null,
    tenant_id  text        not null,
    id         text        not null,
    position   bigint      not null,
    event_type text        not null,
    reason     text        not null,
    parked_at  timestamptz not null,
    primary key (projection, tenant_id, id)
);

-- The event that was refused and what followed of the same entity, in the order of the log.
create table parked_events (
    projection text   not null,
    tenant_id  text   not null,
    id         text   not null,
    position   bigint not null,
    primary key (projection, tenant_id, id, position)
);

-- Tenants that a projection reads on their own, up to `position`, so that nobody waits behind them. The checkpoint
-- stands for everybody else, and is never behind a lane.
create table projection_lanes (
    projection      text   not null,
    tenant_id       text   not null,
    position        bigint not null,
    -- the same in the tenant's own history
    tenant_position bigint not null,
    primary key (projection, tenant_id)
);

alter table parked_entities enable row level security;
alter table parked_entities force row level security;
create policy projector on parked_entities to devhub_projector using (true) with check (true);
create policy founder on parked_entities for select to devhub_founder using (true);
alter table parked_events enable row level security;
alter table parked_events force row level security;
create policy projector on parked_events to devhub_projector using (true) with check (true);
create policy founder on parked_events for select to devhub_founder using (true);
alter table projection_lanes enable row level security;
alter table projection_lanes force row level security;
create policy projector on projection_lanes to devhub_projector using (true) with check (true);
create policy founder on projection_lanes for select to devhub_founder using (true);

grant select, insert, update, delete on parked_entities, parked_events, projection_lanes to devhub_projector;
grant select on parked_entities, parked_events, projection_lanes to devhub_founder;
