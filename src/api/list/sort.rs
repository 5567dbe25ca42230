//! The order of a list: what the caller asked for, then the key, so that no two rows are equal.

use super::{Field, Kind, ListSpec};

/// One step of the order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Term {
    /// What is compared.
    pub expression: String,
    /// The type that its text is read back as.
    pub cast: &'static str,
    pub descending: bool,
    pub nullable: bool,
    /// The column that it is, if the row has it as it is: then the key is read from there.
    pub column: Option<Column>,
}

/// A column that is read from a row as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Column {
    Text(&'static str),
    Timestamp(&'static str),
}

impl Column {
    fn of(kind: Kind, column: &'static str) -> Option<Self> {
        let is_name = column.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
        match kind {
            Kind::Text | Kind::Enum(_) | Kind::Id if is_name => Some(Self::Text(column)),
            Kind::Timestamp if is_name => Some(Self::Timestamp(column)),
            _ => None,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Text(name) | Self::Timestamp(name) => name,
        }
    }
}

impl Term {
    /// `asc` or `desc`, with rows that have no value last in both.
    pub fn direction(&self) -> &'static str {
        match (self.descending, self.nullable) {
            (false, false) => "",
            // what PostgreSQL does of itself, and what an ordinary index holds
            (false, true) => " asc nulls last",
            (true, false) => " desc",
            (true, true) => " desc nulls last",
        }
    }

    /// The direction as an ordinary index has it, read one way or the other.
    pub fn plain_direction(&self) -> &'static str {
        if self.descending { " desc" } else { "" }
    }
}

/// The whole order of a list.
pub(super) fn terms(spec: &ListSpec, sort: &[(&'static Field, bool)]) -> Vec<Term> {
    let mut terms = Vec::new();
    for &(Field { column, kind, nullable, .. }, descending) in sort {
        let nullable = *nullable;
        if *kind == Kind::Id {
            let expression = format!("length({column})");
            terms.push(Term { expression, cast: "integer", descending, nullable, column: None });
        }
        let expression = (*column).to_owned();
        terms.push(Term { expression, cast: cast(*kind), descending, nullable, column: Column::of(*kind, column) });
    }
    // in the direction of the last step, so that one index serves both
    let descending = terms.last().is_some_and(|term| term.descending);
    if terms.last().is_none_or(|term| term.expression != spec.key || term.nullable) {
        let (expression, column) = (spec.key.to_owned(), Column::of(Kind::Text, spec.key));
        terms.push(Term { expression, cast: "text", descending, nullable: false, column });
    }
    terms
}

const fn cast(kind: Kind) -> &'static str {
    match kind {
        Kind::Text | Kind::Enum(_) | Kind::Id => "text",
        Kind::Integer | Kind::Amount => "bigint",
        Kind::Decimal => "numeric",
        Kind::Date => "date",
        Kind::Timestamp => "timestamptz",
        Kind::Bool => "boolean",
        Kind::TextArray => "text[]",
    }
}
