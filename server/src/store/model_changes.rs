//! Changes of models, and which references they concern.

use sallyport_domain::{GateId, ModelDigest, ReferenceId, SubjectId, Timestamp};
use sqlx::Row as _;
use sqlx::any::AnyRow;

use super::{Store, StoreError, Write};

/// A change of models.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangeRow {
    /// Its name.
    pub id: String,
    /// The model that is left.
    pub from: ModelDigest,
    /// The model that comes.
    pub to: ModelDigest,
    /// The station that may encode photographs again.
    pub station: Option<GateId>,
    /// Since when.
    pub begun_at: Timestamp,
    /// Until when; `None` while it goes on.
    pub ended_at: Option<Timestamp>,
    /// Entry of its begin.
    pub log_index: u64,
}

/// A reference of either model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TouchedRow {
    /// Which.
    pub id: ReferenceId,
    /// Whose.
    pub subject: SubjectId,
    /// Modality.
    pub modality: String,
    /// Model.
    pub model: String,
    /// SHA-256 of its source.
    pub source_sha256: String,
    /// Is a photograph kept?
    pub has_photograph: bool,
    /// Did its photograph give nothing?
    pub unusable: bool,
}

fn change(row: &AnyRow) -> Result<ChangeRow, StoreError> {
    let digest = |at: usize| -> Result<ModelDigest, StoreError> {
        let text: String = row.try_get(at)?;
        text.parse()
            .map_err(|_| StoreError::Corrupt("model_change.model"))
    };
    let station: Option<String> = row.try_get(3)?;
    let index: i64 = row.try_get(6)?;
    Ok(ChangeRow {
        id: row.try_get(0)?,
        from: digest(1)?,
        to: digest(2)?,
        station: station
            .map(|text| text.parse())
            .transpose()
            .map_err(|_| StoreError::Corrupt("model_change.station"))?,
        begun_at: Timestamp::from_micros(row.try_get(4)?),
        ended_at: row
            .try_get::<Option<i64>, _>(5)?
            .map(Timestamp::from_micros),
        log_index: u64::try_from(index)
            .map_err(|_| StoreError::Corrupt("model_change.log_index"))?,
    })
}

fn touched(row: &AnyRow) -> Result<TouchedRow, StoreError> {
    let id: String = row.try_get(0)?;
    let subject: String = row.try_get(1)?;
    Ok(TouchedRow {
        id: id
            .parse()
            .map_err(|_| StoreError::Corrupt("reference.id"))?,
        subject: subject
            .parse()
            .map_err(|_| StoreError::Corrupt("reference.subject_id"))?,
        modality: row.try_get(2)?,
        model: row.try_get(3)?,
        source_sha256: row.try_get(4)?,
        has_photograph: row.try_get::<i64, _>(5)? != 0,
        unusable: row.try_get::<i64, _>(6)? != 0,
    })
}

const CHANGES: &str = "SELECT id, from_model, to_model, station, begun_at, ended_at, log_index FROM model_change ORDER BY begun_at, id";

const TOUCHED: &str = "SELECT r.id, r.subject_id, r.modality, r.model, r.source_sha256, \
     CAST(CASE WHEN r.photograph_sealed IS NULL THEN 0 ELSE 1 END AS BIGINT), \
     CAST(CASE WHEN u.reference_id IS NULL THEN 0 ELSE 1 END AS BIGINT) \
     FROM reference r LEFT JOIN model_change_unusable u ON u.reference_id = r.id AND u.change_id = $1 \
     WHERE r.model IN ($2, $3) ORDER BY r.subject_id, r.id";

impl Store {
    /// All changes, the oldest first.
    ///
    /// # Errors
    /// The database failed.
    pub async fn model_changes(&self) -> Result<Vec<ChangeRow>, StoreError> {
        let rows = self.all(sqlx::query(CHANGES)).await?;
        rows.iter().map(change).collect()
    }

    /// References of either model of a change, by subject.
    ///
    /// # Errors
    /// The database failed.
    pub async fn references_of_change(
        &self,
        change: &ChangeRow,
    ) -> Result<Vec<TouchedRow>, StoreError> {
        let query = sqlx::query(TOUCHED)
            .bind(change.id.clone())
            .bind(change.from.to_string())
            .bind(change.to.to_string());
        self.all(query).await?.iter().map(touched).collect()
    }
}

impl Write<'_> {
    /// Stores the begin of a change.
    ///
    /// # Errors
    /// The database failed.
    pub async fn model_change_insert(&mut self, change: &ChangeRow) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO model_change (id, from_model, to_model, station, begun_at, log_index) VALUES ($1, $2, $3, $4, $5, $6)",
        )
        .bind(change.id.clone())
        .bind(change.from.to_string())
        .bind(change.to.to_string())
        .bind(change.station.as_ref().map(ToString::to_string))
        .bind(change.begun_at.as_micros())
        .bind(i64::try_from(change.log_index).unwrap_or(i64::MAX))
        .execute(&mut *self.transaction)
        .await?;
        Ok(())
    }

    /// All changes, as this transaction sees them.
    ///
    /// # Errors
    /// The database failed.
    pub async fn model_changes(&mut self) -> Result<Vec<ChangeRow>, StoreError> {
        let rows = sqlx::query(CHANGES)
            .fetch_all(&mut *self.transaction)
            .await?;
        rows.iter().map(change).collect()
    }

    /// Ends a change; `false` when it had ended.
    ///
    /// # Errors
    /// The database failed.
    pub async fn model_change_end(&mut self, id: &str, now: Timestamp) -> Result<bool, StoreError> {
        let done =
            sqlx::query("UPDATE model_change SET ended_at = $1 WHERE id = $2 AND ended_at IS NULL")
                .bind(now.as_micros())
                .bind(id.to_owned())
                .execute(&mut *self.transaction)
                .await?;
        Ok(done.rows_affected() == 1)
    }

    /// Notes that a reference's photograph gave nothing; `false` when that was noted before.
    ///
    /// # Errors
    /// The database failed.
    pub async fn photograph_unusable(
        &mut self,
        change: &str,
        reference: ReferenceId,
        log_index: u64,
    ) -> Result<bool, StoreError> {
        let done = sqlx::query(
            "INSERT INTO model_change_unusable (change_id, reference_id, log_index) VALUES ($1, $2, $3) \
             ON CONFLICT (change_id, reference_id) DO NOTHING",
        )
        .bind(change.to_owned())
        .bind(reference.to_string())
        .bind(i64::try_from(log_index).unwrap_or(i64::MAX))
        .execute(&mut *self.transaction)
        .await?;
        Ok(done.rows_affected() == 1)
    }

    /// A subject's references of one modality and model: which, and from which source.
    ///
    /// # Errors
    /// The database failed.
    pub async fn references_of(
        &mut self,
        subject: SubjectId,
        modality: &str,
        model: ModelDigest,
    ) -> Result<Vec<(ReferenceId, String)>, StoreError> {
        let rows = sqlx::query(
            "SELECT id, source_sha256 FROM reference WHERE subject_id = $1 AND modality = $2 AND model = $3 ORDER BY id",
        )
        .bind(subject.to_string())
        .bind(modality.to_owned())
        .bind(model.to_string())
        .fetch_all(&mut *self.transaction)
        .await?;
        rows.iter()
            .map(|row| {
                let id: String = row.try_get(0)?;
                let id = id
                    .parse()
                    .map_err(|_| StoreError::Corrupt("reference.id"))?;
                Ok((id, row.try_get(1)?))
            })
            .collect()
    }

    /// Deletes one reference; `false` when it was gone.
    ///
    /// # Errors
    /// The database failed.
    pub async fn reference_delete(&mut self, id: ReferenceId) -> Result<bool, StoreError> {
        let done = sqlx::query("DELETE FROM reference WHERE id = $1")
            .bind(id.to_string())
            .execute(&mut *self.transaction)
            .await?;
        Ok(done.rows_affected() == 1)
    }
}
