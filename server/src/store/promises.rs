//! Promises: what shall happen in a window of time.

use sallyport_domain::{GateId, SubjectId, Timestamp};
use sqlx::Row as _;
use sqlx::any::AnyRow;

use super::{Store, StoreError, Write};

/// A promise as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PromiseRow {
    /// Its id.
    pub id: String,
    /// `round`, `count`, `review` or `deletion`.
    pub kind: String,
    /// Where it is kept, by a passage.
    pub gate: Option<GateId>,
    /// By whose passage.
    pub subject: Option<SubjectId>,
    /// From when on it can be kept.
    pub opens_at: Timestamp,
    /// Until when.
    pub closes_at: Timestamp,
    /// The window closed before it was kept.
    pub missed: bool,
    /// When it was kept.
    pub kept_at: Option<Timestamp>,
}

const COLUMNS: &str =
    "SELECT id, kind, gate_id, subject_id, opens_at, closes_at, missed, kept_at FROM promise";

fn row(row: &AnyRow) -> Result<PromiseRow, StoreError> {
    let parsed = |text: Option<String>, what| -> Result<Option<_>, StoreError> {
        text.map(|text| text.parse().map_err(|_| StoreError::Corrupt(what)))
            .transpose()
    };
    let subject: Option<String> = row.try_get(3)?;
    Ok(PromiseRow {
        id: row.try_get(0)?,
        kind: row.try_get(1)?,
        gate: parsed(row.try_get(2)?, "promise.gate_id")?,
        subject: subject
            .map(|text| text.parse())
            .transpose()
            .map_err(|_| StoreError::Corrupt("promise.subject_id"))?,
        opens_at: Timestamp::from_micros(row.try_get(4)?),
        closes_at: Timestamp::from_micros(row.try_get(5)?),
        missed: row.try_get::<i64, _>(6)? != 0,
        kept_at: row
            .try_get::<Option<i64>, _>(7)?
            .map(Timestamp::from_micros),
    })
}

impl Write<'_> {
    /// Stores a promise.
    ///
    /// # Errors
    /// The database failed.
    pub async fn promise_insert(&mut self, promise: &PromiseRow) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO promise (id, kind, gate_id, subject_id, opens_at, closes_at, missed) VALUES ($1, $2, $3, $4, $5, $6, 0)",
        )
        .bind(promise.id.clone())
        .bind(promise.kind.clone())
        .bind(promise.gate.as_ref().map(ToString::to_string))
        .bind(promise.subject.map(|subject| subject.to_string()))
        .bind(promise.opens_at.as_micros())
        .bind(promise.closes_at.as_micros())
        .execute(&mut *self.transaction)
        .await?;
        Ok(())
    }

    /// Promises that a passage of this person at this gate keeps now: begun and not kept yet.
    ///
    /// # Errors
    /// The database failed.
    pub async fn promises_of(
        &mut self,
        gate: &GateId,
        subject: SubjectId,
        at: Timestamp,
    ) -> Result<Vec<PromiseRow>, StoreError> {
        let sql = format!(
            "{COLUMNS} WHERE kept_at IS NULL AND gate_id = $1 AND subject_id = $2 AND opens_at <= $3 ORDER BY closes_at, id"
        );
        let rows = sqlx::query(sqlx::AssertSqlSafe(sql))
            .bind(gate.as_str().to_owned())
            .bind(subject.to_string())
            .bind(at.as_micros())
            .fetch_all(&mut *self.transaction)
            .await?;
        rows.iter().map(row).collect()
    }

    /// Notes that a promise was kept; `false` when that is noted already.
    ///
    /// # Errors
    /// The database failed.
    pub async fn promise_kept(&mut self, id: &str, at: Timestamp) -> Result<bool, StoreError> {
        let done = sqlx::query("UPDATE promise SET kept_at = $1 WHERE id = $2 AND kept_at IS NULL")
            .bind(at.as_micros())
            .bind(id.to_owned())
            .execute(&mut *self.transaction)
            .await?;
        Ok(done.rows_affected() == 1)
    }

    /// Notes that a promise was missed; `false` when that is noted already, or it was kept meanwhile.
    ///
    /// # Errors
    /// The database failed.
    pub async fn promise_missed(&mut self, id: &str) -> Result<bool, StoreError> {
        let done = sqlx::query(
            "UPDATE promise SET missed = 1 WHERE id = $1 AND missed = 0 AND kept_at IS NULL",
        )
        .bind(id.to_owned())
        .execute(&mut *self.transaction)
        .await?;
        Ok(done.rows_affected() == 1)
    }
}

impl Store {
    /// Promises whose window closed before `now`, not kept and not yet noted as missed.
    ///
    /// # Errors
    /// The database failed.
    pub async fn promises_due(&self, now: Timestamp) -> Result<Vec<PromiseRow>, StoreError> {
        let sql = format!(
            "{COLUMNS} WHERE kept_at IS NULL AND missed = 0 AND closes_at < $1 ORDER BY closes_at, id LIMIT 256"
        );
        let query = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(now.as_micros());
        self.all(query).await?.iter().map(row).collect()
    }

    /// One promise.
    ///
    /// # Errors
    /// The database failed.
    pub async fn promise(&self, id: &str) -> Result<Option<PromiseRow>, StoreError> {
        let sql = format!("{COLUMNS} WHERE id = $1");
        let query = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(id.to_owned());
        self.optional(query).await?.as_ref().map(row).transpose()
    }

    /// The newest promises by the end of their windows.
    ///
    /// # Errors
    /// The database failed.
    pub async fn promises(&self, most: u32) -> Result<Vec<PromiseRow>, StoreError> {
        let sql = format!("{COLUMNS} ORDER BY closes_at DESC, id LIMIT $1");
        let query = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(i64::from(most));
        self.all(query).await?.iter().map(row).collect()
    }
}
