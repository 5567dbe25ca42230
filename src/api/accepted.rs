//! What a write answers whose effect cannot be read yet: it is stored, and nothing has to be sent again.

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use super::Json;
use super::headers::POSITION;
use super::write::Receipt;

const DETAIL: &str = "The write is stored, and the read models have not taken it yet. Do not send it again: read it \
     with DevHub-Min-Position at this position.";

/// A write that is stored and cannot be read yet. It will be: nothing has to be sent again.
#[derive(Debug, Serialize, ToSchema)]
#[schema(example = json!({"status": "stored", "id": "LED-007", "position": 18443, "detail": DETAIL}))]
pub struct Accepted {
    /// Always `stored`.
    status: &'static str,
    /// What was written, within the business.
    id: String,
    /// Its position in the business's history, for `DevHub-Min-Position`.
    #[schema(required)]
    position: Option<i64>,
    /// The same in words.
    detail: &'static str,
}

impl Accepted {
    /// For what a receipt says was stored.
    #[must_use]
    pub fn new(id: impl Into<String>, receipt: &Receipt) -> Self {
        Self { status: "stored", id: id.into(), position: receipt.tenant_position(), detail: DETAIL }
    }

    /// The answer, with where it will stand.
    #[must_use]
    pub fn at(self, location: &str) -> Response {
        let mut headers = HeaderMap::new();
        if let Ok(location) = HeaderValue::try_from(location) {
            headers.insert(header::LOCATION, location);
        }
        (headers, self).into_response()
    }
}

impl IntoResponse for Accepted {
    fn into_response(self) -> Response {
        let position = self.position.map(|position| (POSITION, HeaderValue::from(position)));
        let headers: HeaderMap = position.into_iter().collect();
        (StatusCode::ACCEPTED, headers, Json(self)).into_response()
    }
}
