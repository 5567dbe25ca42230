//! The old system goes on: what changes, goes and comes back there between two imports, and what nobody expected.

use super::*;

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
