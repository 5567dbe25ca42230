//! Rows on their way into a table by `COPY … (format binary)`: the fastest way in, where rows are only added.

use sqlx::encode::IsNull;
use sqlx::error::BoxDynError;
use sqlx::postgres::{PgArgumentBuffer, PgConnection};
use sqlx::{Encode, Postgres};
use tokio::task::JoinHandle;

/// What a binary copy begins with: the signature, no flags, no extension.
const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
/// What it ends with.
const TRAILER: [u8; 2] = (-1_i16).to_be_bytes();
/// The length of a value that is null.
const NULL: [u8; 4] = (-1_i32).to_be_bytes();

/// Rows as PostgreSQL's binary copy takes them.
pub struct CopiedRows {
    buffer: PgArgumentBuffer,
    rows: u64,
}

impl Default for CopiedRows {
    fn default() -> Self {
        let mut buffer = PgArgumentBuffer::default();
        buffer.extend_from_slice(HEADER);
        Self { buffer, rows: 0 }
    }
}

impl CopiedRows {
    /// Begins a row of so many fields.
    pub fn begin(&mut self, fields: usize) {
        let fields = i16::try_from(fields).unwrap_or(i16::MAX);
        self.buffer.extend_from_slice(&fields.to_be_bytes());
        self.rows += 1;
    }

    /// Adds a field. Its type is the column's: nothing is converted.
    ///
    /// # Errors
    /// If the value cannot be written down.
    pub fn field<'v, T: Encode<'v, Postgres>>(&mut self, value: T) -> Result<(), BoxDynError> {
        let length_at = self.buffer.len();
        self.buffer.extend_from_slice(&NULL);
        let begins = self.buffer.len();
        if matches!(value.encode(&mut self.buffer)?, IsNull::No) {
            let length = i32::try_from(self.buffer.len() - begins)?;
            if let Some(slot) = self.buffer.get_mut(length_at..begins) {
                slot.copy_from_slice(&length.to_be_bytes());
            }
        }
        Ok(())
    }

    /// How many rows there are.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// How many bytes they take.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.buffer.len()
    }
}

/// A connection that copies rows in while the next ones are made.
pub struct Output {
    state: State,
}

enum State {
    Idle(Box<PgConnection>),
    Copying(JoinHandle<(Box<PgConnection>, sqlx::Result<u64>)>),
    /// It broke, or is being handed over.
    Gone,
}

impl Output {
    /// Takes a connection over.
    #[must_use]
    pub fn new(connection: PgConnection) -> Self {
        Self { state: State::Idle(Box::new(connection)) }
    }

    /// The connection, once what was copied has arrived.
    ///
    /// # Errors
    /// The database's, of the copy before as well.
    pub async fn connection(&mut self) -> sqlx::Result<&mut PgConnection> {
        self.settle().await?;
        match &mut self.state {
            State::Idle(connection) => Ok(connection),
            State::Copying(_) | State::Gone => Err(sqlx::Error::PoolClosed),
        }
    }

    /// Copies rows into these columns of a table, once those before have arrived, and does not wait for them.
    ///
    /// # Errors
    /// Those of the copy before.
    pub async fn copy(&mut self, table: &str, columns: &str, rows: CopiedRows) -> sqlx::Result<()> {
        if rows.rows() == 0 {
            return Ok(());
        }
        self.settle().await?;
        let State::Idle(mut connection) = std::mem::replace(&mut self.state, State::Gone) else {
            return Err(sqlx::Error::PoolClosed);
        };
        let statement = format!("copy {table} ({columns}) from stdin (format binary)");
        self.state = State::Copying(tokio::spawn(async move {
            let copied = copy(&mut connection, &statement, &rows).await;
            (connection, copied)
        }));
        Ok(())
    }

    async fn settle(&mut self) -> sqlx::Result<()> {
        match std::mem::replace(&mut self.state, State::Gone) {
            State::Copying(task) => {
                let (connection, copied) = task.await.map_err(|ended| sqlx::Error::Io(std::io::Error::other(ended)))?;
                self.state = State::Idle(connection);
                copied.map(drop)
            }
            other => {
                self.state = other;
                Ok(())
            }
        }
    }
}

async fn copy(connection: &mut PgConnection, statement: &str, rows: &CopiedRows) -> sqlx::Result<u64> {
    let mut copy = connection.copy_in_raw(statement).await?;
    copy.send(&**rows.buffer).await?;
    copy.send(&TRAILER[..]).await?;
    copy.finish().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_written_as_postgres_reads_it() {
        let mut rows = CopiedRows::default();
        rows.begin(3);
        rows.field(7_i16).unwrap();
        rows.field(None::<&str>).unwrap();
        rows.field("ab").unwrap();
        let written = &rows.buffer[HEADER.len()..];
        assert_eq!(written, [0, 3, 0, 0, 0, 2, 0, 7, 255, 255, 255, 255, 0, 0, 0, 2, b'a', b'b']);
        assert_eq!(rows.rows(), 1);
    }
}
