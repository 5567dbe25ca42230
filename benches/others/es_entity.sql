-- As the book of es-entity asks for them.
create schema if not exists es_entity;
create table if not exists leads (
    id uuid primary key,
    created_at timestamptz not null,
    tenant varchar not null
);
create table if not exists lead_events (
    id uuid not null references leads (id),
    sequence int not null,
    event_type varchar not null,
    event jsonb not null,
    context jsonb default null,
    recorded_at timestamptz not null,
    unique (id, sequence)
);
