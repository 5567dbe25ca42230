//! One page of a list, and the link to the next.

use axum::http::{HeaderValue, Uri, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use super::list::cursor::{self, Keys};
use super::list::{LIMIT_DEFAULT, LIMIT_MOST};
use super::problem::FieldError;
use super::{Json, Problem};

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

    /// A page of a list whose statement the route writes itself. `after` has the keys after which the next page goes on,
    /// if there is one; its cursor is good in this context only.
    pub(super) fn sealed(
        data: Vec<T>,
        after: Option<&Keys>,
        (key, context): (&[u8; 32], &[u8]),
        uri: &Uri,
    ) -> Result<Self, Problem> {
        let next_cursor = after.map(|keys| cursor::seal(key, context, keys)).transpose()?;
        let next_address = next_cursor.as_deref().map(|cursor| ListAddress::of(uri).page(cursor));
        Ok(Self { data, page: PageInfo { has_more: next_cursor.is_some(), next_cursor, total: None }, next_address })
    }

    /// The same page with each row as something else, such as the record that is shown.
    #[must_use]
    pub fn map<U>(self, row: impl FnMut(T) -> U) -> Page<U> {
        Page { data: self.data.into_iter().map(row).collect(), page: self.page, next_address: self.next_address }
    }
}

/// The rows of a page, for a list whose parameters the route reads itself.
pub(super) fn limit(asked: Option<u16>) -> Result<u16, Problem> {
    let limit = asked.unwrap_or(LIMIT_DEFAULT);
    if (1..=LIMIT_MOST).contains(&limit) {
        return Ok(limit);
    }
    let detail = format!("expected a whole number from 1 to {LIMIT_MOST}");
    Err(Problem::validation_failed(vec![FieldError::parameter("limit", "out_of_range", detail)]))
}

/// The address of a list as it was sent, without a cursor.
#[derive(Debug, Clone)]
pub(super) struct ListAddress(String);

impl ListAddress {
    pub(super) fn of(uri: &Uri) -> Self {
        let query = uri.query().unwrap_or_default();
        let kept: Vec<&str> =
            query.split('&').filter(|part| !part.is_empty() && !part.starts_with("cursor=")).collect();
        Self(if kept.is_empty() { uri.path().to_owned() } else { format!("{}?{}", uri.path(), kept.join("&")) })
    }

    /// The address of the page that a cursor leads to.
    pub(super) fn page(&self, cursor: &str) -> String {
        let joint = if self.0.contains('?') { '&' } else { '?' };
        format!("{}{joint}cursor={cursor}", self.0)
    }
}

impl<T> Page<T> {
    /// `Link`, where there is a next page.
    pub(super) fn link(&self) -> Option<HeaderValue> {
        HeaderValue::try_from(format!("<{}>; rel=\"next\"", self.next_address.as_ref()?)).ok()
    }
}

impl<T: Serialize> IntoResponse for Page<T> {
    fn into_response(self) -> Response {
        let link = self.link();
        let mut response = Json(self).into_response();
        if let Some(link) = link {
            response.headers_mut().insert(header::LINK, link);
        }
        response
    }
}
