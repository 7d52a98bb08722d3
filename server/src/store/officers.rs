//! Console accounts, sessions and set-up tokens.

use sallyport_domain::{OfficerId, Timestamp};
use sqlx::Row;

use super::{Store, StoreError, Write};

/// An account's row.
#[derive(Debug, Clone)]
pub struct OfficerRow {
    /// Who.
    pub id: OfficerId,
    /// Sealed name.
    pub name_sealed: Vec<u8>,
    /// PHC string of the password hash.
    pub password_hash: String,
    /// Wrong passwords since the last right one.
    pub failures: i64,
    /// No attempt is looked at before this.
    pub blocked_until: Timestamp,
}

/// A session's row.
#[derive(Debug, Clone)]
pub struct SessionRow {
    /// Whose.
    pub officer: OfficerId,
    /// Sealed name.
    pub name_sealed: Vec<u8>,
    /// Token that forms carry.
    pub csrf: String,
    /// Signed in.
    pub created_at: Timestamp,
    /// Last used.
    pub last_seen: Timestamp,
}

fn officer_id(text: String) -> Result<OfficerId, StoreError> {
    text.parse().map_err(|_| StoreError::Corrupt("officer.id"))
}

impl Write<'_> {
    /// Adds an account; `false` when the name is taken.
    ///
    /// # Errors
    /// The database failed.
    pub async fn officer_insert(
        &mut self,
        id: OfficerId,
        name_key: &str,
        name_sealed: Vec<u8>,
        role: &str,
        password_hash: &str,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let done = sqlx::query(
            "INSERT INTO officer (id, name_key, name_sealed, role, password_hash, failures, blocked_until, created_at) VALUES ($1, $2, $3, $4, $5, 0, 0, $6) ON CONFLICT (name_key) DO NOTHING",
        )
        .bind(id.to_string())
        .bind(name_key.to_owned())
        .bind(name_sealed)
        .bind(role.to_owned())
        .bind(password_hash.to_owned())
        .bind(now.as_micros())
        .execute(&mut *self.transaction)
        .await?;
        Ok(done.rows_affected() == 1)
    }

    /// Uses a set-up token up; the role it gives, or `None` when it is unknown, used or expired.
    ///
    /// # Errors
    /// The database failed.
    pub async fn setup_token_use(
        &mut self,
        secret_sha256: &str,
        now: Timestamp,
    ) -> Result<Option<String>, StoreError> {
        let row = sqlx::query(
            "UPDATE setup_token SET used_at = $1 WHERE secret_sha256 = $2 AND used_at IS NULL AND expires_at > $1 RETURNING role",
        )
        .bind(now.as_micros())
        .bind(secret_sha256.to_owned())
        .fetch_optional(&mut *self.transaction)
        .await?;
        row.map(|row| Ok(row.try_get(0)?)).transpose()
    }

    /// Adds a set-up token's hash.
    ///
    /// # Errors
    /// The database failed.
    pub async fn setup_token_insert(
        &mut self,
        secret_sha256: &str,
        role: &str,
        expires_at: Timestamp,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO setup_token (secret_sha256, role, expires_at) VALUES ($1, $2, $3)",
        )
        .bind(secret_sha256.to_owned())
        .bind(role.to_owned())
        .bind(expires_at.as_micros())
        .execute(&mut *self.transaction)
        .await?;
        Ok(())
    }

    /// Notes the outcome of a password check.
    ///
    /// # Errors
    /// The database failed.
    pub async fn officer_checked(
        &mut self,
        id: OfficerId,
        failures: i64,
        blocked_until: Timestamp,
    ) -> Result<(), StoreError> {
        sqlx::query("UPDATE officer SET failures = $1, blocked_until = $2 WHERE id = $3")
            .bind(failures)
            .bind(blocked_until.as_micros())
            .bind(id.to_string())
            .execute(&mut *self.transaction)
            .await?;
        Ok(())
    }

    /// Replaces a password hash by a stronger one of the same password.
    ///
    /// # Errors
    /// The database failed.
    pub async fn officer_rehash(
        &mut self,
        id: OfficerId,
        password_hash: &str,
    ) -> Result<(), StoreError> {
        sqlx::query("UPDATE officer SET password_hash = $1 WHERE id = $2")
            .bind(password_hash.to_owned())
            .bind(id.to_string())
            .execute(&mut *self.transaction)
            .await?;
        Ok(())
    }

    /// Adds a session.
    ///
    /// # Errors
    /// The database failed.
    pub async fn session_insert(
        &mut self,
        token_sha256: &str,
        officer: OfficerId,
        csrf: &str,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        sqlx::query("INSERT INTO session (token_sha256, officer_id, csrf, created_at, last_seen) VALUES ($1, $2, $3, $4, $4)")
            .bind(token_sha256.to_owned())
            .bind(officer.to_string())
            .bind(csrf.to_owned())
            .bind(now.as_micros())
            .execute(&mut *self.transaction)
            .await?;
        Ok(())
    }

    /// Ends a session.
    ///
    /// # Errors
    /// The database failed.
    pub async fn session_delete(&mut self, token_sha256: &str) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM session WHERE token_sha256 = $1")
            .bind(token_sha256.to_owned())
            .execute(&mut *self.transaction)
            .await?;
        Ok(())
    }
}

impl Store {
    /// The account with this keyed name.
    ///
    /// # Errors
    /// The database failed.
    pub async fn officer_by_name(&self, name_key: &str) -> Result<Option<OfficerRow>, StoreError> {
        let query = sqlx::query(
            "SELECT id, name_sealed, password_hash, failures, blocked_until FROM officer WHERE name_key = $1",
        )
        .bind(name_key.to_owned());
        self.optional(query)
            .await?
            .map(|row| {
                Ok(OfficerRow {
                    id: officer_id(row.try_get(0)?)?,
                    name_sealed: row.try_get(1)?,
                    password_hash: row.try_get(2)?,
                    failures: row.try_get(3)?,
                    blocked_until: Timestamp::from_micros(row.try_get(4)?),
                })
            })
            .transpose()
    }

    /// The sealed name of an account.
    ///
    /// # Errors
    /// The database failed.
    pub async fn officer_name(&self, id: OfficerId) -> Result<Option<Vec<u8>>, StoreError> {
        let query =
            sqlx::query("SELECT name_sealed FROM officer WHERE id = $1").bind(id.to_string());
        self.optional(query)
            .await?
            .map(|row| Ok(row.try_get(0)?))
            .transpose()
    }

    /// Could this set-up token be used now?
    ///
    /// # Errors
    /// The database failed.
    pub async fn setup_token_is_open(
        &self,
        secret_sha256: &str,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let query = sqlx::query(
            "SELECT role FROM setup_token WHERE secret_sha256 = $1 AND used_at IS NULL AND expires_at > $2",
        )
        .bind(secret_sha256.to_owned())
        .bind(now.as_micros());
        Ok(self.optional(query).await?.is_some())
    }

    /// A session with its officer.
    ///
    /// # Errors
    /// The database failed.
    pub async fn session(&self, token_sha256: &str) -> Result<Option<SessionRow>, StoreError> {
        let query = sqlx::query(
            "SELECT o.id, o.name_sealed, s.csrf, s.created_at, s.last_seen FROM session s JOIN officer o ON o.id = s.officer_id WHERE s.token_sha256 = $1",
        )
        .bind(token_sha256.to_owned());
        self.optional(query)
            .await?
            .map(|row| {
                Ok(SessionRow {
                    officer: officer_id(row.try_get(0)?)?,
                    name_sealed: row.try_get(1)?,
                    csrf: row.try_get(2)?,
                    created_at: Timestamp::from_micros(row.try_get(3)?),
                    last_seen: Timestamp::from_micros(row.try_get(4)?),
                })
            })
            .transpose()
    }

    /// Notes that a session was used.
    ///
    /// # Errors
    /// The database failed.
    pub async fn session_seen(&self, token_sha256: &str, now: Timestamp) -> Result<(), StoreError> {
        let query = sqlx::query("UPDATE session SET last_seen = $1 WHERE token_sha256 = $2")
            .bind(now.as_micros())
            .bind(token_sha256.to_owned());
        self.execute(query).await.map(drop)
    }
}
