//! Rows that the projector has just written, for those who wait for them: what somebody has changed need not be read back.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use super::model::Key;
use super::row::{Row, Stored};

/// Rows that are kept, and as many of before.
const KEPT: usize = 1_000;

/// A row of any read model.
pub struct Written {
    key: (TypeId, Key),
    row: Arc<dyn Any + Send + Sync>,
}

impl Written {
    /// For whoever asks for rows of this type.
    pub(super) fn new<R: Row>(key: Key, row: Arc<Stored<R>>) -> Self {
        Self { key: (TypeId::of::<R>(), key), row }
    }
}

type Rows = HashMap<(TypeId, Key), Arc<dyn Any + Send + Sync>>;

/// The rows that were written last.
#[derive(Default)]
pub(super) struct LastWritten(RwLock<(Rows, Rows)>);

impl LastWritten {
    pub(super) fn add(&self, written: Vec<Written>) {
        if written.is_empty() {
            return;
        }
        let mut rows = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if rows.0.len() + written.len() > KEPT {
            rows.1 = std::mem::take(&mut rows.0);
        }
        rows.0.extend(written.into_iter().map(|written| (written.key, written.row)));
    }

    pub(super) fn forget(&self) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Default::default();
    }

    /// The row, if it is at least that version.
    pub(super) fn get<R: Row>(&self, key: Key, version: i64) -> Option<Arc<Stored<R>>> {
        let key = (TypeId::of::<R>(), key);
        let rows = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let row = Arc::clone(rows.0.get(&key).or_else(|| rows.1.get(&key))?);
        drop(rows);
        row.downcast::<Stored<R>>().ok().filter(|row| row.version >= version)
    }
}

impl std::fmt::Debug for LastWritten {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LastWritten").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::*;
    use crate::aggregates::ids::TenantId;
    use crate::projections::notes::NoteRow;
    use crate::projections::users::UserRow;

    fn key(tenant: u32, id: &str) -> Key {
        (TenantId::Business(tenant), id.to_owned())
    }

    fn note(key: Key, version: i64) -> Written {
        let at = DateTime::default();
        let row = NoteRow {
            customer_id: "CUS-000".into(),
            author_id: "USR-001".into(),
            title: None,
            content: format!("Version {version}"),
            private: false,
            deleted_at: None,
        };
        let stored = Stored {
            tenant_id: key.0.to_string(),
            id: key.1.clone(),
            version,
            created_at: at,
            updated_at: at,
            position: version,
            occurred_from: at,
            recorded_from: at,
            row,
        };
        Written::new(key, Arc::new(stored))
    }

    #[test]
    fn a_row_is_found_by_what_it_is_and_never_older_than_asked() {
        let last = LastWritten::default();
        last.add(vec![note(key(1, "NOT-000"), 3)]);
        let found = |key: Key, version| last.get::<NoteRow>(key, version).map(|row| row.version);
        assert_eq!(found(key(1, "NOT-000"), 2), Some(3));
        assert_eq!(found(key(1, "NOT-000"), 3), Some(3));
        assert_eq!(found(key(1, "NOT-000"), 4), None);
        assert_eq!(found(key(2, "NOT-000"), 1), None);
        assert_eq!(found(key(1, "NOT-001"), 1), None);
        assert!(last.get::<UserRow>(key(1, "NOT-000"), 1).is_none());
        last.add(vec![note(key(1, "NOT-000"), 4)]);
        assert_eq!(found(key(1, "NOT-000"), 4), Some(4));
        last.forget();
        assert_eq!(found(key(1, "NOT-000"), 1), None);
    }

    #[test]
    fn the_last_thousand_rows_are_kept_and_not_much_more() {
        let last = LastWritten::default();
        for number in 0..10 * KEPT {
            last.add(vec![note(key(1, &format!("NOT-{number}")), 1)]);
        }
        let kept = |number: usize| last.get::<NoteRow>(key(1, &format!("NOT-{number}")), 1).is_some();
        assert!((9 * KEPT..10 * KEPT).all(kept));
        assert!(!(0..8 * KEPT).any(kept));
    }
}
