-- Read models that can be thrown away: what is rebuilt, what was verified, and which making of it is being read.

-- A rebuild that takes over counts this up in the same transaction: whoever remembers rows of the one before writes
-- nothing and reads anew.
alter table projection_checkpoints
    add column if not exists generation bigint not null default 0,
    add column if not exists stopped_reason text,
    add column if not exists stopped_at timestamptz;

-- Each rebuild there was. One that is under way holds an advisory lock for as long as its process lives.
create table projection_rebuilds (
    rebuild_id  uuid        primary key,
    projection  text        not null,
    -- of one tenant only
    tenant_id   text,
    state       text        not null,
    -- how far it has come, of how far it has to, in the cell's log (in the tenant's history if it is one tenant's)
    position    bigint      not null,
    target      bigint      not null,
    rows        bigint      not null,
    started_at  timestamptz not null,
    updated_at  timestamptz not null,
    finished_at timestamptz,
    error       text
);
create index projection_rebuilds_projection on projection_rebuilds (projection, started_at, rebuild_id);

-- Each time that a read model was compared with what the log says.
create table projection_verifications (
    verification_id uuid        primary key,
    projection      text        not null,
    -- of one tenant only
    tenant_id       text,
    -- so many entities only
    sample          bigint,
    -- the night whose verification it is; several processes agree by this on who does it
    night           date,
    state           text        not null,
    -- the position of the log for which it was compared
    position        bigint      not null,
    rows            bigint      not null,
    differences     bigint      not null,
    -- the first of them, each with its columns
    found           jsonb       not null,
    started_at      timestamptz not null,
    finished_at     timestamptz,
    error           text
);
create unique index projection_verifications_night on projection_verifications (projection, night);
create index projection_verifications_projection on projection_verifications (projection, started_at, verification_id);

alter table projection_rebuilds enable row level security;
alter table projection_rebuilds force row level security;
create policy projector on projection_rebuilds to devhub_projector using (true) with check (true);
create policy founder on projection_rebuilds for select to devhub_founder using (true);
alter table projection_verifications enable row level security;
alter table projection_verifications force row level security;
create policy projector on projection_verifications to devhub_projector using (true) with check (true);
create policy founder on projection_verifications for select to devhub_founder using (true);

grant select, insert, update, delete on projection_rebuilds, projection_verifications to devhub_projector;
grant select on projection_rebuilds, projection_verifications to devhub_founder;
