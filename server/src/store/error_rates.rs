//! Texts of measured error rates, and the models that references were made with.

use sqlx::Row as _;

use super::{Store, StoreError, Write};

impl Store {
    /// A measurement's signed note by its SHA-256.
    ///
    /// # Errors
    /// The database failed.
    pub async fn error_rates(&self, sha256: &str) -> Result<Option<String>, StoreError> {
        let query = sqlx::query("SELECT content FROM error_rates WHERE sha256 = $1")
            .bind(sha256.to_owned());
        let row = self.optional(query).await?;
        Ok(row.map(|row| row.try_get(0)).transpose()?)
    }
}

impl Write<'_> {
    /// Stores a measurement's signed note; one that is there stays.
    ///
    /// # Errors
    /// The database failed.
    pub async fn error_rates_insert(
        &mut self,
        sha256: &str,
        content: &str,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO error_rates (sha256, content) VALUES ($1, $2) ON CONFLICT (sha256) DO NOTHING",
        )
        .bind(sha256.to_owned())
        .bind(content.to_owned())
        .execute(&mut *self.transaction)
        .await?;
        Ok(())
    }

    /// SHA-256 of the models that references of `face` or of either `iris` were made with, in order.
    ///
    /// # Errors
    /// The database failed.
    pub async fn models_in_use(&mut self, modality: &str) -> Result<Vec<String>, StoreError> {
        let rows = sqlx::query(
            "SELECT DISTINCT model FROM reference WHERE modality = $1 OR modality LIKE $2 ORDER BY model",
        )
        .bind(modality.to_owned())
        .bind(format!("{modality}_%"))
        .fetch_all(&mut *self.transaction)
        .await?;
        rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
    }
}
