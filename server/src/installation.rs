//! The data folder: configuration, key file, sealed private keys, database.

use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
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
use crate::sealing::{self, Key, Place};
use crate::state::AppState;
use crate::store::Store;

const CA_KEY: &str = "ca_key_pem";
const CA_CERTIFICATE: &str = "ca_certificate_pem";
const LOG_SEED: &str = "log_seed";
const DOOR_SEED: &str = "door_seed";
const PICTURE_SEED: &str = "picture_seed";

/// Private keys of an installation. `Debug` hides them.
pub struct Keys {
    /// Key-encryption key of the registry, version 1.
    pub kek: Key,
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

fn key_path(data: &Path) -> PathBuf {
    data.join("registry.key")
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
    let kek = Key::generate().context("making the registry's key")?;
    write_key(data, &kek)?;
    let (ca_key, ca_certificate) = Authority::generate(&config.site, clock.now())?;
    add(&store, &kek, &config.site, CA_KEY, ca_key.as_bytes()).await?;
    add(
        &store,
        &kek,
        &config.site,
        CA_CERTIFICATE,
        ca_certificate.as_bytes(),
    )
    .await?;
    for name in [LOG_SEED, DOOR_SEED, PICTURE_SEED] {
        let seed = Zeroizing::new(random::<32>()?);
        add(&store, &kek, &config.site, name, seed.as_slice()).await?;
    }
    store.close().await;
    // Last, so that a folder without it is never taken for an installation.
    config.create(data)
}

fn write_key(data: &Path, kek: &Key) -> anyhow::Result<()> {
    let path = key_path(data);
    let mut file = std::fs::File::options()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&path)
        .with_context(|| format!("creating {}", path.display()))?;
    let text = Zeroizing::new(format!(
        "sallyport-registry-key-v1 {}\n",
        hex::encode(kek.expose())
    ));
    file.write_all(text.as_bytes())
        .and_then(|()| file.sync_all())
        .with_context(|| format!("writing {}", path.display()))
}

fn read_key(data: &Path) -> anyhow::Result<Key> {
    let path = key_path(data);
    let metadata = std::fs::metadata(&path).with_context(|| {
        format!("{} could not be read. Without this key file the registry cannot be opened; restore it from its own backup", path.display())
    })?;
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        bail!(
            "{0} can be read by others (mode {mode:o}). Run: chmod 600 {0}",
            path.display()
        );
    }
    let text = Zeroizing::new(
        std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?,
    );
    let digits = text
        .trim_end()
        .strip_prefix("sallyport-registry-key-v1 ")
        .with_context(|| {
            format!(
                "{} is not a registry key of version 1; was it made by a newer version?",
                path.display()
            )
        })?;
    let mut bytes = Zeroizing::new([0; 32]);
    hex::decode_to_slice(digits, bytes.as_mut_slice())
        .ok()
        .with_context(|| format!("{} is damaged; restore it from its backup", path.display()))?;
    Ok(Key::from_bytes(*bytes))
}

async fn add(
    store: &Store,
    kek: &Key,
    site: &SiteId,
    name: &str,
    plain: &[u8],
) -> anyhow::Result<()> {
    let sealed = sealing::seal(
        kek,
        1,
        &Place::new(site.as_str(), "setting", "value_sealed", name),
        plain,
    )?;
    store
        .add_setting(name, sealed)
        .await
        .with_context(|| format!("storing {name}"))
}

async fn setting(
    store: &Store,
    kek: &Key,
    site: &SiteId,
    name: &str,
) -> anyhow::Result<Zeroizing<Vec<u8>>> {
    let sealed = store.setting(name).await?.with_context(|| {
        format!("the database has no {name}; it is not the database of this installation")
    })?;
    sealing::open(
        kek,
        1,
        &Place::new(site.as_str(), "setting", "value_sealed", name),
        &sealed,
    )
    .map(Zeroizing::new)
    .with_context(|| format!("opening {name}: is registry.key the key of this database?"))
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
    let config = Config::load(data)?;
    let kek = read_key(data)?;
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
    let ca_key = text(setting(&store, &kek, site, CA_KEY).await?)?;
    let ca_certificate = text(setting(&store, &kek, site, CA_CERTIFICATE).await?)?;
    let authority = Authority::load(site, &ca_key, &ca_certificate)?;
    let log_seed = seed(&setting(&store, &kek, site, LOG_SEED).await?)?;
    let door_seed = seed(&setting(&store, &kek, site, DOOR_SEED).await?)?;
    let picture_seed = seed(&setting(&store, &kek, site, PICTURE_SEED).await?)?;
    let (picture, picture_public) = X25519HkdfSha256::derive_keypair(picture_seed.as_slice());
    let keys = Keys {
        log: NoteSigner::new(&config.log_origin(), &log_seed).context("the log's name")?,
        door: SigningKey::from_bytes(&door_seed),
        picture,
        picture_public,
        kek,
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
    audit::check_checkpoints(&state).await?;
    Ok(state)
}
