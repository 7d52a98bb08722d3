//! Gates, their keys and join tokens.

use sallyport_domain::{GateId, Timestamp};
use sqlx::Row;

use super::{Store, StoreError, Write};

/// A gate's row.
#[derive(Debug, Clone)]
pub struct GateRow {
    /// Which gate.
    pub id: GateId,
    /// Which way it leads, `entry` or `exit`.
    pub direction: String,
    /// Its policy, JSON.
    pub policy: String,
    /// Locked down by an officer.
    pub locked_down: bool,
    /// Last heartbeat.
    pub last_seen: Option<Timestamp>,
    /// Health of its cameras, JSON.
    pub health: Option<String>,
}

fn gate_row(row: &sqlx::any::AnyRow) -> Result<GateRow, StoreError> {
    Ok(GateRow {
        id: row
            .try_get::<String, _>(0)?
            .parse()
            .map_err(|_| StoreError::Corrupt("gate.id"))?,
        direction: row.try_get(1)?,
        policy: row.try_get(2)?,
        locked_down: row.try_get::<i64, _>(3)? != 0,
        last_seen: row
            .try_get::<Option<i64>, _>(4)?
            .map(Timestamp::from_micros),
        health: row.try_get(5)?,
    })
}

impl Write<'_> {
    /// Adds a gate; `false` when it exists.
    ///
    /// # Errors
    /// The database failed.
    pub async fn gate_insert(
        &mut self,
        gate: &GateId,
        direction: &str,
        policy: &str,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let done = sqlx::query(
            "INSERT INTO gate (id, direction, policy, locked_down, created_at) VALUES ($1, $2, $3, 0, $4) ON CONFLICT (id) DO NOTHING",
        )
        .bind(gate.as_str().to_owned())
        .bind(direction.to_owned())
        .bind(policy.to_owned())
        .bind(now.as_micros())
        .execute(&mut *self.transaction)
        .await?;
        Ok(done.rows_affected() == 1)
    }

    /// Gives a gate another policy and nothing else; its direction then, or `None` when there is no such gate.
    ///
    /// # Errors
    /// The database failed.
    pub async fn gate_policy(
        &mut self,
        gate: &GateId,
        policy: &str,
    ) -> Result<Option<String>, StoreError> {
        let row = sqlx::query("UPDATE gate SET policy = $1 WHERE id = $2 RETURNING direction")
            .bind(policy.to_owned())
            .bind(gate.as_str().to_owned())
            .fetch_optional(&mut *self.transaction)
            .await?;
        Ok(row.map(|row| row.try_get(0)).transpose()?)
    }

    /// Adds a join token's hash.
    ///
    /// # Errors
    /// The database failed.
    pub async fn join_token_insert(
        &mut self,
        secret_sha256: &str,
        gate: &GateId,
        expires_at: Timestamp,
        code: &str,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO join_token (secret_sha256, gate_id, expires_at, code) VALUES ($1, $2, $3, $4)",
        )
        .bind(secret_sha256.to_owned())
        .bind(gate.as_str().to_owned())
        .bind(expires_at.as_micros())
        .bind(code.to_owned())
        .execute(&mut *self.transaction)
        .await?;
        Ok(())
    }

    /// Uses a join token up; `false` when it is unknown, used, expired or of another gate.
    ///
    /// # Errors
    /// The database failed.
    pub async fn join_token_use(
        &mut self,
        secret_sha256: &str,
        gate: &GateId,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let done = sqlx::query(
            "UPDATE join_token SET used_at = $1 WHERE secret_sha256 = $2 AND gate_id = $3 AND used_at IS NULL AND expires_at > $1",
        )
        .bind(now.as_micros())
        .bind(secret_sha256.to_owned())
        .bind(gate.as_str().to_owned())
        .execute(&mut *self.transaction)
        .await?;
        Ok(done.rows_affected() == 1)
    }

    /// Allows a key for a gate, again when the same gate asks with the same key; `false` when the key is another gate's or was revoked.
    ///
    /// # Errors
    /// The database failed.
    pub async fn gate_key_allow(
        &mut self,
        spki_sha256: &str,
        gate: &GateId,
        now: Timestamp,
        not_after: Timestamp,
        replaces: Option<&str>,
    ) -> Result<bool, StoreError> {
        let done = sqlx::query(
            "INSERT INTO gate_key (spki_sha256, gate_id, issued_at, not_after, replaces) VALUES ($1, $2, $3, $4, $5) \
             ON CONFLICT (spki_sha256) DO UPDATE SET issued_at = excluded.issued_at, not_after = excluded.not_after \
             WHERE gate_key.gate_id = excluded.gate_id AND gate_key.revoked_at IS NULL",
        )
        .bind(spki_sha256.to_owned())
        .bind(gate.as_str().to_owned())
        .bind(now.as_micros())
        .bind(not_after.as_micros())
        .bind(replaces.map(str::to_owned))
        .execute(&mut *self.transaction)
        .await?;
        Ok(done.rows_affected() == 1)
    }

    /// Ends one key of a gate; `false` when it had ended.
    ///
    /// # Errors
    /// The database failed.
    pub async fn gate_key_end(
        &mut self,
        spki_sha256: &str,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let done = sqlx::query(
            "UPDATE gate_key SET revoked_at = $1 WHERE spki_sha256 = $2 AND revoked_at IS NULL",
        )
        .bind(now.as_micros())
        .bind(spki_sha256.to_owned())
        .execute(&mut *self.transaction)
        .await?;
        Ok(done.rows_affected() == 1)
    }

    /// Revokes all keys of a gate; returns how many.
    ///
    /// # Errors
    /// The database failed.
    pub async fn gate_revoke(&mut self, gate: &GateId, now: Timestamp) -> Result<u64, StoreError> {
        let done = sqlx::query(
            "UPDATE gate_key SET revoked_at = $1 WHERE gate_id = $2 AND revoked_at IS NULL",
        )
        .bind(now.as_micros())
        .bind(gate.as_str().to_owned())
        .execute(&mut *self.transaction)
        .await?;
        Ok(done.rows_affected())
    }
}

impl Store {
    /// Could this join token be used now? Its end, and the server's code over it. Only [`Write::join_token_use`] decides.
    ///
    /// # Errors
    /// The database failed.
    pub async fn join_token_valid(
        &self,
        secret_sha256: &str,
        gate: &GateId,
        now: Timestamp,
    ) -> Result<Option<(Timestamp, String)>, StoreError> {
        let query = sqlx::query(
            "SELECT expires_at, code FROM join_token WHERE secret_sha256 = $1 AND gate_id = $2 AND used_at IS NULL AND expires_at > $3",
        )
        .bind(secret_sha256.to_owned())
        .bind(gate.as_str().to_owned())
        .bind(now.as_micros());
        self.optional(query)
            .await?
            .map(|row| Ok((Timestamp::from_micros(row.try_get(0)?), row.try_get(1)?)))
            .transpose()
    }

    /// Which gate may use this key now.
    ///
    /// # Errors
    /// The database failed.
    pub async fn gate_of_key(
        &self,
        spki_sha256: &str,
        now: Timestamp,
    ) -> Result<Option<GateId>, StoreError> {
        let query = sqlx::query(
            "SELECT gate_id FROM gate_key WHERE spki_sha256 = $1 AND revoked_at IS NULL AND not_after > $2",
        )
        .bind(spki_sha256.to_owned())
        .bind(now.as_micros());
        self.optional(query)
            .await?
            .map(|row| {
                row.try_get::<String, _>(0)?
                    .parse()
                    .map_err(|_| StoreError::Corrupt("gate_key.gate_id"))
            })
            .transpose()
    }

    /// The key that this one has followed, while it still goes on.
    ///
    /// # Errors
    /// The database failed.
    pub async fn gate_key_before(&self, spki_sha256: &str) -> Result<Option<String>, StoreError> {
        let query = sqlx::query(
            "SELECT old.spki_sha256 FROM gate_key new JOIN gate_key old ON old.spki_sha256 = new.replaces WHERE new.spki_sha256 = $1 AND old.revoked_at IS NULL",
        )
        .bind(spki_sha256.to_owned());
        let row = self.optional(query).await?;
        Ok(row.map(|row| row.try_get(0)).transpose()?)
    }

    /// One gate.
    ///
    /// # Errors
    /// The database failed.
    pub async fn gate(&self, gate: &GateId) -> Result<Option<GateRow>, StoreError> {
        let query = sqlx::query(
            "SELECT id, direction, policy, locked_down, last_seen, health FROM gate WHERE id = $1",
        )
        .bind(gate.as_str().to_owned());
        self.optional(query)
            .await?
            .as_ref()
            .map(gate_row)
            .transpose()
    }

    /// All gates by name.
    ///
    /// # Errors
    /// The database failed.
    pub async fn gates(&self) -> Result<Vec<GateRow>, StoreError> {
        let rows = self
            .all(sqlx::query("SELECT id, direction, policy, locked_down, last_seen, health FROM gate ORDER BY id"))
            .await?;
        rows.iter().map(gate_row).collect()
    }

    /// Notes a heartbeat.
    ///
    /// # Errors
    /// The database failed.
    pub async fn gate_seen(
        &self,
        gate: &GateId,
        now: Timestamp,
        health: &str,
    ) -> Result<(), StoreError> {
        let query = sqlx::query("UPDATE gate SET last_seen = $1, health = $2 WHERE id = $3")
            .bind(now.as_micros())
            .bind(health.to_owned())
            .bind(gate.as_str().to_owned());
        self.execute(query).await.map(drop)
    }
}
