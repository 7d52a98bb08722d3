//! What every handler shares.

use std::collections::HashSet;
use std::ops::Deref;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, RwLock};

use sallyport_domain::{FaceCalibration, FusionCalibration, OfficerId, Timestamp, TransactionId};
use sallyport_matching::{Gallery, Protection};
use tokio::sync::{Mutex, Notify, broadcast, watch};

use crate::authority::Authority;
use crate::clock::Clock;
use crate::config::Config;
use crate::enrolments::ledger::Ledger;
use crate::installation::Keys;
use crate::officers::Guessing;
use crate::presence::WrongClocks;
use crate::refusals::Refusals;
use crate::rights::Rights;
use crate::store::Store;
use crate::store::gate_events::ReleaseRow;
use crate::witness::LogWatch;

/// Listeners that lag by more than this many events lose the oldest and must load their page again.
const LIVE_CAPACITY: usize = 256;

/// The clock may be this many milliseconds behind the newest log entry before it is no longer trusted.
const CLOCK_TOLERANCE_MS: i64 = 2_000;

/// What officers' pages are told. Sent after the commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LiveEvent {
    /// Something happened to a passage: decided, reviewed, or its door reported.
    Passage(TransactionId),
    /// An alarm, about the audit log or for life safety: every page must show it.
    LogAlarm,
}

/// Shared state; a clone is one more handle.
#[derive(Clone)]
pub struct AppState(Arc<Inner>);

/// The parts of [`AppState`].
pub struct Inner {
    /// Configuration.
    pub config: Config,
    /// Data folder.
    pub data: PathBuf,
    /// Database.
    pub store: Store,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Keys.
    pub keys: Keys,
    /// The private CA.
    pub authority: Authority,
    /// References in memory. Written only by enrolment and the registry's change feed.
    pub gallery: Arc<RwLock<Gallery>>,
    /// Templates of enrolments under review, for the search for duplicates only; no passage looks here.
    pub pending: Arc<RwLock<Gallery>>,
    /// What the log says was enrolled.
    pub(crate) ledger: Mutex<Ledger>,
    /// What the log says of accounts, gates and people's status.
    rights: RwLock<Rights>,
    /// The jurisdiction profile that holds.
    profile: RwLock<crate::profiles::Held>,
    /// Relation of similarity and error rate.
    pub calibration: FaceCalibration,
    /// What the scores of all modalities are worth as evidence.
    pub fusion: FusionCalibration,
    /// Name, version and SHA-256 of that calibration, as decisions name it.
    pub fusion_id: String,
    /// Live events for officers. When nobody listens they are dropped.
    pub live: broadcast::Sender<LiveEvent>,
    /// What this process remembers about the log, and its alarms.
    pub watch: LogWatch,
    /// Releases for life safety that go on or ended lately, for the console's pages.
    releases: RwLock<Vec<ReleaseRow>>,
    /// Supervisors' orders to free doors.
    pub release_orders: crate::release_orders::Orders,
    /// Refusals that are being counted before they are logged.
    pub refusals: Refusals,
    /// Records of people that were opened since the start.
    opened: AtomicU64,
    /// How often officers' open pages were told of an alarm.
    alarms_told: AtomicU64,
    /// Changes of emergency access that officers' open pages were told of.
    pub(crate) emergencies_told: AtomicU64,
    /// Attempts at passwords.
    pub guessing: Guessing,
    /// From which entry of the log on every one carries the server's code.
    log_codes_from: AtomicU64,
    /// Counts the ends of gates' keys that the log tells of, for their open connections.
    pub(crate) keys_ended: watch::Sender<u64>,
    /// What is known of the provider at which officers sign in.
    #[cfg(feature = "oidc")]
    pub(crate) provider: crate::oidc::Provider,
    /// Gates whose clocks differ from the server's.
    pub wrong_clocks: WrongClocks,
    /// Pictures whose showing is in the log already, by officer.
    pub(crate) looks: std::sync::Mutex<HashSet<(OfficerId, TransactionId)>>,
    /// Wakes waiting gates when an officer has decided.
    pub reviewed: Notify,
    /// One enrolment at a time.
    pub(crate) enrolling: Mutex<()>,
    /// Up to which change of the registry the gallery has followed.
    pub(crate) followed: Mutex<i64>,
    /// The same, for those who wait for it.
    pub caught_up: watch::Sender<i64>,
    /// Time of the newest log entry.
    newest: AtomicI64,
    /// The clock was found behind and that was logged.
    pub(crate) clock_alarm: AtomicBool,
    /// It was said that templates in memory are not protected.
    unlocked_told: AtomicBool,
}

impl Deref for AppState {
    type Target = Inner;
    fn deref(&self) -> &Inner {
        &self.0
    }
}

impl std::fmt::Debug for AppState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "AppState({})", self.config.site)
    }
}

/// `name@version:sha256` of the artefact's JSON.
fn fusion_id(calibration: &FusionCalibration) -> String {
    use sha2::Digest as _;
    let bytes = serde_json::to_vec(calibration).unwrap_or_default();
    let digest = hex::encode(sha2::Sha256::digest(bytes));
    format!("{}@{}:{digest}", calibration.name, calibration.version)
}

impl AppState {
    /// Puts the parts together; `newest` is the time of the newest log entry.
    #[must_use]
    pub fn new(
        config: Config,
        data: PathBuf,
        store: Store,
        clock: Arc<dyn Clock>,
        keys: Keys,
        authority: Authority,
        newest: Timestamp,
    ) -> Self {
        let fusion = FusionCalibration::default_pair();
        Self(Arc::new(Inner {
            fusion_id: fusion_id(&fusion),
            fusion,
            config,
            data,
            store,
            clock,
            keys,
            authority,
            gallery: Arc::new(RwLock::new(Gallery::new())),
            pending: Arc::new(RwLock::new(Gallery::new())),
            ledger: Mutex::default(),
            rights: RwLock::default(),
            profile: RwLock::default(),
            calibration: FaceCalibration::default_face(),
            live: broadcast::Sender::new(LIVE_CAPACITY),
            watch: LogWatch::default(),
            releases: RwLock::default(),
            release_orders: crate::release_orders::Orders::default(),
            refusals: Refusals::default(),
            opened: AtomicU64::new(0),
            alarms_told: AtomicU64::new(0),
            emergencies_told: AtomicU64::new(0),
            guessing: Guessing::default(),
            log_codes_from: AtomicU64::new(0),
            keys_ended: watch::Sender::new(0),
            #[cfg(feature = "oidc")]
            provider: crate::oidc::Provider::default(),
            wrong_clocks: WrongClocks::default(),
            looks: std::sync::Mutex::default(),
            reviewed: Notify::new(),
            enrolling: Mutex::new(()),
            followed: Mutex::new(0),
            caught_up: watch::Sender::new(0),
            newest: AtomicI64::new(newest.as_micros()),
            clock_alarm: AtomicBool::new(false),
            unlocked_told: AtomicBool::new(false),
        }))
    }

    /// The jurisdiction profile that holds.
    #[must_use]
    pub fn profile(&self) -> crate::profiles::Held {
        self.profile
            .read()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .clone()
    }

    pub(crate) fn set_profile(&self, held: crate::profiles::Held) {
        *self
            .profile
            .write()
            .unwrap_or_else(std::sync::PoisonError::into_inner) = held;
    }

    /// Asks what the log says of accounts, gates and people's status.
    pub(crate) fn rights<T>(&self, ask: impl FnOnce(&Rights) -> T) -> T {
        ask(&self
            .rights
            .read()
            .unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    /// From which entry of the log on every one carries the server's code.
    pub(crate) fn log_codes_from(&self) -> u64 {
        self.log_codes_from.load(Ordering::SeqCst)
    }

    pub(crate) fn set_log_codes_from(&self, index: u64) {
        self.log_codes_from.store(index, Ordering::SeqCst);
    }

    /// Takes in what the log says newly.
    pub(crate) fn note_rights(&self, take: impl FnOnce(&mut Rights)) {
        take(
            &mut self
                .rights
                .write()
                .unwrap_or_else(std::sync::PoisonError::into_inner),
        );
    }

    /// Notes the time of a log entry.
    pub(crate) fn logged_at(&self, time: Timestamp) {
        self.newest.fetch_max(time.as_micros(), Ordering::SeqCst);
    }

    /// Is this moment not clearly before the newest log entry?
    #[must_use]
    pub fn is_trusted(&self, now: Timestamp) -> bool {
        let newest = Timestamp::from_micros(self.newest.load(Ordering::SeqCst));
        newest.millis_since(now) <= CLOCK_TOLERANCE_MS
    }

    /// Says in the operator's log, once, that templates in memory are not protected.
    pub(crate) fn note_protection(&self, protection: Protection) {
        match protection {
            Protection::Locked => {}
            Protection::NotLocked { bytes } => {
                if !self.unlocked_told.swap(true, Ordering::SeqCst) {
                    tracing::warn!(
                        bytes,
                        "templates in memory could not be locked and may reach a swap file or core dump; raise the limit (LimitMEMLOCK=infinity in the systemd unit)"
                    );
                }
            }
        }
    }

    /// Counts an opened record of a person.
    pub(crate) fn note_opened(&self) {
        self.opened.fetch_add(1, Ordering::Relaxed);
    }

    /// Records of people that this process has opened. Whatever opens one leaves an entry of the log; the tests compare.
    #[must_use]
    pub fn records_opened(&self) -> u64 {
        self.opened.load(Ordering::Relaxed)
    }

    /// Tells the officers' pages.
    pub(crate) fn announce(&self, transaction: TransactionId) {
        // An error means only that nobody listens.
        let _ = self.live.send(LiveEvent::Passage(transaction));
    }

    /// Releases for life safety that go on or ended lately, the newest first.
    #[must_use]
    pub fn releases(&self) -> Vec<ReleaseRow> {
        self.releases
            .read()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .clone()
    }

    pub(crate) fn set_releases(&self, rows: Vec<ReleaseRow>) {
        *self
            .releases
            .write()
            .unwrap_or_else(std::sync::PoisonError::into_inner) = rows;
    }

    /// How often officers' open pages were told of an alarm; a page that knows another number has missed one.
    #[must_use]
    pub fn alarms_told(&self) -> u64 {
        self.alarms_told.load(Ordering::SeqCst)
    }

    /// Tells the officers' pages that there is an alarm, about the log or for life safety.
    pub(crate) fn announce_alarm(&self) {
        self.alarms_told.fetch_add(1, Ordering::SeqCst);
        // An error means only that nobody listens.
        let _ = self.live.send(LiveEvent::LogAlarm);
    }
}
