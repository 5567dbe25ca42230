//! The headers of conditional, repeatable and consistent requests: `If-Match`, `Idempotency-Key`, `DevHub-Min-Position`.

use std::convert::Infallible;

use axum::extract::{FromRequestParts, OptionalFromRequestParts};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use utoipa::IntoParams;
use utoipa::openapi::Required;
use utoipa::openapi::path::{Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::{ObjectBuilder, Type};

use super::Problem;

/// Names the position in the tenant's log that a write has reached.
pub const POSITION: HeaderName = HeaderName::from_static("devhub-position");
/// The position that a read wants to see at least.
pub const MIN_POSITION: HeaderName = HeaderName::from_static("devhub-min-position");
/// Names what a write has changed, so that it can be looked up and undone as a whole.
pub const CORRELATION: HeaderName = HeaderName::from_static("devhub-correlation-id");
/// Makes a write repeatable.
pub const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// Says that the answer was stored by an earlier request with the same key.
pub const IDEMPOTENT_REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

/// The version that a change was made for; none where the caller does not care (no header, or `*`).
///
/// Reads `"v12"` as well as `W/"v12"`, since some proxies weaken a tag when they compress. Of several tags the
/// newest counts: the caller has seen it. A tag that this server cannot have made matches no version, so it is 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IfMatch(pub Option<u64>);

/// The position in the tenant's log that the answer must include.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MinPosition(pub Option<u64>);

/// The caller's name for this very write: 1 to 255 visible ASCII characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdempotencyKey(pub Option<String>);

/// The tag of a record at a version: `"v12"`.
#[must_use]
pub fn etag(version: u64) -> HeaderValue {
    // digits and quotes are always a valid value
    HeaderValue::try_from(format!("\"v{version}\"")).unwrap_or(HeaderValue::from_static("\"v0\""))
}

impl<S: Send + Sync> FromRequestParts<S> for IfMatch {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Problem> {
        let mut newest = None;
        for value in parts.headers.get_all(header::IF_MATCH) {
            let text = value.to_str().map_err(|_| malformed(&header::IF_MATCH, "\"v12\""))?;
            for tag in text.split(',').map(str::trim) {
                if tag == "*" {
                    return Ok(Self(None));
                }
                let opaque = tag.strip_prefix("W/").unwrap_or(tag);
                let opaque = opaque.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
                let opaque = opaque.ok_or_else(|| malformed(&header::IF_MATCH, "\"v12\""))?;
                let version = opaque.strip_prefix('v').and_then(digits).unwrap_or(0);
                newest = newest.max(Some(version));
            }
        }
        Ok(Self(newest))
    }
}

impl IntoParams for IfMatch {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let tag = ObjectBuilder::new().schema_type(Type::String).examples(["\"v12\""]);
        let said = "The `ETag` that the change was made for; refused if others changed the same fields since.";
        let parameter = ParameterBuilder::new()
            .name("If-Match")
            .parameter_in(ParameterIn::Header)
            .required(Required::False)
            .description(Some(said))
            .schema(Some(tag))
            .build();
        vec![parameter]
    }
}

impl<S: Send + Sync> FromRequestParts<S> for MinPosition {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Problem> {
        let Some(text) = single(&parts.headers, &MIN_POSITION)? else { return Ok(Self(None)) };
        digits(text).map(|position| Self(Some(position))).ok_or_else(|| malformed(&MIN_POSITION, "18443"))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for IdempotencyKey {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Problem> {
        let Some(text) = single(&parts.headers, &IDEMPOTENCY_KEY)? else { return Ok(Self(None)) };
        if !(1..=255).contains(&text.len()) || !text.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(Problem::malformed_request("idempotency-key takes 1 to 255 visible ASCII characters"));
        }
        Ok(Self(Some(text.to_owned())))
    }
}

/// The token of `Authorization: Bearer …`, as it was sent.
#[derive(Clone, PartialEq, Eq)]
pub struct BearerToken(pub String);

impl std::fmt::Debug for BearerToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("BearerToken(…)")
    }
}

impl BearerToken {
    /// # Errors
    /// `unauthenticated` without the header, with another scheme, or with two of them.
    pub fn from_headers(headers: &HeaderMap) -> Result<Self, Problem> {
        let mut values = headers.get_all(header::AUTHORIZATION).iter();
        let (Some(value), None) = (values.next(), values.next()) else {
            return Err(Problem::unauthenticated());
        };
        let (scheme, token) =
            value.to_str().ok().and_then(|v| v.split_once(' ')).ok_or_else(Problem::unauthenticated)?;
        if !scheme.eq_ignore_ascii_case("bearer") || token.trim().is_empty() {
            return Err(Problem::unauthenticated());
        }
        Ok(Self(token.trim().to_owned()))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for BearerToken {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Problem> {
        Self::from_headers(&parts.headers)
    }
}

impl<S: Send + Sync> OptionalFromRequestParts<S> for BearerToken {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Option<Self>, Infallible> {
        Ok(Self::from_headers(&parts.headers).ok())
    }
}

/// The one value of a header; two that differ would leave open which counts.
fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, Problem> {
    let mut values = headers.get_all(name).iter();
    let Some(first) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(Problem::malformed_request(format!("{name} is sent twice")));
    }
    let text =
        first.to_str().map_err(|_| Problem::malformed_request(format!("{name} takes visible ASCII characters")))?;
    Ok(Some(text))
}

fn digits(text: &str) -> Option<u64> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok())?
}

fn malformed(name: &HeaderName, example: &str) -> Problem {
    Problem::malformed_request(format!("{name} is written like {example}"))
}

#[cfg(test)]
mod tests {
    use axum::http::Request;

    use super::*;

    async fn read<T: FromRequestParts<()>>(headers: &[(&str, &str)]) -> Result<T, T::Rejection> {
        let mut request = Request::builder();
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        T::from_request_parts(&mut request.body(()).unwrap().into_parts().0, &()).await
    }

    async fn if_match(value: &str) -> Option<Option<u64>> {
        read::<IfMatch>(&[("if-match", value)]).await.ok().map(|tag| tag.0)
    }

    #[tokio::test]
    async fn if_match_is_read_in_each_of_its_forms() {
        assert_eq!(read::<IfMatch>(&[]).await.unwrap(), IfMatch(None));
        assert_eq!(if_match("\"v12\"").await, Some(Some(12)));
        assert_eq!(if_match("W/\"v12\"").await, Some(Some(12)));
        assert_eq!(if_match("*").await, Some(None));
        assert_eq!(if_match("\"v3\", \"v12\",\"v7\"").await, Some(Some(12)));
        assert_eq!(if_match("\"33a64df\"").await, Some(Some(0)), "a tag of somebody else matches nothing");
        assert_eq!(if_match("v12").await, None);
        assert_eq!(etag(12), "\"v12\"");
    }

    #[tokio::test]
    async fn an_idempotency_key_is_short_and_visible() {
        let read = async |key: &str| read::<IdempotencyKey>(&[("idempotency-key", key)]).await.ok();
        assert_eq!(read("a-1").await, Some(IdempotencyKey(Some("a-1".into()))));
        assert!(read(&"x".repeat(255)).await.is_some());
        for odd in ["", "a b", &"x".repeat(256)] {
            assert_eq!(read(odd).await, None, "{odd:?}");
        }
    }

    #[tokio::test]
    async fn two_keys_are_none() {
        let headers = [("idempotency-key", "a"), ("idempotency-key", "b")];
        assert!(read::<IdempotencyKey>(&headers).await.is_err());
    }

    #[tokio::test]
    async fn a_minimum_position_is_a_number() {
        let read = async |text: &str| read::<MinPosition>(&[("devhub-min-position", text)]).await.ok();
        assert_eq!(read("18443").await, Some(MinPosition(Some(18443))));
        for odd in ["", "-1", "+1", "1.5", "99999999999999999999"] {
            assert_eq!(read(odd).await, None, "{odd:?}");
        }
    }

    #[tokio::test]
    async fn a_bearer_token_is_read_and_nothing_else() {
        let read = async |value: &str| read::<BearerToken>(&[("authorization", value)]).await.ok();
        assert_eq!(read("Bearer abc").await, Some(BearerToken("abc".into())));
        assert_eq!(read("bearer abc").await, Some(BearerToken("abc".into())));
        for odd in ["Basic abc", "Bearer", "Bearer ", "abc"] {
            assert_eq!(read(odd).await, None, "{odd:?}");
        }
    }
}
