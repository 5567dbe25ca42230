//! A large business among many small ones: what is planned for all of them reads no more of its rows than a page needs.

use chrono::{DateTime, Utc};
use devhub::aggregates::ids::TenantId;
use devhub::api::events::query::{By, EventsQuery};
use devhub::api::leads::Leads;
use devhub::api::list::{ListQuery, ListScope, Visibility};
use devhub::api::record::list_spec;
use devhub::projections::leads::LeadRow;
use devhub::projections::row::Stored;
use serde_json::Value;
use sqlx::{Connection, Executor, PgConnection};

use crate::world::{Client, World};

/// What 400 small businesses have, and thousands of rows of one.
const ROWS: &str = "
    set search_path = cell_000;
    insert into leads (tenant_id, id, version, name, source, stage, qualification, probability, stage_changed_at, created_at,
                       updated_at, position, occurred_from, recorded_from)
    select case when n > 8000 then 'TNT-' || 1000 + n % 400 else large end, 'LED-' || n, 1, 'Lead ' || n,
           (array['referral', 'website', 'social_media'])[1 + n % 3], (array['new', 'contacted', 'qualified', 'proposal'])[1 + n % 4],
           'new', 10, at, at, at, n, at, at
    from generate_series(1000, 15999) n, lateral (select 'epoch'::timestamptz + n * 7919 % 16000 * interval '1 h' as at) t;
    insert into activity (tenant_id, tenant_position, position, event_id, event_type, aggregate_type, subject, actor,
                          correlation_id, occurred_at, recorded_at)
    select case when n > 8000 then 'TNT-' || 1000 + n % 400 else large end, n, n, gen_random_uuid(), 'LeadCaptured', 'Lead',
           'LED-' || n, 'system', n, at, at
    from generate_series(1000, 15999) n, lateral (select '2026-03-01'::timestamptz + n * interval '1 s' as at) t;
    analyze leads, activity";

/// The indexes of `table` that are used, the first that is read first, by the statement over `table` that this connection
/// has just been asked; and no step may sort.
async fn indexes(connection: &mut PgConnection, table: &str, values: &[String]) -> Vec<String> {
    let name: String = sqlx::query_scalar(
        "select name from pg_prepared_statements where statement ~ $1 order by prepare_time desc limit 1",
    )
    .bind(format!(r"^with scope .* from {table} [at]\s"))
    .fetch_one(&mut *connection)
    .await
    .unwrap();
    let explain = format!("explain (format json) execute {name} ('{}')", values.join("', '"));
    let plan: Value = sqlx::query_scalar(&explain).fetch_one(connection).await.unwrap();
    let mut used = Vec::new();
    follow(&plan[0]["Plan"], &mut |step| {
        let index = step["Index Name"].as_str().unwrap_or_default();
        if index.starts_with(table) {
            used.push(index.to_owned());
        }
        // What belongs to the page, once it is there, may be put in order.
        let rows = step["Plan Rows"].as_f64().unwrap();
        assert!(!step["Node Type"].as_str().unwrap().contains("Sort") || rows <= 201.0, "{plan:#}");
    });
    used
}

fn follow(plan: &Value, each: &mut impl FnMut(&Value)) {
    each(plan);
    for part in plan["Plans"].as_array().into_iter().flatten() {
        follow(part, each);
    }
}

#[tokio::test]
async fn whatever_requests_read_of_a_business_is_planned_for_the_largest() {
    let world = World::start().await;
    let mut admin = PgConnection::connect(&world.url).await.unwrap();
    let other: Vec<String> = sqlx::query_scalar(
        "select tablename::text from pg_policies p
         join pg_attribute a on a.attrelid = format('%I.%I', schemaname, tablename)::regclass and attname = 'tenant_id'
         where schemaname = 'cell_000' and 'devhub_request' = any(roles)
           and attoptions is distinct from '{n_distinct=1}' order by 1",
    )
    .fetch_all(&mut admin)
    .await
    .unwrap();
    // Of a business itself there is one row, and few versions.
    assert_eq!(other, ["tenant_versions", "tenants"]);
}

/// A business and the thousands of rows that it has.
async fn large(world: &World) -> Client {
    let owner = world.business_on("ACME", "professional").await;
    let mut admin = PgConnection::connect(&world.url).await.unwrap();
    admin.execute(ROWS.replace("large", &format!("'{}'", tenant(&owner))).as_str()).await.unwrap();
    owner
}

fn tenant(client: &Client) -> TenantId {
    client.tenant.as_deref().unwrap().parse().unwrap()
}

#[tokio::test]
async fn pages_of_a_list_are_read_in_order_and_never_sorted() {
    let world = World::start().await;
    let tenant = tenant(&large(&world).await);
    let cell = world.app.database.cell_of(tenant);
    let scope = ListScope { tenant, schema: None, visibility: Visibility::Everything, cursor_key: &[0; 32] };
    for (asked, expected, values) in [
        ("", &["leads_updated"][..], &[][..]),
        ("?stage=new", &["leads_stage"], &[]),
        ("?stage=new,contacted&sort=updated_at", &["leads_stage", "leads_stage"], &[]),
        ("?stage=new,contacted&source=referral", &["leads_stage", "leads_stage"], &[]),
        ("?stage=new,contacted&sort=-created_at", &["leads_created"], &[]),
        ("?assignee_id=USR-001", &["leads_assignee"], &["USR-001"]),
        ("?assignee_id=USR-002,USR-001", &["leads_assignee", "leads_assignee"], &["USR-001", "USR-002"]),
    ] {
        let query = ListQuery::parse(list_spec::<Leads>(), &format!("/api/leads{asked}").parse().unwrap()).unwrap();
        let mut connection = cell.request.acquire().await.unwrap();
        let page = query.records(&mut connection, &scope, |lead: Stored<LeadRow>| lead.id).await.unwrap();
        assert_eq!(page.data.len(), if values.is_empty() { 50 } else { 0 }, "{asked}");
        let values: Vec<String> =
            [&[tenant.to_string()][..], &values.iter().map(|v| (*v).to_owned()).collect::<Vec<_>>()].concat();
        assert_eq!(indexes(&mut connection, "leads", &values).await, expected, "{asked}");
    }
}

#[tokio::test]
async fn the_newest_events_are_read_in_order_and_never_sorted() {
    let world = World::start().await;
    let owner = large(&world).await;
    let tenant = tenant(&owner);
    let since: DateTime<Utc> = "2024-03-02T09:00:00Z".parse().unwrap();
    let reading = EventsQuery::default().reading((tenant, None), By::Anybody, Some(since)).unwrap();
    let mut connection = world.app.database.cell_of(tenant).request.acquire().await.unwrap();
    reading.statement(101).build().execute(&mut *connection).await.unwrap();
    let values = [tenant.to_string(), since.to_rfc3339(), "101".to_owned()];
    let used = indexes(&mut connection, "activity", &values).await;
    assert_eq!(used, ["activity_recorded", "activity_recorded", "activity_pkey"]);
}
