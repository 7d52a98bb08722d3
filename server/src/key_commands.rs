//! How the registry's keys are protected: options of `init`, and the commands that change it.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::{Args, ValueEnum};
use sallyport_server::audit;
use sallyport_server::config::Config;
use sallyport_server::keys::{self, KeySetup, RecoveryKey};
use zeroize::Zeroizing;

use crate::{ACTOR, Data, open};

/// Files with secrets, one after the other.
pub(crate) fn read_secret(files: &[PathBuf]) -> anyhow::Result<Option<Zeroizing<String>>> {
    if files.is_empty() {
        return Ok(None);
    }
    let mut all = Zeroizing::new(String::new());
    for path in files {
        let text = Zeroizing::new(
            std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?,
        );
        if !all.is_empty() {
            all.push('\n');
        }
        all.push_str(text.trim_end_matches(['\r', '\n']));
    }
    Ok(Some(all))
}

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum KeyProtection {
    /// In registry.key, protected by its permissions only.
    File,
    /// In registry.key, sealed under a passphrase.
    Passphrase,
    /// In registry.key, sealed so that any two of three custodians open it, each with a passphrase of their own.
    TwoOfThree,
    /// In registry.key, sealed by this machine's TPM 2.0.
    Tpm,
    /// In a PKCS#11 token (HSM), never given out.
    Pkcs11,
    /// In the Transit engine of Vault or OpenBao, never given out.
    Transit,
}

#[derive(Args)]
pub(crate) struct KeyOptions {
    /// How key-encryption keys are kept.
    #[arg(long, value_enum, default_value = "file")]
    keys: KeyProtection,
    /// Memory of a passphrase's derivation (argon2id) in MiB, at least 256; every start uses as much once.
    #[arg(long, default_value_t = 1_024)]
    key_memory_mib: u32,
    /// How tpm2-tools reach the TPM.
    #[arg(long, default_value = "device:/dev/tpmrm0")]
    tpm: String,
    /// Registers of the boot state in which alone the TPM opens the keys, for example sha256:7,11 (secure boot's policy and kernel).
    #[arg(long, default_value = "", hide_default_value = true)]
    tpm_registers: String,
    /// Library of the PKCS#11 token.
    #[arg(long)]
    pkcs11_module: Option<PathBuf>,
    /// Label of the PKCS#11 token.
    #[arg(long)]
    pkcs11_token: Option<String>,
    /// Address of Vault or OpenBao, https://HOST:PORT; its token is the secret.
    #[arg(long)]
    transit_address: Option<String>,
    /// Path on which its Transit engine is mounted.
    #[arg(long, default_value = "transit")]
    transit_mount: String,
    /// PEM file with the authority that vouches for its certificate; it stays where it is.
    #[arg(long)]
    transit_authority: Option<PathBuf>,
}

impl KeyOptions {
    pub(crate) fn setup(
        &self,
        secret: Option<Zeroizing<String>>,
        option: &str,
    ) -> anyhow::Result<KeySetup> {
        let secret = || {
            secret.clone().with_context(|| {
                format!("name a file with the passphrase, PIN or token: {option} FILE")
            })
        };
        let memory_kib = self.key_memory_mib.saturating_mul(1_024);
        Ok(match self.keys {
            KeyProtection::File => KeySetup::File,
            KeyProtection::Passphrase => KeySetup::Passphrase {
                secret: secret()?,
                memory_kib,
            },
            KeyProtection::TwoOfThree => KeySetup::TwoOfThree {
                secret: secret()?,
                memory_kib,
            },
            KeyProtection::Tpm => KeySetup::Tpm {
                tcti: self.tpm.clone(),
                pcrs: self.tpm_registers.clone(),
            },
            KeyProtection::Pkcs11 => KeySetup::Pkcs11 {
                module: self
                    .pkcs11_module
                    .clone()
                    .context("name the token's library: --pkcs11-module FILE")?,
                token: self
                    .pkcs11_token
                    .clone()
                    .context("name the token by its label: --pkcs11-token LABEL")?,
                secret: secret()?,
            },
            KeyProtection::Transit => KeySetup::Transit {
                address: self
                    .transit_address
                    .clone()
                    .context("name the key service: --transit-address https://HOST:PORT")?,
                mount: self.transit_mount.clone(),
                authority: self
                    .transit_authority
                    .clone()
                    .context("name the authority of its certificate: --transit-authority FILE")?,
                secret: secret()?,
            },
        })
    }

    pub(crate) const fn is_tpm(&self) -> bool {
        matches!(self.keys, KeyProtection::Tpm)
    }

    fn code(&self) -> &'static str {
        match self.keys {
            KeyProtection::File => "file",
            KeyProtection::Passphrase => "passphrase",
            KeyProtection::TwoOfThree => "two-of-three",
            KeyProtection::Tpm => "tpm",
            KeyProtection::Pkcs11 => "pkcs11",
            KeyProtection::Transit => "transit",
        }
    }
}

#[derive(Args)]
pub(crate) struct Protect {
    #[command(flatten)]
    options: KeyOptions,
    /// File with the new passphrase, or the custodians' lines; may be given several times.
    #[arg(long)]
    new_secret_file: Vec<PathBuf>,
    /// File with the recovery key, where the TPM that sealed the keys is gone or the machine's boot state changed on purpose.
    #[arg(long)]
    recovery_key: Option<PathBuf>,
    #[command(flatten)]
    data: Data,
}

/// Writes a recovery key into a new file.
pub(crate) fn write_recovery(data: &Path, site: &str, file: &Path) -> anyhow::Result<()> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let key = RecoveryKey::of(&keys::key_path(data), site)?;
    let write = || {
        let mut out = std::fs::File::options()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(file)?;
        out.write_all(key.text().as_bytes())?;
        out.sync_all()
    };
    write().with_context(|| format!("writing {}", file.display()))?;
    println!(
        "The recovery key is in {}. Print it, put it into the safe, and remove the file: whoever has it and registry.key opens everything, and without it nothing opens when this machine's TPM is gone.",
        file.display()
    );
    Ok(())
}

async fn logged(data: &Data, decision: &str) -> anyhow::Result<()> {
    let state = open(data).await?;
    let mut entry = audit::entry("keys_protected", state.clock.now())?;
    entry.actor = Some(ACTOR.to_owned());
    entry.decision = Some(decision.to_owned());
    audit::record(&state, entry).await?;
    Ok(())
}

/// `registry recovery-key`.
pub(crate) async fn recovery_key(file: &Path, data: &Data) -> anyhow::Result<()> {
    let config = Config::load(&data.data)?;
    // Logged first: a key that was written is never unknown to the log.
    logged(data, "recovery_key").await?;
    write_recovery(&data.data, config.site.as_str(), file)
}

/// `registry protect-keys`.
pub(crate) async fn protect(command: Protect) -> anyhow::Result<()> {
    let Protect {
        options,
        new_secret_file,
        recovery_key,
        mut data,
    } = command;
    let config = Config::load(&data.data)?;
    let path = keys::key_path(&data.data);
    let setup = options.setup(read_secret(&new_secret_file)?, "--new-secret-file")?;
    let recovery = match &recovery_key {
        Some(file) => {
            let text = read_secret(std::slice::from_ref(file))?.unwrap_or_default();
            Some(RecoveryKey::parse(&text)?)
        }
        None => None,
    };
    if recovery.is_none() {
        // With the old secret; what cannot be logged is not done.
        logged(&data, options.code()).await?;
    }
    let secret = data.secret()?;
    let site = config.site.as_str();
    keys::protect(&path, site, secret.as_ref(), recovery.as_ref(), &setup)?;
    if recovery.is_some() {
        // Only now can the log's own key be opened.
        data.key_secret_file = new_secret_file;
        if let Err(error) = logged(&data, "recovered").await {
            bail!(
                "the keys are protected anew, but the log could not be written: {error:#}. Run this again without --recovery-key"
            );
        }
    }
    println!(
        "The keys are protected by {} now. Restart the servers, back registry.key up, and destroy its older copies: they still open everything as before.",
        options.code()
    );
    Ok(())
}
