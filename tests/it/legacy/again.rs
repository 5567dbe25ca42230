//! The old system goes on: what changes, goes and comes back there between two imports, and what nobody expected.

use devhub::event_store::StreamId;

use super::*;
use crate::told;

/// An old database of the second revision with these rows.
async fn old_with(rows: &str) -> OldDatabase {
    let old = OldDatabase::of(&schema("fef60ef31522")).await;
    old.run(rows).await;
    old
}

#[tokio::test]
async fn a_user_without_an_id_and_a_vault_entry_of_nobody_do_not_stop_an_import() {
    const VAULT: &str = "
        create table password_vault (id serial primary key, user_system_id varchar, original_password varchar);
        insert into users (system_id, email, full_name, user_role, is_active, created_at) values
            ('USR-001', 'ann@old.example', 'Ann', 'OWNER', true, '2015-01-01'),";
    for rest in [
        "(null, 'noid@old.example', 'No id', 'EMPLOYEE', true, '2015-01-01');
         insert into password_vault (user_system_id) values ('USR-001');",
        "('USR-002', 'bo@old.example', 'Bo', 'EMPLOYEE', true, '2015-01-01');
         insert into password_vault (user_system_id) values (null), ('USR-001');",
    ] {
        let world = World::start().await;
        let old = old_with(&format!("{VAULT}{rest}")).await;
        let report = import(&world, &old).await;
        let in_vault = |user: &&legacy::NeedsReset| user.reasons.iter().any(|reason| reason == "password_in_vault");
        let listed: Vec<&str> = report.needs_reset.iter().filter(in_vault).map(|user| user.id.as_str()).collect();
        assert_eq!(listed, ["USR-001"]);
        assert_eq!(report.needs_reset.len(), 2, "neither has a password");
        assert_eq!(import(&world, &old).await.events, 0);
        assert_proven(&world, &old).await;
    }
}

/// People, customers, a lead and a project, without a flaw.
const FLAWLESS: &str = "
    insert into users (system_id, email, full_name, user_role, is_active, created_at) values
        ('USR-001', 'ann@old.example', 'Ann', 'OWNER', true, '2015-01-01'),
        ('USR-002', 'bo@old.example', 'Bo', 'EMPLOYEE', true, '2015-01-01');
    insert into customers (system_id, company, is_active, created_at, updated_at) values
        ('CUS-000', 'First', true, '2015-02-01', '2015-02-01'), ('CUS-001', 'Second', true, '2015-02-01', '2015-02-01');
    insert into leads (system_id, name, email, phone, source, qualification_status, stage, estimated_value, probability,
                       is_active, created_at, updated_at)
    values ('LED-000', 'Lea', 'lea@old.example', '+1-555-0100', 'website', 'unqualified', 'new', '100', 10, true,
            '2015-03-01', '2015-03-01');
    insert into projects (system_id, name, status, owner_id, created_at, updated_at) values
        ('PRJ-000', 'Roof', 'planned', 'USR-001', '2015-04-01', '2015-04-01'),
        ('PRJ-001', 'Cellar', 'planned', 'USR-001', '2015-04-01', '2015-04-01');";

fn at(path: &str) -> String {
    format!("/api/admin/tenants/DEV-000/{path}")
}

async fn here(world: &World, path: &str) -> Value {
    world.founder().await.get(&at(path)).await.ok()
}

/// Whether the list has it.
async fn is_listed(world: &World, list: &str, id: &str) -> bool {
    let all = here(world, &format!("{list}?limit=100")).await;
    all["data"].as_array().unwrap().iter().any(|record| record["id"] == id)
}

async fn proof(world: &World, old: &OldDatabase) -> verify::Proof {
    let from = SecretString::from(old.url.as_str());
    verify::verify(&world.app, &from, TenantId::Legacy, &Progress::hidden()).await.unwrap()
}

#[tokio::test]
async fn a_link_that_stands_there_twice_stays_until_the_last_row_is_gone() {
    let world = World::start().await;
    let old = old_with(&format!(
        "{FLAWLESS}
         insert into project_customers (project_id, customer_id, linked_at) values
             ('PRJ-000', 'CUS-000', '2015-04-02'), ('PRJ-000', 'CUS-000', '2015-04-03');
         insert into project_assignments (project_id, user_id, role, assigned_at) values
             ('PRJ-000', 'USR-002', 'roofer', '2015-04-02'), ('PRJ-000', 'USR-002', 'foreman', '2015-04-03');"
    ))
    .await;
    import(&world, &old).await;
    assert_proven(&world, &old).await;
    old.run("delete from project_customers where id = 2; delete from project_assignments where id = 2").await;
    let report = import(&world, &old).await;
    assert_eq!(report.vanished_rows, 2);
    let project = here(&world, "projects/PRJ-000").await;
    assert_eq!(project["customer_ids"], json!(["CUS-000"]));
    let roles =
        |project: &Value| project["members"].as_array().unwrap().iter().map(|m| m["role"].clone()).collect::<Vec<_>>();
    assert_eq!(roles(&project), [json!("roofer")], "what the row says that is left");
    assert_proven(&world, &old).await;
    old.run("delete from project_customers; delete from project_assignments").await;
    import(&world, &old).await;
    let project = here(&world, "projects/PRJ-000").await;
    assert_eq!((&project["customer_ids"], roles(&project).len()), (&json!([]), 0));
    assert!(aside(&world).await.is_empty());
    assert_eq!(import(&world, &old).await.events, 0);
}

#[tokio::test]
async fn a_link_that_moves_to_another_project_leaves_the_one_before() {
    let world = World::start().await;
    let old = old_with(&format!(
        "{FLAWLESS}
         insert into project_customers (project_id, customer_id, linked_at) values
             ('PRJ-000', 'CUS-000', '2015-04-02'), ('PRJ-000', 'CUS-001', '2015-04-02'),
             ('PRJ-000', 'CUS-001', '2015-04-02');
         insert into project_assignments (project_id, user_id, role, assigned_at) values
             ('PRJ-000', 'USR-002', 'roofer', '2015-04-02');"
    ))
    .await;
    import(&world, &old).await;
    // To a project that is not there, nothing goes.
    old.run("update project_customers set project_id = 'PRJ-404' where id = 1").await;
    import(&world, &old).await;
    assert_eq!(here(&world, "projects/PRJ-000").await["customer_ids"], json!(["CUS-000", "CUS-001"]));
    old.run(
        "update project_customers set project_id = 'PRJ-001' where id in (1, 2);
         update project_assignments set project_id = 'PRJ-001'",
    )
    .await;
    import(&world, &old).await;
    let (before, after) = (here(&world, "projects/PRJ-000").await, here(&world, "projects/PRJ-001").await);
    assert_eq!(before["customer_ids"], json!(["CUS-001"]), "another row still says so");
    assert_eq!(after["customer_ids"], json!(["CUS-000", "CUS-001"]));
    assert_eq!((&before["members"], &after["members"][0]["role"]), (&json!([]), &json!("roofer")));
    assert_proven(&world, &old).await;
    assert_eq!(import(&world, &old).await.events, 0);
}

#[tokio::test]
async fn a_note_and_a_contact_that_move_to_another_customer_wait_for_somebody() {
    let world = World::start().await;
    let old = old_with(&format!(
        "{FLAWLESS}
         insert into customer_interactions (system_id, customer_id, user_id, interaction_type, subject, status,
                                            completed_at, created_at)
         values ('INT-000', 'CUS-000', 'USR-002', 'call', 'Hello', 'completed', '2015-05-01', '2015-05-01');
         insert into customer_notes (system_id, customer_id, user_id, title, content, is_private, created_at) values
             ('NOT-000', 'CUS-000', 'USR-001', 'T', 'C', false, '2015-05-01');"
    ))
    .await;
    import(&world, &old).await;
    old.run(
        "update customer_interactions set customer_id = 'CUS-001'; update customer_notes set customer_id = 'CUS-001'",
    )
    .await;
    assert_eq!(import(&world, &old).await.events, 0);
    let waiting: Vec<String> = aside(&world).await.into_values().map(|(reason, _)| reason).collect();
    assert_eq!(waiting, ["change_refused", "change_refused"]);
}

#[tokio::test]
async fn what_a_rule_keeps_when_its_row_is_gone_waits_and_is_tried_again() {
    let world = World::start().await;
    let old = old_with(&format!(
        "{FLAWLESS}
         insert into invoices (system_id, customer_id, amount, currency, status, issue_date, due_date, paid_date,
                               created_at, updated_at) values
             ('INV-000', 'CUS-000', '10', 'USD', 'paid', '2015-05-01', '2015-06-01', '2015-05-02', '2015-05-01', '2015-05-02'),
             ('INV-001', 'CUS-001', '20', 'USD', 'sent', '2015-05-01', '2015-06-01', null, '2015-05-01', '2015-05-01');
         insert into lead_interactions (system_id, lead_id, user_id, interaction_type, subject, status, scheduled_at,
                                        completed_at, created_at) values
             ('LI-000', 'LED-000', 'USR-002', 'call', 'Took place', 'completed', null, '2015-05-01', '2015-05-01'),
             ('LI-001', 'LED-000', 'USR-002', 'call', 'Planned', 'scheduled', '2015-06-01', null, '2015-05-01');"
    ))
    .await;
    import(&world, &old).await;
    old.run(
        "delete from invoices; delete from customers where system_id = 'CUS-001'; delete from lead_interactions;
         delete from users where system_id = 'USR-001'",
    )
    .await;
    let report = import(&world, &old).await;
    assert_eq!(report.vanished_rows, 6);
    let waiting = |aside: BTreeMap<String, (String, String)>| -> Vec<(String, String)> {
        aside.into_iter().map(|(row, (reason, _))| (row, reason)).collect()
    };
    let refused = |row: &str| (row.to_owned(), "deletion_refused".to_owned());
    let expected = [refused("invoices/1"), refused("lead_interactions/1"), refused("users/1")];
    assert_eq!(waiting(aside(&world).await), expected, "paid, held, and the last active owner");
    assert!(report.next.iter().any(|next| next.starts_with("3 rows are gone")), "{:?}", report.next);
    // The customer goes together with the invoice that kept it.
    assert!(!is_listed(&world, "customers", "CUS-001").await);
    assert_eq!(here(&world, "invoices/INV-001").await["status"], "void");
    assert_eq!(here(&world, "invoices/INV-000").await["status"], "paid");
    assert_eq!(here(&world, "users/USR-001").await["status"], "active");
    // A retry and another run find the same, and say so.
    quarantine::retry(&world.app, &options(), &Which::default(), &Progress::hidden()).await.unwrap();
    assert_eq!(waiting(aside(&world).await), expected);
    let again = import(&world, &old).await;
    assert_eq!((again.events, again.vanished_rows), (0, 0));
    assert_eq!(waiting(aside(&world).await), expected);
    // Once there is another owner, the one who is gone can go; what comes back waits no longer.
    old.run(
        "insert into users (system_id, email, full_name, user_role, is_active, created_at) values
             ('USR-003', 'cy@old.example', 'Cy', 'OWNER', true, '2016-01-01');
         insert into invoices (id, system_id, customer_id, amount, currency, status, issue_date, due_date, paid_date,
                               created_at, updated_at) values
             (1, 'INV-000', 'CUS-000', '10', 'USD', 'paid', '2015-05-01', '2015-06-01', '2015-05-02', '2015-05-01', '2015-05-02')",
    )
    .await;
    import(&world, &old).await;
    assert_eq!(waiting(aside(&world).await), [refused("lead_interactions/1")]);
    assert_eq!(here(&world, "users/USR-001").await["status"], "locked");
    assert_proven(&world, &old).await;
}

#[tokio::test]
async fn what_was_gone_and_is_there_again_is_here_again() {
    let world = World::start().await;
    let old = old_with(&format!(
        "{FLAWLESS}
         insert into customer_notes (system_id, customer_id, user_id, title, content, is_private, created_at) values
             ('NOT-000', 'CUS-000', 'USR-001', 'T', 'C', false, '2015-05-01');
         insert into customer_interactions (system_id, customer_id, user_id, interaction_type, subject, status,
                                            scheduled_at, created_at)
         values ('INT-000', 'CUS-000', 'USR-002', 'call', 'Planned', 'scheduled', '2015-07-01', '2015-05-01');
         insert into project_customers (project_id, customer_id, linked_at) values ('PRJ-000', 'CUS-000', '2015-04-02');
         insert into invoices (system_id, customer_id, amount, currency, status, issue_date, due_date, created_at)
         values ('INV-000', 'CUS-000', '10', 'USD', 'sent', '2015-05-01', '2015-06-01', '2015-05-01');
         create table kept_leads as table leads; create table kept_customers as table customers;
         create table kept_notes as table customer_notes; create table kept_contacts as table customer_interactions;
         create table kept_projects as table projects; create table kept_users as table users;
         create table kept_links as table project_customers; create table kept_invoices as table invoices;"
    ))
    .await;
    import(&world, &old).await;
    let before = proof(&world, &old).await;
    old.run(
        "delete from leads; delete from customers where id = 2; delete from customer_notes;
         delete from customer_interactions; delete from projects where id = 2; delete from users where id = 2;
         delete from project_customers; delete from invoices",
    )
    .await;
    import(&world, &old).await;
    for (list, id) in [("leads", "LED-000"), ("customers", "CUS-001"), ("projects", "PRJ-001")] {
        assert!(!is_listed(&world, list, id).await, "{id}");
    }
    old.run(
        "insert into leads select * from kept_leads; update leads set phone = '+1-555-0199';
         insert into customers select * from kept_customers where id = 2;
         insert into customer_notes select * from kept_notes;
         insert into customer_interactions select * from kept_contacts;
         insert into projects select * from kept_projects where id = 2;
         insert into users select * from kept_users where id = 2;
         insert into project_customers select * from kept_links; insert into invoices select * from kept_invoices;",
    )
    .await;
    import(&world, &old).await;
    assert_eq!(here(&world, "leads/LED-000").await["phone"], "+1-555-0199");
    for (list, id) in [("leads", "LED-000"), ("customers", "CUS-001"), ("projects", "PRJ-001")] {
        assert!(is_listed(&world, list, id).await, "{id}");
    }
    assert_eq!(here(&world, "users/USR-002").await["status"], "active");
    assert_eq!(here(&world, "projects/PRJ-000").await["customer_ids"], json!(["CUS-000"]));
    // An invoice that is void stays void, and that is said until somebody sees to it.
    let waiting = aside(&world).await;
    assert_eq!(waiting.keys().collect::<Vec<_>>(), ["invoices/1"]);
    assert_eq!(waiting["invoices/1"].0, "return_refused");
    let after = assert_proven(&world, &old).await;
    for table in ["leads", "customers", "customer_notes", "customer_interactions", "projects", "users"] {
        assert_eq!(after.tables[table].compared, before.tables[table].compared, "{table}");
        assert_eq!(after.tables[table].changed_since, 0, "{table}");
    }
    let again = import(&world, &old).await;
    assert_eq!(again.events, 0);
    assert_eq!(aside(&world).await["invoices/1"].0, "return_refused");
}

#[tokio::test]
async fn the_proof_names_what_was_taken_away_by_nobody() {
    let world = World::start().await;
    let old = old_with(FLAWLESS).await;
    import(&world, &old).await;
    let mut connection = PgConnection::connect(&world.url).await.unwrap();
    for table in ["leads", "lead_versions"] {
        sqlx::query(&format!("update cell_000.{table} set deleted_at = now() where id = 'LED-000'"))
            .execute(&mut connection)
            .await
            .unwrap();
    }
    let found = proof(&world, &old).await.differences;
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].id.as_deref(), &found[0].field), (Some("LED-000"), &None));
}

#[tokio::test]
async fn the_proof_believes_a_change_only_where_somebody_made_it() {
    let world = World::start().await;
    let old = old_with(&format!("{FLAWLESS} update leads set estimated_value = '$1,500.00';")).await;
    import(&world, &old).await;
    let founder = world.founder().await;
    let visit = json!({"reason": "a hand", "mode": "write"});
    let visit = founder.post("/api/admin/tenants/DEV-000/support-sessions", visit).await.expect(201);
    let inside = world.nobody().with_tokens(&visit);
    inside.patch("/api/leads/LED-000", json!({"phone": "+1 555 0142"})).await.ok();
    let changed = assert_proven(&world, &old).await;
    assert_eq!((changed.tables["leads"].changed_since, changed.tables["leads"].repaired), (1, 1));
    let mut connection = PgConnection::connect(&world.url).await.unwrap();
    for (column, value) in [("phone", "'+1 555 0143'"), ("email", "'lea@other.example'"), ("estimated_value", "15")] {
        sqlx::query("create table cell_000.kept as table cell_000.leads").execute(&mut connection).await.unwrap();
        sqlx::query(&format!("update cell_000.leads set {column} = {value} where id = 'LED-000'"))
            .execute(&mut connection)
            .await
            .unwrap();
        let found = proof(&world, &old).await.differences;
        let fields: Vec<Option<&str>> = found.iter().map(|difference| difference.field.as_deref()).collect();
        assert_eq!(fields, [Some(column)], "{found:?}");
        sqlx::query(&format!(
            "update cell_000.leads l set {column} = k.{column} from cell_000.kept k where l.id = k.id and k.id = 'LED-000'"
        ))
        .execute(&mut connection)
        .await
        .unwrap();
        sqlx::query("drop table cell_000.kept").execute(&mut connection).await.unwrap();
    }
    assert_proven(&world, &old).await;
}

#[tokio::test]
async fn a_replacement_reaches_rows_that_came_in_before_and_says_if_it_reaches_none() {
    let world = World::start().await;
    let old = old_with(&format!("{FLAWLESS} update leads set stage = '???';")).await;
    import(&world, &old).await;
    assert_eq!(here(&world, "leads/LED-000").await["stage"], "new");
    let mapped = |mapping: &str| Options { mappings: vec![mapping.parse().unwrap()], ..options() };
    let report = try_import(&world, &old, &mapped("leads.stage:???=contacted")).await.unwrap();
    assert_heaps_add_up(&report);
    assert!(report.events > 0 && !report.next.iter().any(|next| next.contains("touched no row")), "{:?}", report.next);
    assert_eq!(here(&world, "leads/LED-000").await["stage"], "contacted");
    assert_proven(&world, &old).await;
    assert_eq!(import(&world, &old).await.events, 0);
    let report = try_import(&world, &old, &mapped("leads.source:tea shop=website")).await.unwrap();
    assert_eq!(report.events, 0);
    let said = report.next.iter().find(|next| next.contains("touched no row")).unwrap();
    assert!(said.contains("leads.source:tea shop=website"), "{said}");
    // One row, by a retry, which stages only what waits.
    let retry = mapped("customers/1.company=Renamed");
    quarantine::retry(&world.app, &retry, &Which::default(), &Progress::hidden()).await.unwrap();
    assert_eq!(here(&world, "customers/CUS-000").await["company"], "Renamed");
}

#[tokio::test]
async fn a_lead_without_a_last_change_ends_with_its_last_contact() {
    let world = World::start().await;
    let old = old_with(&format!(
        "{FLAWLESS}
         insert into leads (system_id, name, stage, converted_to_customer, converted_customer_id, is_active, created_at,
                            updated_at, last_contacted) values
             ('LED-001', 'Won', 'closed_won', true, 'CUS-000', false, '2015-03-01', null, '2015-03-04'),
             ('LED-002', 'Won', 'closed_won', true, 'CUS-000', false, '2015-03-01', 'infinity', null),
             ('LED-003', 'Won', 'closed_won', true, 'CUS-000', false, '2015-03-01', null, null);
         insert into lead_interactions (system_id, lead_id, user_id, interaction_type, subject, status, completed_at,
                                        created_at) values
             ('LI-000', 'LED-001', 'USR-002', 'call', 'x', 'completed', '2015-03-03', '2015-03-02'),
             ('LI-001', 'LED-002', 'USR-002', 'call', 'x', 'completed', '2015-03-03', '2015-03-02');
         insert into invoices (system_id, customer_id, amount, currency, status, issue_date, due_date, paid_date,
                               created_at, updated_at) values
             ('INV-000', 'CUS-000', '10', 'USD', 'paid', '2150-05-01', '2150-06-01', '2015-05-02', '2015-05-01', '2015-05-02'),
             ('INV-001', 'CUS-000', '10', 'USD', 'sent', '2150-05-01', '2150-06-01', null, '2015-05-01', '2015-05-02');"
    ))
    .await;
    let report = import(&world, &old).await;
    for (lead, day) in [("LED-001", "2015-03-04"), ("LED-002", "2015-03-03"), ("LED-003", "2015-03-01")] {
        let converted = here(&world, &format!("leads/{lead}")).await["converted_at"].clone();
        assert!(converted.as_str().unwrap().starts_with(day), "{lead} {converted}");
    }
    assert_eq!(report.tables["leads"].repairs["updated_at_missing"], 2);
    assert_eq!(report.tables["invoices"].reasons["issue_date_ahead"], 1);
    let ahead = log(&world.url).await.into_iter().filter(|event| event["occurred_at"].as_str().unwrap() > "2100");
    assert_eq!(ahead.count(), 0);
    assert_proven(&world, &old).await;
}

/// Refuses what the importer appends to a stream, as a database does that fails.
const FAILING: &str = "
    create function cell_000.fails() returns trigger language plpgsql as $$
    begin raise exception 'no more room'; end $$;
    create trigger fails before insert on cell_000.events for each row
        when (new.aggregate_id = 'DEV-000:INV-000') execute function cell_000.fails();";

#[tokio::test]
async fn a_retry_that_was_interrupted_is_finished_by_the_next() {
    let world = World::start().await;
    let old = old_with(&format!(
        "{FLAWLESS}
         insert into invoices (system_id, customer_id, amount, currency, status, issue_date, due_date, created_at)
         values ('INV-000', 'CUS-000', null, 'USD', 'draft', '2015-05-01', '2015-06-01', '2015-05-01');"
    ))
    .await;
    import(&world, &old).await;
    let mut connection = PgConnection::connect(&world.url).await.unwrap();
    sqlx::raw_sql(FAILING).execute(&mut connection).await.unwrap();
    let retry = Options { mappings: vec!["invoices/1.amount=250".parse().unwrap()], ..options() };
    let retried =
        async |options: &Options| quarantine::retry(&world.app, options, &Which::default(), &Progress::hidden()).await;
    retried(&retry).await.unwrap_err();
    sqlx::query("drop trigger fails on cell_000.events").execute(&mut connection).await.unwrap();
    let dry = Options { dry_run: true, ..options() };
    assert!(retried(&dry).await.unwrap_err().to_string().contains("without --dry-run"));
    let report = retried(&options()).await.unwrap();
    assert_eq!((report.events, report.tables["invoices"].quarantined), (1, 0));
    assert_eq!(here(&world, "invoices/INV-000").await["amount"]["amount"], "250.00");
    assert!(aside(&world).await.is_empty());
    assert_proven(&world, &old).await;
}

#[tokio::test]
async fn an_import_that_was_interrupted_is_not_finished_by_a_retry_which_says_what_does() {
    let world = World::start().await;
    let old = old_with(&format!(
        "{FLAWLESS}
         insert into invoices (system_id, customer_id, amount, currency, status, issue_date, due_date, created_at)
         values ('INV-000', 'CUS-000', '1', 'USD', 'draft', '2015-05-01', '2015-06-01', '2015-05-01');"
    ))
    .await;
    import(&world, &old_with(FLAWLESS).await).await;
    let mut connection = PgConnection::connect(&world.url).await.unwrap();
    sqlx::raw_sql(FAILING).execute(&mut connection).await.unwrap();
    try_import(&world, &old, &options()).await.unwrap_err();
    sqlx::query("drop trigger fails on cell_000.events").execute(&mut connection).await.unwrap();
    let refused = quarantine::retry(&world.app, &options(), &Which::default(), &Progress::hidden()).await.unwrap_err();
    assert!(refused.to_string().contains("`devhub legacy import`"), "{refused}");
    import(&world, &old).await;
    here(&world, "invoices/INV-000").await;
}

#[tokio::test]
async fn an_id_that_is_taken_between_planning_and_appending_is_not_shared() {
    let world = World::start().await;
    let old = old_with(&format!(
        "{FLAWLESS}
         insert into leads (system_id, name, stage, is_active, created_at, updated_at) values
             ('LED-001', 'Ours', 'new', true, '2015-03-01', '2015-03-01');
         insert into lead_interactions (system_id, lead_id, user_id, interaction_type, subject, status, completed_at,
                                        created_at) values
             ('LI-000', 'LED-001', 'USR-002', 'call', 'x', 'completed', '2015-03-03', '2015-03-02');"
    ))
    .await;
    // The run has planned everything, and cannot append it.
    let mut connection = PgConnection::connect(&world.url).await.unwrap();
    sqlx::raw_sql(&FAILING.replace("new.aggregate_id = 'DEV-000:INV-000'", "new.metadata ->> 'source' = 'legacy'"))
        .execute(&mut connection)
        .await
        .unwrap();
    try_import(&world, &old, &options()).await.unwrap_err();
    sqlx::query("drop trigger fails on cell_000.events").execute(&mut connection).await.unwrap();
    let founder = world.founder().await;
    let visit = json!({"reason": "a hand", "mode": "write"});
    let visit = founder.post("/api/admin/tenants/DEV-000/support-sessions", visit).await.expect(201);
    let inside = world.nobody().with_tokens(&visit);
    let mine = inside.post("/api/leads", json!({"name": "Mine"})).await.created();
    assert_eq!(mine, "LED-002", "the run reserved its numbers when it gave them");
    // Somebody who was given a number long before.
    let stream = StreamId::new("Lead", TenantId::Legacy, "LED-001");
    let theirs = told::one(stream, 0, told::captured(world.clock.now(), "Theirs"));
    world.app.store.append_all(vec![theirs]).await.remove(0).unwrap();
    // The run is finished without the row, and the next gives it another id.
    import(&world, &old).await;
    assert_eq!(here(&world, "leads/LED-001").await["name"], "Theirs");
    let told_of_it = |event: &Value| event["aggregate_id"] == "DEV-000:LED-001";
    assert_eq!(log(&world.url).await.iter().filter(|event| told_of_it(event)).count(), 0);
    assert_eq!(here(&world, "leads/LED-003").await["name"], "Ours");
    assert!(aside(&world).await.is_empty());
    assert_proven(&world, &old).await;
}

#[tokio::test]
async fn a_read_model_that_has_stopped_does_not_hold_up_an_import() {
    let world = World::start().await;
    let acme = world.business("ACME").await;
    acme.post("/api/customers", json!({"company": "Initech"})).await.created();
    // A kind of event of a later version of the program: nobody can tell which row it is about.
    let customer = StreamId::new("Customer", acme.tenant.as_ref().unwrap().parse().unwrap(), "CUS-000");
    let unknown = told::event(world.clock.now(), "CustomerEnlightened", &json!({"Enlightened": {}}));
    world.app.store.append_all(vec![told::one(customer, 1, unknown)]).await.remove(0).unwrap();
    world.app.projections.watch().wait_for(|progress| !progress.stopped.is_empty()).await.unwrap();
    let old = old_with(FLAWLESS).await;
    let stopped = try_import(&world, &old, &options()).await.unwrap_err();
    assert!(matches!(stopped, ImportError::Stopped { .. }), "{stopped}");
    let status: String = sqlx::query_scalar("select status from cell_000.legacy_imports")
        .fetch_one(&mut PgConnection::connect(&world.url).await.unwrap())
        .await
        .unwrap();
    assert_eq!(status, "done", "the log has everything, and the next run has nothing to finish");
}

#[tokio::test]
async fn every_business_of_the_old_database_is_seen() {
    let world = World::start().await;
    let old = OldDatabase::of(&schema("47d23c886898")).await;
    old.run("insert into tenants (system_id, business_name) select 'TNT-' || n, 'Business ' || n from generate_series(100, 2200) n")
        .await;
    let report = import(&world, &old).await;
    assert_eq!(report.tables["tenants"].reasons["another_business"], 2101);
}
