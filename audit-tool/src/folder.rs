//! An export in a folder.

use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use sallyport_transparency::Files;

/// No file of an export is larger: a bundle holds 256 entries of up to 65,535 bytes.
const MAX_FILE_BYTES: u64 = 17 * 1024 * 1024;

#[derive(Debug)]
pub(crate) struct Folder {
    root: PathBuf,
}

impl Folder {
    pub(crate) fn new(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
        }
    }
}

impl Files for Folder {
    type Error = io::Error;

    fn read(&mut self, path: &str) -> Result<Option<Vec<u8>>, io::Error> {
        let file = match std::fs::File::open(self.root.join(path)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut bytes = Vec::new();
        file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > MAX_FILE_BYTES {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "the file is far larger than any part of an export",
            ));
        }
        Ok(Some(bytes))
    }

    fn tiles(&mut self) -> Result<Vec<String>, io::Error> {
        let mut found = Vec::new();
        let mut open = vec![PathBuf::from("tile")];
        while let Some(folder) = open.pop() {
            let entries = match std::fs::read_dir(self.root.join(&folder)) {
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
