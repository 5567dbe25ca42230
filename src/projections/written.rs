//! Rows that the projector has just written, for those who wait for them: what somebody has changed need not be read back.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use super::model::Key;
use super::row::{Row, Stored};

/// Rows that are kept, and as many of before.
const KEPT: usize = 1_000;

/// A row of any read model.
#[derive(Clone)]
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
