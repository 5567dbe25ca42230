//! Query parameters of a route that is no list: strictly read, every error reported at once.

use axum::extract::FromRequestParts;
use axum::http::Uri;
use axum::http::request::Parts;
use serde::de::value::{Error, MapDeserializer, SeqDeserializer};
use serde::de::{DeserializeOwned, Deserializer, Error as _, IntoDeserializer, Visitor};

use super::Problem;
use super::problem::FieldError;
use super::validation::Finding;

/// The query parameters as a `T` that denies unknown fields; a `Vec` is written with commas.
///
/// - a parameter that `T` does not have: `unknown_parameter`
/// - one that is missing, given twice or not accepted: `validation_failed`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Query<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Problem> {
        read(pairs(&parts.uri)?).map(Self)
    }
}

/// The parameters in their order, decoded.
///
/// # Errors
/// `malformed_request` for a bad escape, `validation_failed` for a NUL character, which PostgreSQL cannot store.
pub(super) fn pairs(uri: &Uri) -> Result<Vec<(String, String)>, Problem> {
    let axum::extract::Query(pairs) = axum::extract::Query::<Vec<(String, String)>>::try_from_uri(uri)
        .map_err(|_| Problem::malformed_request("the query string cannot be decoded"))?;
    let nul = |(name, value): &(String, String)| name.contains('\0') || value.contains('\0');
    let errors: Vec<FieldError> = pairs
        .iter()
        .filter(|pair| nul(pair))
        .map(|(name, _)| {
            let name = name.replace('\0', "");
            FieldError::parameter(name, "nul_character", "must not contain the character U+0000")
        })
        .collect();
    if errors.is_empty() { Ok(pairs) } else { Err(Problem::validation_failed(errors)) }
}

fn read<T: DeserializeOwned>(mut pairs: Vec<(String, String)>) -> Result<T, Problem> {
    let (mut errors, mut unknown) = (Vec::new(), Vec::new());
    let mut seen = std::collections::BTreeSet::new();
    pairs.retain(|(name, _)| {
        let first = seen.insert(name.clone());
        if !first {
            errors.push(FieldError::parameter(name, "repeated", "is given more than once"));
        }
        first
    });
    loop {
        let words = pairs.iter().map(|(name, value)| (name.as_str(), Word(value)));
        let error = match serde_path_to_error::deserialize::<_, T>(MapDeserializer::<_, Error>::new(words)) {
            Ok(value) if errors.is_empty() && unknown.is_empty() => return Ok(value),
            Ok(_) => break,
            Err(error) => error,
        };
        let named = error.path().iter().next().map(ToString::to_string).unwrap_or_default();
        let blamed = match Finding::from_message(&error.inner().to_string()) {
            Finding::Unknown { name, detail } => {
                unknown.push(FieldError::parameter(&name, "unknown_parameter", detail.replace("field", "parameter")));
                name
            }
            Finding::Missing { name } => {
                let known = errors.iter().any(|error: &FieldError| error.parameter.as_ref() == Some(&name));
                if !known {
                    errors.push(FieldError::parameter(&name, "required", "is required"));
                }
                name
            }
            Finding::Invalid { code, detail } => {
                errors.push(FieldError::parameter(&named, code, detail));
                named
            }
        };
        let before = pairs.len();
        pairs.retain(|(name, _)| *name != blamed);
        if pairs.len() == before {
            break;
        }
    }
    if unknown.is_empty() { Err(Problem::validation_failed(errors)) } else { Err(Problem::unknown_parameter(unknown)) }
}

/// A value as it stands in a query string: it is what the reader takes it for.
#[derive(Debug, Clone, Copy)]
struct Word<'a>(&'a str);

impl<'de> IntoDeserializer<'de, Error> for Word<'de> {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

macro_rules! parsed {
    ($($method:ident $visit:ident $expected:literal;)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            match self.0.parse() {
                Ok(value) => visitor.$visit(value),
                Err(_) => Err(Error::custom(concat!("wrong_type|expected ", $expected))),
            }
        }
    )*};
}

impl<'de> Deserializer<'de> for Word<'de> {
    type Error = Error;

    parsed! {
        deserialize_bool visit_bool "true or false";
        deserialize_i8 visit_i8 "a whole number from -128 to 127";
        deserialize_i16 visit_i16 "a whole number";
        deserialize_i32 visit_i32 "a whole number";
        deserialize_i64 visit_i64 "a whole number";
        deserialize_u8 visit_u8 "a whole number from 0 to 255";
        deserialize_u16 visit_u16 "a whole number from 0 to 65535";
        deserialize_u32 visit_u32 "a whole number, not negative";
        deserialize_u64 visit_u64 "a whole number, not negative";
        deserialize_f32 visit_f32 "a number";
        deserialize_f64 visit_f64 "a number";
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_borrowed_str(self.0)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _name: &'static str, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_seq(SeqDeserializer::new(self.0.split(',').map(Word)))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_enum(IntoDeserializer::<Error>::into_deserializer(self.0))
    }

    serde::forward_to_deserialize_any! {
        i128 u128 char str string bytes byte_buf unit unit_struct tuple tuple_struct map struct identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;
    use crate::aggregates::ids::UserId;
    use crate::aggregates::permission::Scope;
    use crate::api::problem::ProblemKind;

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Report {
        days: u16,
        scope: Option<Scope>,
        owner: Option<UserId>,
        #[serde(default)]
        names: Vec<String>,
        #[serde(default)]
        whole: bool,
    }

    fn query(text: &str) -> Result<Report, (ProblemKind, Vec<(String, String)>)> {
        let uri: Uri = format!("/reports?{text}").parse().unwrap();
        pairs(&uri).and_then(read).map_err(|problem| {
            let told = |error: &FieldError| (error.parameter.clone().unwrap(), error.code.clone());
            (problem.kind(), problem.details().errors.iter().map(told).collect())
        })
    }

    fn told(errors: &[(&str, &str)]) -> Vec<(String, String)> {
        errors.iter().map(|(name, code)| ((*name).to_owned(), (*code).to_owned())).collect()
    }

    #[test]
    fn parameters_are_read_as_what_they_are() {
        assert_eq!(
            query("days=30&scope=own&owner=USR-007&names=a,b%20c&whole=true"),
            Ok(Report {
                days: 30,
                scope: Some(Scope::Own),
                owner: Some(UserId(7)),
                names: vec!["a".into(), "b c".into()],
                whole: true
            })
        );
    }

    #[test]
    fn every_parameter_that_is_wrong_is_named() {
        assert_eq!(
            query("days=x&scope=all&owner=7&whole=maybe&whole=no"),
            Err((
                ProblemKind::ValidationFailed,
                told(&[
                    ("whole", "repeated"),
                    ("days", "wrong_type"),
                    ("scope", "unknown_value"),
                    ("owner", "invalid_value"),
                    ("whole", "wrong_type"),
                ])
            ))
        );
        assert_eq!(query(""), Err((ProblemKind::ValidationFailed, told(&[("days", "required")]))));
        assert_eq!(query("days=1%00"), Err((ProblemKind::ValidationFailed, told(&[("days", "nul_character")]))));
    }

    #[test]
    fn an_unknown_parameter_is_refused() {
        assert_eq!(
            query("days=1&day=2&x=3"),
            Err((ProblemKind::UnknownParameter, told(&[("day", "unknown_parameter"), ("x", "unknown_parameter")])))
        );
    }
}
