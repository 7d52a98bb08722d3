//! Wrapped data keys.

use sqlx::Row as _;
use sqlx::any::AnyRow;

use super::{Store, StoreError, Write};
use crate::keys::{DataKeyRow, Purpose};
use crate::templates::version_of;

const ONE: &str =
    "SELECT owner, purpose, kek_version, wrapped FROM data_key WHERE owner = $1 AND purpose = $2";
const OLDER: &str = "SELECT owner, purpose, kek_version, wrapped FROM data_key WHERE kek_version < $1 \
     ORDER BY kek_version, owner, purpose LIMIT $2";

/// '0' follows '/' in ASCII.
const SECRETS: &str = "SELECT owner, purpose, kek_version, wrapped FROM data_key WHERE owner >= 'templates/' AND owner < 'templates0'";

/// By version, the newest last; nobody counts as text does.
fn by_version(rows: &[AnyRow]) -> Result<Vec<DataKeyRow>, StoreError> {
    let mut rows: Vec<DataKeyRow> = rows.iter().map(data_key_row).collect::<Result<_, _>>()?;
    rows.sort_by_key(|row| version_of(&row.owner));
    Ok(rows)
}

fn data_key_row(row: &AnyRow) -> Result<DataKeyRow, StoreError> {
    Ok(DataKeyRow {
        owner: row.try_get(0)?,
        purpose: Purpose::from_code(&row.try_get::<String, _>(1)?)
            .ok_or(StoreError::Corrupt("data_key.purpose"))?,
        version: u32::try_from(row.try_get::<i64, _>(2)?)
            .map_err(|_| StoreError::Corrupt("data_key.kek_version"))?,
        wrapped: row.try_get(3)?,
    })
}

impl Write<'_> {
    /// A data key's row, as the transaction sees it.
    ///
    /// # Errors
    /// The database failed.
    pub async fn data_key(
        &mut self,
        owner: &str,
        purpose: Purpose,
    ) -> Result<Option<DataKeyRow>, StoreError> {
        sqlx::query(ONE)
            .bind(owner.to_owned())
            .bind(purpose.code())
            .fetch_optional(&mut *self.transaction)
            .await?
            .as_ref()
            .map(data_key_row)
            .transpose()
    }

    /// Adds a data key.
    ///
    /// # Errors
    /// The database failed, or the owner has one.
    pub async fn data_key_insert(&mut self, row: &DataKeyRow) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO data_key (owner, purpose, kek_version, wrapped) VALUES ($1, $2, $3, $4)",
        )
        .bind(row.owner.clone())
        .bind(row.purpose.code())
        .bind(i64::from(row.version))
        .bind(row.wrapped.clone())
        .execute(&mut *self.transaction)
        .await?;
        Ok(())
    }

    /// Data keys wrapped by an older KEK, oldest first.
    ///
    /// # Errors
    /// The database failed.
    pub async fn data_keys_older(
        &mut self,
        version: u32,
        limit: u32,
    ) -> Result<Vec<DataKeyRow>, StoreError> {
        sqlx::query(OLDER)
            .bind(i64::from(version))
            .bind(i64::from(limit))
            .fetch_all(&mut *self.transaction)
            .await?
            .iter()
            .map(data_key_row)
            .collect()
    }

    /// Replaces a wrapped key that is still as it was read; `false` when it is not (erased or wrapped anew meanwhile).
    ///
    /// # Errors
    /// The database failed.
    pub async fn data_key_replace(
        &mut self,
        old: &DataKeyRow,
        version: u32,
        wrapped: Vec<u8>,
    ) -> Result<bool, StoreError> {
        let done = sqlx::query(
            "UPDATE data_key SET kek_version = $1, wrapped = $2 WHERE owner = $3 AND purpose = $4 AND kek_version = $5",
        )
        .bind(i64::from(version))
        .bind(wrapped)
        .bind(old.owner.clone())
        .bind(old.purpose.code())
        .bind(i64::from(old.version))
        .execute(&mut *self.transaction)
        .await?;
        Ok(done.rows_affected() == 1)
    }

    /// The template secrets, the newest last, as the transaction sees them.
    ///
    /// # Errors
    /// The database failed.
    pub async fn template_secrets(&mut self) -> Result<Vec<DataKeyRow>, StoreError> {
        by_version(
            &sqlx::query(SECRETS)
                .fetch_all(&mut *self.transaction)
                .await?,
        )
    }

    /// Deletes all data keys of an owner; returns how many there were.
    ///
    /// # Errors
    /// The database failed.
    pub async fn data_keys_delete(&mut self, owner: &str) -> Result<u64, StoreError> {
        let done = sqlx::query("DELETE FROM data_key WHERE owner = $1")
            .bind(owner.to_owned())
            .execute(&mut *self.transaction)
            .await?;
        Ok(done.rows_affected())
    }
}

impl Store {
    /// A data key's row.
    ///
    /// # Errors
    /// The database failed.
    pub async fn data_key(
        &self,
        owner: &str,
        purpose: Purpose,
    ) -> Result<Option<DataKeyRow>, StoreError> {
        let query = sqlx::query(ONE).bind(owner.to_owned()).bind(purpose.code());
        self.optional(query)
            .await?
            .as_ref()
            .map(data_key_row)
            .transpose()
    }

    /// The template secrets, the newest last.
    ///
    /// # Errors
    /// The database failed.
    pub async fn template_secrets(&self) -> Result<Vec<DataKeyRow>, StoreError> {
        by_version(&self.all(sqlx::query(SECRETS)).await?)
    }

    /// Data keys wrapped by an older KEK, oldest first.
    ///
    /// # Errors
    /// The database failed.
    pub async fn data_keys_older(
        &self,
        version: u32,
        limit: u32,
    ) -> Result<Vec<DataKeyRow>, StoreError> {
        let query = sqlx::query(OLDER)
            .bind(i64::from(version))
            .bind(i64::from(limit));
        self.all(query).await?.iter().map(data_key_row).collect()
    }

    /// The sealed detail of a log entry.
    ///
    /// # Errors
    /// The database failed.
    pub async fn log_detail(&self, index: u64) -> Result<Option<Vec<u8>>, StoreError> {
        let query = sqlx::query("SELECT sealed FROM log_detail WHERE idx = $1")
            .bind(i64::try_from(index).unwrap_or(i64::MAX));
        self.optional(query)
            .await?
            .map(|row| Ok(row.try_get(0)?))
            .transpose()
    }
}
