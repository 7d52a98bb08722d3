//! Subjects, references and the change feed that keeps galleries in step. Everything personal is sealed before it comes here.

use sallyport_domain::{ReferenceId, SubjectId, Timestamp};
use sqlx::Row;
use sqlx::any::AnyRow;

use super::{Store, StoreError, Write};

/// A subject's row.
#[derive(Debug, Clone)]
pub struct SubjectRow {
    /// Who.
    pub id: SubjectId,
    /// Version of the key-encryption key that wraps the data key.
    pub key_version: u32,
    /// Data key, wrapped; empty when it is gone.
    pub key_wrapped: Vec<u8>,
    /// Category, status, effective date and name, sealed.
    pub record_sealed: Vec<u8>,
    /// SHA-256 of the submission that enrolled the person.
    pub submission_sha256: String,
    /// Log entry of the enrolment.
    pub log_index: u64,
}

/// A reference's row.
#[derive(Debug, Clone)]
pub struct ReferenceRow {
    /// Which reference.
    pub id: ReferenceId,
    /// Whose.
    pub subject: SubjectId,
    /// Modality.
    pub modality: String,
    /// SHA-256 of the model.
    pub model: String,
    /// Version of the installation's template secret that the template is under; 0 for none.
    pub secret_version: u32,
    /// Template, sealed.
    pub template_sealed: Vec<u8>,
    /// SHA-256 of the source picture.
    pub source_sha256: String,
    /// Photograph, sealed by the agent and then under the subject's data key.
    pub photograph_sealed: Option<Vec<u8>>,
    /// Under whose identifier it was captured, where that is another subject's.
    pub origin: Option<SubjectId>,
}

macro_rules! subject_query {
    ($tail:literal) => {
        concat!(
            "SELECT s.id, COALESCE(k.kek_version, 0), k.wrapped, s.record_sealed, s.submission_sha256, s.log_index ",
            "FROM subject s LEFT JOIN data_key k ON k.owner = s.id AND k.purpose = 'registry' ",
            $tail
        )
    };
}

const SUBJECT: &str = subject_query!("WHERE s.id = $1");
const SUBJECTS: &str = subject_query!("ORDER BY s.id");
macro_rules! reference_query {
    ($tail:literal) => {
        concat!(
            "SELECT id, subject_id, modality, model, template_sealed, source_sha256, photograph_sealed, secret_version, origin ",
            "FROM reference ",
            $tail
        )
    };
}

const REFERENCES: &str = reference_query!("WHERE subject_id = $1 ORDER BY id");
const OLDER: &str = reference_query!("WHERE secret_version < $1 ORDER BY id LIMIT $2");

const SEQ: &str = "SELECT COALESCE(MAX(seq), 0) FROM registry_change";

fn subject_row(row: &AnyRow) -> Result<SubjectRow, StoreError> {
    Ok(SubjectRow {
        id: row
            .try_get::<String, _>(0)?
            .parse()
            .map_err(|_| StoreError::Corrupt("subject.id"))?,
        key_version: u32::try_from(row.try_get::<i64, _>(1)?)
            .map_err(|_| StoreError::Corrupt("data_key.kek_version"))?,
        key_wrapped: row.try_get::<Option<Vec<u8>>, _>(2)?.unwrap_or_default(),
        record_sealed: row.try_get(3)?,
        submission_sha256: row.try_get(4)?,
        log_index: u64::try_from(row.try_get::<i64, _>(5)?)
            .map_err(|_| StoreError::Corrupt("subject.log_index"))?,
    })
}

fn reference_row(row: &AnyRow) -> Result<ReferenceRow, StoreError> {
    Ok(ReferenceRow {
        id: row
            .try_get::<String, _>(0)?
            .parse()
            .map_err(|_| StoreError::Corrupt("reference.id"))?,
        subject: row
            .try_get::<String, _>(1)?
            .parse()
            .map_err(|_| StoreError::Corrupt("reference.subject_id"))?,
        modality: row.try_get(2)?,
        model: row.try_get(3)?,
        template_sealed: row.try_get(4)?,
        source_sha256: row.try_get(5)?,
        photograph_sealed: row.try_get(6)?,
        secret_version: u32::try_from(row.try_get::<i64, _>(7)?)
            .map_err(|_| StoreError::Corrupt("reference.secret_version"))?,
        origin: row
            .try_get::<Option<String>, _>(8)?
            .map(|id| id.parse())
            .transpose()
            .map_err(|_| StoreError::Corrupt("reference.origin"))?,
    })
}

impl Write<'_> {
    /// One subject, as the transaction sees it.
    ///
    /// # Errors
    /// The database failed.
    pub async fn subject(&mut self, id: SubjectId) -> Result<Option<SubjectRow>, StoreError> {
        let row = sqlx::query(SUBJECT)
            .bind(id.to_string())
            .fetch_optional(&mut *self.transaction)
            .await?;
        row.as_ref().map(subject_row).transpose()
    }

    /// Adds a subject.
    ///
    /// # Errors
    /// The database failed, or the subject exists.
    pub async fn subject_insert(
        &mut self,
        row: &SubjectRow,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO subject (id, record_sealed, submission_sha256, log_index, created_at) \
             VALUES ($1, $2, $3, $4, $5)",
        )
        .bind(row.id.to_string())
        .bind(row.record_sealed.clone())
        .bind(row.submission_sha256.clone())
        .bind(i64::try_from(row.log_index).unwrap_or(i64::MAX))
        .bind(now.as_micros())
        .execute(&mut *self.transaction)
        .await?;
        Ok(())
    }

    /// Adds a reference.
    ///
    /// # Errors
    /// The database failed, or it exists.
    pub async fn reference_insert(
        &mut self,
        row: &ReferenceRow,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO reference (id, subject_id, modality, model, template_sealed, source_sha256, photograph_sealed, \
             created_at, secret_version, origin) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
        )
        .bind(row.id.to_string())
        .bind(row.subject.to_string())
        .bind(row.modality.clone())
        .bind(row.model.clone())
        .bind(row.template_sealed.clone())
        .bind(row.source_sha256.clone())
        .bind(row.photograph_sealed.clone())
        .bind(now.as_micros())
        .bind(i64::from(row.secret_version))
        .bind(row.origin.map(|origin| origin.to_string()))
        .execute(&mut *self.transaction)
        .await?;
        Ok(())
    }

    /// References under an older template secret.
    ///
    /// # Errors
    /// The database failed.
    pub async fn references_older(
        &mut self,
        version: u32,
        limit: u32,
    ) -> Result<Vec<ReferenceRow>, StoreError> {
        sqlx::query(OLDER)
            .bind(i64::from(version))
            .bind(i64::from(limit))
            .fetch_all(&mut *self.transaction)
            .await?
            .iter()
            .map(reference_row)
            .collect()
    }

    /// Replaces a reference's template, if it is still under the secret as it was read; `false` when it is not, or gone.
    ///
    /// # Errors
    /// The database failed.
    pub async fn reference_replace(
        &mut self,
        old: &ReferenceRow,
        fresh: &ReferenceRow,
    ) -> Result<bool, StoreError> {
        let done = sqlx::query(
            "UPDATE reference SET template_sealed = $1, secret_version = $2 WHERE id = $3 AND secret_version = $4",
        )
        .bind(fresh.template_sealed.clone())
        .bind(i64::from(fresh.secret_version))
        .bind(old.id.to_string())
        .bind(i64::from(old.secret_version))
        .execute(&mut *self.transaction)
        .await?;
        Ok(done.rows_affected() == 1)
    }

    /// Gives a reference to another subject, sealed for its place there, if it is still as it was read; `false` when it is not.
    ///
    /// # Errors
    /// The database failed.
    pub async fn reference_move(
        &mut self,
        old: &ReferenceRow,
        fresh: &ReferenceRow,
    ) -> Result<bool, StoreError> {
        let done = sqlx::query(
            "UPDATE reference SET subject_id = $1, template_sealed = $2, photograph_sealed = $3, origin = $4 \
             WHERE id = $5 AND subject_id = $6 AND secret_version = $7",
        )
        .bind(fresh.subject.to_string())
        .bind(fresh.template_sealed.clone())
        .bind(fresh.photograph_sealed.clone())
        .bind(fresh.origin.map(|origin| origin.to_string()))
        .bind(old.id.to_string())
        .bind(old.subject.to_string())
        .bind(i64::from(old.secret_version))
        .execute(&mut *self.transaction)
        .await?;
        Ok(done.rows_affected() == 1)
    }

    /// References of one subject, as the transaction sees them.
    ///
    /// # Errors
    /// The database failed.
    pub async fn references(
        &mut self,
        subject: SubjectId,
    ) -> Result<Vec<ReferenceRow>, StoreError> {
        sqlx::query(REFERENCES)
            .bind(subject.to_string())
            .fetch_all(&mut *self.transaction)
            .await?
            .iter()
            .map(reference_row)
            .collect()
    }

    /// Replaces a subject's sealed record.
    ///
    /// # Errors
    /// The database failed.
    pub async fn subject_update(
        &mut self,
        id: SubjectId,
        record_sealed: Vec<u8>,
    ) -> Result<bool, StoreError> {
        let done = sqlx::query("UPDATE subject SET record_sealed = $1 WHERE id = $2")
            .bind(record_sealed)
            .bind(id.to_string())
            .execute(&mut *self.transaction)
            .await?;
        Ok(done.rows_affected() == 1)
    }

    /// Deletes a subject with both data keys and all references; `false` when there was none.
    ///
    /// # Errors
    /// The database failed.
    pub async fn subject_delete(&mut self, id: SubjectId) -> Result<bool, StoreError> {
        self.data_keys_delete(&id.to_string()).await?;
        let done = sqlx::query("DELETE FROM subject WHERE id = $1")
            .bind(id.to_string())
            .execute(&mut *self.transaction)
            .await?;
        Ok(done.rows_affected() == 1)
    }

    /// The newest change that is committed, or made by this transaction.
    ///
    /// # Errors
    /// The database failed.
    pub async fn registry_seq(&mut self) -> Result<i64, StoreError> {
        Ok(sqlx::query(SEQ)
            .fetch_one(&mut *self.transaction)
            .await?
            .try_get(0)?)
    }

    /// Tells every running server to load a subject again; returns the change's number.
    ///
    /// # Errors
    /// The database failed.
    pub async fn registry_changed(&mut self, id: SubjectId) -> Result<i64, StoreError> {
        // Numbers have no gaps and are committed in their order: writers come one after the other, over all servers.
        let row = sqlx::query(
            "INSERT INTO registry_change (seq, subject_id) \
             SELECT COALESCE(MAX(seq), 0) + 1, CAST($1 AS TEXT) FROM registry_change RETURNING seq",
        )
        .bind(id.to_string())
        .fetch_one(&mut *self.transaction)
        .await?;
        Ok(row.try_get(0)?)
    }
}

impl Store {
    /// The newest change.
    ///
    /// # Errors
    /// The database failed.
    pub async fn registry_seq(&self) -> Result<i64, StoreError> {
        let row = self.optional(sqlx::query(SEQ)).await?;
        row.map_or(Ok(0), |row| Ok(row.try_get(0)?))
    }

    /// One subject.
    ///
    /// # Errors
    /// The database failed.
    pub async fn subject(&self, id: SubjectId) -> Result<Option<SubjectRow>, StoreError> {
        self.optional(sqlx::query(SUBJECT).bind(id.to_string()))
            .await?
            .as_ref()
            .map(subject_row)
            .transpose()
    }

    /// All subjects.
    ///
    /// # Errors
    /// The database failed.
    pub async fn subjects(&self) -> Result<Vec<SubjectRow>, StoreError> {
        self.all(sqlx::query(SUBJECTS))
            .await?
            .iter()
            .map(subject_row)
            .collect()
    }

    /// References of one subject.
    ///
    /// # Errors
    /// The database failed.
    pub async fn references(&self, subject: SubjectId) -> Result<Vec<ReferenceRow>, StoreError> {
        self.all(sqlx::query(REFERENCES).bind(subject.to_string()))
            .await?
            .iter()
            .map(reference_row)
            .collect()
    }

    /// References under an older template secret.
    ///
    /// # Errors
    /// The database failed.
    pub async fn references_older(
        &self,
        version: u32,
        limit: u32,
    ) -> Result<Vec<ReferenceRow>, StoreError> {
        let query = sqlx::query(OLDER)
            .bind(i64::from(version))
            .bind(i64::from(limit));
        self.all(query).await?.iter().map(reference_row).collect()
    }

    /// Changes after `seq`, oldest first.
    ///
    /// # Errors
    /// The database failed.
    pub async fn registry_changes(&self, seq: i64) -> Result<Vec<(i64, SubjectId)>, StoreError> {
        let query =
            sqlx::query("SELECT seq, subject_id FROM registry_change WHERE seq > $1 ORDER BY seq")
                .bind(seq);
        let rows = self.all(query).await?;
        rows.iter()
            .map(|row| {
                let id = row.try_get::<String, _>(1)?;
                Ok((
                    row.try_get(0)?,
                    id.parse()
                        .map_err(|_| StoreError::Corrupt("registry_change.subject_id"))?,
                ))
            })
            .collect()
    }
}
