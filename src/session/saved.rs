//! Session files: a context's tokens and the used rows of its cache, to go on later where one left off.
//!
//! Magic, length of the header, header (JSON), token ids, then for each layer and part the rows of keys and those of
//! values in the order of their positions, and last a hash of all that. Numbers are little-endian.

use super::Session;
use crate::{
    error::{Error, Result},
    format::ByteSource,
    kernels::{CacheFormat, CacheLayout},
    model::{RecordOptions, cache_buffers, cache_rows},
    platform::PartialFile,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::{io::Write, ops::Range, path::Path};
use xxhash_rust::xxh3::Xxh3;

const MAGIC: [u8; 8] = *b"pktlmse1";

/// Whether a file begins as a saved session does.
///
/// Errors: those of the operating system, also for a file shorter than that.
pub fn is_saved_session(path: &Path) -> std::io::Result<bool> {
    let mut head = MAGIC;
    std::io::Read::read_exact(&mut std::fs::File::open(path)?, &mut head)?;
    Ok(head == MAGIC)
}
/// Most bytes of the header: of the messages, nearly all of them.
const MAX_HEADER_BYTES: u64 = 64 << 20;
/// Bytes of the cache that are in host memory at once.
const CHUNK_BYTES: u64 = 4 << 20;

/// What a session file says of itself.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Header {
    /// The model in words, and a hash of its configuration and of samples of its weights.
    model: String,
    fingerprint: String,
    cache: String,
    part_kv_heads: usize,
    n_tokens: usize,
    /// Positions whose keys and values follow.
    positions: Range<usize>,
    first_angle_row: usize,
    /// The caller's own.
    note: Value,
}

/// A session file, opened as far as its description goes.
#[derive(Debug)]
pub struct SavedSession {
    source: ByteSource,
    header: Header,
    cache: CacheFormat,
    /// Where the token ids begin.
    start: u64,
}

/// Rows of one buffer that follow each other there and in a file.
struct Chunk {
    buffer: String,
    offset: u64,
    n_bytes: usize,
    position: usize,
}

impl SavedSession {
    /// Opens a session file.
    ///
    /// Errors: [`Error::Io`]; [`Error::SavedSession`] for anything that is no session file.
    pub async fn open(path: &Path) -> Result<Self> {
        Self::read(ByteSource::open(path)?).await
    }

    /// Opens a session file that is open already.
    ///
    /// Errors: as [`SavedSession::open`].
    pub async fn read(source: ByteSource) -> Result<Self> {
        let refused = |what: &str| Error::SavedSession { file: source.name().into(), what: what.into() };
        let other = || refused("it is no session file, or one of another version");
        let mut head = [0; 16];
        source.read_at(0, &mut head).await.map_err(|_| other())?;
        let n_bytes = u64::from_le_bytes(head[8..].try_into().expect("eight bytes"));
        if head[..8] != MAGIC || n_bytes > MAX_HEADER_BYTES.min(source.n_bytes()) {
            return Err(other());
        }
        let mut json = vec![0; n_bytes as usize];
        source.read_at(16, &mut json).await.map_err(|_| refused("it ends in its header"))?;
        let header: Header =
            serde_json::from_slice(&json).map_err(|e| refused(&format!("its header is damaged: {e}")))?;
        let cache = CacheFormat::from_name(&header.cache);
        let Header { n_tokens, positions: Range { start, end }, .. } = header;
        match cache {
            Some(cache) if n_tokens <= 1 << 24 && start <= end && end <= n_tokens => {
                Ok(Self { header, cache, start: 16 + n_bytes, source })
            }
            _ => Err(refused("its header contradicts itself")),
        }
    }

    /// How its keys and values are stored; a session that takes it over has to be opened with the same.
    pub fn cache(&self) -> CacheFormat {
        self.cache
    }

    /// Tokens of the context.
    pub fn n_tokens(&self) -> usize {
        self.header.n_tokens
    }

    /// What [`Session::save`] was given.
    pub fn note(&self) -> &Value {
        &self.header.note
    }

    fn refused(&self, what: impl Into<String>) -> Error {
        Error::SavedSession { file: self.source.name().into(), what: what.into() }
    }
}

impl Session {
    /// Writes tokens, cache and `note` to a file, which has its name once it is complete. Where the device has failed,
    /// the cache is left out; it will be computed again.
    ///
    /// Errors: [`Error::Write`]; a file that was there before is as it was then.
    pub async fn save(&self, path: &Path, note: &Value) -> Result<()> {
        let failed = |source| Error::Write { path: path.into(), source };
        let cached = self.oldest_position()..self.n_cached;
        let mut file = PartialFile::create(path).map_err(failed)?;
        match self.save_to(&mut file, path, note, cached).await {
            Err(Error::Device { .. }) => {
                file = PartialFile::create(path).map_err(failed)?;
                self.save_to(&mut file, path, note, 0..0).await?;
            }
            result => result?,
        }
        file.finish(true).map_err(failed)
    }

    /// As [`Session::save`], to whatever takes bytes; `name` stands in errors. Where it fails, what was written is of no
    /// use.
    ///
    /// Errors: [`Error::Write`], [`Error::Device`].
    pub async fn save_in(&self, file: &mut impl Write, name: &str, note: &Value) -> Result<()> {
        self.save_to(file, Path::new(name), note, self.oldest_position()..self.n_cached).await
    }

    /// Takes over a file's tokens and cache in place of what is there. Returns how many of the tokens need not be
    /// processed again: none when the cache was not saved, or was saved on a device that binds more or less at once.
    ///
    /// Errors: [`Error::SavedSession`] when the file is of another model or cache format, or damaged, which may leave
    /// the context empty; [`Error::ContextFull`]; [`Error::Device`].
    pub async fn restore(&mut self, saved: &SavedSession) -> Result<usize> {
        let layouts = self.check_saved(saved)?;
        self.truncate(0);
        let positions = saved.header.positions.clone();
        let (engine, context) = (self.engine.clone(), self.context);
        self.room.reserve(&engine, positions.end, context, false).await?;
        let fits = saved.header.part_kv_heads == self.room.options.part_kv_heads;
        let rows = cache_rows(&engine.config, &self.room.options);
        let kept = positions.end.saturating_sub(rows).max(positions.start)..if fits { positions.end } else { 0 };
        let tokens = self.read_from(saved, layouts, rows, &kept).await?;
        self.tokens = tokens;
        self.first_angle_row = saved.header.first_angle_row;
        // Keys that were rotated for another length than this text has are of no use.
        let right_angles = self.first_angle_row == engine.config.rope.first_angle_row(self.tokens.len());
        self.first_angle_row = engine.config.rope.first_angle_row(self.tokens.len());
        if !kept.is_empty() && right_angles {
            (self.n_cached, self.n_written) = (kept.end, kept.end);
            if kept.start > 0 {
                self.n_written = kept.start + rows;
            }
        }
        // Forgets a cache that holds too little of a window.
        self.truncate(self.tokens.len());
        Ok(self.n_cached)
    }

    async fn save_to(&self, file: &mut impl Write, path: &Path, note: &Value, positions: Range<usize>) -> Result<()> {
        let failed = |source| Error::Write { path: path.into(), source };
        let (gpu, config, options) = (&self.engine.gpu, &self.engine.config, &self.room.options);
        let header = Header {
            model: config.summary(),
            fingerprint: self.engine.fingerprint.clone(),
            cache: options.cache.name().into(),
            part_kv_heads: options.part_kv_heads,
            n_tokens: self.tokens.len(),
            positions: positions.clone(),
            first_angle_row: self.first_angle_row,
            note: note.clone(),
        };
        let json = serde_json::to_vec(&header).expect("a header is plain data");
        let mut hash = Xxh3::new();
        let mut put = |bytes: &[u8]| {
            hash.update(bytes);
            file.write_all(bytes).map_err(failed)
        };
        put(&MAGIC)?;
        put(&(json.len() as u64).to_le_bytes())?;
        put(&json)?;
        put(bytemuck::cast_slice(&self.tokens))?;
        let (rows, mut words) = (cache_rows(config, options), Vec::new());
        for (buffer, layout) in cache_buffers(config, options) {
            for chunk in chunks(&buffer, layout, rows, positions.clone()) {
                words.resize(chunk.n_bytes / 4, 0u32);
                let through = gpu.read_back(chunk.n_bytes as u64);
                gpu.read_at(&self.room.memory, &chunk.buffer, chunk.offset, &through, &mut words).await?;
                put(bytemuck::cast_slice(&words))?;
            }
        }
        file.write_all(&hash.digest().to_le_bytes()).map_err(failed)
    }

    /// Refuses a file before anything is allocated for it; returns the layout of each buffer's rows in it.
    fn check_saved(&self, saved: &SavedSession) -> Result<Vec<CacheLayout>> {
        let (engine, header) = (&self.engine, &saved.header);
        let config = &engine.config;
        if header.fingerprint != engine.fingerprint {
            let what = format!("it is of another model ({}); this is {}", header.model, config.summary());
            return Err(saved.refused(what));
        }
        if saved.cache != self.room.options.cache {
            let (theirs, ours) = (saved.cache.name(), self.room.options.cache.name());
            return Err(saved.refused(format!("its cache is held in {theirs}, the session's in {ours}")));
        }
        if header.n_tokens > self.context {
            return Err(Error::ContextFull { n_tokens: header.n_tokens, context: self.context });
        }
        let part_kv_heads = header.part_kv_heads;
        let long = config.rope.long.as_ref().map(|long| long.original);
        if part_kv_heads == 0
            || part_kv_heads > config.n_kv_heads
            || (header.first_angle_row != 0 && Some(header.first_angle_row) != long)
        {
            return Err(saved.refused("its header contradicts itself"));
        }
        let options = RecordOptions { part_kv_heads, ..self.room.options };
        let layouts: Vec<_> = cache_buffers(config, &options).into_iter().map(|(_, layout)| layout).collect();
        let row_bytes: u64 = layouts.iter().map(|layout| layout.row_bytes()).sum();
        let n_bytes = saved.start + 4 * header.n_tokens as u64 + header.positions.len() as u64 * row_bytes + 8;
        match n_bytes == saved.source.n_bytes() {
            true => Ok(layouts),
            false => Err(saved.refused(format!("it has {} bytes instead of {n_bytes}", saved.source.n_bytes()))),
        }
    }

    /// Reads all of a file, and puts the rows of the positions in `kept` into the cache; returns the tokens.
    async fn read_from(
        &self,
        saved: &SavedSession,
        layouts: Vec<CacheLayout>,
        rows: usize,
        kept: &Range<usize>,
    ) -> Result<Vec<u32>> {
        let (gpu, config) = (&self.engine.gpu, &self.engine.config);
        let (mut at, mut hash) = (0, Xxh3::new());
        let mut take = async |n_bytes: usize| {
            let mut words = vec![0u32; n_bytes.div_ceil(4)];
            let bytes = &mut bytemuck::cast_slice_mut(&mut words)[..n_bytes];
            saved.source.read_at(at, bytes).await?;
            at += n_bytes as u64;
            hash.update(bytes);
            Ok::<_, Error>(words)
        };
        take(saved.start as usize).await?;
        let tokens = take(4 * saved.header.n_tokens).await?;
        let ours = cache_buffers(config, &self.room.options);
        for (index, layout) in layouts.into_iter().enumerate() {
            let name = ours.get(index).map_or("", |(name, _)| name);
            let Range { start, end } = saved.header.positions;
            let ends = [start..kept.start.clamp(start, end), kept.start.clamp(start, end)..end];
            for chunk in ends.into_iter().flat_map(|range| chunks(name, layout, rows, range)) {
                let words = take(chunk.n_bytes).await?;
                if kept.contains(&chunk.position) {
                    gpu.write_at(&self.room.memory, &chunk.buffer, chunk.offset, &words);
                }
            }
            gpu.finished("restoring a session").await?;
        }
        let mut digest = [0; 8];
        saved.source.read_at(at, &mut digest).await?;
        if u64::from_le_bytes(digest) != hash.digest() {
            return Err(saved.refused("it is damaged: its checksum is wrong"));
        }
        match tokens.iter().find(|&&id| id as usize >= config.n_vocab) {
            Some(&id) => Err(Error::TokenOutOfRange { id, n_vocab: config.n_vocab }),
            None => Ok(tokens),
        }
    }
}

/// The rows of `positions` in a buffer of `rows`, cut where the ring begins anew and where host memory should be spared.
fn chunks(buffer: &str, layout: CacheLayout, rows: usize, positions: Range<usize>) -> Vec<Chunk> {
    let row_bytes = layout.row_bytes();
    let most = (CHUNK_BYTES / row_bytes).max(1) as usize;
    let (mut chunks, mut position) = (Vec::new(), positions.start);
    while position < positions.end {
        let row = position % rows;
        let n = most.min(positions.end - position).min(rows - row);
        let (offset, n_bytes) = (row as u64 * row_bytes, n * row_bytes as usize);
        chunks.push(Chunk { buffer: buffer.into(), offset, n_bytes, position });
        position += n;
    }
    chunks
}
