//! The data folder: configuration, key file, database with the sealed private keys.

use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use ed25519_dalek::SigningKey;
use hpke::Kem as _;
use hpke::kem::X25519HkdfSha256;
use sallyport_domain::{SiteId, Timestamp};
use sallyport_transparency::NoteSigner;
use zeroize::Zeroizing;

use crate::audit;
use crate::authority::Authority;
use crate::clock::{Clock, random};
use crate::config::Config;
use crate::keys::{KeySetup, Purpose, Ring, SITE, key_path};
use crate::log_codes;
use crate::sealing::{self, Key, Place, SealError};
use crate::state::AppState;
use crate::store::Store;
use crate::templates::{self, Templates};

const CA_KEY: &str = "ca_key_pem";
const CA_CERTIFICATE: &str = "ca_certificate_pem";
const LOG_SEED: &str = "log_seed";
const DOOR_SEED: &str = "door_seed";
const PICTURE_SEED: &str = "picture_seed";

/// Names of all sealed settings.
#[cfg(test)]
pub(crate) const SETTINGS: [&str; 5] = [CA_KEY, CA_CERTIFICATE, LOG_SEED, DOOR_SEED, PICTURE_SEED];

/// Private keys of an installation. `Debug` hides them.
pub struct Keys {
    /// Key-encryption keys, which wrap all data keys.
    pub ring: Ring,
    /// The installation's data key: private keys, officers' names, words of reviews.
    pub site: Key,
    /// The installation's data key for details of log entries about nobody in the registry.
    pub site_audit: Key,
    /// The secrets under which templates are.
    pub templates: Templates,
    /// Signs checkpoints.
    pub log: NoteSigner,
    /// Signs door orders.
    pub door: SigningKey,
    /// Opens pictures that agents sealed.
    pub picture: <X25519HkdfSha256 as hpke::Kem>::PrivateKey,
    /// For which agents seal pictures.
    pub picture_public: <X25519HkdfSha256 as hpke::Kem>::PublicKey,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Keys([sealed])")
    }
}

/// Makes a new installation in `data`, which must not exist or be empty.
///
/// # Errors
/// The folder is in use, or disk or database refuse. The sentence says what to do.
pub async fn create(data: &Path, config: &Config, clock: &dyn Clock) -> anyhow::Result<()> {
    create_with_owner(data, config, None, clock).await
}

/// As [`create`]; on PostgreSQL `owner` is the address of the role that makes and owns the tables. It is not stored.
///
/// # Errors
/// As [`create`].
pub async fn create_with_owner(
    data: &Path,
    config: &Config,
    owner: Option<&str>,
    clock: &dyn Clock,
) -> anyhow::Result<()> {
    create_with(data, config, owner, &KeySetup::File, clock).await
}

/// As [`create_with_owner`], with the way in which key-encryption keys are kept.
///
/// # Errors
/// As [`create`].
pub async fn create_with(
    data: &Path,
    config: &Config,
    owner: Option<&str>,
    keys: &KeySetup,
    clock: &dyn Clock,
) -> anyhow::Result<()> {
    check_new_folder(data)?;
    if !config.database.is_empty() {
        let owner = owner.context(
            "on PostgreSQL the tables belong to another role than the one that serves; name its address with --database-owner",
        )?;
        Store::install(owner, &config.database)
            .await
            .context("making the tables")?;
    }
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(data)
        .with_context(|| format!("creating {}", data.display()))?;
    let store = Store::open(&config.database_url(data, true))
        .await
        .context("creating the database")?;
    if store.setting(CA_KEY).await?.is_some() {
        bail!(
            "this database holds an installation already. Name an empty one; init never touches an existing installation."
        );
    }
    let ring = Ring::create(&key_path(data), config.site.as_str(), keys)
        .context("making the registry's keys")?;
    let mut write = store.write().await?;
    let (key, row) = ring.new_data_key(SITE, Purpose::Registry)?;
    write.data_key_insert(&row).await?;
    let (_, row) = ring.new_data_key(SITE, Purpose::Audit)?;
    write.data_key_insert(&row).await?;
    templates::create(&mut write, &ring).await?;
    write.commit().await?;
    let (ca_key, ca_certificate) = Authority::generate(&config.site, clock.now())?;
    add(&store, &key, &config.site, CA_KEY, ca_key.as_bytes()).await?;
    add(
        &store,
        &key,
        &config.site,
        CA_CERTIFICATE,
        ca_certificate.as_bytes(),
    )
    .await?;
    for name in [LOG_SEED, DOOR_SEED, PICTURE_SEED] {
        let seed = Zeroizing::new(random::<32>()?);
        add(&store, &key, &config.site, name, seed.as_slice()).await?;
    }
    // From the first entry on.
    add(&store, &key, &config.site, log_codes::SETTING, b"0").await?;
    store.close().await;
    // Last, so that a folder without it is never taken for an installation.
    config.create(data)
}

/// A new installation goes into a folder that is not there or empty.
pub(crate) fn check_new_folder(data: &Path) -> anyhow::Result<()> {
    if data.exists()
        && std::fs::read_dir(data)
            .with_context(|| format!("reading {}", data.display()))?
            .next()
            .is_some()
    {
        bail!(
            "{} is not empty. Name a folder that does not exist yet; init never touches an existing installation.",
            data.display()
        );
    }
    Ok(())
}

/// Only one server may serve from a data folder, and a move needs it for itself. Held until dropped.
///
/// # Errors
/// A server runs there.
pub fn lock(data: &Path) -> anyhow::Result<std::fs::File> {
    let path = data.join("serving.lock");
    let file =
        std::fs::File::create(&path).with_context(|| format!("creating {}", path.display()))?;
    file.try_lock()
        .with_context(|| format!("a server is running on {}; stop it first", data.display()))?;
    Ok(file)
}

async fn add(
    store: &Store,
    key: &Key,
    site: &SiteId,
    name: &str,
    plain: &[u8],
) -> anyhow::Result<()> {
    let sealed = sealing::seal(
        key,
        1,
        &Place::new(site.as_str(), "setting", "value_sealed", name),
        plain,
    )?;
    store
        .add_setting(name, sealed)
        .await
        .with_context(|| format!("storing {name}"))
}

/// Stores a number as a sealed setting.
pub(crate) async fn add_number(state: &AppState, name: &str, number: u64) -> anyhow::Result<()> {
    let (site, text) = (&state.config.site, number.to_string());
    add(&state.store, &state.keys.site, site, name, text.as_bytes()).await
}

/// A number that was stored so; `None` where there is none.
pub(crate) async fn number(state: &AppState, name: &str) -> anyhow::Result<Option<u64>> {
    let Some(sealed) = state.store.setting(name).await? else {
        return Ok(None);
    };
    let plain = open_setting(&state.keys.site, &state.config.site, name, &sealed)
        .with_context(|| format!("opening {name}: it was changed in the database"))?;
    let text = std::str::from_utf8(&plain).ok();
    let number = text.and_then(|text| text.parse().ok());
    number
        .map(Some)
        .with_context(|| format!("{name} in the database is not a number"))
}

async fn setting(
    store: &Store,
    key: &Key,
    site: &SiteId,
    name: &str,
) -> anyhow::Result<Zeroizing<Vec<u8>>> {
    let sealed = store.setting(name).await?.with_context(|| {
        format!("the database has no {name}; it is not the database of this installation")
    })?;
    open_setting(key, site, name, &sealed)
        .with_context(|| format!("opening {name}: it was changed in the database"))
}

pub(crate) fn open_setting(
    key: &Key,
    site: &SiteId,
    name: &str,
    sealed: &[u8],
) -> Result<Zeroizing<Vec<u8>>, SealError> {
    let place = Place::new(site.as_str(), "setting", "value_sealed", name);
    sealing::open(key, 1, &place, sealed).map(Zeroizing::new)
}

async fn data_key(store: &Store, ring: &Ring, purpose: Purpose) -> anyhow::Result<Key> {
    let row = store
        .data_key(SITE, purpose)
        .await?
        .context("the database has no keys; it is not the database of an installation")?;
    ring.open_row(&row)
        .context("is registry.key the key file of this database?")
}

fn seed(bytes: &[u8]) -> anyhow::Result<Zeroizing<[u8; 32]>> {
    bytes
        .try_into()
        .map(Zeroizing::new)
        .ok()
        .context("a stored key seed does not have 32 bytes")
}

/// Brings PostgreSQL's tables to this version as their owner. SQLite's follow at the next opening.
///
/// # Errors
/// Each error says what to do.
pub async fn migrate(data: &Path, owner: &str) -> anyhow::Result<()> {
    let config = Config::load(data)?;
    if config.database.is_empty() {
        return Ok(());
    }
    if owner.is_empty() {
        bail!(
            "name the role that owns the tables: sallyport-server migrate --database-owner ADDRESS"
        );
    }
    Store::install(owner, &config.database)
        .await
        .context("bringing the tables to this version")
}

/// Opens an installation: database, keys, and the check that the log continues what was signed. The gallery is loaded separately.
///
/// # Errors
/// Each error says what to do.
pub async fn open(data: &Path, clock: Arc<dyn Clock>) -> anyhow::Result<AppState> {
    open_with(data, clock, None).await
}

/// As [`open`]; `secret` is the passphrase or PIN that the key file needs.
///
/// # Errors
/// As [`open`].
pub async fn open_with(
    data: &Path,
    clock: Arc<dyn Clock>,
    secret: Option<&Zeroizing<String>>,
) -> anyhow::Result<AppState> {
    let config = Config::load(data)?;
    let ring = Ring::open(&key_path(data), config.site.as_str(), secret).context(
        "opening the key file registry.key, without which the registry cannot be opened",
    )?;
    let store = Store::open(&config.database_url(data, false))
        .await
        .with_context(|| format!("opening the database of {}", data.display()))?;
    let text = |bytes: Zeroizing<Vec<u8>>| {
        String::from_utf8(bytes.to_vec())
            .map(Zeroizing::new)
            .ok()
            .context("a stored certificate is not text")
    };
    let site = &config.site;
    let site_key = data_key(&store, &ring, Purpose::Registry).await?;
    let site_audit = data_key(&store, &ring, Purpose::Audit).await?;
    let ca_key = text(setting(&store, &site_key, site, CA_KEY).await?)?;
    let ca_certificate = text(setting(&store, &site_key, site, CA_CERTIFICATE).await?)?;
    let authority = Authority::load(site, &ca_key, &ca_certificate)?;
    let log_seed = seed(&setting(&store, &site_key, site, LOG_SEED).await?)?;
    let door_seed = seed(&setting(&store, &site_key, site, DOOR_SEED).await?)?;
    let picture_seed = seed(&setting(&store, &site_key, site, PICTURE_SEED).await?)?;
    let (picture, picture_public) = X25519HkdfSha256::derive_keypair(picture_seed.as_slice());
    let templates = Templates::load(&store, &ring)
        .await
        .context("opening the secret of the templates")?;
    let keys = Keys {
        templates,
        log: NoteSigner::new(&config.log_origin(), &log_seed).context("the log's name")?,
        door: SigningKey::from_bytes(&door_seed),
        picture,
        picture_public,
        ring,
        site: site_key,
        site_audit,
    };
    let newest = Timestamp::from_micros(store.log_newest_time().await?);
    let state = AppState::new(
        config,
        data.to_owned(),
        store,
        clock,
        keys,
        authority,
        newest,
    );
    log_codes::begin(&state).await?;
    audit::check_checkpoints(&state).await?;
    Ok(state)
}
