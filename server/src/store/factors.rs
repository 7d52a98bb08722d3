//! Officers' second factors, and the questions that wait for a browser's answer.

use sallyport_domain::{OfficerId, Timestamp};
use sqlx::Row;

use super::officers::officer_id;
use super::{Store, StoreError, Write};

/// A hardware key's row.
#[derive(Debug, Clone)]
pub struct KeyRow {
    /// SHA-256 of the credential's id.
    pub id: String,
    /// Sealed public half with its counter.
    pub key_sealed: Vec<u8>,
    /// Sealed label.
    pub label_sealed: Vec<u8>,
    /// When it was added.
    pub created_at: Timestamp,
    /// Last use.
    pub used_at: Option<Timestamp>,
}

/// A question that waits.
#[derive(Debug, Clone)]
pub struct CeremonyRow {
    /// Whom it is about, where that is known.
    pub officer: Option<OfficerId>,
    /// Sealed state.
    pub state_sealed: Vec<u8>,
    /// Wrong answers so far.
    pub failures: i64,
}

fn ceremony(row: &sqlx::any::AnyRow) -> Result<CeremonyRow, StoreError> {
    let officer: Option<String> = row.try_get(0)?;
    Ok(CeremonyRow {
        officer: officer.map(officer_id).transpose()?,
        state_sealed: row.try_get(1)?,
        failures: row.try_get(2)?,
    })
}

impl Write<'_> {
    /// Adds a hardware key; `false` when it is known already.
    ///
    /// # Errors
    /// The database failed.
    pub async fn officer_key_insert(
        &mut self,
        officer: OfficerId,
        key: &KeyRow,
    ) -> Result<bool, StoreError> {
        let done = sqlx::query(
            "INSERT INTO officer_key (id, officer_id, key_sealed, label_sealed, created_at) VALUES ($1, $2, $3, $4, $5) ON CONFLICT (id) DO NOTHING",
        )
        .bind(key.id.clone())
        .bind(officer.to_string())
        .bind(key.key_sealed.clone())
        .bind(key.label_sealed.clone())
        .bind(key.created_at.as_micros())
        .execute(&mut *self.transaction)
        .await?;
        Ok(done.rows_affected() == 1)
    }

    /// Notes a use of a hardware key, with its new counter.
    ///
    /// # Errors
    /// The database failed.
    pub async fn officer_key_used(
        &mut self,
        id: &str,
        key_sealed: Vec<u8>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        sqlx::query("UPDATE officer_key SET key_sealed = $1, used_at = $2 WHERE id = $3")
            .bind(key_sealed)
            .bind(now.as_micros())
            .bind(id.to_owned())
            .execute(&mut *self.transaction)
            .await?;
        Ok(())
    }

    /// Removes one hardware key of an account that has another one; `false` when there is none or it is the last.
    ///
    /// # Errors
    /// The database failed.
    pub async fn officer_key_delete(
        &mut self,
        officer: OfficerId,
        id: &str,
    ) -> Result<bool, StoreError> {
        let done = sqlx::query(
            "DELETE FROM officer_key WHERE id = $1 AND officer_id = $2 AND EXISTS (SELECT 1 FROM officer_key o WHERE o.officer_id = $2 AND o.id <> $1)",
        )
        .bind(id.to_owned())
        .bind(officer.to_string())
        .execute(&mut *self.transaction)
        .await?;
        Ok(done.rows_affected() == 1)
    }

    /// Removes all second factors of an account.
    ///
    /// # Errors
    /// The database failed.
    pub async fn officer_factors_delete(&mut self, officer: OfficerId) -> Result<(), StoreError> {
        for text in [
            "DELETE FROM officer_key WHERE officer_id = $1",
            "DELETE FROM officer_code WHERE officer_id = $1",
            "DELETE FROM ceremony WHERE officer_id = $1",
        ] {
            sqlx::query(text)
                .bind(officer.to_string())
                .execute(&mut *self.transaction)
                .await?;
        }
        Ok(())
    }

    /// Sets the secret of an account's one-time codes; `step` was used up by confirming it.
    ///
    /// # Errors
    /// The database failed.
    pub async fn officer_code_set(
        &mut self,
        officer: OfficerId,
        secret_sealed: Vec<u8>,
        step: i64,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO officer_code (officer_id, secret_sealed, last_step, created_at) VALUES ($1, $2, $3, $4) \
             ON CONFLICT (officer_id) DO UPDATE SET secret_sealed = excluded.secret_sealed, last_step = excluded.last_step, created_at = excluded.created_at",
        )
        .bind(officer.to_string())
        .bind(secret_sealed)
        .bind(step)
        .bind(now.as_micros())
        .execute(&mut *self.transaction)
        .await?;
        Ok(())
    }

    /// Uses a step up; `false` when it, or a later one, was used before.
    ///
    /// # Errors
    /// The database failed.
    pub async fn officer_code_use(
        &mut self,
        officer: OfficerId,
        step: i64,
    ) -> Result<bool, StoreError> {
        let done = sqlx::query(
            "UPDATE officer_code SET last_step = $1 WHERE officer_id = $2 AND last_step < $1",
        )
        .bind(step)
        .bind(officer.to_string())
        .execute(&mut *self.transaction)
        .await?;
        Ok(done.rows_affected() == 1)
    }

    /// Puts a question that waits until `expires_at`; an earlier one of this id is replaced, and what is too old is removed.
    ///
    /// # Errors
    /// The database failed.
    pub async fn ceremony_put(
        &mut self,
        id: &str,
        kind: &str,
        officer: Option<OfficerId>,
        state_sealed: Vec<u8>,
        now: Timestamp,
        expires_at: Timestamp,
    ) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM ceremony WHERE expires_at <= $1 OR id = $2")
            .bind(now.as_micros())
            .bind(id.to_owned())
            .execute(&mut *self.transaction)
            .await?;
        sqlx::query(
            "INSERT INTO ceremony (id, kind, officer_id, state_sealed, failures, expires_at) VALUES ($1, $2, $3, $4, 0, $5)",
        )
        .bind(id.to_owned())
        .bind(kind.to_owned())
        .bind(officer.map(|id| id.to_string()))
        .bind(state_sealed)
        .bind(expires_at.as_micros())
        .execute(&mut *self.transaction)
        .await?;
        Ok(())
    }

    /// Takes a question away, if it still waits.
    ///
    /// # Errors
    /// The database failed.
    pub async fn ceremony_take(
        &mut self,
        id: &str,
        now: Timestamp,
    ) -> Result<Option<CeremonyRow>, StoreError> {
        let row = sqlx::query(
            "DELETE FROM ceremony WHERE id = $1 AND expires_at > $2 RETURNING officer_id, state_sealed, failures",
        )
        .bind(id.to_owned())
        .bind(now.as_micros())
        .fetch_optional(&mut *self.transaction)
        .await?;
        row.map(|row| ceremony(&row)).transpose()
    }

    /// Counts a wrong answer; after `most` the question waits no more.
    ///
    /// # Errors
    /// The database failed.
    pub async fn ceremony_failed(&mut self, id: &str, most: i64) -> Result<(), StoreError> {
        sqlx::query("UPDATE ceremony SET failures = failures + 1 WHERE id = $1")
            .bind(id.to_owned())
            .execute(&mut *self.transaction)
            .await?;
        sqlx::query("DELETE FROM ceremony WHERE id = $1 AND failures >= $2")
            .bind(id.to_owned())
            .bind(most)
            .execute(&mut *self.transaction)
            .await?;
        Ok(())
    }
}

impl Store {
    /// Hardware keys of an account, oldest first.
    ///
    /// # Errors
    /// The database failed.
    pub async fn officer_keys(&self, officer: OfficerId) -> Result<Vec<KeyRow>, StoreError> {
        let query = sqlx::query(
            "SELECT id, key_sealed, label_sealed, created_at, used_at FROM officer_key WHERE officer_id = $1 ORDER BY created_at, id",
        )
        .bind(officer.to_string());
        self.all(query)
            .await?
            .into_iter()
            .map(|row| {
                Ok(KeyRow {
                    id: row.try_get(0)?,
                    key_sealed: row.try_get(1)?,
                    label_sealed: row.try_get(2)?,
                    created_at: Timestamp::from_micros(row.try_get(3)?),
                    used_at: row
                        .try_get::<Option<i64>, _>(4)?
                        .map(Timestamp::from_micros),
                })
            })
            .collect()
    }

    /// The sealed secret of an account's one-time codes.
    ///
    /// # Errors
    /// The database failed.
    pub async fn officer_code(&self, officer: OfficerId) -> Result<Option<Vec<u8>>, StoreError> {
        let query = sqlx::query("SELECT secret_sealed FROM officer_code WHERE officer_id = $1")
            .bind(officer.to_string());
        self.optional(query)
            .await?
            .map(|row| Ok(row.try_get(0)?))
            .transpose()
    }

    /// A question that still waits.
    ///
    /// # Errors
    /// The database failed.
    pub async fn ceremony(
        &self,
        id: &str,
        now: Timestamp,
    ) -> Result<Option<CeremonyRow>, StoreError> {
        let query = sqlx::query(
            "SELECT officer_id, state_sealed, failures FROM ceremony WHERE id = $1 AND expires_at > $2",
        )
        .bind(id.to_owned())
        .bind(now.as_micros());
        let row = self.optional(query).await?;
        row.map(|row| ceremony(&row)).transpose()
    }
}
