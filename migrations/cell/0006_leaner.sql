-- What has no amount has no amount to sort by: `least` and `greatest` pass over what is null, so that such rows stood first
-- and were found by every filter for small amounts.
alter table leads drop column estimated_value_key;
alter table leads add column estimated_value_key bigint generated always as (case when estimated_value is not null then least(greatest(estimated_value * 10000, -9223372036854775807), 9223372036854775807)::bigint end) stored;
alter table lead_versions drop column estimated_value_key;
alter table lead_versions add column estimated_value_key bigint generated always as (case when estimated_value is not null then least(greatest(estimated_value * 10000, -9223372036854775807), 9223372036854775807)::bigint end) stored;
alter table projects drop column budget_key;
alter table projects add column budget_key bigint generated always as (case when budget is not null then least(greatest(budget * 10000, -9223372036854775807), 9223372036854775807)::bigint end) stored;
alter table project_versions drop column budget_key;
alter table project_versions add column budget_key bigint generated always as (case when budget is not null then least(greatest(budget * 10000, -9223372036854775807), 9223372036854775807)::bigint end) stored;

-- An index entry costs a row that is written as much as the row itself, so that none is kept for what is not there:
-- rows that have no value are found by the key of the table, which is the order in which lists show them.

drop index users_department;
create index users_department on users (tenant_id, department, id) where department is not null;

drop index customers_company, customers_name, customers_email, customers_owner, customers_last_interaction;
create index customers_company on customers (tenant_id, company, id) where deleted_at is null and company is not null;
create index customers_name on customers (tenant_id, name, id) where deleted_at is null and name is not null;
create index customers_email on customers (tenant_id, email, id) where deleted_at is null and email is not null;
create index customers_owner on customers (tenant_id, owner_id, updated_at, id) where deleted_at is null and owner_id is not null;
create index customers_last_interaction on customers (tenant_id, last_interaction_at, id) where deleted_at is null and last_interaction_at is not null;

drop index leads_company, leads_email, leads_assignee, leads_score, leads_probability, leads_close_date, leads_customer;
create index leads_company on leads (tenant_id, company, id) where deleted_at is null and company is not null;
create index leads_email on leads (tenant_id, email, id) where deleted_at is null and email is not null;
create index leads_assignee on leads (tenant_id, assignee_id, updated_at, id) where deleted_at is null and assignee_id is not null;
create index leads_value on leads (tenant_id, estimated_value_key, id) where deleted_at is null and estimated_value_key is not null;
create index leads_score on leads (tenant_id, score, id) where deleted_at is null and score is not null;
create index leads_probability on leads (tenant_id, probability, id) where deleted_at is null and probability is not null;
create index leads_close_date on leads (tenant_id, expected_close_date, id) where deleted_at is null and expected_close_date is not null;
create index leads_customer on leads (tenant_id, customer_id, id) where deleted_at is null and customer_id is not null;

drop index projects_owner, projects_start, projects_due;
create index projects_owner on projects (tenant_id, owner_id, updated_at, id) where deleted_at is null and owner_id is not null;
create index projects_start on projects (tenant_id, start_date, id) where deleted_at is null and start_date is not null;
create index projects_due on projects (tenant_id, due_date, id) where deleted_at is null and due_date is not null;
create index projects_budget on projects (tenant_id, budget_key, id) where deleted_at is null and budget_key is not null;

drop index invoices_project;
create index invoices_project on invoices (tenant_id, project_id, created_at, id) where project_id is not null;

drop index interactions_customer, interactions_lead;
create index interactions_customer on interactions (tenant_id, customer_id, created_at, id) where customer_id is not null;
create index interactions_lead on interactions (tenant_id, lead_id, created_at, id) where lead_id is not null;

-- The log itself is in this order.
drop index activity_position;

-- Where a tenant's history ends, and with which hash, is what its last event says.
drop table tenant_heads;
