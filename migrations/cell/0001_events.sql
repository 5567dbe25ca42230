-- The log of one cell and what its order hangs on. Runs with the cell's schema as the search path.
-- Only the appender writes here, and it may neither update nor delete an event.

create table events (
    -- what postgres-es reads
    aggregate_type  text        not null,
    aggregate_id    text        not null,
    sequence        bigint      not null,
    event_type      text        not null,
    event_version   text        not null,
    payload         jsonb       not null,
    metadata        jsonb       not null,
    -- what makes it a log of many tenants
    tenant_id       text        not null,
    position        bigint      not null,
    tenant_position bigint      not null,
    event_id        uuid        not null,
    occurred_at     timestamptz not null,
    recorded_at     timestamptz not null,
    hash            bytea       not null,
    -- the aggregate id begins with the tenant's, so this is the tenant's key too
    primary key (aggregate_type, aggregate_id, sequence),
    check (sequence > 0 and position > 0 and tenant_position > 0)
);
create unique index events_position on events (position);
create unique index events_tenant_position on events (tenant_id, tenant_position);

-- One row: where the cell's log ends. Whoever advances it writes next; nobody can pass.
create table cell_head (
    cell        text        primary key,
    position    bigint      not null,
    recorded_at timestamptz not null
);
insert into cell_head (cell, position, recorded_at) values (current_schema(), 0, '-infinity');

create table tenant_heads (
    tenant_id text   primary key,
    position  bigint not null,
    hash      bytea  not null
);

-- The next number of each kind of id (CUS, LED, …) of each tenant.
create table counters (
    tenant_id text   not null,
    kind      text   not null,
    next      bigint not null,
    primary key (tenant_id, kind)
);

-- What may exist once within a tenant, such as the number on an invoice.
create table claims (
    tenant_id text not null,
    kind      text not null,
    key       text not null,
    holder    text not null,
    primary key (tenant_id, kind, key)
);

-- Requests that were answered: written with the events, so that a repeated request has no second effect.
create table idempotency_keys (
    tenant_id      text        not null,
    actor          text        not null,
    key            text        not null,
    request_hash   bytea       not null,
    position       bigint      not null,
    correlation_id text        not null,
    status         smallint,
    response       bytea,
    created_at     timestamptz not null,
    -- the actor's name begins with the tenant's
    primary key (actor, key)
);
create index idempotency_keys_created_at on idempotency_keys (created_at);

-- How far each projection has come; moved in the transaction that writes the rows.
create table projection_checkpoints (
    projection text        primary key,
    position   bigint      not null,
    updated_at timestamptz not null
);

-- Which process feeds the read models at the moment.
create table projector_lease (
    cell        text        primary key,
    owner       uuid        not null,
    lease_until timestamptz not null
);
insert into projector_lease values (current_schema(), '00000000-0000-0000-0000-000000000000', '-infinity');

alter table events enable row level security;
alter table events force row level security;
alter table tenant_heads enable row level security;
alter table tenant_heads force row level security;
alter table counters enable row level security;
alter table counters force row level security;
alter table claims enable row level security;
alter table claims force row level security;
alter table idempotency_keys enable row level security;
alter table idempotency_keys force row level security;

create policy appender on events for select to devhub_appender using (true);
create policy appender_adds on events for insert to devhub_appender with check (true);
create policy projector on events for select to devhub_projector using (true);
create policy founder on events for select to devhub_founder using (true);
create policy request on events for select to devhub_request
    using (tenant_id = (select current_setting('devhub.tenant_id', true)));

create policy appender on tenant_heads to devhub_appender using (true) with check (true);
create policy founder on tenant_heads for select to devhub_founder using (true);
create policy request on tenant_heads for select to devhub_request
    using (tenant_id = (select current_setting('devhub.tenant_id', true)));

create policy appender on counters to devhub_appender using (true) with check (true);
create policy appender on claims to devhub_appender using (true) with check (true);
create policy appender on idempotency_keys to devhub_appender using (true) with check (true);

grant select, insert on events to devhub_appender;
grant select, insert, update on cell_head, tenant_heads, counters to devhub_appender;
grant select, insert, delete on claims to devhub_appender;
grant select, insert, update, delete on idempotency_keys to devhub_appender;

grant select on events, cell_head to devhub_projector;
grant select, insert, update, delete on projection_checkpoints, projector_lease to devhub_projector;

grant select on events, tenant_heads, cell_head, projection_checkpoints to devhub_founder;
grant select on events, tenant_heads, cell_head, projection_checkpoints to devhub_request;
