//! Small files of ours that may come from elsewhere: read whole, but never without a bound.

use crate::error::{Error, Result};
use std::{fs::File, io::Read, path::Path};

/// The bytes of a file that is `what`, such as `an examination`, and has `most` bytes at most.
///
/// Errors: [`Error::Io`]; [`Error::Corrupt`] for a larger file.
pub fn read(path: &Path, what: &str, most: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(most + 1).read_to_end(&mut bytes));
    read.map_err(|source| Error::Io { path: path.into(), source })?;
    match bytes.len() as u64 > most {
        true => Err(Error::corrupt(&path.display().to_string(), format!("it is too large for {what}"))),
        false => Ok(bytes),
    }
}
