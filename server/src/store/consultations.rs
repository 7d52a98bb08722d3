//! Consultations with a reason, quotas, wings.

use sallyport_domain::{OfficerId, SubjectId, Timestamp};
use sqlx::Row;

use super::officers::officer_id;
use super::{Store, StoreError, Write};

/// How many records an officer opened lately.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Opened {
    /// In the last hour.
    pub hour: u64,
    /// In the last day.
    pub day: u64,
}

const HOUR_MS: i64 = 60 * 60 * 1_000;
const DAY_MS: i64 = 24 * HOUR_MS;

fn opened(row: &sqlx::any::AnyRow) -> Result<Opened, StoreError> {
    let count = |at: usize| -> Result<u64, StoreError> {
        let count: i64 = row.try_get(at)?;
        u64::try_from(count).map_err(|_| StoreError::Corrupt("consultation"))
    };
    Ok(Opened {
        hour: count(0)?,
        day: count(1)?,
    })
}

impl Write<'_> {
    /// Notes an opened record, and forgets those older than two days.
    ///
    /// # Errors
    /// The database failed.
    pub async fn consultation_insert(
        &mut self,
        log_index: u64,
        officer: OfficerId,
        about: &str,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM consultation WHERE at < $1")
            .bind(now.plus_millis(-2 * DAY_MS).as_micros())
            .execute(&mut *self.transaction)
            .await?;
        sqlx::query(
            "INSERT INTO consultation (log_index, officer_id, about, at) VALUES ($1, $2, $3, $4)",
        )
        .bind(i64::try_from(log_index).map_err(|_| StoreError::Corrupt("log_index"))?)
        .bind(officer.to_string())
        .bind(about.to_owned())
        .bind(now.as_micros())
        .execute(&mut *self.transaction)
        .await?;
        Ok(())
    }

    /// What the officer opened, with what this transaction adds.
    ///
    /// # Errors
    /// The database failed.
    pub async fn consultations_of(
        &mut self,
        officer: OfficerId,
        now: Timestamp,
    ) -> Result<Opened, StoreError> {
        let row = sqlx::query(
            "SELECT CAST(COALESCE(SUM(CASE WHEN at > $2 THEN 1 ELSE 0 END), 0) AS BIGINT), CAST(COUNT(*) AS BIGINT) FROM consultation WHERE officer_id = $1 AND at > $3",
        )
        .bind(officer.to_string())
        .bind(now.plus_millis(-HOUR_MS).as_micros())
        .bind(now.plus_millis(-DAY_MS).as_micros())
        .fetch_one(&mut *self.transaction)
        .await?;
        opened(&row)
    }

    /// Raises an officer's quota until then.
    ///
    /// # Errors
    /// The database failed.
    pub async fn quota_raise(
        &mut self,
        officer: OfficerId,
        until: Timestamp,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO quota_raise (officer_id, until) VALUES ($1, $2) ON CONFLICT (officer_id) DO UPDATE SET until = excluded.until",
        )
        .bind(officer.to_string())
        .bind(until.as_micros())
        .execute(&mut *self.transaction)
        .await?;
        Ok(())
    }

    /// Replaces an officer's wings; none means all.
    ///
    /// # Errors
    /// The database failed.
    pub async fn officer_wings_set(
        &mut self,
        officer: OfficerId,
        wings: &[String],
    ) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM officer_wing WHERE officer_id = $1")
            .bind(officer.to_string())
            .execute(&mut *self.transaction)
            .await?;
        for wing in wings {
            sqlx::query("INSERT INTO officer_wing (officer_id, wing) VALUES ($1, $2) ON CONFLICT (officer_id, wing) DO NOTHING")
                .bind(officer.to_string())
                .bind(wing.clone())
                .execute(&mut *self.transaction)
                .await?;
        }
        Ok(())
    }

    /// Sets or removes a subject's wing.
    ///
    /// # Errors
    /// The database failed, or there is no such subject.
    pub async fn subject_wing_set(
        &mut self,
        subject: SubjectId,
        wing_sealed: Option<Vec<u8>>,
    ) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM subject_wing WHERE subject_id = $1")
            .bind(subject.to_string())
            .execute(&mut *self.transaction)
            .await?;
        if let Some(sealed) = wing_sealed {
            sqlx::query("INSERT INTO subject_wing (subject_id, wing_sealed) VALUES ($1, $2)")
                .bind(subject.to_string())
                .bind(sealed)
                .execute(&mut *self.transaction)
                .await?;
        }
        Ok(())
    }
}

impl Store {
    /// The log entry with which the officer last opened this.
    ///
    /// # Errors
    /// The database failed.
    pub async fn consulted(
        &self,
        officer: OfficerId,
        about: &str,
    ) -> Result<Option<u64>, StoreError> {
        let query = sqlx::query(
            "SELECT log_index FROM consultation WHERE officer_id = $1 AND about = $2 ORDER BY at DESC, log_index DESC LIMIT 1",
        )
        .bind(officer.to_string())
        .bind(about.to_owned());
        self.optional(query)
            .await?
            .map(|row| {
                let index: i64 = row.try_get(0)?;
                u64::try_from(index).map_err(|_| StoreError::Corrupt("consultation.log_index"))
            })
            .transpose()
    }

    /// Until when an officer's quota is raised.
    ///
    /// # Errors
    /// The database failed.
    pub async fn quota_raised_until(
        &self,
        officer: OfficerId,
    ) -> Result<Option<Timestamp>, StoreError> {
        let query = sqlx::query("SELECT until FROM quota_raise WHERE officer_id = $1")
            .bind(officer.to_string());
        self.optional(query)
            .await?
            .map(|row| Ok(Timestamp::from_micros(row.try_get(0)?)))
            .transpose()
    }

    /// Who opened records in the last day, and how many.
    ///
    /// # Errors
    /// The database failed.
    pub async fn consultations(
        &self,
        now: Timestamp,
    ) -> Result<Vec<(OfficerId, Opened)>, StoreError> {
        let query = sqlx::query(
            "SELECT CAST(SUM(CASE WHEN at > $1 THEN 1 ELSE 0 END) AS BIGINT), CAST(COUNT(*) AS BIGINT), officer_id FROM consultation WHERE at > $2 GROUP BY officer_id ORDER BY officer_id",
        )
        .bind(now.plus_millis(-HOUR_MS).as_micros())
        .bind(now.plus_millis(-DAY_MS).as_micros());
        self.all(query)
            .await?
            .into_iter()
            .map(|row| Ok((officer_id(row.try_get(2)?)?, opened(&row)?)))
            .collect()
    }

    /// Wings of an officer; none means all.
    ///
    /// # Errors
    /// The database failed.
    pub async fn officer_wings(&self, officer: OfficerId) -> Result<Vec<String>, StoreError> {
        let query =
            sqlx::query("SELECT wing FROM officer_wing WHERE officer_id = $1 ORDER BY wing")
                .bind(officer.to_string());
        self.all(query)
            .await?
            .into_iter()
            .map(|row| Ok(row.try_get(0)?))
            .collect()
    }

    /// The sealed wing of a subject.
    ///
    /// # Errors
    /// The database failed.
    pub async fn subject_wing(&self, subject: SubjectId) -> Result<Option<Vec<u8>>, StoreError> {
        let query = sqlx::query("SELECT wing_sealed FROM subject_wing WHERE subject_id = $1")
            .bind(subject.to_string());
        self.optional(query)
            .await?
            .map(|row| Ok(row.try_get(0)?))
            .transpose()
    }
}
