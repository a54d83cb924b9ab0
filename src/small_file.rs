//! Small files of ours that may come from elsewhere: read whole, but never without a bound.

use crate::error::{Error, Result};
use std::{fs::File, io::Read, path::Path};

/// A kind of them.
#[derive(Debug)]
pub struct SmallFile {
    /// Such as `an examination`.
    pub what: &'static str,
    /// How one comes by a right one, as a sentence.
    pub hint: &'static str,
    pub max_bytes: u64,
}

impl SmallFile {
    /// The bytes of the file at `path`.
    ///
    /// Errors: [`Error::Io`]; [`Error::Foreign`] for a file that is larger than any of this kind.
    pub fn read(&self, path: &Path) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let read = File::open(path).and_then(|file| file.take(self.max_bytes + 1).read_to_end(&mut bytes));
        read.map_err(|source| Error::Io { path: path.into(), source })?;
        match bytes.len() as u64 > self.max_bytes {
            true => Err(self.refuse(&path.display().to_string(), format!("it is too large for {}", self.what))),
            false => Ok(bytes),
        }
    }

    /// Why `file` is none of this kind, or none that can be used here.
    pub fn refuse(&self, file: &str, what: impl Into<String>) -> Error {
        Error::Foreign { file: file.into(), what: what.into(), hint: self.hint }
    }
}
