//! Gates that fell silent.

use sallyport_domain::{GateId, Timestamp};
use sqlx::Row as _;

use super::{Store, StoreError, Write};

impl Write<'_> {
    /// Notes that the gate is absent since `last_seen`; `false` when that is noted already or it was heard of at or after `before`.
    ///
    /// # Errors
    /// The database failed.
    pub async fn gate_absent(
        &mut self,
        gate: &GateId,
        last_seen: Timestamp,
        before: Timestamp,
    ) -> Result<bool, StoreError> {
        let done = sqlx::query(
            "INSERT INTO gate_absence (gate_id, since) SELECT id, $1 FROM gate WHERE id = $2 AND last_seen < $3 \
             ON CONFLICT (gate_id) DO NOTHING",
        )
        .bind(last_seen.as_micros())
        .bind(gate.as_str().to_owned())
        .bind(before.as_micros())
        .execute(&mut *self.transaction)
        .await?;
        Ok(done.rows_affected() == 1)
    }

    /// Ends the gate's absence; `false` when there was none.
    ///
    /// # Errors
    /// The database failed.
    pub async fn gate_present(&mut self, gate: &GateId) -> Result<bool, StoreError> {
        let done = sqlx::query("DELETE FROM gate_absence WHERE gate_id = $1")
            .bind(gate.as_str().to_owned())
            .execute(&mut *self.transaction)
            .await?;
        Ok(done.rows_affected() == 1)
    }
}

impl Store {
    /// Gates with an allowed key that were heard of, but not since `before`, and whose absence is not noted; with the last time.
    ///
    /// # Errors
    /// The database failed.
    pub async fn silent_gates(
        &self,
        now: Timestamp,
        before: Timestamp,
    ) -> Result<Vec<(GateId, Timestamp)>, StoreError> {
        let query = sqlx::query(
            "SELECT id, last_seen FROM gate WHERE last_seen < $1 \
             AND EXISTS (SELECT 1 FROM gate_key k WHERE k.gate_id = gate.id AND k.revoked_at IS NULL AND k.not_after > $2) \
             AND NOT EXISTS (SELECT 1 FROM gate_absence a WHERE a.gate_id = gate.id) ORDER BY id",
        )
        .bind(before.as_micros())
        .bind(now.as_micros());
        let rows = self.all(query).await?;
        rows.iter()
            .map(|row| {
                let gate = row
                    .try_get::<String, _>(0)?
                    .parse()
                    .map_err(|_| StoreError::Corrupt("gate.id"))?;
                Ok((gate, Timestamp::from_micros(row.try_get(1)?)))
            })
            .collect()
    }

    /// Since when the gate is absent.
    ///
    /// # Errors
    /// The database failed.
    pub async fn gate_absence(&self, gate: &GateId) -> Result<Option<Timestamp>, StoreError> {
        let query = sqlx::query("SELECT since FROM gate_absence WHERE gate_id = $1")
            .bind(gate.as_str().to_owned());
        self.optional(query)
            .await?
            .map(|row| Ok(Timestamp::from_micros(row.try_get(0)?)))
            .transpose()
    }
}
