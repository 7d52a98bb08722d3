//! The state folder: what the gate keeps between starts.
//!
//! `device.key` (mode 0600, never leaves the device; `device.key.next` while it is exchanged), `join.json` (certificate, CA and public keys
//! from the server), `spool/` (reports not yet delivered), `door-nonces` (orders already used).

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rcgen::{KeyPair, PublicKeyData};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use sallyport_domain::{GateId, Timestamp};
use sallyport_protocol::{JoinAnswer, key_fingerprint};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use x509_parser::prelude::{FromDer as _, X509Certificate};
use zeroize::Zeroizing;

use crate::durable;

/// A device key that is to follow the present one.
const NEXT_KEY: &str = "device.key.next";

/// Why the state folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// A file operation failed.
    #[error(
        "{what} {path}: {source}; check that the folder exists, belongs to this user and has free space"
    )]
    Io {
        /// What was tried.
        what: &'static str,
        /// On which path.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// The gate has not joined.
    #[error(
        "{0} holds no joined gate; run `sallyport-gate join` with a token from the server first"
    )]
    NotJoined(PathBuf),
    /// A file is damaged.
    #[error("{0} is damaged; join the gate again with a new token")]
    Damaged(PathBuf),
    /// Other users can read the device key.
    #[error(
        "{0} can be read by other users; run `chmod 600` on it, or better join again with a new token"
    )]
    KeyExposed(PathBuf),
    /// The gate has joined already.
    #[error(
        "{0} already holds the gate {1}; use another folder, or `--again` if this very gate is to join again"
    )]
    AlreadyJoined(PathBuf, GateId),
}

/// What `join.json` holds.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct JoinedFile {
    gate: GateId,
    server: String,
    answer: JoinAnswer,
    /// Since when the device key is in use; not known of those of before it was noted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key_since: Option<Timestamp>,
}

/// A joined gate's identity. `Debug` hides the key.
pub struct Identity {
    /// Which gate.
    pub gate: GateId,
    /// `HOST:PORT` of the server's gate interface.
    pub server: String,
    /// Certificates and public keys.
    pub answer: JoinAnswer,
    /// The device key, PKCS#8 PEM.
    pub device_key_pem: Zeroizing<String>,
    /// Since when that key is in use, where known.
    pub key_since: Option<Timestamp>,
}

impl Identity {
    /// The device key as people compare it with the console; empty when the key is damaged.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        KeyPair::from_pem(&self.device_key_pem).map_or_else(
            |_| String::new(),
            |key| {
                let spki = PublicKeyData::subject_public_key_info(&key);
                key_fingerprint(&hex::encode(Sha256::digest(spki)))
            },
        )
    }
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Identity({} at {}, [sealed])", self.gate, self.server)
    }
}

/// The state folder.
#[derive(Debug, Clone)]
pub struct StateFolder {
    root: PathBuf,
}

impl StateFolder {
    /// Uses a folder, creating it with mode 0700.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn create(root: &Path) -> Result<Self, StateError> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(root)
            .map_err(|source| StateError::Io {
                what: "cannot create",
                path: root.to_owned(),
                source,
            })?;
        Ok(Self {
            root: root.to_owned(),
        })
    }

    /// Uses a folder that is there or not; nothing is created.
    #[must_use]
    pub fn existing(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
        }
    }

    /// The folder itself.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Folder of the spool.
    #[must_use]
    pub fn spool(&self) -> PathBuf {
        self.root.join("spool")
    }

    /// Folder of the gate's memory of the audit log.
    #[must_use]
    pub fn witness(&self) -> PathBuf {
        self.root.join("witness")
    }

    /// File of used door nonces.
    #[must_use]
    pub fn door_nonces(&self) -> PathBuf {
        self.root.join("door-nonces")
    }

    /// The device key of an unfinished or finished join, if there is one.
    ///
    /// # Errors
    /// It cannot be read, or others can read it.
    pub fn device_key(&self) -> Result<Option<Zeroizing<String>>, StateError> {
        self.key("device.key")
    }

    fn key(&self, name: &str) -> Result<Option<Zeroizing<String>>, StateError> {
        let path = self.root.join(name);
        let metadata = match fs::metadata(&path) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(io_error("cannot read", &path, source)),
        };
        if metadata.permissions().mode() & 0o077 != 0 {
            return Err(StateError::KeyExposed(path));
        }
        fs::read_to_string(&path)
            .map(|text| Some(Zeroizing::new(text)))
            .map_err(|source| io_error("cannot read", &path, source))
    }

    /// Keeps a new device key.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn keep_device_key(&self, pem: &str) -> Result<(), StateError> {
        let path = self.root.join("device.key");
        durable::replace(&path, pem.as_bytes(), 0o600)
            .map_err(|source| io_error("cannot write", &path, source))
    }

    /// Puts a key that is to follow the present one beside it, before anybody uses it.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn prepare_device_key(&self, pem: &str) -> Result<(), StateError> {
        let path = self.root.join(NEXT_KEY);
        durable::replace(&path, pem.as_bytes(), 0o600)
            .map_err(|source| io_error("cannot write", &path, source))
    }

    /// Lets the prepared key follow, once `join.json` holds its certificate. A crash before this is finished at the next start.
    ///
    /// # Errors
    /// It cannot be renamed.
    pub fn adopt_device_key(&self) -> Result<(), StateError> {
        let (next, path) = (self.root.join(NEXT_KEY), self.root.join("device.key"));
        fs::rename(&next, &path)
            .and_then(|()| durable::sync_folder(&self.root))
            .map_err(|source| io_error("cannot rename", &next, source))
    }

    /// Keeps what `status` says of the cameras.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn keep_health(&self, cameras: &[(String, String)]) -> Result<(), StateError> {
        let path = self.root.join("cameras.json");
        let text =
            serde_json::to_vec_pretty(cameras).map_err(|_| StateError::Damaged(path.clone()))?;
        durable::replace(&path, &text, 0o600)
            .map_err(|source| io_error("cannot write", &path, source))
    }

    /// Name and health of each camera as the agent wrote it last; empty when it did not, or when the
    /// file is no longer readable.
    #[must_use]
    pub fn health(&self) -> Vec<(String, String)> {
        fs::read(self.root.join("cameras.json"))
            .ok()
            .and_then(|text| serde_json::from_slice(&text).ok())
            .unwrap_or_default()
    }

    /// Keeps the server's answer.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn keep_joined(
        &self,
        gate: &GateId,
        server: &str,
        answer: &JoinAnswer,
        key_since: Option<Timestamp>,
    ) -> Result<(), StateError> {
        let path = self.root.join("join.json");
        let file = JoinedFile {
            gate: gate.clone(),
            server: server.to_owned(),
            answer: answer.clone(),
            key_since,
        };
        let text =
            serde_json::to_vec_pretty(&file).map_err(|_| StateError::Damaged(path.clone()))?;
        durable::replace(&path, &text, 0o600)
            .map_err(|source| io_error("cannot write", &path, source))
    }

    /// Refuses a folder in which a gate has joined already, other than `allowed`.
    ///
    /// # Errors
    /// A gate has joined, or the file cannot be read.
    pub fn check_may_join(&self, allowed: Option<&GateId>) -> Result<(), StateError> {
        match self.joined() {
            Ok(file) if Some(&file.gate) == allowed => Ok(()),
            Ok(file) => Err(StateError::AlreadyJoined(self.root.clone(), file.gate)),
            Err(StateError::NotJoined(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// The identity of the joined gate.
    ///
    /// # Errors
    /// Not joined, damaged, or the key can be read by others.
    pub fn identity(&self) -> Result<Identity, StateError> {
        let file = self.joined()?;
        let mut device_key_pem = self
            .device_key()?
            .ok_or_else(|| StateError::NotJoined(self.root.clone()))?;
        // The exchange of the key was cut short after the new certificate was kept.
        if let Some(next) = self.key(NEXT_KEY)?
            && certifies(&file.answer.certificate_pem, &next)
        {
            self.adopt_device_key()?;
            device_key_pem = next;
        }
        Ok(Identity {
            gate: file.gate,
            server: file.server,
            answer: file.answer,
            device_key_pem,
            key_since: file.key_since,
        })
    }

    fn joined(&self) -> Result<JoinedFile, StateError> {
        let path = self.root.join("join.json");
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(StateError::NotJoined(self.root.clone()));
            }
            Err(source) => return Err(io_error("cannot read", &path, source)),
        };
        serde_json::from_slice(&text).map_err(|_| StateError::Damaged(path))
    }
}

/// Is this certificate for this key?
pub(crate) fn certifies(certificate_pem: &str, key_pem: &str) -> bool {
    let Ok(key) = KeyPair::from_pem(key_pem) else {
        return false;
    };
    let Ok(der) = CertificateDer::from_pem_slice(certificate_pem.as_bytes()) else {
        return false;
    };
    X509Certificate::from_der(&der).is_ok_and(|(_, certificate)| {
        certificate.public_key().raw == PublicKeyData::subject_public_key_info(&key).as_slice()
    })
}

fn io_error(what: &'static str, path: &Path, source: io::Error) -> StateError {
    StateError::Io {
        what,
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_key_that_others_can_read_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateFolder::create(&folder.path().join("gate")).unwrap();
        assert!(state.device_key().unwrap().is_none());
        state.keep_device_key("key").unwrap();
        let path = folder.path().join("gate/device.key");
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        assert!(state.device_key().unwrap().is_some());
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(state.device_key(), Err(StateError::KeyExposed(_))));
    }

    #[test]
    fn a_folder_without_a_join_says_what_to_do_and_damage_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateFolder::create(folder.path()).unwrap();
        let error = state.identity().unwrap_err();
        assert!(error.to_string().contains("sallyport-gate join"), "{error}");
        state.check_may_join(None).unwrap();
        fs::write(folder.path().join("join.json"), "{\"gate\":").unwrap();
        assert!(matches!(state.identity(), Err(StateError::Damaged(_))));
        assert!(state.check_may_join(None).is_err());
    }
}
