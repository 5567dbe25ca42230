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
}

/// The whole order of a list.
pub(super) fn terms(spec: &ListSpec, sort: &[(&'static Field, bool)]) -> Vec<Term> {
    let mut terms = Vec::new();
    for &(Field { column, kind, nullable, .. }, descending) in sort {
        let nullable = *nullable;
        if *kind == Kind::Id {
            let expression = format!("length({column})");
            terms.push(Term { expression, cast: "integer", descending, nullable });
        }
        terms.push(Term { expression: (*column).to_owned(), cast: cast(*kind), descending, nullable });
    }
    // in the direction of the last step, so that one index serves both
    let descending = terms.last().is_some_and(|term| term.descending);
    if terms.last().is_none_or(|term| term.expression != spec.key || term.nullable) {
        terms.push(Term { expression: spec.key.to_owned(), cast: "text", descending, nullable: false });
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
