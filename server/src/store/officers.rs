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
    /// Stable name of the role.
    pub role: String,
    /// PHC string of the password hash.
    pub password_hash: String,
    /// Wrong passwords since the last right one.
    pub failures: i64,
    /// No attempt is looked at before this.
    pub blocked_until: Timestamp,
    /// The account was ended.
    pub disabled: bool,
}

/// An account in a list.
#[derive(Debug, Clone)]
pub struct AccountRow {
    /// Who.
    pub id: OfficerId,
    /// Sealed name.
    pub name_sealed: Vec<u8>,
    /// Stable name of the role.
    pub role: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was ended.
    pub disabled_at: Option<Timestamp>,
}

/// What a set-up token is for.
#[derive(Debug, Clone)]
pub struct SetupRow {
    /// Stable name of the role.
    pub role: String,
    /// The account that it renews; a new one otherwise.
    pub officer: Option<OfficerId>,
    /// It works until then.
    pub expires_at: Timestamp,
    /// The server's code over all of it.
    pub code: String,
}

/// A session's row.
#[derive(Debug, Clone)]
pub struct SessionRow {
    /// Whose.
    pub officer: OfficerId,
    /// Sealed name.
    pub name_sealed: Vec<u8>,
    /// Stable name of the role.
    pub role: String,
    /// Token that forms carry.
    pub csrf: String,
    /// What it was opened with.
    pub level: i64,
    /// When the officer last proved it.
    pub fresh_at: Timestamp,
    /// Signed in.
    pub created_at: Timestamp,
    /// Last used.
    pub last_seen: Timestamp,
    /// The server's code over the row.
    pub code: String,
}

fn setup_row(row: &sqlx::any::AnyRow) -> Result<SetupRow, StoreError> {
    let officer: Option<String> = row.try_get(1)?;
    Ok(SetupRow {
        role: row.try_get(0)?,
        officer: officer.map(officer_id).transpose()?,
        expires_at: Timestamp::from_micros(row.try_get(2)?),
        code: row.try_get(3)?,
    })
}

fn officer_row(row: &sqlx::any::AnyRow) -> Result<OfficerRow, StoreError> {
    Ok(OfficerRow {
        id: officer_id(row.try_get(0)?)?,
        name_sealed: row.try_get(1)?,
        role: row.try_get(6)?,
        password_hash: row.try_get(2)?,
        failures: row.try_get(3)?,
        blocked_until: Timestamp::from_micros(row.try_get(4)?),
        disabled: row.try_get::<Option<i64>, _>(5)?.is_some(),
    })
}

pub(super) fn officer_id(text: String) -> Result<OfficerId, StoreError> {
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

    /// Uses a set-up token up; what it is for, or `None` when it is unknown, used or expired.
    ///
    /// # Errors
    /// The database failed.
    pub async fn setup_token_use(
        &mut self,
        secret_sha256: &str,
        now: Timestamp,
    ) -> Result<Option<SetupRow>, StoreError> {
        let row = sqlx::query(
            "UPDATE setup_token SET used_at = $1 WHERE secret_sha256 = $2 AND used_at IS NULL AND expires_at > $1 RETURNING role, officer_id, expires_at, code",
        )
        .bind(now.as_micros())
        .bind(secret_sha256.to_owned())
        .fetch_optional(&mut *self.transaction)
        .await?;
        row.map(|row| setup_row(&row)).transpose()
    }

    /// Gives an account a new password and ends its sessions; `false` when there is no such account that goes on.
    ///
    /// # Errors
    /// The database failed.
    pub async fn officer_renew(
        &mut self,
        id: OfficerId,
        password_hash: &str,
    ) -> Result<bool, StoreError> {
        let done = sqlx::query(
            "UPDATE officer SET password_hash = $1, failures = 0, blocked_until = 0 WHERE id = $2 AND disabled_at IS NULL",
        )
        .bind(password_hash.to_owned())
        .bind(id.to_string())
        .execute(&mut *self.transaction)
        .await?;
        self.sessions_end(id).await?;
        Ok(done.rows_affected() == 1)
    }

    /// Ends an account with its sessions and set-up links; `false` when it had ended.
    ///
    /// # Errors
    /// The database failed.
    pub async fn officer_disable(
        &mut self,
        id: OfficerId,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let done = sqlx::query(
            "UPDATE officer SET disabled_at = $1 WHERE id = $2 AND disabled_at IS NULL",
        )
        .bind(now.as_micros())
        .bind(id.to_string())
        .execute(&mut *self.transaction)
        .await?;
        self.sessions_end(id).await?;
        sqlx::query("DELETE FROM setup_token WHERE officer_id = $1")
            .bind(id.to_string())
            .execute(&mut *self.transaction)
            .await?;
        Ok(done.rows_affected() == 1)
    }

    /// Ends all sessions of an account.
    ///
    /// # Errors
    /// The database failed.
    pub async fn sessions_end(&mut self, id: OfficerId) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM session WHERE officer_id = $1")
            .bind(id.to_string())
            .execute(&mut *self.transaction)
            .await?;
        Ok(())
    }

    /// Adds a set-up token's hash.
    ///
    /// # Errors
    /// The database failed.
    pub async fn setup_token_insert(
        &mut self,
        secret_sha256: &str,
        role: &str,
        officer: Option<OfficerId>,
        expires_at: Timestamp,
        code: &str,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO setup_token (secret_sha256, role, officer_id, expires_at, code) VALUES ($1, $2, $3, $4, $5)",
        )
        .bind(secret_sha256.to_owned())
        .bind(role.to_owned())
        .bind(officer.map(|id| id.to_string()))
        .bind(expires_at.as_micros())
        .bind(code.to_owned())
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
        session: &SessionRow,
    ) -> Result<(), StoreError> {
        sqlx::query("INSERT INTO session (token_sha256, officer_id, csrf, level, created_at, last_seen, fresh_at, code) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)")
            .bind(token_sha256.to_owned())
            .bind(session.officer.to_string())
            .bind(session.csrf.clone())
            .bind(session.level)
            .bind(session.created_at.as_micros())
            .bind(session.last_seen.as_micros())
            .bind(session.fresh_at.as_micros())
            .bind(session.code.clone())
            .execute(&mut *self.transaction)
            .await?;
        Ok(())
    }

    /// The officer of a session has just proved to be there, with this.
    ///
    /// # Errors
    /// The database failed.
    pub async fn session_proved(
        &mut self,
        token_sha256: &str,
        level: i64,
        now: Timestamp,
        code: &str,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE session SET level = $1, fresh_at = $2, code = $4 WHERE token_sha256 = $3",
        )
        .bind(level)
        .bind(now.as_micros())
        .bind(token_sha256.to_owned())
        .bind(code.to_owned())
        .execute(&mut *self.transaction)
        .await?;
        Ok(())
    }

    /// Ends all sessions of an account but one.
    ///
    /// # Errors
    /// The database failed.
    pub async fn sessions_end_others(
        &mut self,
        id: OfficerId,
        token_sha256: &str,
    ) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM session WHERE officer_id = $1 AND token_sha256 <> $2")
            .bind(id.to_string())
            .bind(token_sha256.to_owned())
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
            "SELECT id, name_sealed, password_hash, failures, blocked_until, disabled_at, role FROM officer WHERE name_key = $1",
        )
        .bind(name_key.to_owned());
        let row = self.optional(query).await?;
        row.map(|row| officer_row(&row)).transpose()
    }

    /// The account with this id.
    ///
    /// # Errors
    /// The database failed.
    pub async fn officer(&self, id: OfficerId) -> Result<Option<OfficerRow>, StoreError> {
        let query = sqlx::query(
            "SELECT id, name_sealed, password_hash, failures, blocked_until, disabled_at, role FROM officer WHERE id = $1",
        )
        .bind(id.to_string());
        let row = self.optional(query).await?;
        row.map(|row| officer_row(&row)).transpose()
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

    /// All accounts, oldest first.
    ///
    /// # Errors
    /// The database failed.
    pub async fn officers(&self) -> Result<Vec<AccountRow>, StoreError> {
        let query = sqlx::query(
            "SELECT id, name_sealed, role, created_at, disabled_at FROM officer ORDER BY created_at, id",
        );
        self.all(query)
            .await?
            .into_iter()
            .map(|row| {
                Ok(AccountRow {
                    id: officer_id(row.try_get(0)?)?,
                    name_sealed: row.try_get(1)?,
                    role: row.try_get(2)?,
                    created_at: Timestamp::from_micros(row.try_get(3)?),
                    disabled_at: row
                        .try_get::<Option<i64>, _>(4)?
                        .map(Timestamp::from_micros),
                })
            })
            .collect()
    }

    /// Could this set-up token be used now, and what for?
    ///
    /// # Errors
    /// The database failed.
    pub async fn setup_token(
        &self,
        secret_sha256: &str,
        now: Timestamp,
    ) -> Result<Option<SetupRow>, StoreError> {
        let query = sqlx::query(
            "SELECT role, officer_id, expires_at, code FROM setup_token WHERE secret_sha256 = $1 AND used_at IS NULL AND expires_at > $2",
        )
        .bind(secret_sha256.to_owned())
        .bind(now.as_micros());
        self.optional(query)
            .await?
            .map(|row| setup_row(&row))
            .transpose()
    }

    /// A session with its officer, whose account goes on.
    ///
    /// # Errors
    /// The database failed.
    pub async fn session(&self, token_sha256: &str) -> Result<Option<SessionRow>, StoreError> {
        let query = sqlx::query(
            "SELECT o.id, o.name_sealed, o.role, s.csrf, s.created_at, s.last_seen, s.level, s.fresh_at, s.code FROM session s JOIN officer o ON o.id = s.officer_id WHERE s.token_sha256 = $1 AND o.disabled_at IS NULL",
        )
        .bind(token_sha256.to_owned());
        self.optional(query)
            .await?
            .map(|row| {
                Ok(SessionRow {
                    officer: officer_id(row.try_get(0)?)?,
                    name_sealed: row.try_get(1)?,
                    role: row.try_get(2)?,
                    csrf: row.try_get(3)?,
                    created_at: Timestamp::from_micros(row.try_get(4)?),
                    last_seen: Timestamp::from_micros(row.try_get(5)?),
                    level: row.try_get(6)?,
                    fresh_at: Timestamp::from_micros(row.try_get(7)?),
                    code: row.try_get(8)?,
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
