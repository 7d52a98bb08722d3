//! Events that gates signed, and releases for life safety.

use sallyport_domain::{GateId, Timestamp};
use sqlx::Row as _;
use sqlx::any::AnyRow;

use super::{Store, StoreError, Write};

/// A release for life safety.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReleaseRow {
    /// Its name.
    pub id: String,
    /// At which gate.
    pub gate: String,
    /// What asked for it.
    pub source: String,
    /// Which doors, as JSON.
    pub doors: String,
    /// Since when, by the gate's clock.
    pub began_at: Timestamp,
    /// Until when; `None` while it goes on.
    pub ended_at: Option<Timestamp>,
    /// Entry of its begin.
    pub began_index: u64,
}

/// Number and digest of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventRow {
    /// Its number.
    pub sequence: u64,
    /// SHA-256 of its signed line.
    pub digest: String,
    /// Whether it counts; `false` for a second content under one number.
    pub accepted: bool,
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn event(row: &AnyRow) -> Result<EventRow, StoreError> {
    let sequence: i64 = row.try_get(0)?;
    Ok(EventRow {
        sequence: u64::try_from(sequence)
            .map_err(|_| StoreError::Corrupt("gate_event.sequence"))?,
        digest: row.try_get(1)?,
        accepted: row.try_get::<i64, _>(2)? != 0,
    })
}

fn release(row: &AnyRow) -> Result<ReleaseRow, StoreError> {
    let index: i64 = row.try_get(6)?;
    Ok(ReleaseRow {
        id: row.try_get(0)?,
        gate: row.try_get(1)?,
        source: row.try_get(2)?,
        doors: row.try_get(3)?,
        began_at: Timestamp::from_micros(row.try_get(4)?),
        ended_at: row
            .try_get::<Option<i64>, _>(5)?
            .map(Timestamp::from_micros),
        began_index: u64::try_from(index)
            .map_err(|_| StoreError::Corrupt("life_safety_release.began_index"))?,
    })
}

impl Write<'_> {
    /// The key by which the gate signs.
    ///
    /// # Errors
    /// The database failed.
    pub async fn gate_event_key(&mut self, gate: &GateId) -> Result<Option<String>, StoreError> {
        let row = sqlx::query("SELECT vkey FROM gate_event_key WHERE gate_id = $1")
            .bind(gate.as_str().to_owned())
            .fetch_optional(&mut *self.transaction)
            .await?;
        row.map(|row| Ok(row.try_get(0)?)).transpose()
    }

    /// Stores the key by which the gate signs; another one is replaced.
    ///
    /// # Errors
    /// The database failed.
    pub async fn gate_event_key_put(
        &mut self,
        gate: &GateId,
        vkey: &str,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO gate_event_key (gate_id, vkey, since) VALUES ($1, $2, $3) \
             ON CONFLICT (gate_id) DO UPDATE SET vkey = excluded.vkey, since = excluded.since",
        )
        .bind(gate.as_str().to_owned())
        .bind(vkey.to_owned())
        .bind(now.as_micros())
        .execute(&mut *self.transaction)
        .await?;
        Ok(())
    }

    /// What is known under this number.
    ///
    /// # Errors
    /// The database failed.
    pub async fn gate_events_at(
        &mut self,
        gate: &GateId,
        vkey: &str,
        sequence: u64,
    ) -> Result<Vec<EventRow>, StoreError> {
        let rows = sqlx::query(
            "SELECT sequence, digest, accepted FROM gate_event WHERE gate_id = $1 AND vkey = $2 AND sequence = $3",
        )
        .bind(gate.as_str().to_owned())
        .bind(vkey.to_owned())
        .bind(signed(sequence))
        .fetch_all(&mut *self.transaction)
        .await?;
        rows.iter().map(event).collect()
    }

    /// The newest event that counts.
    ///
    /// # Errors
    /// The database failed.
    pub async fn gate_event_newest(
        &mut self,
        gate: &GateId,
        vkey: &str,
    ) -> Result<Option<EventRow>, StoreError> {
        let row = sqlx::query(
            "SELECT sequence, digest, accepted FROM gate_event WHERE gate_id = $1 AND vkey = $2 AND accepted = 1 \
             ORDER BY sequence DESC LIMIT 1",
        )
        .bind(gate.as_str().to_owned())
        .bind(vkey.to_owned())
        .fetch_optional(&mut *self.transaction)
        .await?;
        row.as_ref().map(event).transpose()
    }

    /// Stores number and digest of an event.
    ///
    /// # Errors
    /// The database failed.
    pub async fn gate_event_insert(
        &mut self,
        gate: &GateId,
        vkey: &str,
        row: &EventRow,
        index: u64,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO gate_event (gate_id, vkey, sequence, digest, accepted, log_index) VALUES ($1, $2, $3, $4, $5, $6)",
        )
        .bind(gate.as_str().to_owned())
        .bind(vkey.to_owned())
        .bind(signed(row.sequence))
        .bind(row.digest.clone())
        .bind(i64::from(row.accepted))
        .bind(signed(index))
        .execute(&mut *self.transaction)
        .await?;
        Ok(())
    }

    /// Stores the begin of a release; nothing when it is known.
    ///
    /// # Errors
    /// The database failed.
    pub async fn release_begin(&mut self, row: &ReleaseRow) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO life_safety_release (id, gate_id, source, doors, began_at, began_index) VALUES ($1, $2, $3, $4, $5, $6) \
             ON CONFLICT (id) DO NOTHING",
        )
        .bind(row.id.clone())
        .bind(row.gate.clone())
        .bind(row.source.clone())
        .bind(row.doors.clone())
        .bind(row.began_at.as_micros())
        .bind(signed(row.began_index))
        .execute(&mut *self.transaction)
        .await?;
        Ok(())
    }

    /// Stores the end of a gate's release.
    ///
    /// # Errors
    /// The database failed.
    pub async fn release_end(
        &mut self,
        gate: &GateId,
        id: &str,
        at: Timestamp,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE life_safety_release SET ended_at = $1 WHERE id = $2 AND gate_id = $3 AND ended_at IS NULL",
        )
        .bind(at.as_micros())
        .bind(id.to_owned())
        .bind(gate.as_str().to_owned())
        .execute(&mut *self.transaction)
        .await?;
        Ok(())
    }
}

impl Store {
    /// Releases that go on, and those that ended at or after `since`; the newest first.
    ///
    /// # Errors
    /// The database failed.
    pub async fn releases(&self, since: Timestamp) -> Result<Vec<ReleaseRow>, StoreError> {
        let query = sqlx::query(
            "SELECT id, gate_id, source, doors, began_at, ended_at, began_index FROM life_safety_release \
             WHERE ended_at IS NULL OR ended_at >= $1 ORDER BY began_at DESC, id",
        )
        .bind(since.as_micros());
        let rows = self.all(query).await?;
        rows.iter().map(release).collect()
    }
}
