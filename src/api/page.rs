//! One page of a list, and the link to the next.

use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use super::Json;

/// One page of a list. The header `Link` leads to the next one (RFC 8288).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Page<T> {
    /// The rows, in the order asked for.
    pub data: Vec<T>,
    /// Where the list goes on.
    pub page: PageInfo,
    /// The address of the next page, for `Link`.
    #[serde(skip)]
    #[schema(ignore)]
    pub(super) next_address: Option<String>,
}

/// Where a list goes on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct PageInfo {
    /// Goes into `cursor`, with everything else unchanged, for the next page; null on the last.
    #[schema(required)]
    pub next_cursor: Option<String>,
    /// Whether there is a next page.
    pub has_more: bool,
    /// How many rows all pages have together; with `count=exact` only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total: Option<i64>,
}

impl<T> Page<T> {
    /// A list that is always whole, and so has one page.
    #[must_use]
    pub fn whole(data: Vec<T>) -> Self {
        Self { data, page: PageInfo { next_cursor: None, has_more: false, total: None }, next_address: None }
    }

    /// The same page with each row as something else, such as the record that is shown.
    #[must_use]
    pub fn map<U>(self, row: impl FnMut(T) -> U) -> Page<U> {
        Page { data: self.data.into_iter().map(row).collect(), page: self.page, next_address: self.next_address }
    }
}

impl<T: Serialize> IntoResponse for Page<T> {
    fn into_response(self) -> Response {
        let link = self.next_address.as_ref().map(|address| format!("<{address}>; rel=\"next\""));
        let mut response = Json(self).into_response();
        if let Some(Ok(link)) = link.map(HeaderValue::try_from) {
            response.headers_mut().insert(header::LINK, link);
        }
        response
    }
}
