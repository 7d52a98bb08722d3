//! Where an export goes: a new folder, or one tar, written from front to back.

use std::fs::File;
use std::io::{BufWriter, Seek as _, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use sallyport_transparency::ExportFile;

use crate::audit::{self, AuditError};

/// What to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// A new or empty folder.
    Folder(PathBuf),
    /// A new file.
    Tar(PathBuf),
}

impl Target {
    /// The path.
    #[must_use]
    pub fn path(&self) -> &Path {
        match self {
            Self::Folder(path) | Self::Tar(path) => path,
        }
    }
}

/// An export that is being written.
pub(super) enum Output {
    Folder(PathBuf),
    Tar(Box<Tarball>),
}

/// The tar under a name of its own until it is whole.
pub(super) struct Tarball {
    builder: tar::Builder<BufWriter<File>>,
    part: PathBuf,
    path: PathBuf,
}

impl Drop for Tarball {
    fn drop(&mut self) {
        // Renamed when it is whole; anything else that is there is not an export.
        if let Err(error) = std::fs::remove_file(&self.part)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(path = %self.part.display(), %error, "an unfinished export is left");
        }
    }
}

impl Output {
    pub(super) fn new(target: &Target) -> Result<Self, AuditError> {
        match target {
            Target::Folder(path) => {
                std::fs::create_dir_all(path).map_err(|source| failed(path, source))?;
                let mut there = std::fs::read_dir(path).map_err(|source| failed(path, source))?;
                if there.next().is_some() {
                    return Err(failed(
                        path,
                        std::io::Error::other("the folder is not empty; name a new one"),
                    ));
                }
                Ok(Self::Folder(path.clone()))
            }
            Target::Tar(path) => {
                if path.exists() {
                    return Err(failed(
                        path,
                        std::io::Error::other("the file is there already; name a new one"),
                    ));
                }
                let part = beside(path, "part");
                let file = private(&part)?;
                Ok(Self::Tar(Box::new(Tarball {
                    builder: tar::Builder::new(BufWriter::new(file)),
                    part,
                    path: path.clone(),
                })))
            }
        }
    }

    /// A file that grows while others are written; [`Output::take`] takes it when it is done.
    pub(super) fn open(&self, name: &'static str) -> Result<Growing, AuditError> {
        let (file, path) = match self {
            Self::Folder(folder) => {
                let path = folder.join(name);
                if let Some(parent) = path.parent() {
                    std::fs::create_dir_all(parent).map_err(|source| failed(parent, source))?;
                }
                let file = File::create_new(&path).map_err(|source| failed(&path, source))?;
                (file, path)
            }
            // A tar says a file's length before its content: it waits beside the tar, without a name.
            Self::Tar(tarball) => {
                let path = beside(&tarball.path, &name.replace('/', "-"));
                let file = private(&path)?;
                std::fs::remove_file(&path).map_err(|source| failed(&path, source))?;
                (file, path)
            }
        };
        Ok(Growing {
            file: BufWriter::new(file),
            path,
            name,
        })
    }

    pub(super) fn take(&mut self, growing: Growing) -> Result<(), AuditError> {
        let Growing { file, path, name } = growing;
        let mut file = file
            .into_inner()
            .map_err(|error| failed(&path, error.into_error()))?;
        match self {
            // Not synced file by file: an export is checked before it is used, and can be made again.
            Self::Folder(_) => Ok(()),
            Self::Tar(tarball) => {
                let mut append = || {
                    let length = file.stream_position()?;
                    file.rewind()?;
                    tarball.builder.append(&header(name, length)?, &mut file)
                };
                append().map_err(|source| failed(&path, source))
            }
        }
    }

    pub(super) fn put(&mut self, name: &str, bytes: &[u8]) -> Result<(), AuditError> {
        match self {
            Self::Folder(folder) => {
                let path = folder.join(name);
                let write = || {
                    if let Some(parent) = path.parent() {
                        std::fs::create_dir_all(parent)?;
                    }
                    File::create_new(&path)?.write_all(bytes)
                };
                write().map_err(|source| failed(&path, source))
            }
            Self::Tar(tarball) => header(name, bytes.len() as u64)
                .and_then(|header| tarball.builder.append(&header, bytes))
                .map_err(|source| failed(&tarball.part, source)),
        }
    }

    pub(super) fn put_all(&mut self, files: Vec<ExportFile>) -> Result<(), AuditError> {
        for file in files {
            self.put(&file.path, &file.bytes)?;
        }
        Ok(())
    }

    /// Nothing more comes.
    pub(super) fn done(self) -> Result<(), AuditError> {
        match self {
            Self::Folder(_) => Ok(()),
            Self::Tar(mut tarball) => {
                let mut end = || {
                    tarball.builder.finish()?;
                    tarball.builder.get_mut().flush()?;
                    tarball.builder.get_ref().get_ref().sync_all()?;
                    // Not over a file that came meanwhile.
                    std::fs::hard_link(&tarball.part, &tarball.path)
                };
                end().map_err(|source| failed(&tarball.path, source))
            }
        }
    }
}

/// The same for the same content, always; `sallyport-audit` accepts no other.
fn header(name: &str, length: u64) -> std::io::Result<tar::Header> {
    let mut header = tar::Header::new_ustar();
    header.set_path(name)?;
    header.set_size(length);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_entry_type(tar::EntryType::Regular);
    header.set_cksum();
    Ok(header)
}

fn beside(path: &Path, what: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{what}"));
    PathBuf::from(name)
}

fn private(path: &Path) -> Result<File, AuditError> {
    File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(|source| failed(path, source))
}

/// A file that is being written; it counts when [`Output::take`] took it.
pub(super) struct Growing {
    file: BufWriter<File>,
    path: PathBuf,
    name: &'static str,
}

impl Growing {
    pub(super) fn put(&mut self, bytes: &[u8]) -> Result<(), AuditError> {
        self.file
            .write_all(bytes)
            .map_err(|source| failed(&self.path, source))
    }
}

impl Write for Growing {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file.flush()
    }
}

pub(super) fn failed(path: &Path, source: std::io::Error) -> AuditError {
    AuditError::File {
        path: path.display().to_string(),
        source,
    }
}

pub(super) fn age_failed(error: impl std::fmt::Display) -> AuditError {
    audit::refused(format!("the details could not be encrypted: {error}"))
}
