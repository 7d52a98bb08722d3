//! What reports ask beside the log.

use sallyport_domain::{OfficerId, SubjectId};
use sqlx::Row as _;

use super::{Store, StoreError, Write};

impl Store {
    /// Role of an account.
    ///
    /// # Errors
    /// The database failed.
    pub async fn officer_role(&self, id: OfficerId) -> Result<Option<String>, StoreError> {
        let query = sqlx::query("SELECT role FROM officer WHERE id = $1").bind(id.to_string());
        self.optional(query)
            .await?
            .map(|row| Ok(row.try_get(0)?))
            .transpose()
    }
}

impl Store {
    /// The sealed group of a person.
    ///
    /// # Errors
    /// The database failed.
    pub async fn subject_group(&self, subject: SubjectId) -> Result<Option<Vec<u8>>, StoreError> {
        let query = sqlx::query("SELECT group_sealed FROM subject_group WHERE subject_id = $1")
            .bind(subject.to_string());
        let row = self.optional(query).await?;
        Ok(row.map(|row| row.try_get(0)).transpose()?)
    }
}

impl Write<'_> {
    /// Stores the sealed group of a person; `None` removes it.
    ///
    /// # Errors
    /// The database failed.
    pub async fn subject_group_set(
        &mut self,
        subject: SubjectId,
        sealed: Option<Vec<u8>>,
    ) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM subject_group WHERE subject_id = $1")
            .bind(subject.to_string())
            .execute(&mut *self.transaction)
            .await?;
        if let Some(sealed) = sealed {
            sqlx::query("INSERT INTO subject_group (subject_id, group_sealed) VALUES ($1, $2)")
                .bind(subject.to_string())
                .bind(sealed)
                .execute(&mut *self.transaction)
                .await?;
        }
        Ok(())
    }
}
