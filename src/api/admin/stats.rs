//! How much there is of everything: of each business, and over all of them.

use std::collections::{BTreeMap, HashMap};

use axum::extract::State;
use rust_decimal::Decimal;
use serde::Serialize;
use sqlx::{FromRow, PgPool};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::aggregates::ids::TenantId;
use crate::aggregates::values::Money;
use crate::api::caller::Founder;
use crate::api::past::AsOf;
use crate::api::shown::money;
use crate::api::{App, Json, Problem};
use crate::projections::customers::CustomerRow;
use crate::projections::invoices::InvoiceRow;
use crate::projections::leads::LeadRow;
use crate::projections::projects::ProjectRow;
use crate::projections::row::Row as _;
use crate::projections::users::UserRow;

/// The route.
pub(super) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(stats))
}

/// How much there is of everything.
#[derive(Debug, Default, Clone, Serialize, FromRow, ToSchema)]
pub(super) struct Counts {
    /// Users who have not left.
    users: i64,
    /// Customers.
    customers: i64,
    /// Leads.
    leads: i64,
    /// Projects.
    projects: i64,
    /// Invoices.
    invoices: i64,
}

/// What is counted of a tenant: under which name, the rows as they are, every row that ever was, and which of them.
const COUNTED: [(&str, &str, &str, &str); 5] = [
    ("users", UserRow::TABLE, UserRow::VERSIONS, "status <> 'deactivated'"),
    ("customers", CustomerRow::TABLE, CustomerRow::VERSIONS, "deleted_at is null"),
    ("leads", LeadRow::TABLE, LeadRow::VERSIONS, "deleted_at is null"),
    ("projects", ProjectRow::TABLE, ProjectRow::VERSIONS, "deleted_at is null"),
    ("invoices", InvoiceRow::TABLE, InvoiceRow::VERSIONS, "true"),
];

#[derive(FromRow)]
struct CountsOf {
    id: String,
    #[sqlx(flatten)]
    counts: Counts,
}

/// How much each of these tenants has of everything, or had.
pub(super) async fn counts_of(
    pool: &PgPool,
    as_of: Option<AsOf>,
    tenants: Vec<String>,
) -> sqlx::Result<HashMap<String, Counts>> {
    let counts = COUNTED.map(|(name, now, versions, which)| {
        let (table, held) = match as_of.map(|as_of| as_of.axis.period()) {
            None => (now, "true".to_owned()),
            Some((from, to)) => (versions, format!("r.{from} <= $2 and r.{to} > $2")),
        };
        format!("(select count(*) from {table} r where r.tenant_id = t.id and {which} and {held}) as {name}")
    });
    let statement = format!("select t.id, {} from unnest($1::text[]) as t (id)", counts.join(", "));
    let mut query = sqlx::query_as(&statement).bind(tenants);
    if let Some(AsOf { at, .. }) = as_of {
        query = query.bind(at);
    }
    let counted: Vec<CountsOf> = query.fetch_all(pool).await?;
    Ok(counted.into_iter().map(|of| (of.id, of.counts)).collect())
}

/// The platform in numbers.
#[derive(Debug, Serialize, ToSchema)]
struct Stats {
    /// Businesses by status.
    tenants_by_status: BTreeMap<String, i64>,
    /// Businesses by plan.
    tenants_by_plan: BTreeMap<String, i64>,
    /// How much there is of everything, over all businesses.
    counts: Counts,
    /// What open leads may be worth, in each currency.
    open_pipeline: Vec<Money>,
    /// The same, each weighted by how likely it is won.
    weighted_pipeline: Vec<Money>,
    /// What customers owe on invoices that were sent, in each currency.
    invoices_outstanding: Vec<Money>,
    /// Events in the log.
    events: i64,
}

type Sums = Vec<(String, Option<Decimal>)>;

/// The platform in numbers, over all businesses.
#[utoipa::path(get, path = "/api/admin/stats", responses((status = 200, body = Stats)))]
async fn stats(_: Founder, State(app): State<App>) -> Result<Json<Stats>, Problem> {
    let pool = &app.database.cell_of(TenantId::Platform).founder;
    let by = async |column: &str| -> sqlx::Result<BTreeMap<String, i64>> {
        let counted: Vec<(String, i64)> =
            sqlx::query_as(&format!("select {column}, count(*) from tenants group by 1")).fetch_all(pool).await?;
        Ok(counted.into_iter().collect())
    };
    let sums = async |statement: &str| -> sqlx::Result<Vec<Money>> {
        let sums: Sums = sqlx::query_as(statement).fetch_all(pool).await?;
        Ok(sums.into_iter().filter_map(|(currency, sum)| money(sum, Some(&currency))).collect())
    };
    let counts = "select (select count(*) from users where status <> 'deactivated') as users,
        (select count(*) from customers where deleted_at is null) as customers,
        (select count(*) from leads where deleted_at is null) as leads,
        (select count(*) from projects where deleted_at is null) as projects,
        (select count(*) from invoices) as invoices";
    Ok(Json(Stats {
        tenants_by_status: by("status").await?,
        tenants_by_plan: by("subscription_plan").await?,
        counts: sqlx::query_as(counts).fetch_one(pool).await?,
        open_pipeline: sums(
            "select currency, sum(estimated_value) from leads
             where deleted_at is null and stage not in ('closed_won', 'closed_lost') and currency is not null
             group by 1 order by 1",
        )
        .await?,
        weighted_pipeline: sums(
            "select currency, sum(estimated_value * coalesce(probability, 0) / 100) from leads
             where deleted_at is null and stage not in ('closed_won', 'closed_lost') and currency is not null
             group by 1 order by 1",
        )
        .await?,
        invoices_outstanding: sums(
            "select currency, sum(amount) from invoices where status in ('sent', 'viewed') group by 1 order by 1",
        )
        .await?,
        events: sqlx::query_scalar("select coalesce(max(position), 0) from cell_head").fetch_one(pool).await?,
    }))
}
