//! The jurisdiction profile that holds: what may be kept about whom, for which purposes, and until when.
//!
//! Its text lies in the database, and the log says which text holds: the newest entry of the kind `profile_change` carries the SHA-256.
//! So the signed and witnessed checkpoints vouch for it, and a profile that somebody changed in the database is none: the server does
//! not start with it. Until somebody sets one, the strictest of the shipped ones holds.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sallyport_domain::{DataKind, Keep, Modality, Profile, RetentionEvent, SubjectCategory};
use sallyport_protocol::EnrolmentSubmission;
use sallyport_transparency::Entry;
use sha2::{Digest as _, Sha256};

use crate::audit::{self, AuditError};
use crate::enrolments::ledger;
use crate::registry::RegistryError;
use crate::state::AppState;
use crate::store::StoreError;

/// Kind of the entries.
const KIND: &str = "profile_change";

/// The shipped profiles.
const SHIPPED: [(&str, &str); 4] = [
    ("nsw-2014", include_str!("../../profiles/nsw-2014.toml")),
    ("uk", include_str!("../../profiles/uk.toml")),
    ("eu-led", include_str!("../../profiles/eu-led.toml")),
    ("us-generic", include_str!("../../profiles/us-generic.toml")),
];

/// Why a profile was not set.
#[derive(Debug, thiserror::Error)]
pub enum ProfileSetError {
    /// No such file, and no shipped profile of this name.
    #[error("{name:?} is neither a file nor a shipped profile ({shipped}): {source}")]
    Unreadable {
        /// What was asked for.
        name: String,
        /// Names that would do.
        shipped: String,
        /// Why the file is not read.
        source: std::io::Error,
    },
    /// Not a profile.
    #[error("this is no profile: {0}")]
    Invalid(String),
    /// The version is not a new one.
    #[error(
        "profile {name} holds in version {version} already with other rules; raise the version with every change"
    )]
    SameVersion {
        /// Name.
        name: String,
        /// Version.
        version: u32,
    },
    /// Database or log.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// Registry.
    #[error(transparent)]
    Registry(#[from] RegistryError),
}

impl From<StoreError> for ProfileSetError {
    fn from(error: StoreError) -> Self {
        Self::Audit(error.into())
    }
}

/// A profile with where it is from.
#[derive(Debug, Clone)]
pub struct Held {
    /// The rules.
    pub profile: Arc<Profile>,
    /// Their text.
    pub text: Arc<str>,
    /// SHA-256 of its text.
    pub sha256: String,
    /// The log entry that set it; `None` while the server's own holds.
    pub set_by: Option<u64>,
}

impl Default for Held {
    /// The strictest of the shipped ones: no picture of an eye, visitors' data gone six months after the last visit or on request.
    fn default() -> Self {
        let (_, text) = SHIPPED[0];
        let profile = parse(text).expect("the tests of domain read every shipped profile");
        Self {
            profile: Arc::new(profile),
            text: text.into(),
            sha256: sha256(text),
            set_by: None,
        }
    }
}

/// SHA-256 of a profile's text, hexadecimal.
#[must_use]
pub fn sha256(text: &str) -> String {
    hex::encode(Sha256::digest(text))
}

fn parse(text: &str) -> Result<Profile, String> {
    // The parser's sentence names line and rule; a profile holds nothing personal.
    toml::from_str(text).map_err(|error| error.to_string())
}

/// Text of a shipped profile, or of a file.
///
/// # Errors
/// Neither, or it is no profile.
pub fn read(name: &str) -> Result<String, ProfileSetError> {
    let shipped = SHIPPED.iter().find(|(known, _)| *known == name);
    let text = match shipped {
        Some((_, text)) => (*text).to_owned(),
        None => std::fs::read_to_string(name).map_err(|source| ProfileSetError::Unreadable {
            name: name.to_owned(),
            shipped: SHIPPED.map(|(known, _)| known).join(", "),
            source,
        })?,
    };
    parse(&text).map_err(ProfileSetError::Invalid)?;
    Ok(text)
}

/// Takes up the profile that the log names.
///
/// # Errors
/// The database holds none of this SHA-256, or another text, or failed.
pub(crate) async fn load(state: &AppState) -> Result<(), RegistryError> {
    let Some((index, named)) = ledger::profile(state).await else {
        return Ok(());
    };
    if state.profile().sha256 == named && state.profile().set_by == Some(index) {
        return Ok(());
    }
    let text = state.store.profile(&named).await?;
    let text = text.filter(|text| sha256(text) == named);
    let text = text.ok_or(RegistryError::ProfileChanged)?;
    let profile = parse(&text).map_err(|_| RegistryError::ProfileChanged)?;
    tracing::info!(
        profile = profile.name(),
        version = profile.version(),
        "the jurisdiction profile"
    );
    state.set_profile(Held {
        profile: Arc::new(profile),
        text: text.into(),
        sha256: named,
        set_by: Some(index),
    });
    Ok(())
}

/// Takes up what the log says now, for a command that does not serve.
///
/// # Errors
/// As at a server's start.
pub async fn current(state: &AppState) -> Result<(), RegistryError> {
    ledger::catch_up(state).await?;
    load(state).await
}

/// As [`load`] while the server runs: what cannot be taken up raises an alarm, and the profile that held goes on holding.
///
/// # Errors
/// The alarm could not be stored.
pub(crate) async fn follow(state: &AppState) -> Result<(), AuditError> {
    match load(state).await {
        Ok(()) => Ok(()),
        Err(RegistryError::ProfileChanged) => {
            ledger::alarm(state, "profile", "that holds", "the log names another text").await
        }
        Err(error) => {
            tracing::error!(%error, "the jurisdiction profile could not be looked up");
            Ok(())
        }
    }
}

/// Sets the profile that holds from now on; returns the log entry. Running servers take it up within their next comparison with the log.
///
/// # Errors
/// See [`ProfileSetError`]; nothing was changed.
pub async fn set(
    state: &AppState,
    text: &str,
    reason: &str,
    actor: &str,
) -> Result<u64, ProfileSetError> {
    let profile = parse(text).map_err(ProfileSetError::Invalid)?;
    ledger::catch_up(state).await?;
    load(state).await?;
    let held = state.profile();
    let same = held.profile.name() == profile.name();
    if same && profile.version() <= held.profile.version() && held.sha256 != sha256(text) {
        return Err(ProfileSetError::SameVersion {
            name: profile.name().to_owned(),
            version: profile.version(),
        });
    }
    let now = state.clock.now();
    let sha256 = sha256(text);
    let entry = Entry {
        actor: Some(actor.to_owned()),
        decision: Some(format!("{}@{}", profile.name(), profile.version())),
        content: Some(sha256.clone()),
        ..audit::entry(KIND, now)?
    };
    let detail = reason.trim();
    let detail = (!detail.is_empty()).then_some(detail.as_bytes());
    let mut write = state.store.write().await?;
    write.profile_insert(&sha256, text).await?;
    let index = audit::append(state, &mut write, entry, detail).await?;
    write.commit().await?;
    state.logged_at(now);
    ledger::catch_up(state).await?;
    load(state).await?;
    Ok(index)
}

fn first_file(data: &Path) -> PathBuf {
    data.join("profile.toml")
}

/// Leaves the profile of a new installation for its first start, since its log begins there.
///
/// # Errors
/// The disk refuses.
pub fn leave_for_first_start(data: &Path, text: &str) -> std::io::Result<()> {
    std::fs::write(first_file(data), text)
}

/// At the first start: sets the profile that `init` left.
///
/// # Errors
/// It is no profile any more, or database or log failed.
pub async fn first_start(state: &AppState) -> Result<(), ProfileSetError> {
    let file = first_file(&state.data);
    if state.profile().set_by.is_some() || !file.exists() {
        return Ok(());
    }
    let text = read(&file.display().to_string())?;
    set(state, &text, "chosen with init", "init").await?;
    Ok(())
}

/// The kind of data that a template is.
pub(crate) const fn kind_of(modality: Modality) -> DataKind {
    match modality {
        Modality::Face => DataKind::FaceTemplate,
        Modality::IrisLeft | Modality::IrisRight => DataKind::IrisTemplate,
    }
}

/// May this kind of data about these people be kept at all?
pub(crate) fn may_keep(profile: &Profile, kind: DataKind, category: SubjectCategory) -> bool {
    profile.rule(kind, category).keep != Keep::Never
}

/// Refuses a submission with templates that may not be kept, and takes out photographs that may not be kept.
///
/// # Errors
/// [`RegistryError::Forbidden`].
pub(crate) fn check_submission(
    profile: &Profile,
    submission: &mut EnrolmentSubmission,
) -> Result<(), RegistryError> {
    let category = submission.category;
    for sample in &submission.samples {
        check_template(profile, sample.probe.modality.code(), category)?;
    }
    if !may_keep(profile, DataKind::Photograph, category) {
        for sample in &mut submission.samples {
            sample.photograph = None;
        }
    }
    Ok(())
}

/// May a template of this modality be kept about a person of this category?
///
/// # Errors
/// [`RegistryError::Forbidden`], with the clause.
pub(crate) fn check_template(
    profile: &Profile,
    modality: &str,
    category: SubjectCategory,
) -> Result<(), RegistryError> {
    let modality =
        Modality::from_code(modality).ok_or(StoreError::Corrupt("reference.modality"))?;
    let kind = kind_of(modality);
    if may_keep(profile, kind, category) {
        return Ok(());
    }
    Err(RegistryError::Forbidden {
        profile: profile.name().to_owned(),
        what: name(kind),
        clause: profile.rule(kind, category).source.clone(),
    })
}

/// A kind of data in words.
#[must_use]
pub const fn name(kind: DataKind) -> &'static str {
    match kind {
        DataKind::Photograph => "photograph",
        DataKind::FaceTemplate => "face template",
        DataKind::IrisTemplate => "iris template",
        DataKind::IrisImage => "picture of an iris",
        DataKind::DocumentNumber => "document number",
        DataKind::Notes => "notes",
    }
}

/// What people of a category are told, in plain words.
#[must_use]
pub fn notice(held: &Held, category: SubjectCategory) -> String {
    let profile = &held.profile;
    let mut text = String::new();
    let _ = writeln!(
        text,
        "Face and iris recognition: what is kept about you\n\
         You are registered as: {}.\nRules: {}, version {} ({}).\n",
        category.code().replace('_', " "),
        profile.name(),
        profile.version(),
        profile.law()
    );
    let purposes: Vec<&str> = profile
        .purposes()
        .iter()
        .map(|purpose| match purpose {
            sallyport_domain::Purpose::Access => "letting you in",
            sallyport_domain::Purpose::Leaving => "letting you out",
            sallyport_domain::Purpose::Movement => "movement inside",
            sallyport_domain::Purpose::Medication => "access to medication",
            sallyport_domain::Purpose::Equipment => "access to equipment and items",
        })
        .collect();
    let _ = writeln!(
        text,
        "You are recognised for: {} ({}). For nothing else.\n",
        purposes.join(", "),
        profile.purposes_source()
    );
    for kind in DataKind::ALL {
        let rule = profile.rule(kind, category);
        let until = match rule.keep {
            Keep::Never => "never kept".to_owned(),
            Keep::Until { after, months } => {
                let after = match after {
                    RetentionEvent::Capture => "it was taken",
                    RetentionEvent::LastVisit => "your last visit",
                    RetentionEvent::Release => "your release",
                    RetentionEvent::EmploymentEnd => "your work here ends",
                };
                let request = if rule.on_request {
                    ", or earlier when you ask for it"
                } else {
                    ""
                };
                format!("deleted {months} months after {after}{request}")
            }
        };
        let confirm = if rule.to_confirm {
            "; to be confirmed by the operator's lawyers"
        } else {
            ""
        };
        let _ = writeln!(
            text,
            "- {}: {until} ({}{confirm}).",
            name(kind),
            rule.source
        );
    }
    let rule = profile.unrecognised();
    let confirm = if rule.to_confirm {
        "; to be confirmed by the operator's lawyers"
    } else {
        ""
    };
    let _ = writeln!(
        text,
        "- At a gate: the picture taken there is deleted {} hours after the decision, and at the latest {} hours after you stood there; of somebody who is not recognised no template is kept ({}{confirm}).",
        rule.hours, rule.hours_before_review, rule.source
    );
    text.push_str(
        "\nA machine never has the last word: if you are not let through, an officer decides, and you may ask for one.\n\
         Every passage, every look at your record and every deletion stands in a log that nobody can change unseen.\n\
         You may ask for a report of all of it, and for a slip that proves a passage was logged.\n",
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_notice_says_every_kind_the_purposes_and_the_human_route() {
        let held = Held::default();
        let text = notice(&held, SubjectCategory::Visitor);
        for kind in DataKind::ALL {
            assert!(text.contains(name(kind)), "{text}");
        }
        for words in [
            "picture of an iris: never kept",
            "photograph: deleted 6 months after your last visit, or earlier when you ask",
            "letting you in",
            "deleted 72 hours after the decision, and at the latest 336 hours",
            "an officer decides",
        ] {
            assert!(text.contains(words), "{words} is not in {text}");
        }
    }

    #[test]
    fn a_file_that_is_no_profile_is_refused_with_what_would_do() {
        let error = read("/nonexistent/profile.toml").unwrap_err().to_string();
        assert!(
            error.contains("nsw-2014, uk, eu-led, us-generic"),
            "{error}"
        );
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("p.toml");
        std::fs::write(&file, "name = 1").unwrap();
        let error = read(&file.display().to_string()).unwrap_err().to_string();
        assert!(error.contains("this is no profile"), "{error}");
    }
}
