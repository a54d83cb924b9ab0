//! Where bytes come from: a file, a piece of memory, a seed, or tensors that are put together on the way, read at any
//! offset.

use super::{block::WeightFormat, packed_layer::PackedLayer, random_blocks};
use crate::{
    error::{Error, Result},
    platform::PlatformFile,
};
use std::path::{Path, PathBuf};

/// Random access to the bytes of one file, whatever holds them.
#[derive(Debug)]
pub struct ByteSource {
    name: String,
    bytes: Bytes,
}

#[derive(Debug)]
enum Bytes {
    File { path: PathBuf, file: PlatformFile },
    Memory(Vec<u8>),
    Layer(Box<PackedLayer>),
    Random { format: WeightFormat, n_bytes: u64, seed: u64, near_one: bool },
}

impl ByteSource {
    /// Opens a file. Errors: [`Error::Io`].
    pub fn open(path: &Path) -> Result<Self> {
        let file = PlatformFile::open(path).map_err(|source| Error::Io { path: path.into(), source })?;
        let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
        Ok(Self { name, bytes: Bytes::File { path: path.into(), file } })
    }

    /// A file that is open already; `name` stands in error messages.
    pub fn file(name: &str, file: PlatformFile) -> Self {
        Self { name: name.into(), bytes: Bytes::File { path: name.into(), file } }
    }

    /// Bytes already in memory; `name` stands in error messages.
    pub fn memory(name: &str, bytes: Vec<u8>) -> Self {
        Self { name: name.into(), bytes: Bytes::Memory(bytes) }
    }

    /// The rows of a packed layer, one after the other; `name` is that of its file.
    pub(super) fn layer(name: &str, layer: PackedLayer) -> Self {
        Self { name: name.into(), bytes: Bytes::Layer(Box::new(layer)) }
    }

    /// A tensor of `n_weights` random weights, which are made when they are read; see [`random_blocks::fill`].
    pub fn random(format: WeightFormat, n_weights: usize, seed: u64, near_one: bool) -> Self {
        let n_bytes = n_weights as u64 / format.block_len() as u64 * format.block_bytes() as u64;
        Self { name: "random weights".into(), bytes: Bytes::Random { format, n_bytes, seed, near_one } }
    }

    /// The bytes mean nothing: they were made from a seed.
    pub fn is_random(&self) -> bool {
        matches!(self.bytes, Bytes::Random { .. })
    }

    /// Fills `out` from the middle of `n_bytes` at `offset`, to tell this source from others. A packed layer gives
    /// words as they are stored: putting its rows together for a few bytes would take reads all over the layer, and
    /// memory for the rows around them.
    ///
    /// Errors: as [`ByteSource::read_at`].
    pub async fn sample(&self, offset: u64, n_bytes: u64, out: &mut [u8]) -> Result<()> {
        let middle = |n_bytes: u64| n_bytes.saturating_sub(out.len() as u64) / 2;
        match &self.bytes {
            Bytes::Layer(layer) => {
                let (words, n_bytes) = layer.words();
                let n = (n_bytes as usize).min(out.len());
                Box::pin(words.source.read_at(words.offset + middle(n_bytes), &mut out[..n])).await
            }
            _ => self.read_at(offset + middle(n_bytes), out).await,
        }
    }

    /// The file's name for messages.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Length in bytes.
    pub fn n_bytes(&self) -> u64 {
        match &self.bytes {
            Bytes::File { file, .. } => file.n_bytes(),
            Bytes::Memory(bytes) => bytes.len() as u64,
            Bytes::Layer(layer) => layer.rows as u64 * layer.row_bytes() as u64,
            Bytes::Random { n_bytes, .. } => *n_bytes,
        }
    }

    /// Fills `out` from `offset`.
    ///
    /// Errors: [`Error::Corrupt`] when the range passes the end, [`Error::Io`] when the read fails.
    pub async fn read_at(&self, offset: u64, out: &mut [u8]) -> Result<()> {
        let end = offset.checked_add(out.len() as u64).filter(|&end| end <= self.n_bytes());
        if end.is_none() {
            return Err(Error::corrupt(
                &self.name,
                format!("it ends at byte {}, before bytes {offset} + {}", self.n_bytes(), out.len()),
            ));
        }
        match &self.bytes {
            // The layer reads from sources in its turn; futures that contain one another need a box.
            Bytes::Layer(layer) => Box::pin(layer.read_at(offset, out)).await?,
            Bytes::Memory(bytes) => out.copy_from_slice(&bytes[offset as usize..][..out.len()]),
            Bytes::Random { format, seed, near_one, .. } => random_blocks::fill(*format, *seed, *near_one, offset, out),
            Bytes::File { path, file } => {
                file.read_exact_at(offset, out).await.map_err(|source| Error::Io { path: path.clone(), source })?
            }
        }
        Ok(())
    }
}
