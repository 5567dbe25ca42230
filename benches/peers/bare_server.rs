//! The peer of the HTTP figures, a process of its own: axum and sqlx, one indexed row or one page, no sign-in, no
//! tenancy, no history.

use axum::extract::{Path, Query, State};
use axum::routing::get;
use axum::{Json, Router};
use chrono::{DateTime, NaiveDate, Utc};
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;

/// The argument that makes the bench this server.
pub const COMMAND: &str = "bare-server";

/// The same connections as the server that it is compared with.
const CONNECTIONS: u32 = 16;

/// What the page of a lead shows.
#[derive(Serialize, sqlx::FromRow)]
struct Lead {
    id: String,
    version: i64,
    name: String,
    company: Option<String>,
    job_title: Option<String>,
    email: Option<String>,
    phone: Option<String>,
    source: String,
    stage: String,
    qualification: String,
    estimated_value: Option<Decimal>,
    currency: Option<String>,
    probability: Option<i16>,
    expected_close_date: Option<NaiveDate>,
    score: Option<i16>,
    assignee_id: Option<String>,
    stage_changed_at: DateTime<Utc>,
    last_contacted_at: Option<DateTime<Utc>>,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

#[derive(Deserialize)]
struct After {
    updated_at: Option<DateTime<Utc>>,
    id: Option<String>,
}

/// Serves until it is killed; its address is the first line that it prints.
pub async fn serve(url: &str) {
    let pool =
        PgPoolOptions::new().min_connections(CONNECTIONS).max_connections(CONNECTIONS).connect(url).await.unwrap();
    let router =
        Router::new().route("/leads/{tenant}/{id}", get(read)).route("/leads/{tenant}", get(list)).with_state(pool);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    println!("{}", listener.local_addr().unwrap());
    axum::serve(listener, router).await.unwrap();
}

async fn read(State(pool): State<PgPool>, Path((tenant, id)): Path<(String, String)>) -> Json<Lead> {
    let lead = sqlx::query_as("select * from stock.leads where tenant_id = $1 and id = $2")
        .bind(tenant)
        .bind(id)
        .fetch_one(&pool)
        .await
        .unwrap();
    Json(lead)
}

async fn list(State(pool): State<PgPool>, Path(tenant): Path<String>, Query(after): Query<After>) -> Json<Vec<Lead>> {
    let page = match (after.updated_at, after.id) {
        (Some(updated_at), Some(id)) => {
            sqlx::query_as(
                "select * from stock.leads where tenant_id = $1 and deleted_at is null and stage = any($2)
             and (updated_at, id) < ($3, $4) order by updated_at desc, id desc limit 51",
            )
            .bind(tenant)
            .bind(["new", "contacted"])
            .bind(updated_at)
            .bind(id)
            .fetch_all(&pool)
            .await
        }
        _ => {
            sqlx::query_as(
                "select * from stock.leads where tenant_id = $1 and deleted_at is null and stage = any($2)
             order by updated_at desc, id desc limit 51",
            )
            .bind(tenant)
            .bind(["new", "contacted"])
            .fetch_all(&pool)
            .await
        }
    };
    Json(page.unwrap())
}
