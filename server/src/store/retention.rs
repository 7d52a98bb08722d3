//! Profiles' texts, and deletions of single kinds of data.

use sallyport_domain::{ReferenceId, SubjectId, TransactionId};
use sqlx::Row as _;

use super::{Store, StoreError, Write};

impl Store {
    /// A profile's text by its SHA-256.
    ///
    /// # Errors
    /// The database failed.
    pub async fn profile(&self, sha256: &str) -> Result<Option<String>, StoreError> {
        let query =
            sqlx::query("SELECT content FROM profile WHERE sha256 = $1").bind(sha256.to_owned());
        let row = self.optional(query).await?;
        Ok(row.map(|row| row.try_get(0)).transpose()?)
    }

    /// Subjects of whom a document's number or a note is kept beside an enrolment of their own.
    ///
    /// # Errors
    /// The database failed.
    pub async fn subjects_with_documents(&self) -> Result<Vec<SubjectId>, StoreError> {
        let rows = self
            .all(sqlx::query(
                "SELECT DISTINCT e.subject_id FROM enrolment e JOIN enrolment_order o ON o.id = e.order_id \
                 WHERE o.batch = 0 AND LENGTH(o.detail_sealed) > 0",
            ))
            .await?;
        rows.iter()
            .map(|row| {
                let id: String = row.try_get(0)?;
                id.parse()
                    .map_err(|_| StoreError::Corrupt("enrolment.subject_id"))
            })
            .collect()
    }
}

impl Store {
    /// Is a sealed picture of this passage kept?
    ///
    /// # Errors
    /// The database failed.
    pub async fn has_passage_picture(&self, id: TransactionId) -> Result<bool, StoreError> {
        let query = sqlx::query(
            "SELECT 1 FROM passage WHERE transaction_id = $1 AND attachment_sealed IS NOT NULL",
        )
        .bind(id.to_string());
        Ok(self.optional(query).await?.is_some())
    }
}

impl Write<'_> {
    /// Deletes a passage's sealed picture; `false` when there was none.
    ///
    /// # Errors
    /// The database failed.
    pub async fn passage_picture_delete(&mut self, id: TransactionId) -> Result<bool, StoreError> {
        let done = sqlx::query(
            "UPDATE passage SET attachment_sealed = NULL WHERE transaction_id = $1 AND attachment_sealed IS NOT NULL",
        )
        .bind(id.to_string())
        .execute(&mut *self.transaction)
        .await?;
        Ok(done.rows_affected() == 1)
    }

    /// Stores a profile's text; one that is there stays.
    ///
    /// # Errors
    /// The database failed.
    pub async fn profile_insert(&mut self, sha256: &str, content: &str) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO profile (sha256, content) VALUES ($1, $2) ON CONFLICT (sha256) DO NOTHING",
        )
        .bind(sha256.to_owned())
        .bind(content.to_owned())
        .execute(&mut *self.transaction)
        .await?;
        Ok(())
    }

    /// Deletes a reference's photograph; `false` when there was none.
    ///
    /// # Errors
    /// The database failed.
    pub async fn photograph_delete(&mut self, id: ReferenceId) -> Result<bool, StoreError> {
        let done = sqlx::query(
            "UPDATE reference SET photograph_sealed = NULL WHERE id = $1 AND photograph_sealed IS NOT NULL",
        )
        .bind(id.to_string())
        .execute(&mut *self.transaction)
        .await?;
        Ok(done.rows_affected() == 1)
    }

    /// Deletes document number and reason of a person's own enrolments; those of a batch name a file, not a person. `false` when there
    /// was none.
    ///
    /// # Errors
    /// The database failed.
    pub async fn documents_delete(&mut self, subject: SubjectId) -> Result<bool, StoreError> {
        let done = sqlx::query(
            "UPDATE enrolment_order SET detail_sealed = $1 WHERE batch = 0 AND LENGTH(detail_sealed) > 0 \
             AND id IN (SELECT order_id FROM enrolment WHERE subject_id = $2)",
        )
        .bind(Vec::<u8>::new())
        .bind(subject.to_string())
        .execute(&mut *self.transaction)
        .await?;
        Ok(done.rows_affected() > 0)
    }
}
