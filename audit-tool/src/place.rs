//! An export in a folder, or in a tar that is read where it lies.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sallyport_transparency::Files;

use crate::Failure;

/// No file that is read whole is larger: a bundle holds 256 entries of up to 65,535 bytes.
const MAX_FILE_BYTES: u64 = 17 * 1024 * 1024;
/// A tar is made of blocks of this size.
const BLOCK: u64 = 512;

/// Where an export is.
#[derive(Debug, Clone)]
pub(crate) enum Place {
    Folder(PathBuf),
    Tar {
        path: PathBuf,
        file: Arc<File>,
        /// First byte and length of each file in it.
        parts: Arc<BTreeMap<String, (u64, u64)>>,
    },
}

impl Place {
    /// Looks what is there. A tar is accepted only exactly as the server writes it: nothing hides between the files of the export.
    pub(crate) fn open(path: &Path) -> Result<Self, Failure> {
        if path.is_dir() {
            return Ok(Self::Folder(path.to_owned()));
        }
        let file = File::open(path).map_err(|error| {
            Failure::Unable(format!(
                "{} is neither a folder nor a file that can be read: {error}",
                path.display()
            ))
        })?;
        if !is_tar(&file) {
            return Err(Failure::Unable(format!(
                "{} is not an export: neither a folder nor a tar",
                path.display()
            )));
        }
        let parts = parts(&file).map_err(|error| {
            Failure::Tampered(format!(
                "{} is not a tar as the server writes it, or was cut off or changed: {error}",
                path.display()
            ))
        })?;
        Ok(Self::Tar {
            path: path.to_owned(),
            file: Arc::new(file),
            parts: Arc::new(parts),
        })
    }

    /// Is this a tar, rather than a single file such as a kept checkpoint?
    pub(crate) fn is_tar(path: &Path) -> bool {
        File::open(path).is_ok_and(|file| is_tar(&file))
    }

    /// The name of a file in it, for messages.
    pub(crate) fn name(&self, name: &str) -> PathBuf {
        match self {
            Self::Folder(root) | Self::Tar { path: root, .. } => root.join(name),
        }
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        match self {
            Self::Folder(root) => root.join(name).exists(),
            Self::Tar { parts, .. } => parts.contains_key(name),
        }
    }

    /// A file, to be read from its beginning; `None` when it is not there.
    pub(crate) fn part(&self, name: &str) -> io::Result<Option<Part>> {
        match self {
            Self::Folder(root) => match File::open(root.join(name)) {
                Ok(file) => Ok(Some(Part {
                    file: Arc::new(file),
                    at: 0,
                    end: u64::MAX,
                })),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
                Err(error) => Err(error),
            },
            Self::Tar { file, parts, .. } => Ok(parts.get(name).map(|(at, length)| Part {
                file: Arc::clone(file),
                at: *at,
                end: at + length,
            })),
        }
    }

    /// A whole file that must be there.
    pub(crate) fn bytes(&self, name: &str) -> Result<Vec<u8>, Failure> {
        let mut place = self;
        let unreadable = |why: String| {
            Failure::Unable(format!(
                "{} could not be read: {why}",
                self.name(name).display()
            ))
        };
        match Files::read(&mut place, name) {
            Ok(Some(bytes)) => Ok(bytes),
            Ok(None) => Err(unreadable("it is not there".to_owned())),
            Err(error) => Err(unreadable(error.to_string())),
        }
    }
}

impl Files for &Place {
    type Error = io::Error;

    fn read(&mut self, path: &str) -> Result<Option<Vec<u8>>, io::Error> {
        let Some(part) = self.part(path)? else {
            return Ok(None);
        };
        let mut bytes = Vec::new();
        part.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > MAX_FILE_BYTES {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "the file is far larger than any part of an export",
            ));
        }
        Ok(Some(bytes))
    }

    fn tiles(&mut self) -> Result<Vec<String>, io::Error> {
        let root = match self {
            Place::Folder(root) => root,
            Place::Tar { parts, .. } => {
                let tiles = parts.keys().filter(|path| path.starts_with("tile/"));
                return Ok(tiles.cloned().collect());
            }
        };
        let mut found = Vec::new();
        let mut open = vec![PathBuf::from("tile")];
        while let Some(folder) = open.pop() {
            let entries = match std::fs::read_dir(root.join(&folder)) {
                Ok(entries) => entries,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            for entry in entries {
                let entry = entry?;
                let path = folder.join(entry.file_name());
                if entry.file_type()?.is_dir() {
                    open.push(path);
                } else {
                    found.push(path.to_string_lossy().into_owned());
                }
            }
        }
        Ok(found)
    }
}

/// One file of an export, wherever it lies.
#[derive(Debug)]
pub(crate) struct Part {
    file: Arc<File>,
    at: u64,
    end: u64,
}

impl Read for Part {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.end - self.at).unwrap_or(usize::MAX);
        let length = into.len().min(left);
        let read = match into.get_mut(..length) {
            Some(into) => self.file.read_at(into, self.at)?,
            None => 0,
        };
        self.at += read as u64;
        Ok(read)
    }
}

fn is_tar(file: &File) -> bool {
    let mut magic = [0; 5];
    file.read_exact_at(&mut magic, 257).is_ok() && &magic == b"ustar"
}

fn other(why: impl Into<String>) -> io::Error {
    io::Error::other(why.into())
}

/// Finds the files of a tar, and that there is nothing else in it.
fn parts(file: &File) -> io::Result<BTreeMap<String, (u64, u64)>> {
    let length = file.metadata()?.len();
    let mut parts = BTreeMap::new();
    let mut end = 0;
    let mut archive = tar::Archive::new(file);
    for entry in archive.entries_with_seek()? {
        let entry = entry?;
        let header = entry.header();
        let name = std::str::from_utf8(&entry.path_bytes())
            .map_err(|_| other("a name in it is not text"))?
            .to_owned();
        let (at, size) = (entry.raw_file_position(), entry.size());
        if entry.raw_header_position() != end
            || header.as_bytes() != canonical(&name, size)?.as_bytes()
        {
            return Err(other(format!("the head of '{name}' was changed")));
        }
        let padded = size
            .checked_next_multiple_of(BLOCK)
            .and_then(|size| at.checked_add(size))
            .filter(|end| *end <= length)
            .ok_or_else(|| other(format!("'{name}' ends early")))?;
        empty(file, at + size, padded)?;
        if parts.insert(name.clone(), (at, size)).is_some() {
            return Err(other(format!("'{name}' is in it twice")));
        }
        end = padded;
    }
    // Two empty blocks end a tar.
    if length != end + 2 * BLOCK {
        return Err(other("it does not end where it should"));
    }
    empty(file, end, length)?;
    Ok(parts)
}

/// The only head that a file of an export may have.
fn canonical(name: &str, size: u64) -> io::Result<tar::Header> {
    let mut header = tar::Header::new_ustar();
    header.set_path(name)?;
    header.set_size(size);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_entry_type(tar::EntryType::Regular);
    header.set_cksum();
    Ok(header)
}

fn empty(file: &File, from: u64, to: u64) -> io::Result<()> {
    let mut bytes = vec![0; usize::try_from(to - from).unwrap_or(0)];
    file.read_exact_at(&mut bytes, from)?;
    if bytes.iter().all(|byte| *byte == 0) {
        Ok(())
    } else {
        Err(other("something lies between its files"))
    }
}
