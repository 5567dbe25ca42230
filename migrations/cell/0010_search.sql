-- What a search through a large business need not look at. Its records are taken in blocks of 64 by their numbers, from the
-- 1,024th on: of each block it is known how often a text in it that is searched has changed, and which letters there can be in
-- each record's texts at all.

-- Counted up by whatever writes records, in the same statement: what is known of a block is known of this count, or stale.
create table search_marks (
    tenant_id text    not null,
    -- the read model
    noun      text    not null,
    -- the number in the record's id, by 64
    block     integer not null,
    changes   bigint  not null,
    primary key (tenant_id, noun, block)
);

-- Worked out at leisure from the records themselves.
create table search_signatures (
    tenant_id text     not null,
    noun      text     not null,
    block     integer  not null,
    -- of this count
    changes   bigint   not null,
    -- of this table: a read model that is made anew is another one
    made_of   oid      not null,
    -- how lines are made of letters
    scheme    smallint not null,
    -- for each of some groups of letters, a bit for each record; for each letter, those that follow it
    lines     bigint[] not null,
    primary key (tenant_id, noun, block)
);
-- Read for every search, two to a page: not packed, nor put elsewhere.
alter table search_signatures alter column lines set storage plain;

alter table search_marks alter column tenant_id set (n_distinct = 1);
alter table search_signatures alter column tenant_id set (n_distinct = 1);

alter table search_marks enable row level security;
alter table search_marks force row level security;
create policy projector on search_marks to devhub_projector using (true) with check (true);
create policy founder on search_marks for select to devhub_founder using (true);
create policy request on search_marks for select to devhub_request
    using (tenant_id = (select current_setting('devhub.tenant_id', true)));
alter table search_signatures enable row level security;
alter table search_signatures force row level security;
create policy projector on search_signatures to devhub_projector using (true) with check (true);
create policy founder on search_signatures for select to devhub_founder using (true);
create policy request on search_signatures for select to devhub_request
    using (tenant_id = (select current_setting('devhub.tenant_id', true)));

grant select, insert, update, delete on search_marks, search_signatures to devhub_projector;
grant select on search_marks, search_signatures to devhub_founder, devhub_request;

-- The blocks of what is there. Who migrates may own the tables and see none of their rows.
set local role devhub_projector;
insert into search_marks (tenant_id, noun, block, changes)
select distinct tenant_id, noun, (substring(id from '-([0-9]{4,10})$')::bigint / 64)::integer, 1
from (
    select tenant_id, 'customers' as noun, id from customers
    union all select tenant_id, 'leads', id from leads
    union all select tenant_id, 'projects', id from projects
    union all select tenant_id, 'invoices', id from invoices
) records
where substring(id from '-([0-9]{4,10})$')::bigint >= 1024;
reset role;
