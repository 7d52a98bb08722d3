//! How far each stream has got, and which server runs it.

use sallyport_domain::Timestamp;
use sqlx::Row as _;

use super::{Store, StoreError, Write};

fn place(number: i64) -> Result<u64, StoreError> {
    u64::try_from(number).map_err(|_| StoreError::Corrupt("stream.next"))
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

impl Write<'_> {
    /// Takes a stream for this server until `until`; a new one begins at 0. Returns the next index and whether it is new, or `None`
    /// while another server has it.
    ///
    /// # Errors
    /// The database failed.
    pub async fn stream_take(
        &mut self,
        name: &str,
        holder: &str,
        now: Timestamp,
        until: Timestamp,
    ) -> Result<Option<(u64, bool)>, StoreError> {
        let new = sqlx::query(
            "INSERT INTO stream (name, next, holder, held_until) VALUES ($1, 0, $2, $3) ON CONFLICT (name) DO NOTHING",
        )
        .bind(name.to_owned())
        .bind(holder.to_owned())
        .bind(until.as_micros())
        .execute(&mut *self.transaction)
        .await?
        .rows_affected()
            == 1;
        let done = sqlx::query(
            "UPDATE stream SET holder = $1, held_until = $2 WHERE name = $3 AND (holder = $1 OR held_until < $4)",
        )
        .bind(holder.to_owned())
        .bind(until.as_micros())
        .bind(name.to_owned())
        .bind(now.as_micros())
        .execute(&mut *self.transaction)
        .await?;
        if done.rows_affected() == 0 {
            return Ok(None);
        }
        let row = sqlx::query("SELECT next FROM stream WHERE name = $1")
            .bind(name.to_owned())
            .fetch_one(&mut *self.transaction)
            .await?;
        Ok(Some((place(row.try_get(0)?)?, new)))
    }

    /// Moves a stream on, when it still stands at `from` and is still this server's.
    ///
    /// # Errors
    /// The database failed.
    pub async fn stream_moved(
        &mut self,
        name: &str,
        holder: &str,
        from: u64,
        to: u64,
    ) -> Result<bool, StoreError> {
        let done = sqlx::query(
            "UPDATE stream SET next = $1 WHERE name = $2 AND holder = $3 AND next = $4",
        )
        .bind(signed(to))
        .bind(name.to_owned())
        .bind(holder.to_owned())
        .bind(signed(from))
        .execute(&mut *self.transaction)
        .await?;
        Ok(done.rows_affected() == 1)
    }

    /// Puts a stream to another place; `false` when there is no such stream.
    ///
    /// # Errors
    /// The database failed.
    pub async fn stream_put(&mut self, name: &str, next: u64) -> Result<bool, StoreError> {
        let done = sqlx::query("UPDATE stream SET next = $1 WHERE name = $2")
            .bind(signed(next))
            .bind(name.to_owned())
            .execute(&mut *self.transaction)
            .await?;
        Ok(done.rows_affected() == 1)
    }
}

impl Store {
    /// All streams that ever ran: name and next index.
    ///
    /// # Errors
    /// The database failed.
    pub async fn streams(&self) -> Result<Vec<(String, u64)>, StoreError> {
        let rows = self
            .all(sqlx::query("SELECT name, next FROM stream ORDER BY name"))
            .await?;
        rows.iter()
            .map(|row| Ok((row.try_get(0)?, place(row.try_get(1)?)?)))
            .collect()
    }
}
