//! What reports ask beside the log.

use sallyport_domain::OfficerId;
use sqlx::Row as _;

use super::{Store, StoreError};

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
