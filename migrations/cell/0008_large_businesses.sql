-- A statement that reads one business is planned once for all of them, as if each had as many rows as they have on average.
-- Among thousands of small ones, whatever sorts looks cheap then, and sorts all that a large one has for each page. The
-- server is told that there is one business: it then takes each for as large as the largest is, which is nothing that a
-- small one would notice.
do $$
declare
    read text;
begin
    foreach read in array array[
        'events', 'activity', 'customers', 'customer_versions', 'leads', 'lead_versions', 'projects', 'project_versions',
        'invoices', 'invoice_versions', 'interactions', 'interaction_versions', 'notes', 'note_versions', 'users',
        'user_versions'
    ] loop
        execute format('alter table %I alter column tenant_id set (n_distinct = 1)', read);
        execute format('analyze %I (tenant_id)', read);
    end loop;
end
$$;
