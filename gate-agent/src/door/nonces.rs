//! Nonces of door orders that were used, so that no order opens twice, not even over a restart.
//!
//! The agent makes every nonce itself and accepts an order only for the request in progress, so the
//! list is a second line of defence and may be cut to the newest few thousand.

use std::collections::{HashSet, VecDeque};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::durable;

/// Nonces kept at least.
const KEPT: usize = 4_096;

/// The list cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[error("the list of used door orders {path} cannot be used: {source}; check the state folder")]
pub struct NonceError {
    path: PathBuf,
    source: io::Error,
}

/// The durable list.
pub struct UsedNonces {
    path: PathBuf,
    file: File,
    known: HashSet<String>,
    order: VecDeque<String>,
}

impl UsedNonces {
    /// Opens or makes the list. A torn last line is dropped: its order was never admitted.
    ///
    /// # Errors
    /// The file cannot be read or written.
    pub fn open(path: &Path) -> Result<Self, NonceError> {
        let error = |source| NonceError {
            path: path.to_owned(),
            source,
        };
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(missing) if missing.kind() == io::ErrorKind::NotFound => String::new(),
            Err(source) => return Err(error(source)),
        };
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        let mut order: VecDeque<String> = whole.lines().map(str::to_owned).collect();
        while order.len() > KEPT {
            order.pop_front();
        }
        let mut rewritten = String::new();
        for nonce in &order {
            rewritten.push_str(nonce);
            rewritten.push('\n');
        }
        durable::replace(path, rewritten.as_bytes(), 0o600).map_err(error)?;
        Ok(Self {
            file: append(path).map_err(error)?,
            path: path.to_owned(),
            known: order.iter().cloned().collect(),
            order,
        })
    }

    /// Whether the nonce was used.
    #[must_use]
    pub fn contains(&self, nonce: &str) -> bool {
        self.known.contains(nonce)
    }

    /// Records a use durably. When this fails the nonce counts as used all the same.
    ///
    /// # Errors
    /// The record may not survive a restart; the order must not be obeyed.
    pub fn burn(&mut self, nonce: &str) -> Result<(), NonceError> {
        self.known.insert(nonce.to_owned());
        self.order.push_back(nonce.to_owned());
        if self.order.len() > 2 * KEPT {
            while self.order.len() > KEPT {
                if let Some(old) = self.order.pop_front() {
                    self.known.remove(&old);
                }
            }
            let mut text = String::new();
            for nonce in &self.order {
                text.push_str(nonce);
                text.push('\n');
            }
            return durable::replace(&self.path, text.as_bytes(), 0o600)
                .and_then(|()| append(&self.path))
                .map(|file| self.file = file)
                .map_err(|source| self.error(source));
        }
        let line = format!("{nonce}\n");
        let before = self.file.metadata().map(|metadata| metadata.len());
        let written = self
            .file
            .write_all(line.as_bytes())
            .and_then(|()| self.file.sync_data());
        if let (Err(_), Ok(before)) = (&written, before) {
            // Half a line must not swallow the next nonce; if this fails too, nothing is lost that
            // a restart would need.
            let _ = self.file.set_len(before);
        }
        written.map_err(|source| self.error(source))
    }

    /// A list on a full disk.
    #[cfg(test)]
    pub(crate) fn failing(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            file: OpenOptions::new()
                .write(true)
                .open("/dev/full")
                .expect("Linux has /dev/full"),
            known: HashSet::new(),
            order: VecDeque::new(),
        }
    }

    fn error(&self, source: io::Error) -> NonceError {
        NonceError {
            path: self.path.clone(),
            source,
        }
    }
}

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn used_nonces_survive_a_restart_and_a_torn_line_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("nonces");
        let mut used = UsedNonces::open(&path).unwrap();
        used.burn("aa").unwrap();
        used.burn("bb").unwrap();
        drop(used);
        fs::write(&path, [fs::read(&path).unwrap(), b"cc".to_vec()].concat()).unwrap();
        let mut used = UsedNonces::open(&path).unwrap();
        assert!(used.contains("aa") && used.contains("bb") && !used.contains("cc"));
        used.burn("dd").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "aa\nbb\ndd\n");
    }

    #[test]
    fn the_list_stays_bounded_and_keeps_the_newest() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("nonces");
        let lines: String = (0..KEPT + 10).map(|n| format!("{n}\n")).collect();
        fs::write(&path, lines).unwrap();
        let used = UsedNonces::open(&path).unwrap();
        assert!(!used.contains("0") && used.contains("10"));
        assert_eq!(fs::read_to_string(&path).unwrap().lines().count(), KEPT);
    }
}
