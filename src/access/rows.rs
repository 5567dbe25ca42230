//! Reads what the platform's tables hold as text into the types that it stands for.

use std::fmt::Display;
use std::str::FromStr;

use sqlx::postgres::PgRow;
use sqlx::{Error, Row};

/// The column's text as a `T`; a text that is none is an error of the row, like any column of the wrong type.
pub(super) fn parsed<T>(row: &PgRow, column: &str) -> Result<T, Error>
where
    T: FromStr<Err: Display>,
{
    let text: String = row.try_get(column)?;
    text.parse().map_err(|error| unreadable(column, &error))
}

/// The same for a column that may be null.
pub(super) fn parsed_if_any<T>(row: &PgRow, column: &str) -> Result<Option<T>, Error>
where
    T: FromStr<Err: Display>,
{
    let text: Option<String> = row.try_get(column)?;
    text.map(|text| text.parse()).transpose().map_err(|error| unreadable(column, &error))
}

fn unreadable(column: &str, error: &dyn Display) -> Error {
    Error::ColumnDecode { index: column.to_owned(), source: error.to_string().into() }
}
