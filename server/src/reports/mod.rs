//! Reports for people, out of the log alone: what is held about one person, what one officer did, what happened in one shift, and a
//! month in figures for the public. Each as JSON with the indexes of its entries, and as PDF.

pub mod groups;
mod pdf;
pub mod sample;

use std::collections::BTreeMap;

use sallyport_domain::{OfficerId, SubjectId, Timestamp};
use sallyport_transparency::{Entry, Selected};
use serde::Serialize;

use crate::audit::{self, AuditError};
use crate::state::AppState;
use crate::{demographics, error_rates, evidence, export, registry, witness};

/// One line of a report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Item {
    /// Index in the log.
    pub index: u64,
    /// When, UTC.
    pub time: String,
    /// What, by its kind.
    pub kind: String,
    /// Where.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gate: Option<String>,
    /// By whom: a role, or in a report for the service itself an id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// Outcome.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decision: Option<String>,
    /// Reason.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What it refers to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub about: Option<String>,
}

impl Item {
    fn new(index: u64, entry: &Entry, by: Option<String>) -> Self {
        Self {
            index,
            time: Timestamp::from_micros(entry.time).to_rfc3339(),
            kind: entry.kind.clone(),
            gate: entry.gate.clone(),
            by,
            decision: entry.decision.clone(),
            reason: entry.reason.clone(),
            about: entry.about.clone(),
        }
    }

    fn line(&self) -> String {
        let word = |text: &Option<String>| text.clone().unwrap_or_default();
        format!(
            "{:>8}  {}  {:<16} {:<14} {:<10} {} {}",
            self.index,
            self.time.get(..19).unwrap_or_default().replace('T', " "),
            self.kind.replace('_', " "),
            word(&self.gate),
            word(&self.decision),
            word(&self.reason),
            word(&self.by)
        )
        .trim_end()
        .to_owned()
    }
}

/// A report.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// What it is.
    pub title: String,
    /// Site.
    pub site: String,
    /// From when on, UTC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    /// Before when, UTC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
    /// When it was made, UTC.
    pub made: String,
    /// Sentences that belong to it.
    pub notes: Vec<String>,
    /// Figures by name.
    pub figures: BTreeMap<String, u64>,
    /// The measured error rates that held at the end.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub measured: Vec<String>,
    /// Referral rates by demographic group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub groups: Option<groups::Groups>,
    /// Items under headings.
    pub parts: BTreeMap<String, Vec<Item>>,
    /// The checkpoint that the proofs lead to, with its signatures.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<String>,
    /// The entries themselves with their proofs.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub proofs: Vec<Selected>,
}

impl Report {
    fn new(state: &AppState, title: &str) -> Self {
        Self {
            title: title.to_owned(),
            site: state.config.site.to_string(),
            since: None,
            until: None,
            made: state.clock.now().to_rfc3339(),
            notes: Vec::new(),
            figures: BTreeMap::new(),
            measured: Vec::new(),
            groups: None,
            parts: BTreeMap::new(),
            checkpoint: None,
            proofs: Vec::new(),
        }
    }

    fn period(mut self, since: Timestamp, until: Timestamp) -> Self {
        self.since = Some(since.to_rfc3339());
        self.until = Some(until.to_rfc3339());
        self
    }

    fn count(&mut self, name: &str) {
        *self.figures.entry(name.to_owned()).or_default() += 1;
    }

    fn put(&mut self, part: &str, item: Item) {
        self.parts.entry(part.to_owned()).or_default().push(item);
    }

    /// The report as JSON.
    #[must_use]
    pub fn to_json(&self) -> String {
        let mut text = serde_json::to_string_pretty(self).unwrap_or_default();
        text.push('\n');
        text
    }

    /// The report as lines for people.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let mut lines = vec![self.title.clone(), format!("Site: {}", self.site)];
        if let (Some(since), Some(until)) = (&self.since, &self.until) {
            lines.push(format!("From {since} until before {until}"));
        }
        lines.push(format!("Made {}", self.made));
        lines.push(String::new());
        lines.extend(self.notes.iter().cloned());
        if !self.figures.is_empty() {
            lines.push(String::new());
        }
        for (name, figure) in &self.figures {
            lines.push(format!("{figure:>8}  {name}"));
        }
        if !self.measured.is_empty() {
            lines.push(String::new());
            lines.push("Measured error rates".to_owned());
            lines.extend(self.measured.iter().cloned());
        }
        if let Some(groups) = &self.groups {
            lines.push(String::new());
            lines.push("Referral rate by demographic group".to_owned());
            lines.extend(groups.rows.iter().map(groups::GroupRow::line));
            lines.extend(groups.notes.iter().cloned());
        }
        for (part, items) in &self.parts {
            lines.push(String::new());
            lines.push(format!("{part} ({})", items.len()));
            lines.extend(items.iter().map(Item::line));
        }
        lines
    }

    /// The report as PDF.
    #[must_use]
    pub fn to_pdf(&self) -> Vec<u8> {
        pdf::document(&self.lines())
    }
}

/// What is held about a person and what was done with it: passages, acts, and every look at the record with role and reason.
///
/// # Errors
/// The database failed.
pub async fn of_subject(state: &AppState, subject: SubjectId) -> Result<Report, AuditError> {
    audit::publish(state).await?;
    let policy = witness::policy(state).await?;
    let (note, size) = export::chosen(state, &policy, true).await?;
    let id = subject.to_string();
    let mut report = Report::new(state, "What is recorded about you");
    report.notes.push(format!("Person (pseudonym): {id}"));
    match registry::display_name(state, subject).await {
        Ok(Some(name)) => report.notes.push(format!("Name: {name}")),
        Ok(None) => report.notes.push(
            "This person is not in the registry any more; the log keeps the pseudonym only."
                .to_owned(),
        ),
        Err(_) => report.notes.push("The name cannot be read.".to_owned()),
    }
    match demographics::group(state, subject).await {
        Ok(Some(recorded)) => {
            let held = state.profile();
            let listed = held.profile.groups().of_words(&recorded);
            let group = listed.map_or(recorded.as_str(), |group| &group.words);
            report.notes.push(format!(
                "Demographic group, as you stated it: {group}. It is used for referral rates by group and nothing else."
            ));
        }
        Ok(None) => {}
        Err(_) => report
            .notes
            .push("A demographic group is recorded and cannot be read.".to_owned()),
    }
    report.notes.push(
        "Passages at which you were only one of several who looked alike are listed where you stood first.".to_owned(),
    );
    report.notes.push(
        "Officers are named by their role. Each line carries the number of its entry in the log; the JSON form of this report holds \
         the entries with proofs that sallyport-audit checks."
            .to_owned(),
    );
    let mut taken = Vec::new();
    evidence::scan(state, size, |index, entry, bytes| {
        if entry.subject.as_deref() == Some(&id) {
            taken.push((index, entry.clone(), bytes.to_vec()));
        }
    })
    .await?;
    let mut roles = BTreeMap::new();
    for (index, entry, bytes) in taken {
        let by = match &entry.actor {
            Some(actor) => Some(role(state, actor, &mut roles).await?),
            None => None,
        };
        let part = match entry.kind.as_str() {
            "passage" | "door" => "Passages",
            "consultation" | "export" => "Looks at your record",
            _ => "Changes and other acts",
        };
        report.count(part);
        report.put(part, Item::new(index, &entry, by));
        report
            .proofs
            .push(evidence::selected(state, index, bytes, size).await?);
    }
    report.checkpoint = Some(note);
    Ok(report)
}

/// A look at a person's record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Look {
    /// When.
    pub at: Timestamp,
    /// By whom: a role, never a name.
    pub by: String,
    /// Code of the reason, without the case's number: that may be somebody else's case.
    pub reason: String,
}

/// Every look at a person's record, and every export about this person, oldest first.
///
/// # Errors
/// The database failed.
pub async fn looks(state: &AppState, subject: SubjectId) -> Result<Vec<Look>, AuditError> {
    let id = subject.to_string();
    let size = state.store.log_size().await?;
    let mut taken = Vec::new();
    evidence::scan(state, size, |_, entry, _| {
        let look = matches!(entry.kind.as_str(), "consultation" | "export");
        if look && entry.subject.as_deref() == Some(&id) {
            taken.push(entry.clone());
        }
    })
    .await?;
    let (mut roles, mut looks) = (BTreeMap::new(), Vec::with_capacity(taken.len()));
    for entry in taken {
        let actor = entry.actor.unwrap_or_default();
        let reason = entry.reason.unwrap_or_default();
        looks.push(Look {
            at: Timestamp::from_micros(entry.time),
            by: role(state, &actor, &mut roles).await?,
            reason: match (entry.kind.as_str(), reason.split(' ').next()) {
                ("export", _) => entry.kind,
                (_, code) => code.unwrap_or_default().to_owned(),
            },
        });
    }
    Ok(looks)
}

/// `officer` stays an officer without a name; who acts on the server's own command line is the administrator.
async fn role(
    state: &AppState,
    actor: &str,
    known: &mut BTreeMap<String, String>,
) -> Result<String, AuditError> {
    if let Some(role) = known.get(actor) {
        return Ok(role.clone());
    }
    let role = match actor.parse::<OfficerId>() {
        Ok(officer) => state
            .store
            .officer_role(officer)
            .await?
            .unwrap_or_else(|| "officer".to_owned()),
        Err(_) => "administrator".to_owned(),
    };
    known.insert(actor.to_owned(), role.clone());
    Ok(role)
}

/// Everything that one officer did.
///
/// # Errors
/// The database failed.
pub async fn of_officer(
    state: &AppState,
    officer: &str,
    since: Timestamp,
    until: Timestamp,
) -> Result<Report, AuditError> {
    let mut report = Report::new(state, "What one officer did").period(since, until);
    report.notes.push(format!("Officer: {officer}"));
    within(state, since, until, |index, entry| {
        if entry.actor.as_deref() == Some(officer) || entry.actor2.as_deref() == Some(officer) {
            report.count(&entry.kind.replace('_', " "));
            report.put("Acts", Item::new(index, entry, None));
        }
    })
    .await?;
    Ok(report)
}

/// One shift, both sides: what officers did and who passed.
///
/// # Errors
/// The database failed.
pub async fn of_shift(
    state: &AppState,
    since: Timestamp,
    until: Timestamp,
) -> Result<Report, AuditError> {
    let mut report = Report::new(state, "Shift report").period(since, until);
    within(state, since, until, |index, entry| {
        match entry.kind.as_str() {
            "passage" => {
                let gate = entry.gate.as_deref().unwrap_or("?");
                let decision = entry.decision.as_deref().unwrap_or("?");
                report.count(&format!("passages at {gate}: {decision}"));
                if decision != "grant" {
                    report.put(
                        "Passages not granted by the machine",
                        Item::new(index, entry, None),
                    );
                }
            }
            "clock"
            | "gate_degraded"
            | "gate_sequence"
            | "life_safety_release"
            | "life_safety_passage"
            | "undecided"
            | "officer_at_gate"
            | "gate_lost"
            | "gate_back"
            | "gate_health"
            | "log_alarm"
            | "refused"
            | "promise_missed"
            | "promise_late"
            | "break_glass_opened"
            | "break_glass_ended"
            | "break_glass_unreviewed"
            | "break_glass_drill_due"
            | "stream_lost"
            | "stream_back" => {
                report.put("Trouble", Item::new(index, entry, entry.actor.clone()));
            }
            _ if entry.actor.is_some() => {
                report.count(&format!("officers: {}", entry.kind.replace('_', " ")));
                report.put(
                    "What officers did",
                    Item::new(index, entry, entry.actor.clone()),
                );
            }
            _ => {}
        }
    })
    .await?;
    Ok(report)
}

/// A month in figures, without anybody in it: ready to be published.
///
/// # Errors
/// The database failed.
pub async fn of_month(
    state: &AppState,
    since: Timestamp,
    until: Timestamp,
) -> Result<Report, AuditError> {
    let mut report = Report::new(state, "Monthly transparency report").period(since, until);
    report
        .notes
        .push("Counted out of the audit log, which outside witnesses cosign.".to_owned());
    for name in [
        "passages",
        "passages granted by the machine",
        "passages refused by the machine",
        "passages referred to an officer",
        "attempts without a usable picture",
        "referred or refused, then granted by an officer",
        "referred or refused, then refused by an officer",
        "looks at records",
        "of these with a reason beyond gate duty",
        "exports",
        "people enrolled",
        "people removed",
        "alarms about the log",
    ] {
        report.figures.insert(name.to_owned(), 0);
    }
    let mut passages = groups::Passages::default();
    let mut rates = error_rates::Held::default();
    let size = state.store.log_size().await?;
    evidence::scan(state, size, |index, entry, bytes| {
        if entry.time < until.as_micros() {
            rates.take(index, entry, bytes);
        }
        let inside = (since.as_micros()..until.as_micros()).contains(&entry.time);
        count_people(&mut passages, entry, inside);
        if !inside {
            return;
        }
        let decision = entry.decision.as_deref();
        let reason = entry.reason.as_deref();
        match entry.kind.as_str() {
            "passage" => {
                report.count("passages");
                match (decision, reason) {
                    (_, Some("failure_to_acquire")) => {
                        report.count("attempts without a usable picture");
                    }
                    (Some("grant"), _) => report.count("passages granted by the machine"),
                    (Some("refuse"), _) => report.count("passages refused by the machine"),
                    (Some("refer"), _) => report.count("passages referred to an officer"),
                    _ => {}
                }
            }
            "review" => match decision {
                Some("grant") => report.count("referred or refused, then granted by an officer"),
                _ => report.count("referred or refused, then refused by an officer"),
            },
            "consultation" => {
                report.count("looks at records");
                if !matches!(reason, None | Some("gate_duty" | "review")) {
                    report.count("of these with a reason beyond gate duty");
                }
            }
            "export" => report.count("exports"),
            "enrolment" if decision == Some("enrolled") => report.count("people enrolled"),
            "subject_removed" => report.count("people removed"),
            "log_alarm" => report.count("alarms about the log"),
            _ => {}
        }
    })
    .await?;
    report.measured = rates.list(state).await?;
    let (group_of, unreadable) = demographics::groups(state, passages.people()).await?;
    let mut groups = passages.table(&group_of);
    if unreadable > 0 {
        groups.notes.push(format!(
            "The recorded group of {unreadable} people could not be read; they count as not recorded."
        ));
    }
    report.groups = Some(groups);
    Ok(report)
}

/// Passages of the period, and what officers said of them, whenever they said it.
fn count_people(passages: &mut groups::Passages, entry: &Entry, inside: bool) {
    let (Some(about), Some(decision)) = (entry.about.as_deref(), entry.decision.as_deref()) else {
        return;
    };
    match (entry.kind.as_str(), decision, entry.subject.as_deref()) {
        ("passage", "refer", Some(subject)) if inside => passages.referred(about, subject),
        ("passage", _, Some(subject)) if inside => passages.recognised(subject),
        ("review", "grant", _) => passages.granted(about),
        _ => {}
    }
}

async fn within(
    state: &AppState,
    since: Timestamp,
    until: Timestamp,
    mut each: impl FnMut(u64, &Entry),
) -> Result<(), AuditError> {
    let size = state.store.log_size().await?;
    evidence::scan(state, size, |index, entry, _| {
        if (since.as_micros()..until.as_micros()).contains(&entry.time) {
            each(index, entry);
        }
    })
    .await
}
