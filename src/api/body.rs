//! JSON bodies: at most 1 MiB, strictly read, every error reported at once.

use std::fmt;

use axum::RequestExt as _;
use axum::body::{Body, Bytes};
use axum::extract::rejection::{BytesRejection, FailedToBufferBody};
use axum::extract::{DefaultBodyLimit, FromRequest, OptionalFromRequest, Request};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use serde::de::{DeserializeOwned, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Number, Value};
use utoipa::ToSchema;

use super::request::BODY_LIMIT;
use super::{Problem, validation};

const ACCEPTED: [&str; 2] = ["application/json", "application/merge-patch+json"];

/// A JSON body, in or out.
///
/// `T` denies unknown fields, and the types of its fields refuse what they do not accept with `code|sentence`.
/// `Option<Json<T>>` is for actions whose body may be left out. What is wrong with a body is said all at once:
///
/// - not JSON, a member named twice: `malformed_request`
/// - a member that `T` does not have: `unknown_parameter`
/// - values that are missing or not accepted: `validation_failed`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Json<T>(pub T);

impl<T: DeserializeOwned + ToSchema, S: Send + Sync> FromRequest<S> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _state: &S) -> Result<Self, Problem> {
        parse(&read(request).await?).map(Self)
    }
}

/// The bytes of a body that says it is JSON.
///
/// # Errors
/// `unsupported_media_type`, `payload_too_large` or `malformed_request`.
pub(super) async fn read(request: Request) -> Result<Bytes, Problem> {
    let (headers, bytes) = buffered(request).await?;
    is_json(&headers)?;
    Ok(bytes)
}

impl<T: DeserializeOwned + ToSchema, S: Send + Sync> OptionalFromRequest<S> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _state: &S) -> Result<Option<Self>, Problem> {
        let (headers, bytes) = buffered(request).await?;
        if bytes.is_empty() {
            return Ok(None);
        }
        is_json(&headers)?;
        parse(&bytes).map(|value| Some(Self(value)))
    }
}

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        match serde_json::to_vec(&self.0) {
            Ok(bytes) => ([(header::CONTENT_TYPE, "application/json")], bytes).into_response(),
            Err(error) => Problem::internal(format_args!("cannot write the answer: {error}")).into_response(),
        }
    }
}

async fn buffered(request: Request) -> Result<(HeaderMap, Bytes), Problem> {
    let (parts, body) = request.into_parts();
    Ok((parts.headers, whole(body).await?))
}

/// All of a body.
///
/// # Errors
/// `payload_too_large` or `malformed_request`.
pub(super) async fn whole(body: Body) -> Result<Bytes, Problem> {
    let mut request = Request::new(body);
    DefaultBodyLimit::max(BODY_LIMIT).apply(&mut request);
    request.extract::<Bytes, _>().await.map_err(|rejection| match rejection {
        BytesRejection::FailedToBufferBody(FailedToBufferBody::LengthLimitError(_)) => {
            Problem::payload_too_large(BODY_LIMIT as u64)
        }
        _ => Problem::malformed_request("the body ended early"),
    })
}

fn is_json(headers: &HeaderMap) -> Result<(), Problem> {
    let declared = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = declared.split(';').next().unwrap_or_default().trim();
    if ACCEPTED.iter().any(|accepted| essence.eq_ignore_ascii_case(accepted)) {
        return Ok(());
    }
    Err(Problem::unsupported_media_type(&ACCEPTED.join(" or ")))
}

/// Reads a body as the extractor does; for what arrives by another way, such as the operations of a batch.
///
/// # Errors
/// `malformed_request`, `unknown_parameter` or `validation_failed`.
pub fn parse<T: DeserializeOwned + ToSchema>(bytes: &[u8]) -> Result<T, Problem> {
    if bytes.is_empty() {
        return Err(Problem::malformed_request("the body is empty, and JSON is needed"));
    }
    let Document(document) = serde_json::from_slice(bytes)
        .map_err(|error| Problem::malformed_request(format!("the body is not JSON: {error}")))?;
    validation::read(document)
}

/// For a field of a merge patch that can be cleared: absent, null or a value.
///
/// `#[serde(default, deserialize_with = "clearable")] phone: Option<Option<Phone>>`
///
/// # Errors
/// What `T` refuses.
pub fn clearable<'de, T: Deserialize<'de>, D: Deserializer<'de>>(from: D) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(from).map(Some)
}

/// For a field of a merge patch that always has a value: absent or a value, but not null.
///
/// `#[serde(default, deserialize_with = "changeable")] name: Option<Name>`
///
/// # Errors
/// What `T` refuses; most types refuse null.
pub fn changeable<'de, T: Deserialize<'de>, D: Deserializer<'de>>(from: D) -> Result<Option<T>, D::Error> {
    T::deserialize(from).map(Some)
}

/// Any JSON in which no object names a member twice: of two, readers differ on which counts (RFC 8259, section 4).
struct Document(Value);

impl<'de> Deserialize<'de> for Document {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(DocumentVisitor).map(Self)
    }
}

struct DocumentVisitor;

impl<'de> Visitor<'de> for DocumentVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut elements = Vec::new();
        while let Some(Document(element)) = seq.next_element()? {
            elements.push(element);
        }
        Ok(Value::Array(elements))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut members = Map::new();
        while let Some(name) = map.next_key::<String>()? {
            if members.contains_key(&name) {
                return Err(serde::de::Error::custom(format_args!("the member `{name}` is there twice")));
            }
            let Document(member) = map.next_value()?;
            members.insert(name, member);
        }
        Ok(Value::Object(members))
    }
}

#[cfg(test)]
mod tests;
