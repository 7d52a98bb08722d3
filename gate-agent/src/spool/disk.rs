//! File operations of the spool; a trait so that tests can fill the disk.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

use crate::durable;

/// What the spool asks of a disk. Each operation is durable when it returns.
pub trait SpoolDisk: Send + Sync {
    /// Makes the folder, removes temporary files, and lists the rest by name.
    ///
    /// # Errors
    /// The disk failed.
    fn prepare(&self, folder: &Path) -> io::Result<Vec<String>>;
    /// Lists a folder without changing it; a missing one is empty.
    ///
    /// # Errors
    /// The disk failed.
    fn list(&self, folder: &Path) -> io::Result<Vec<String>>;
    /// Writes a new file that appears whole or not at all.
    ///
    /// # Errors
    /// The disk failed; nothing remains.
    fn create(&self, path: &Path, bytes: &[u8]) -> io::Result<()>;
    /// Writes over a file in place, or makes it.
    ///
    /// # Errors
    /// The disk failed.
    fn overwrite(&self, path: &Path, bytes: &[u8]) -> io::Result<()>;
    /// Renames a file.
    ///
    /// # Errors
    /// The disk failed.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    ///
    /// # Errors
    /// The disk failed.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Reads a file.
    ///
    /// # Errors
    /// The disk failed.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;
}

/// The real disk.
#[derive(Debug, Clone, Copy, Default)]
pub struct FileDisk;

impl SpoolDisk for FileDisk {
    fn prepare(&self, folder: &Path) -> io::Result<Vec<String>> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)?;
        let mut names = self.list(folder)?;
        for temporary in names.iter().filter(|name| name.ends_with(".tmp")) {
            fs::remove_file(folder.join(temporary))?;
        }
        names.retain(|name| !name.ends_with(".tmp"));
        Ok(names)
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<String>> {
        let entries = match fs::read_dir(folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut names = Vec::new();
        for entry in entries {
            if let Ok(name) = entry?.file_name().into_string() {
                names.push(name);
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    fn create(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        durable::replace(path, bytes, 0o600)
    }

    fn overwrite(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let existed = path.exists();
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        if existed {
            return Ok(());
        }
        path.parent().map_or(Ok(()), durable::sync_folder)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)?;
        to.parent().map_or(Ok(()), durable::sync_folder)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)?;
        path.parent().map_or(Ok(()), durable::sync_folder)
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        fs::read(path)
    }
}
