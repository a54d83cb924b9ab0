//! A file on its way: bytes go to `ETAG.incomplete` beside the blob and are summed up as they come; only a file with the
//! announced size and checksum takes the blob's name.

use super::cache::cannot_write;
use crate::error::{Error, Result};
use sha1::{Digest, Sha1};
use sha2::Sha256;
use std::{
    fs::{self, File},
    io::{Read, Seek, Write},
    path::{Path, PathBuf},
};

/// Bytes that are in memory at once.
pub(super) const PIECE_BYTES: usize = 256 << 10;

/// The part of a file that is here.
#[derive(Debug)]
pub(super) struct Half {
    pub(super) done: u64,
    pub(super) total: u64,
    path: PathBuf,
    file: File,
    etag: String,
    sum: Sum,
}

/// The checksum that an etag is.
#[derive(Debug)]
enum Sum {
    Sha256(Sha256),
    /// git's name of a blob: SHA-1 of a header and the content.
    Git(Sha1),
    /// Some other hub's etag, which says nothing of the content.
    None,
}

impl Sum {
    fn of(etag: &str, n_bytes: u64) -> Self {
        match etag.len() {
            _ if !etag.chars().all(|c| c.is_ascii_hexdigit()) => Self::None,
            64 => Self::Sha256(Sha256::new()),
            40 => Self::Git(Sha1::new_with_prefix(format!("blob {n_bytes}\0"))),
            _ => Self::None,
        }
    }

    fn add(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(sum) => sum.update(bytes),
            Self::Git(sum) => sum.update(bytes),
            Self::None => {}
        }
    }

    /// In hexadecimal, `None` where there is nothing to compare.
    fn text(&self) -> Option<String> {
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        match self {
            Self::Sha256(sum) => Some(hex(&sum.clone().finalize())),
            Self::Git(sum) => Some(hex(&sum.clone().finalize())),
            Self::None => None,
        }
    }
}

impl Half {
    /// Opens what an earlier try left of this blob, or begins.
    pub(super) fn open(blob: &Path, etag: &str, total: u64) -> Result<Self> {
        let path = blob.with_file_name(format!("{etag}.incomplete"));
        let opened = || {
            fs::create_dir_all(path.parent().unwrap_or(&path))?;
            fs::OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path)
        };
        let file = opened().map_err(|error| cannot_write(&path, &error))?;
        let mut half = Self { done: 0, total, path, file, etag: etag.into(), sum: Sum::of(etag, total) };
        let mut piece = vec![0; PIECE_BYTES];
        loop {
            match half.file.read(&mut piece).map_err(|error| cannot_write(&half.path, &error))? {
                0 => return Ok(half),
                // Longer than the whole: not what it seems.
                n if n as u64 > total - half.done => {
                    half.restart()?;
                    return Ok(half);
                }
                n => {
                    half.sum.add(&piece[..n]);
                    half.done += n as u64;
                }
            }
        }
    }

    /// Throws away what is here.
    pub(super) fn restart(&mut self) -> Result<()> {
        let emptied = self.file.rewind().and_then(|()| self.file.set_len(0));
        emptied.map_err(|error| cannot_write(&self.path, &error))?;
        self.done = 0;
        self.sum = Sum::of(&self.etag, self.total);
        Ok(())
    }

    pub(super) fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).map_err(|error| cannot_write(&self.path, &error))?;
        self.sum.add(bytes);
        self.done += bytes.len() as u64;
        Ok(())
    }

    /// Gives the whole file the blob's name, if it is what the hub announced; removes it otherwise.
    pub(super) fn finish(self, name: &str, blob: &Path) -> Result<()> {
        match self.sum.text() {
            Some(found) if !found.eq_ignore_ascii_case(&self.etag) => {
                Err(self.refuse(name, &format!("checksum {found}, announced was {}", self.etag)))
            }
            _ => {
                // On the disk before the name says so, or a power cut could leave a hole under it.
                let named = self.file.sync_all().and_then(|()| fs::rename(&self.path, blob));
                named.map_err(|error| cannot_write(blob, &error))
            }
        }
    }

    /// Removes what came, which is not what was announced.
    pub(super) fn refuse(&self, name: &str, what: &str) -> Error {
        let removed = match fs::remove_file(&self.path) {
            Ok(()) => "it has been removed".to_string(),
            Err(error) => format!("remove {} yourself ({error})", self.path.display()),
        };
        Error::Hub {
            what: format!("{name} arrived damaged: {what}"),
            hint: format!("{removed}; try again, and if it stays so, another network or HF_ENDPOINT"),
        }
    }
}
