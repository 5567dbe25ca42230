-- What the platform needs to find a tenant and to know who is calling: the directory, sign-in, keys.
--
-- One schema on one node; nothing here refers to a cell and no cell refers to it, so that cells can
-- move to other machines. No triggers, no PL/pgSQL, no sequences, for the same reason.
--
-- Who needs what (the roles belong to the whole cluster, and are made with their grants elsewhere):
--   devhub_platform  select, insert, update, delete on every table of this schema
--   devhub_appender  select, insert, update, delete on logins, counters, tenants; select on cells



-- A set of tenants that lives and moves together.
create table platform.cells (
    cell_id text primary key,
    region  text not null
);

-- The directory: which cell holds a tenant.
create table platform.tenants (
    tenant_id  text primary key,
    cell_id    text not null references platform.cells,
    region     text not null,
    created_at timestamptz not null
);

-- E-mail → user, unique over the platform: a claim, taken in the transaction that appends the event.
-- `email_key` is the address as it is compared: without the differences that do not count.
create table platform.logins (
    email_key text primary key,
    tenant_id text not null,
    user_id   text not null
);
create index logins_of_user on platform.logins (tenant_id, user_id);

-- The next number of what is counted over the whole platform, such as TNT.
create table platform.counters (
    kind text primary key,
    next bigint not null check (next >= 0)
);

-- What a user proves themselves with. `scheme` says how `hash` is checked.
create table platform.credentials (
    tenant_id  text not null,
    user_id    text not null,
    scheme     text not null,
    hash       text not null,
    changed_at timestamptz not null,
    primary key (tenant_id, user_id)
);

-- Signed in here, since then, until then. A support session is the founder's, inside another tenant.
create table platform.sessions (
    session_id        uuid primary key,
    tenant_id         text not null,
    user_id           text not null,
    created_at        timestamptz not null,
    last_used_at      timestamptz not null,
    expires_at        timestamptz not null,
    revoked_at        timestamptz,
    address           text,
    user_agent        text,
    support_tenant_id text,
    support_mode      text check (support_mode in ('read', 'write')),
    -- the founder's own session that a support session ends with
    opened_from       uuid,
    check ((support_tenant_id is null) = (support_mode is null)),
    check ((support_tenant_id is null) = (opened_from is null))
);
create index sessions_of_user on platform.sessions (tenant_id, user_id, created_at);
create index sessions_opened_from on platform.sessions (opened_from) where opened_from is not null;
create index sessions_by_expiry on platform.sessions (expires_at);

-- Used ones stay until their session goes: a second use has to be recognised as one.
create table platform.refresh_tokens (
    token_hash bytea primary key,
    session_id uuid not null references platform.sessions on delete cascade,
    issued_at  timestamptz not null,
    expires_at timestamptz not null,
    used_at    timestamptz
);
create index refresh_tokens_of_session on platform.refresh_tokens (session_id);

create table platform.invitations (
    token_hash bytea primary key,
    tenant_id  text not null,
    user_id    text not null,
    expires_at timestamptz not null,
    used_at    timestamptz
);
create index invitations_of_user on platform.invitations (tenant_id, user_id);

-- Keys for programs. `permissions` is what the key may do at most, whoever made it.
create table platform.api_keys (
    key_id       text primary key,
    tenant_id    text not null,
    name         text not null,
    secret_hash  bytea not null,
    role         text not null,
    permissions  jsonb not null,
    created_by   text not null,
    created_at   timestamptz not null,
    expires_at   timestamptz,
    last_used_at timestamptz,
    revoked_at   timestamptz
);
create index api_keys_of_tenant on platform.api_keys (tenant_id, created_at);

-- The keys that access tokens are signed with; the private half is sealed with the master key.
create table platform.signing_keys (
    kid            text primary key,
    sealed_private bytea not null,
    public_key     bytea not null,
    created_at     timestamptz not null,
    signs_from     timestamptz not null,
    signs_until    timestamptz not null,
    verifies_until timestamptz not null,
    check (signs_from < signs_until and signs_until < verifies_until)
);

-- Failed sign-ins of an account or from an address. `key` does not tell which.
create table platform.login_attempts (
    key            text primary key,
    failures       int not null check (failures >= 0),
    last_failed_at timestamptz not null,
    blocked_until  timestamptz
);
create index login_attempts_by_time on platform.login_attempts (last_failed_at);

grant select, insert, update, delete on
    platform.cells, platform.tenants, platform.logins, platform.counters, platform.credentials, platform.sessions,
    platform.refresh_tokens, platform.invitations, platform.api_keys, platform.signing_keys, platform.login_attempts
    to devhub_platform;
grant select, insert, update, delete on platform.logins to devhub_appender;
