//! `server.toml`: written by `init`, read by every command.

use std::io::Write as _;
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use sallyport_domain::SiteId;
use serde::{Deserialize, Serialize};

/// Configuration of one installation.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The correctional centre.
    pub site: SiteId,
    /// Names and addresses under which gates and browsers reach this server; they stand in its certificate.
    pub hostnames: Vec<String>,
    /// Where gates connect.
    pub gate_listen: SocketAddr,
    /// Where browsers connect.
    pub console_listen: SocketAddr,
    /// Database address; empty means SQLite in the data folder.
    #[serde(default)]
    pub database: String,
    /// The site's offset east of UTC in minutes, for schedules.
    pub utc_offset_minutes: i32,
    /// How long after enrolment doors stay shut for a new person, seconds.
    pub cool_off_seconds: u32,
    /// May templates lie in memory that the system does not lock, and so reach a swap file? For machines without such a file or with an
    /// encrypted one.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub allow_unlocked_memory: bool,
    /// Where monitors fetch the log's static files over HTTPS (tlog-tiles), such as `0.0.0.0:8472`. Anybody who reaches this port can read
    /// every entry (pseudonyms, officers' ids, times; no names): keep it to the monitors' network. Off when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub monitor_listen: Option<SocketAddr>,
    /// Rules for officers.
    #[serde(default, skip_serializing_if = "is_default")]
    pub officers: OfficerRules,
    /// The identity provider at which officers with a bound account sign in. Off when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oidc: Option<Oidc>,
}

fn is_default(rules: &OfficerRules) -> bool {
    *rules == OfficerRules::default()
}

/// Rules for officers' accounts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OfficerRules {
    /// Memory of a password's hash (argon2id) in MiB, at least 19.
    pub password_memory_mib: u32,
    /// Passes of a password's hash, at least 2.
    pub password_passes: u32,
    /// Records and past passages that one officer may open in an hour.
    pub consultations_per_hour: u32,
    /// The same, in a day.
    pub consultations_per_day: u32,
}

impl Default for OfficerRules {
    /// 64 MiB and 3 passes: about 0.1 s on a small server. Twenty records in an hour are many for one case.
    fn default() -> Self {
        Self {
            password_memory_mib: 64,
            password_passes: 3,
            consultations_per_hour: 20,
            consultations_per_day: 60,
        }
    }
}

impl OfficerRules {
    /// The weakest that is allowed (OWASP): 19 MiB, 2 passes, 1 lane.
    pub const FLOOR: Self = Self {
        password_memory_mib: 19,
        password_passes: 2,
        consultations_per_hour: 20,
        consultations_per_day: 60,
    };

    /// Refuses what is too weak, or so strong that no server bears it.
    fn check(self) -> anyhow::Result<()> {
        let floor = Self::FLOOR;
        if self.password_memory_mib < floor.password_memory_mib
            || self.password_passes < floor.password_passes
        {
            bail!(
                "[officers] in server.toml makes passwords easy to guess from a stolen database: password_memory_mib must be at least {} and password_passes at least {}",
                floor.password_memory_mib,
                floor.password_passes
            );
        }
        if self.password_memory_mib > 1_024 || self.password_passes > 16 {
            bail!(
                "[officers] in server.toml asks for more than a sign-in can bear: password_memory_mib may be up to 1024 and password_passes up to 16"
            );
        }
        Ok(())
    }
}

/// The identity provider at which officers sign in (OpenID Connect). Needs a server that was built with the feature `oidc`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Oidc {
    /// What it is called on the sign-in page.
    pub name: String,
    /// Its issuer, `https://…`, exactly as its tokens say.
    pub issuer: String,
    /// This server's name there.
    pub client_id: String,
    /// File with this server's secret there, for its owner only; relative to the data folder.
    pub client_secret_file: PathBuf,
    /// PEM file with the one authority that vouches for the provider's servers; relative to the data folder.
    pub authority: PathBuf,
    /// Tokens must name one of these authentication classes, if there are any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub acr: Vec<String>,
    /// Tokens must name all of these authentication methods.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub amr: Vec<String>,
    /// Methods of which one stands for our own one-time code, such as `mfa` or `otp`. None stands for a security key.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub amr_for_code: Vec<String>,
    /// Where the provider sends the browser back to, where that is not the first host name with the console's port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redirect_uri: Option<String>,
    /// An answer of the provider may take so long.
    #[serde(default = "patience_seconds")]
    pub patience_seconds: u8,
}

const fn patience_seconds() -> u8 {
    10
}

impl Oidc {
    fn check(&self) -> anyhow::Result<()> {
        if !cfg!(feature = "oidc") {
            bail!(
                "[oidc] in server.toml needs a server that was built with it: cargo build --release -p sallyport-server --features oidc. This one was not; remove the section, or use that build"
            );
        }
        let https = |what: &str, address: &str| {
            let parsed = url::Url::parse(address);
            let plain = parsed.is_ok_and(|url| {
                url.scheme() == "https"
                    && url.has_host()
                    && url.username().is_empty()
                    && url.password().is_none()
                    && url.query().is_none()
                    && url.fragment().is_none()
            });
            if plain {
                Ok(())
            } else {
                bail!(
                    "[oidc] in server.toml: {what} must be https://HOST/…, without name, password, '?' and '#'"
                )
            }
        };
        https("issuer", &self.issuer)?;
        if let Some(uri) = &self.redirect_uri {
            https("redirect_uri", uri)?;
            if !uri.ends_with("/sign-in/oidc/callback") {
                bail!("[oidc] in server.toml: redirect_uri must end with /sign-in/oidc/callback");
            }
        }
        for (what, text) in [("name", &self.name), ("client_id", &self.client_id)] {
            let good = !text.trim().is_empty() && text.len() <= 200;
            if !good || text.chars().any(char::is_control) {
                bail!("[oidc] in server.toml: {what} must have 1 to 200 characters");
            }
        }
        let mut words = self.acr.iter().chain(&self.amr).chain(&self.amr_for_code);
        if words.any(|word| word.is_empty() || word.chars().any(char::is_whitespace)) {
            bail!("[oidc] in server.toml: the values of acr, amr and amr_for_code have no spaces");
        }
        if !(1..=30).contains(&self.patience_seconds) {
            bail!("[oidc] in server.toml: patience_seconds must be 1 to 30");
        }
        Ok(())
    }
}

impl Config {
    /// Reads the configuration of a data folder.
    ///
    /// # Errors
    /// Not there, or not valid.
    pub fn load(data: &Path) -> anyhow::Result<Self> {
        let path = Self::path(data);
        let text = std::fs::read_to_string(&path).with_context(|| {
            format!(
                "{} could not be read. Is {} the data folder? Create one with: sallyport-server init --data DIR --site NAME",
                path.display(),
                data.display()
            )
        })?;
        Self::parse(&text).with_context(|| format!("{} is not valid", path.display()))
    }

    /// Reads a configuration's text.
    ///
    /// # Errors
    /// Not valid.
    pub fn parse(text: &str) -> anyhow::Result<Self> {
        let config: Self = toml::from_str(text).context("the configuration is not valid")?;
        config.officers.check()?;
        if let Some(oidc) = &config.oidc {
            oidc.check()?;
        }
        Ok(config)
    }

    /// The configuration as text, without the database address, which may hold a password.
    ///
    /// # Errors
    /// It cannot be written as text.
    pub fn text(&self) -> anyhow::Result<String> {
        let portable = Self {
            database: String::new(),
            ..self.clone()
        };
        toml::to_string(&portable).context("writing the configuration")
    }

    /// Writes the configuration of a new data folder.
    ///
    /// # Errors
    /// It is there already, or the disk refuses.
    pub fn create(&self, data: &Path) -> anyhow::Result<()> {
        let path = Self::path(data);
        if path.exists() {
            bail!(
                "{} exists already; this folder holds an installation. Choose another folder.",
                path.display()
            );
        }
        self.write(&path)
    }

    /// Replaces the configuration of a data folder.
    ///
    /// # Errors
    /// The disk refuses; the old one stays.
    pub(crate) fn replace(&self, data: &Path) -> anyhow::Result<()> {
        let temporary = data.join("server.toml.new");
        if temporary.exists() {
            std::fs::remove_file(&temporary)
                .with_context(|| format!("removing {}", temporary.display()))?;
        }
        self.write(&temporary)?;
        std::fs::rename(&temporary, Self::path(data))
            .and_then(|()| std::fs::File::open(data)?.sync_all())
            .with_context(|| format!("replacing {}", Self::path(data).display()))
    }

    /// For its owner only: a database address may hold a password.
    fn write(&self, path: &Path) -> anyhow::Result<()> {
        let text = toml::to_string(self).context("writing the configuration")?;
        let write = || {
            let mut file = std::fs::File::options()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(path)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()
        };
        write().with_context(|| format!("writing {}", path.display()))
    }

    fn path(data: &Path) -> PathBuf {
        data.join("server.toml")
    }

    /// The database address. Only `init` creates a database file; a missing one is an error for everybody else.
    #[must_use]
    pub fn database_url(&self, data: &Path, create: bool) -> String {
        if self.database.is_empty() {
            let mode = if create { "rwc" } else { "rw" };
            format!(
                "sqlite://{}?mode={mode}",
                data.join("sallyport.db").display()
            )
        } else {
            self.database.clone()
        }
    }

    /// The audit log's name; also its key's name.
    #[must_use]
    pub fn log_origin(&self) -> String {
        format!("sallyport/{}/audit1", self.site)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn officers_rules_have_a_floor_and_a_ceiling() {
        let with = |memory: u32, passes: u32| {
            let text = format!(
                "site = \"demo\"\nhostnames = []\ngate_listen = \"127.0.0.1:1\"\nconsole_listen = \"127.0.0.1:2\"\nutc_offset_minutes = 0\ncool_off_seconds = 0\n[officers]\npassword_memory_mib = {memory}\npassword_passes = {passes}\n"
            );
            Config::parse(&text).map(|config| config.officers)
        };
        assert_eq!(with(19, 2).unwrap(), OfficerRules::FLOOR);
        for (memory, passes) in [(18, 2), (64, 1), (0, 3), (1_025, 3), (64, 17)] {
            let error = with(memory, passes).unwrap_err().to_string();
            assert!(error.contains("[officers]"), "{error}");
        }
    }
}
