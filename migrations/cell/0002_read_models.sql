-- What is read: each read model as it is now, and every row that ever was with the period in which it held,
-- on both clocks (occurred: in the business; recorded: in the log). Written by the projector alone.
--
-- `…_key` columns hold amounts as whole ten-thousandths: under row-level security an index can serve a
-- comparison of bigint (leakproof), and cannot serve one of numeric. Beyond what a bigint holds (some 922 trillion)
-- they stay at its end.

create table tenants (
    tenant_id         text        not null,
    id                text        not null,
    version           bigint      not null,
    business_name     text        not null,
    business_email    text        not null,
    business_phone    text,
    address           jsonb,
    country           text,
    region            text        not null,
    subscription_plan text        not null,
    seat_limit        bigint,
    limits            jsonb       not null,
    features          jsonb       not null,
    status            text        not null,
    suspended_reason  text,
    created_at        timestamptz not null,
    updated_at        timestamptz not null,
    position          bigint      not null,
    occurred_from     timestamptz not null,
    recorded_from     timestamptz not null,
    primary key (tenant_id, id)
);
create index tenants_created on tenants (created_at, id);

create table users (
    tenant_id     text        not null,
    id            text        not null,
    version       bigint      not null,
    email         text        not null,
    full_name     text        not null,
    role          text        not null,
    department    text,
    permissions   jsonb       not null,
    status        text        not null,
    locked_reason text,
    invited_by    text,
    last_login_at timestamptz,
    created_at    timestamptz not null,
    updated_at    timestamptz not null,
    position      bigint      not null,
    occurred_from timestamptz not null,
    recorded_from timestamptz not null,
    primary key (tenant_id, id)
);
create index users_created on users (tenant_id, created_at, id);
create index users_updated on users (tenant_id, updated_at, id);
create index users_name on users (tenant_id, full_name, id);
create index users_email on users (tenant_id, email, id);
create index users_role on users (tenant_id, role, id);
create index users_department on users (tenant_id, department, id);
create index users_status on users (tenant_id, status, id);

create table customers (
    tenant_id           text        not null,
    id                  text        not null,
    version             bigint      not null,
    company             text,
    name                text,
    email               text,
    phone               text,
    address             jsonb,
    status              text        not null,
    owner_id            text,
    lead_ids            text[]      not null,
    merged_into         text,
    last_interaction_at timestamptz,
    created_at          timestamptz not null,
    updated_at          timestamptz not null,
    deleted_at          timestamptz,
    position            bigint      not null,
    occurred_from       timestamptz not null,
    recorded_from       timestamptz not null,
    primary key (tenant_id, id)
);
create index customers_created on customers (tenant_id, created_at, id) where deleted_at is null;
create index customers_updated on customers (tenant_id, updated_at, id) where deleted_at is null;
create index customers_company on customers (tenant_id, company, id) where deleted_at is null;
create index customers_name on customers (tenant_id, name, id) where deleted_at is null;
create index customers_email on customers (tenant_id, email, id) where deleted_at is null;
create index customers_status on customers (tenant_id, status, updated_at, id) where deleted_at is null;
create index customers_owner on customers (tenant_id, owner_id, updated_at, id) where deleted_at is null;
create index customers_last_interaction on customers (tenant_id, last_interaction_at, id) where deleted_at is null;

create table leads (
    tenant_id           text        not null,
    id                  text        not null,
    version             bigint      not null,
    name                text        not null,
    company             text,
    job_title           text,
    email               text,
    phone               text,
    address             jsonb,
    source              text        not null,
    stage               text        not null,
    qualification       text        not null,
    estimated_value     numeric(20, 4),
    currency            text,
    probability         smallint,
    expected_close_date date,
    score               smallint,
    score_inputs        jsonb,
    assignee_id         text,
    stage_changed_at    timestamptz not null,
    last_contacted_at   timestamptz,
    converted_at        timestamptz,
    customer_id         text,
    lost_reason         text,
    created_at          timestamptz not null,
    updated_at          timestamptz not null,
    deleted_at          timestamptz,
    position            bigint      not null,
    occurred_from       timestamptz not null,
    recorded_from       timestamptz not null,
    estimated_value_key bigint generated always as (least(greatest(estimated_value * 10000, -9223372036854775807), 9223372036854775807)::bigint) stored,
    primary key (tenant_id, id)
);
create index leads_created on leads (tenant_id, created_at, id) where deleted_at is null;
create index leads_updated on leads (tenant_id, updated_at, id) where deleted_at is null;
create index leads_name on leads (tenant_id, name, id) where deleted_at is null;
create index leads_company on leads (tenant_id, company, id) where deleted_at is null;
create index leads_email on leads (tenant_id, email, id) where deleted_at is null;
create index leads_stage on leads (tenant_id, stage, updated_at, id) where deleted_at is null;
create index leads_source on leads (tenant_id, source, updated_at, id) where deleted_at is null;
create index leads_qualification on leads (tenant_id, qualification, updated_at, id) where deleted_at is null;
create index leads_assignee on leads (tenant_id, assignee_id, updated_at, id) where deleted_at is null;
create index leads_value on leads (tenant_id, estimated_value_key, id) where deleted_at is null;
create index leads_score on leads (tenant_id, score, id) where deleted_at is null;
create index leads_probability on leads (tenant_id, probability, id) where deleted_at is null;
create index leads_close_date on leads (tenant_id, expected_close_date, id) where deleted_at is null;
create index leads_stage_changed on leads (tenant_id, stage_changed_at, id) where deleted_at is null;
create index leads_customer on leads (tenant_id, customer_id, id) where deleted_at is null;

create table projects (
    tenant_id       text        not null,
    id              text        not null,
    version         bigint      not null,
    name            text        not null,
    description     text,
    status          text        not null,
    priority        text        not null,
    budget          numeric(20, 4),
    currency        text,
    start_date      date,
    due_date        date,
    estimated_hours numeric(12, 2),
    logged_hours    numeric(20, 2) not null,
    owner_id        text,
    members         jsonb       not null,
    member_ids      text[]      not null,
    customer_ids    text[]      not null,
    created_at      timestamptz not null,
    updated_at      timestamptz not null,
    deleted_at      timestamptz,
    position        bigint      not null,
    occurred_from   timestamptz not null,
    recorded_from   timestamptz not null,
    budget_key      bigint generated always as (least(greatest(budget * 10000, -9223372036854775807), 9223372036854775807)::bigint) stored,
    primary key (tenant_id, id)
);
create index projects_created on projects (tenant_id, created_at, id) where deleted_at is null;
create index projects_updated on projects (tenant_id, updated_at, id) where deleted_at is null;
create index projects_name on projects (tenant_id, name, id) where deleted_at is null;
create index projects_status on projects (tenant_id, status, updated_at, id) where deleted_at is null;
create index projects_priority on projects (tenant_id, priority, updated_at, id) where deleted_at is null;
create index projects_owner on projects (tenant_id, owner_id, updated_at, id) where deleted_at is null;
create index projects_start on projects (tenant_id, start_date, id) where deleted_at is null;
create index projects_due on projects (tenant_id, due_date, id) where deleted_at is null;
create index projects_budget on projects (tenant_id, budget_key, id) where deleted_at is null;

create table invoices (
    tenant_id     text        not null,
    id            text        not null,
    version       bigint      not null,
    number        text        not null,
    customer_id   text        not null,
    project_id    text,
    currency      text        not null,
    lines         jsonb       not null,
    net           numeric(20, 4) not null,
    tax           numeric(20, 4) not null,
    amount        numeric(20, 4) not null,
    issue_date    date        not null,
    due_date      date        not null,
    status        text        not null,
    sent_at       timestamptz,
    viewed_at     timestamptz,
    paid_on       date,
    voided_at     timestamptz,
    notes         text,
    terms         text,
    created_by    text,
    created_at    timestamptz not null,
    updated_at    timestamptz not null,
    position      bigint      not null,
    occurred_from timestamptz not null,
    recorded_from timestamptz not null,
    amount_key    bigint generated always as (least(greatest(amount * 10000, -9223372036854775807), 9223372036854775807)::bigint) stored,
    primary key (tenant_id, id)
);
create index invoices_created on invoices (tenant_id, created_at, id);
create index invoices_updated on invoices (tenant_id, updated_at, id);
create index invoices_number on invoices (tenant_id, number, id);
create index invoices_status on invoices (tenant_id, status, due_date, id);
create index invoices_customer on invoices (tenant_id, customer_id, created_at, id);
create index invoices_project on invoices (tenant_id, project_id, created_at, id);
create index invoices_issue on invoices (tenant_id, issue_date, id);
create index invoices_due on invoices (tenant_id, due_date, id);
create index invoices_amount on invoices (tenant_id, amount_key, id);

create table interactions (
    tenant_id      text        not null,
    id             text        not null,
    version        bigint      not null,
    customer_id    text,
    lead_id        text,
    interaction_type text      not null,
    subject        text,
    description    text,
    outcome        text,
    priority       text        not null,
    status         text        not null,
    scheduled_at   timestamptz,
    completed_at   timestamptz,
    follow_up_date date,
    billable       boolean     not null,
    billable_hours numeric(12, 2),
    created_by     text,
    created_at     timestamptz not null,
    updated_at     timestamptz not null,
    position       bigint      not null,
    occurred_from  timestamptz not null,
    recorded_from  timestamptz not null,
    primary key (tenant_id, id)
);
create index interactions_created on interactions (tenant_id, created_at, id);
create index interactions_customer on interactions (tenant_id, customer_id, created_at, id);
create index interactions_lead on interactions (tenant_id, lead_id, created_at, id);

create table notes (
    tenant_id     text        not null,
    id            text        not null,
    version       bigint      not null,
    customer_id   text        not null,
    author_id     text        not null,
    title         text,
    content       text        not null,
    private       boolean     not null,
    created_at    timestamptz not null,
    updated_at    timestamptz not null,
    deleted_at    timestamptz,
    position      bigint      not null,
    occurred_from timestamptz not null,
    recorded_from timestamptz not null,
    primary key (tenant_id, id)
);
create index notes_customer on notes (tenant_id, customer_id, created_at, id) where deleted_at is null;

-- One row an event: what happened, by whom, to what; the payload stays in the log.
create table activity (
    tenant_id       text        not null,
    tenant_position bigint      not null,
    position        bigint      not null,
    event_id        uuid        not null,
    event_type      text        not null,
    aggregate_type  text        not null,
    subject         text        not null,
    actor           text        not null,
    correlation_id  text        not null,
    occurred_at     timestamptz not null,
    recorded_at     timestamptz not null,
    primary key (tenant_id, tenant_position)
);
create unique index activity_position on activity (position);
create index activity_type on activity (tenant_id, event_type, tenant_position);
create index activity_actor on activity (tenant_id, actor, tenant_position);
create index activity_subject on activity (tenant_id, subject, tenant_position);
create index activity_correlation on activity (correlation_id);
create index activity_recorded on activity (tenant_id, recorded_at);

-- Every row that ever was.
create table tenant_versions      (like tenants including generated,      occurred_to timestamptz not null, recorded_to timestamptz not null, primary key (tenant_id, id, position));
create table user_versions        (like users including generated,        occurred_to timestamptz not null, recorded_to timestamptz not null, primary key (tenant_id, id, position));
create table customer_versions    (like customers including generated,    occurred_to timestamptz not null, recorded_to timestamptz not null, primary key (tenant_id, id, position));
create table lead_versions        (like leads including generated,        occurred_to timestamptz not null, recorded_to timestamptz not null, primary key (tenant_id, id, position));
create table project_versions     (like projects including generated,     occurred_to timestamptz not null, recorded_to timestamptz not null, primary key (tenant_id, id, position));
create table invoice_versions     (like invoices including generated,     occurred_to timestamptz not null, recorded_to timestamptz not null, primary key (tenant_id, id, position));
create table interaction_versions (like interactions including generated, occurred_to timestamptz not null, recorded_to timestamptz not null, primary key (tenant_id, id, position));
create table note_versions        (like notes including generated,        occurred_to timestamptz not null, recorded_to timestamptz not null, primary key (tenant_id, id, position));

alter table tenants enable row level security;
alter table tenants force row level security;
create policy projector on tenants to devhub_projector using (true) with check (true);
create policy founder on tenants for select to devhub_founder using (true);
create policy request on tenants for select to devhub_request
    using (tenant_id = (select current_setting('devhub.tenant_id', true)));
alter table users enable row level security;
alter table users force row level security;
create policy projector on users to devhub_projector using (true) with check (true);
create policy founder on users for select to devhub_founder using (true);
create policy request on users for select to devhub_request
    using (tenant_id = (select current_setting('devhub.tenant_id', true)));
alter table customers enable row level security;
alter table customers force row level security;
create policy projector on customers to devhub_projector using (true) with check (true);
create policy founder on customers for select to devhub_founder using (true);
create policy request on customers for select to devhub_request
    using (tenant_id = (select current_setting('devhub.tenant_id', true)));
alter table leads enable row level security;
alter table leads force row level security;
create policy projector on leads to devhub_projector using (true) with check (true);
create policy founder on leads for select to devhub_founder using (true);
create policy request on leads for select to devhub_request
    using (tenant_id = (select current_setting('devhub.tenant_id', true)));
alter table projects enable row level security;
alter table projects force row level security;
create policy projector on projects to devhub_projector using (true) with check (true);
create policy founder on projects for select to devhub_founder using (true);
create policy request on projects for select to devhub_request
    using (tenant_id = (select current_setting('devhub.tenant_id', true)));
alter table invoices enable row level security;
alter table invoices force row level security;
create policy projector on invoices to devhub_projector using (true) with check (true);
create policy founder on invoices for select to devhub_founder using (true);
create policy request on invoices for select to devhub_request
    using (tenant_id = (select current_setting('devhub.tenant_id', true)));
alter table interactions enable row level security;
alter table interactions force row level security;
create policy projector on interactions to devhub_projector using (true) with check (true);
create policy founder on interactions for select to devhub_founder using (true);
create policy request on interactions for select to devhub_request
    using (tenant_id = (select current_setting('devhub.tenant_id', true)));
alter table notes enable row level security;
alter table notes force row level security;
create policy projector on notes to devhub_projector using (true) with check (true);
create policy founder on notes for select to devhub_founder using (true);
create policy request on notes for select to devhub_request
    using (tenant_id = (select current_setting('devhub.tenant_id', true)));
alter table activity enable row level security;
alter table activity force row level security;
create policy projector on activity to devhub_projector using (true) with check (true);
create policy founder on activity for select to devhub_founder using (true);
create policy request on activity for select to devhub_request
    using (tenant_id = (select current_setting('devhub.tenant_id', true)));
alter table tenant_versions enable row level security;
alter table tenant_versions force row level security;
create policy projector on tenant_versions to devhub_projector using (true) with check (true);
create policy founder on tenant_versions for select to devhub_founder using (true);
create policy request on tenant_versions for select to devhub_request
    using (tenant_id = (select current_setting('devhub.tenant_id', true)));
alter table user_versions enable row level security;
alter table user_versions force row level security;
create policy projector on user_versions to devhub_projector using (true) with check (true);
create policy founder on user_versions for select to devhub_founder using (true);
create policy request on user_versions for select to devhub_request
    using (tenant_id = (select current_setting('devhub.tenant_id', true)));
alter table customer_versions enable row level security;
alter table customer_versions force row level security;
create policy projector on customer_versions to devhub_projector using (true) with check (true);
create policy founder on customer_versions for select to devhub_founder using (true);
create policy request on customer_versions for select to devhub_request
    using (tenant_id = (select current_setting('devhub.tenant_id', true)));
alter table lead_versions enable row level security;
alter table lead_versions force row level security;
create policy projector on lead_versions to devhub_projector using (true) with check (true);
create policy founder on lead_versions for select to devhub_founder using (true);
create policy request on lead_versions for select to devhub_request
    using (tenant_id = (select current_setting('devhub.tenant_id', true)));
alter table project_versions enable row level security;
alter table project_versions force row level security;
create policy projector on project_versions to devhub_projector using (true) with check (true);
create policy founder on project_versions for select to devhub_founder using (true);
create policy request on project_versions for select to devhub_request
    using (tenant_id = (select current_setting('devhub.tenant_id', true)));
alter table invoice_versions enable row level security;
alter table invoice_versions force row level security;
create policy projector on invoice_versions to devhub_projector using (true) with check (true);
create policy founder on invoice_versions for select to devhub_founder using (true);
create policy request on invoice_versions for select to devhub_request
    using (tenant_id = (select current_setting('devhub.tenant_id', true)));
alter table interaction_versions enable row level security;
alter table interaction_versions force row level security;
create policy projector on interaction_versions to devhub_projector using (true) with check (true);
create policy founder on interaction_versions for select to devhub_founder using (true);
create policy request on interaction_versions for select to devhub_request
    using (tenant_id = (select current_setting('devhub.tenant_id', true)));
alter table note_versions enable row level security;
alter table note_versions force row level security;
create policy projector on note_versions to devhub_projector using (true) with check (true);
create policy founder on note_versions for select to devhub_founder using (true);
create policy request on note_versions for select to devhub_request
    using (tenant_id = (select current_setting('devhub.tenant_id', true)));

grant select, insert, update, delete on
    tenants, users, customers, leads, projects, invoices, interactions, notes, activity, tenant_versions, user_versions, customer_versions, lead_versions, project_versions, invoice_versions, interaction_versions, note_versions
    to devhub_projector;
grant select on
    tenants, users, customers, leads, projects, invoices, interactions, notes, activity, tenant_versions, user_versions, customer_versions, lead_versions, project_versions, invoice_versions, interaction_versions, note_versions
    to devhub_founder, devhub_request;

-- Sign-in asks whether a person and their business are active before there is a tenant to set.
create policy platform on users for select to devhub_platform using (true);
create policy platform on tenants for select to devhub_platform using (true);
grant select on users, tenants to devhub_platform;
