//! A dry run: everything is decided and judged as ever, and nothing is stored.

use std::sync::{Arc, Mutex, PoisonError};

use super::Problem;
use super::write::Receipt;
use crate::event_store::{Planned, Work};

/// Notes what would have been stored. All clones are the same note.
#[derive(Debug, Clone, Default)]
pub struct Rehearsal(Arc<Mutex<Option<Vec<Planned>>>>);

impl Rehearsal {
    /// What would have been stored; none if it has not come to that.
    #[must_use]
    pub fn planned(&self) -> Option<Vec<Planned>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes work in place of the store. What would have changed something ends the request here, since there is
    /// no record to answer with; what changes nothing is answered as ever.
    ///
    /// # Errors
    /// What speaks against storing it, and `conflict` where nothing does, with the note taken.
    pub async fn take(&self, work: Work) -> Result<Receipt, Problem> {
        if work.is_empty() {
            return Ok(Receipt::default());
        }
        let planned = work.rehearse().await?;
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(planned);
        Err(Problem::conflict("dry_run", "This was a dry run; nothing was stored."))
    }
}
