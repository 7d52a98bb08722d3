//! Passages, door reports and reviews.

use sallyport_domain::{
    Direction, GateId, Modality, OfficerId, PadAssessment, QualityDefect, ReasonCode, SubjectId,
    Timestamp, TransactionId, Verdict,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sqlx::Row;
use sqlx::any::AnyRow;

use super::{Store, StoreError, Write};

/// An officer's review of a passage.
#[derive(Debug, Clone)]
pub struct ReviewRow {
    /// Who decided.
    pub officer: OfficerId,
    /// Grant or refuse.
    pub verdict: Verdict,
    /// The reason, sealed.
    pub reason_sealed: Vec<u8>,
    /// When.
    pub decided_at: Timestamp,
    /// Log entry.
    pub log_index: u64,
    /// When the gate fetched it and the door order was issued.
    pub fetched_at: Option<Timestamp>,
}

/// What one captured modality said. The names are those of the audit log; there is no score.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// Face, left or right iris.
    pub modality: Modality,
    /// SHA-256 of the model that made the probe.
    pub model: String,
    /// `not_compared`, `against`, `undecided`, `confirms` or `identifies`.
    pub verdict: String,
}

/// A passage with its review, if there is one.
#[derive(Debug, Clone)]
pub struct PassageRow {
    /// Which passage.
    pub transaction: TransactionId,
    /// Which gate.
    pub gate: GateId,
    /// Which way.
    pub direction: Direction,
    /// By the agent's clock.
    pub captured_at: Timestamp,
    /// By the server's clock.
    pub decided_at: Timestamp,
    /// Verdict of the first decision.
    pub verdict: Verdict,
    /// Its reason.
    pub reason: ReasonCode,
    /// Who may be meant, best first.
    pub candidates: Vec<SubjectId>,
    /// Presentation attack votes.
    pub pad: PadAssessment,
    /// Defects seen.
    pub defects: Vec<QualityDefect>,
    /// Policy version.
    pub policy: String,
    /// Model of the first probe; empty when there was none.
    pub model: String,
    /// What was captured, by which model, and what it said about the first candidate.
    pub findings: Vec<Finding>,
    /// SHA-256 of the request.
    pub request_sha256: String,
    /// The gate's nonce.
    pub door_nonce: String,
    /// Is a sealed picture stored?
    pub has_picture: bool,
    /// Log entry.
    pub log_index: u64,
    /// What the door reported.
    pub door_outcome: Option<String>,
    /// When, by the agent's clock.
    pub door_at: Option<Timestamp>,
    /// The officer's review.
    pub review: Option<ReviewRow>,
}

/// A stored door report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DoorReportRow {
    /// Which passage.
    pub transaction: TransactionId,
    /// Which gate.
    pub gate: GateId,
    /// What the door did.
    pub outcome: String,
    /// When, by the agent's clock.
    pub at: Timestamp,
    /// The agent's sequence number.
    pub sequence: i64,
}

macro_rules! passage_query {
    ($tail:literal) => {
        concat!(
            "SELECT p.transaction_id, p.gate_id, p.direction, p.captured_at, p.decided_at, p.verdict, p.reason, p.candidates, ",
            "p.pad, p.defects, p.policy, p.model, p.request_sha256, p.door_nonce, ",
            "CASE WHEN p.attachment_sealed IS NULL THEN 0 ELSE 1 END AS has_picture, ",
            "p.log_index, p.door_outcome, p.door_at, ",
            "r.officer_id, r.verdict AS r_verdict, r.reason_sealed, r.decided_at AS r_decided_at, r.log_index AS r_log_index, ",
            "r.fetched_at, p.findings FROM passage p LEFT JOIN review r ON r.transaction_id = p.transaction_id ",
            $tail
        )
    };
}

const ONE: &str = passage_query!("WHERE p.transaction_id = $1");
const RECENT: &str = passage_query!("WHERE p.log_index < $1 ORDER BY p.log_index DESC LIMIT $2");

fn coded<T: DeserializeOwned>(text: String, column: &'static str) -> Result<T, StoreError> {
    serde_json::from_value(serde_json::Value::String(text)).map_err(|_| StoreError::Corrupt(column))
}

fn json<T: DeserializeOwned>(text: &str, column: &'static str) -> Result<T, StoreError> {
    serde_json::from_str(text).map_err(|_| StoreError::Corrupt(column))
}

fn index(number: i64) -> Result<u64, StoreError> {
    u64::try_from(number).map_err(|_| StoreError::Corrupt("log_index"))
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn review_row(row: &AnyRow) -> Result<Option<ReviewRow>, StoreError> {
    let Some(officer) = row.try_get::<Option<String>, _>(18)? else {
        return Ok(None);
    };
    Ok(Some(ReviewRow {
        officer: officer
            .parse()
            .map_err(|_| StoreError::Corrupt("review.officer_id"))?,
        verdict: coded(row.try_get(19)?, "review.verdict")?,
        reason_sealed: row.try_get(20)?,
        decided_at: Timestamp::from_micros(row.try_get(21)?),
        log_index: index(row.try_get(22)?)?,
        fetched_at: row
            .try_get::<Option<i64>, _>(23)?
            .map(Timestamp::from_micros),
    }))
}

fn passage_row(row: &AnyRow) -> Result<PassageRow, StoreError> {
    let text = |column: usize| row.try_get::<String, _>(column);
    Ok(PassageRow {
        transaction: text(0)?
            .parse()
            .map_err(|_| StoreError::Corrupt("passage.transaction_id"))?,
        gate: text(1)?
            .parse()
            .map_err(|_| StoreError::Corrupt("passage.gate_id"))?,
        direction: coded(text(2)?, "passage.direction")?,
        captured_at: Timestamp::from_micros(row.try_get(3)?),
        decided_at: Timestamp::from_micros(row.try_get(4)?),
        verdict: coded(text(5)?, "passage.verdict")?,
        reason: coded(text(6)?, "passage.reason")?,
        candidates: json(&text(7)?, "passage.candidates")?,
        pad: json(&text(8)?, "passage.pad")?,
        defects: json(&text(9)?, "passage.defects")?,
        policy: text(10)?,
        model: text(11)?,
        request_sha256: text(12)?,
        door_nonce: text(13)?,
        // PostgreSQL gives a 32-bit integer here, SQLite a 64-bit one.
        has_picture: row
            .try_get::<i64, _>(14)
            .or_else(|_| row.try_get::<i32, _>(14).map(i64::from))?
            != 0,
        log_index: index(row.try_get(15)?)?,
        door_outcome: row.try_get(16)?,
        door_at: row
            .try_get::<Option<i64>, _>(17)?
            .map(Timestamp::from_micros),
        review: review_row(row)?,
        findings: json(&text(24)?, "passage.findings")?,
    })
}

fn to_json<T: serde::Serialize>(value: &T, column: &'static str) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|_| StoreError::Corrupt(column))
}

impl Write<'_> {
    /// One passage, as the transaction sees it.
    ///
    /// # Errors
    /// The database failed.
    pub async fn passage(&mut self, id: TransactionId) -> Result<Option<PassageRow>, StoreError> {
        let row = sqlx::query(ONE)
            .bind(id.to_string())
            .fetch_optional(&mut *self.transaction)
            .await?;
        row.as_ref().map(passage_row).transpose()
    }

    /// Adds a passage that was decided by this text of the gate's policy; `false` when the gate has another one by now. Door outcome
    /// and review of the row are ignored: they come later.
    ///
    /// # Errors
    /// The database failed, or it exists.
    pub async fn passage_insert(
        &mut self,
        row: &PassageRow,
        policy: &str,
        attachment: Option<Vec<u8>>,
    ) -> Result<bool, StoreError> {
        // One statement, not two: this is under the lock for which every passage waits.
        let done = sqlx::query(
            "INSERT INTO passage (transaction_id, gate_id, direction, captured_at, decided_at, verdict, reason, candidates, \
             pad, defects, policy, model, request_sha256, door_nonce, attachment_sealed, log_index, findings) \
             SELECT $1, id, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17 FROM gate WHERE id = $2 AND policy = $18",
        )
        .bind(row.transaction.to_string())
        .bind(row.gate.to_string())
        .bind(row.direction.code().to_owned())
        .bind(row.captured_at.as_micros())
        .bind(row.decided_at.as_micros())
        .bind(row.verdict.code().to_owned())
        .bind(row.reason.code().to_owned())
        .bind(to_json(&row.candidates, "passage.candidates")?)
        .bind(to_json(&row.pad, "passage.pad")?)
        .bind(to_json(&row.defects, "passage.defects")?)
        .bind(row.policy.clone())
        .bind(row.model.clone())
        .bind(row.request_sha256.clone())
        .bind(row.door_nonce.clone())
        .bind(attachment)
        .bind(signed(row.log_index))
        .bind(to_json(&row.findings, "passage.findings")?)
        .bind(policy.to_owned())
        .execute(&mut *self.transaction)
        .await?;
        Ok(done.rows_affected() == 1)
    }

    /// Adds an officer's review.
    ///
    /// # Errors
    /// The database failed, or the passage was reviewed already.
    pub async fn review_insert(
        &mut self,
        id: TransactionId,
        review: &ReviewRow,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO review (transaction_id, officer_id, verdict, reason_sealed, decided_at, log_index) \
             VALUES ($1, $2, $3, $4, $5, $6)",
        )
        .bind(id.to_string())
        .bind(review.officer.to_string())
        .bind(review.verdict.code().to_owned())
        .bind(review.reason_sealed.clone())
        .bind(review.decided_at.as_micros())
        .bind(signed(review.log_index))
        .execute(&mut *self.transaction)
        .await?;
        Ok(())
    }

    /// Marks a review as fetched by its gate; `false` when it was fetched before.
    ///
    /// # Errors
    /// The database failed.
    pub async fn review_fetch(
        &mut self,
        id: TransactionId,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let done = sqlx::query(
            "UPDATE review SET fetched_at = $1 WHERE transaction_id = $2 AND fetched_at IS NULL",
        )
        .bind(now.as_micros())
        .bind(id.to_string())
        .execute(&mut *self.transaction)
        .await?;
        Ok(done.rows_affected() == 1)
    }

    /// The door report of a passage.
    ///
    /// # Errors
    /// The database failed.
    pub async fn door_report(
        &mut self,
        id: TransactionId,
    ) -> Result<Option<DoorReportRow>, StoreError> {
        let row = sqlx::query(
            "SELECT gate_id, outcome, at, sequence FROM door_report WHERE transaction_id = $1",
        )
        .bind(id.to_string())
        .fetch_optional(&mut *self.transaction)
        .await?;
        row.map(|row| {
            Ok(DoorReportRow {
                transaction: id,
                gate: row
                    .try_get::<String, _>(0)?
                    .parse()
                    .map_err(|_| StoreError::Corrupt("door_report.gate_id"))?,
                outcome: row.try_get(1)?,
                at: Timestamp::from_micros(row.try_get(2)?),
                sequence: row.try_get(3)?,
            })
        })
        .transpose()
    }

    /// The largest number of a gate's door reports; 0 without any.
    ///
    /// # Errors
    /// The database failed.
    pub async fn door_report_newest(&mut self, gate: &GateId) -> Result<u64, StoreError> {
        let row =
            sqlx::query("SELECT COALESCE(MAX(sequence), 0) FROM door_report WHERE gate_id = $1")
                .bind(gate.to_string())
                .fetch_one(&mut *self.transaction)
                .await?;
        u64::try_from(row.try_get::<i64, _>(0)?)
            .map_err(|_| StoreError::Corrupt("door_report.sequence"))
    }

    /// Adds a door report, and notes the outcome at its passage; `false` when there is no such passage.
    ///
    /// # Errors
    /// The database failed, or it exists.
    pub async fn door_report_insert(
        &mut self,
        report: &DoorReportRow,
        log_index: u64,
    ) -> Result<bool, StoreError> {
        sqlx::query(
            "INSERT INTO door_report (transaction_id, gate_id, outcome, at, sequence, log_index) \
             VALUES ($1, $2, $3, $4, $5, $6)",
        )
        .bind(report.transaction.to_string())
        .bind(report.gate.to_string())
        .bind(report.outcome.clone())
        .bind(report.at.as_micros())
        .bind(report.sequence)
        .bind(signed(log_index))
        .execute(&mut *self.transaction)
        .await?;
        let done = sqlx::query(
            "UPDATE passage SET door_outcome = $1, door_at = $2 WHERE transaction_id = $3 AND gate_id = $4",
        )
        .bind(report.outcome.clone())
        .bind(report.at.as_micros())
        .bind(report.transaction.to_string())
        .bind(report.gate.to_string())
        .execute(&mut *self.transaction)
        .await?;
        Ok(done.rows_affected() == 1)
    }
}

impl Store {
    /// One passage.
    ///
    /// # Errors
    /// The database failed.
    pub async fn passage(&self, id: TransactionId) -> Result<Option<PassageRow>, StoreError> {
        self.optional(sqlx::query(ONE).bind(id.to_string()))
            .await?
            .as_ref()
            .map(passage_row)
            .transpose()
    }

    /// Passages with a log index below `before`, newest first.
    ///
    /// # Errors
    /// The database failed.
    pub async fn passages(
        &self,
        before: Option<i64>,
        limit: u32,
    ) -> Result<Vec<PassageRow>, StoreError> {
        let query = sqlx::query(RECENT)
            .bind(before.unwrap_or(i64::MAX))
            .bind(i64::from(limit));
        self.all(query).await?.iter().map(passage_row).collect()
    }

    /// The sealed picture of a passage.
    ///
    /// # Errors
    /// The database failed.
    pub async fn passage_picture(&self, id: TransactionId) -> Result<Option<Vec<u8>>, StoreError> {
        let query = sqlx::query("SELECT attachment_sealed FROM passage WHERE transaction_id = $1")
            .bind(id.to_string());
        let row = self.optional(query).await?;
        Ok(row
            .map(|row| row.try_get::<Option<Vec<u8>>, _>(0))
            .transpose()?
            .flatten())
    }
}
