-- The old application's database on its way into the log, and what became of each of its rows. Written by the
-- importer alone; the founder reads it. No value of its password vault and no hash ever comes here.

-- Each run. A run that was interrupted while it appended is taken up by the next.
create table legacy_imports (
    import_id       uuid        primary key,
    tenant_id       text        not null,
    source          text        not null,
    revision        text        not null,
    dry_run         boolean     not null,
    status          text        not null check (status in ('reading', 'planning', 'appending', 'done', 'failed')),
    started_at      timestamptz not null,
    ended_at        timestamptz,
    planned_events  bigint      not null default 0,
    appended_events bigint      not null default 0,
    -- the last planned event that is known to be in the log
    checkpoint      jsonb,
    report          jsonb
);
create index legacy_imports_started on legacy_imports (tenant_id, started_at);

-- What to read instead of a value that stands in the old database.
create table legacy_maps (
    tenant_id    text   not null,
    source_table text   not null,
    source_field text   not null,
    -- one row, or all
    pk           bigint not null default -1,
    -- the text that is replaced; empty for none
    old_value    text   not null default '',
    new_value    text,
    primary key (tenant_id, source_table, source_field, pk, old_value)
);

-- Which id of ours a row has. Once given, it stays.
create table legacy_keys (
    tenant_id    text   not null,
    source_table text   not null,
    pk           bigint not null,
    legacy_id    text,
    prefix       text   not null,
    -- the number that its old id says, if it says one
    number       bigint,
    canonical    boolean not null,
    -- whether others who name its old id mean this row
    referable    boolean not null default true,
    local_id     text,
    import_id    uuid   not null,
    primary key (tenant_id, source_table, pk)
);
create index legacy_keys_legacy_id on legacy_keys (tenant_id, source_table, legacy_id);
create unique index legacy_keys_local_id on legacy_keys (tenant_id, local_id) where local_id is not null;

-- Every row of the old database as it was last read, and the heap that it lies on.
create table legacy_rows (
    tenant_id    text   not null,
    source_table text   not null,
    pk           bigint not null,
    parent_table text,
    parent_id    text,
    heap         text   not null check (heap in ('replayed', 'repaired', 'quarantined')),
    reason       text,
    detail       text,
    repairs      text   not null,
    -- as it was last read, and as it was when it was last replayed; JSON without secrets
    row          text   not null,
    imported     text,
    events       bigint not null,
    vanished     boolean not null default false,
    import_id    uuid   not null,
    primary key (tenant_id, source_table, pk)
);
create index legacy_rows_heap on legacy_rows (tenant_id, heap, source_table, pk) where heap = 'quarantined';

-- What a run is about: rows that are new, changed, gone, or still in quarantine. Empty between runs.
create table legacy_staged (
    tenant_id    text   not null,
    source_table text   not null,
    pk           bigint not null,
    parent_table text,
    parent_id    text,
    -- none: the row is gone
    row          text,
    primary key (tenant_id, source_table, pk)
);
create index legacy_staged_parent on legacy_staged (tenant_id, parent_table, parent_id);

-- The aggregates that a run is about, with the number of their staged children.
create table legacy_dirty (
    tenant_id    text   not null,
    source_table text   not null,
    pk           bigint not null,
    children     bigint not null,
    primary key (tenant_id, source_table, pk)
);

-- The leads that a run converts, for the customers that they become.
create table legacy_links (
    tenant_id    text        not null,
    customer_id  text        not null,
    lead_id      text        not null,
    lead_pk      bigint      not null,
    converted_at timestamptz not null,
    interactions text        not null,
    correlation_id uuid      not null,
    primary key (tenant_id, customer_id, lead_id)
);

-- What a run found out about each row. Becomes part of `legacy_rows` when the run is done.
create table legacy_outcomes (
    tenant_id    text   not null,
    source_table text   not null,
    pk           bigint not null,
    heap         text   not null,
    reason       text,
    detail       text,
    repairs      text   not null,
    events       bigint not null,
    primary key (tenant_id, source_table, pk)
);

-- The events that a run appends. Read once, in the order in which they happened, and sorted for that: no index.
create table legacy_plan (
    tenant_id      text        not null,
    occurred_at    timestamptz not null,
    rank           smallint    not null,
    number         bigint      not null,
    sequence       bigint      not null,
    stream_tenant  text        not null,
    aggregate_type text        not null,
    local_id       text        not null,
    event_type     text        not null,
    event_version  text        not null,
    payload        text        not null,
    actor          text        not null,
    source_table   text        not null,
    pk             bigint      not null,
    correlation_id uuid        not null,
    -- the first event of its row carries the row
    first          boolean     not null
);

alter table legacy_imports enable row level security;
alter table legacy_imports force row level security;
alter table legacy_maps enable row level security;
alter table legacy_maps force row level security;
alter table legacy_keys enable row level security;
alter table legacy_keys force row level security;
alter table legacy_rows enable row level security;
alter table legacy_rows force row level security;
alter table legacy_staged enable row level security;
alter table legacy_staged force row level security;
alter table legacy_dirty enable row level security;
alter table legacy_dirty force row level security;
alter table legacy_links enable row level security;
alter table legacy_links force row level security;
alter table legacy_outcomes enable row level security;
alter table legacy_outcomes force row level security;
alter table legacy_plan enable row level security;
alter table legacy_plan force row level security;

create policy importer on legacy_imports to devhub_importer using (true) with check (true);
create policy importer on legacy_maps to devhub_importer using (true) with check (true);
create policy importer on legacy_keys to devhub_importer using (true) with check (true);
create policy importer on legacy_rows to devhub_importer using (true) with check (true);
create policy importer on legacy_staged to devhub_importer using (true) with check (true);
create policy importer on legacy_dirty to devhub_importer using (true) with check (true);
create policy importer on legacy_links to devhub_importer using (true) with check (true);
create policy importer on legacy_outcomes to devhub_importer using (true) with check (true);
create policy importer on legacy_plan to devhub_importer using (true) with check (true);
create policy founder on legacy_imports for select to devhub_founder using (true);
create policy founder on legacy_keys for select to devhub_founder using (true);
create policy founder on legacy_rows for select to devhub_founder using (true);

grant select, insert, update, delete on
    legacy_imports, legacy_maps, legacy_keys, legacy_rows, legacy_staged, legacy_dirty, legacy_links, legacy_outcomes, legacy_plan
    to devhub_importer;
-- What belongs to a run is thrown away with it.
grant truncate on legacy_staged, legacy_dirty, legacy_links, legacy_outcomes, legacy_plan to devhub_importer;
grant select on legacy_imports, legacy_keys, legacy_rows to devhub_founder;

-- The importer looks what is there already: streams, counters, interactions and notes, and what its rows became.
create policy importer on events for select to devhub_importer using (true);
create policy importer on counters for select to devhub_importer using (true);
create policy importer on users for select to devhub_importer using (true);
create policy importer on customers for select to devhub_importer using (true);
create policy importer on leads for select to devhub_importer using (true);
create policy importer on projects for select to devhub_importer using (true);
create policy importer on invoices for select to devhub_importer using (true);
create policy importer on interactions for select to devhub_importer using (true);
create policy importer on notes for select to devhub_importer using (true);
create policy importer on user_versions for select to devhub_importer using (true);
create policy importer on customer_versions for select to devhub_importer using (true);
create policy importer on lead_versions for select to devhub_importer using (true);
create policy importer on project_versions for select to devhub_importer using (true);
create policy importer on invoice_versions for select to devhub_importer using (true);
create policy importer on interaction_versions for select to devhub_importer using (true);
create policy importer on note_versions for select to devhub_importer using (true);
grant select on
    events, counters, users, customers, leads, projects, invoices, interactions, notes,
    user_versions, customer_versions, lead_versions, project_versions, invoice_versions, interaction_versions, note_versions
    to devhub_importer;
