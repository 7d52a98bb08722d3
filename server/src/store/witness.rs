//! Witnesses of the log, their cosignatures, and alarms.

use sallyport_domain::{GateId, Timestamp};
use sqlx::Row;
use sqlx::any::AnyRow;

use super::{Store, StoreError, Write};

/// Checkpoints for which a witness's cosignatures are kept.
const KEPT: i64 = 64;

/// Somebody who watches the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WitnessRow {
    /// Name within this site.
    pub name: String,
    /// Its key, a vkey.
    pub vkey: String,
    /// The gate, when it is one.
    pub gate: Option<String>,
    /// Last heard of.
    pub seen_at: Timestamp,
    /// Entries of the checkpoint that it last cosigned.
    pub size: u64,
}

/// An alarm about the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlarmRow {
    /// Digest of its content.
    pub id: String,
    /// Gate, witness, or `server`.
    pub raised_by: String,
    /// A sentence.
    pub what: String,
    /// The checkpoint that was kept.
    pub kept: Option<String>,
    /// The checkpoint that was shown.
    pub shown: Option<String>,
    /// When the server heard of it.
    pub at: Timestamp,
}

fn witness(row: &AnyRow) -> Result<WitnessRow, StoreError> {
    let size: i64 = row.try_get(4)?;
    Ok(WitnessRow {
        name: row.try_get(0)?,
        vkey: row.try_get(1)?,
        gate: row.try_get(2)?,
        seen_at: Timestamp::from_micros(row.try_get(3)?),
        size: u64::try_from(size).map_err(|_| StoreError::Corrupt("witness.size"))?,
    })
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

impl Write<'_> {
    /// Stores a witness's key; an existing one is replaced.
    ///
    /// # Errors
    /// The database failed.
    pub async fn witness_put(
        &mut self,
        name: &str,
        vkey: &str,
        gate: Option<&GateId>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO witness (name, vkey, gate_id, since, seen_at, size) VALUES ($1, $2, $3, $4, $4, 0) \
             ON CONFLICT (name) DO UPDATE SET vkey = excluded.vkey, since = excluded.since, size = 0",
        )
        .bind(name.to_owned())
        .bind(vkey.to_owned())
        .bind(gate.map(|gate| gate.as_str().to_owned()))
        .bind(now.as_micros())
        .execute(&mut *self.transaction)
        .await?;
        sqlx::query("DELETE FROM witness_cosignature WHERE witness = $1")
            .bind(name.to_owned())
            .execute(&mut *self.transaction)
            .await?;
        Ok(())
    }

    /// Stores a cosignature and drops the oldest ones of this witness.
    ///
    /// # Errors
    /// The database failed.
    pub async fn cosignature_put(
        &mut self,
        name: &str,
        size: u64,
        line: &str,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO witness_cosignature (size, witness, line) VALUES ($1, $2, $3) \
             ON CONFLICT (size, witness) DO UPDATE SET line = excluded.line",
        )
        .bind(signed(size))
        .bind(name.to_owned())
        .bind(line.to_owned())
        .execute(&mut *self.transaction)
        .await?;
        sqlx::query(
            "DELETE FROM witness_cosignature WHERE witness = $1 AND size NOT IN \
             (SELECT size FROM witness_cosignature WHERE witness = $1 ORDER BY size DESC LIMIT $2)",
        )
        .bind(name.to_owned())
        .bind(KEPT)
        .execute(&mut *self.transaction)
        .await?;
        sqlx::query("UPDATE witness SET size = $1, seen_at = $2 WHERE name = $3")
            .bind(signed(size))
            .bind(now.as_micros())
            .bind(name.to_owned())
            .execute(&mut *self.transaction)
            .await?;
        Ok(())
    }

    /// Stores an alarm once; `false` when it is there already.
    ///
    /// # Errors
    /// The database failed.
    pub async fn alarm_insert(&mut self, alarm: &AlarmRow) -> Result<bool, StoreError> {
        let done = sqlx::query(
            "INSERT INTO log_alarm (id, raised_by, what, kept, shown, at) VALUES ($1, $2, $3, $4, $5, $6) \
             ON CONFLICT (id) DO NOTHING",
        )
        .bind(alarm.id.clone())
        .bind(alarm.raised_by.clone())
        .bind(alarm.what.clone())
        .bind(alarm.kept.clone())
        .bind(alarm.shown.clone())
        .bind(alarm.at.as_micros())
        .execute(&mut *self.transaction)
        .await?;
        Ok(done.rows_affected() > 0)
    }
}

impl Store {
    /// All witnesses by name.
    ///
    /// # Errors
    /// The database failed.
    pub async fn witnesses(&self) -> Result<Vec<WitnessRow>, StoreError> {
        let rows = self
            .all(sqlx::query(
                "SELECT name, vkey, gate_id, seen_at, size FROM witness ORDER BY name",
            ))
            .await?;
        rows.iter().map(witness).collect()
    }

    /// One witness.
    ///
    /// # Errors
    /// The database failed.
    pub async fn witness(&self, name: &str) -> Result<Option<WitnessRow>, StoreError> {
        let query =
            sqlx::query("SELECT name, vkey, gate_id, seen_at, size FROM witness WHERE name = $1")
                .bind(name.to_owned());
        self.optional(query)
            .await?
            .as_ref()
            .map(witness)
            .transpose()
    }

    /// The checkpoint of exactly this size.
    ///
    /// # Errors
    /// The database failed.
    pub async fn checkpoint_at(&self, size: u64) -> Result<Option<String>, StoreError> {
        let query =
            sqlx::query("SELECT note FROM log_checkpoint WHERE size = $1").bind(signed(size));
        self.optional(query)
            .await?
            .map(|row| Ok(row.try_get(0)?))
            .transpose()
    }

    /// Cosigned checkpoints, the newest first: size, note and the witnesses' lines in order of their names.
    ///
    /// # Errors
    /// The database failed.
    pub async fn cosigned(&self) -> Result<Vec<(u64, String, Vec<String>)>, StoreError> {
        let rows = self
            .all(sqlx::query(
                "SELECT s.size, c.note, s.line FROM witness_cosignature s \
                 JOIN log_checkpoint c ON c.size = s.size ORDER BY s.size DESC, s.witness LIMIT 4096",
            ))
            .await?;
        let mut cosigned: Vec<(u64, String, Vec<String>)> = Vec::new();
        for row in rows {
            let size: i64 = row.try_get(0)?;
            let size =
                u64::try_from(size).map_err(|_| StoreError::Corrupt("witness_cosignature.size"))?;
            match cosigned.last_mut() {
                Some((last, _, lines)) if *last == size => lines.push(row.try_get(2)?),
                _ => cosigned.push((size, row.try_get(1)?, vec![row.try_get(2)?])),
            }
        }
        Ok(cosigned)
    }

    /// All alarms, the newest first.
    ///
    /// # Errors
    /// The database failed.
    pub async fn alarms(&self) -> Result<Vec<AlarmRow>, StoreError> {
        let rows = self
            .all(sqlx::query(
                "SELECT id, raised_by, what, kept, shown, at FROM log_alarm ORDER BY at DESC, id LIMIT 200",
            ))
            .await?;
        rows.iter()
            .map(|row| {
                Ok(AlarmRow {
                    id: row.try_get(0)?,
                    raised_by: row.try_get(1)?,
                    what: row.try_get(2)?,
                    kept: row.try_get(3)?,
                    shown: row.try_get(4)?,
                    at: Timestamp::from_micros(row.try_get(5)?),
                })
            })
            .collect()
    }
}
