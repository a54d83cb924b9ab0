//! Linear layers of GPTQ and AWQ checkpoints, read as rows of a 4-bit block format.
//!
//! Both methods hold a layer `(rows, columns)` as `qweight`, `qzeros` and `scales`, with `w = scale * (code - zero)` for
//! each row and group of columns, eight 4-bit numbers to a word. Their groups are whole blocks of ours and the codes
//! mean the same, so a row is only put together differently; no weight is ever widened.
//!
//! As AutoGPTQ and AutoAWQ write them:
//!
//! | | GPTQ | AWQ (`gemm`) |
//! |---|---|---|
//! | `qweight` | (columns / 8, rows), eight columns of a row in a word | (columns, rows / 8), eight rows of a column |
//! | `qzeros` | (groups, rows / 8), one less than the zero in version 1 | (groups, rows / 8) |
//! | `scales` | (groups, rows) | (groups, rows) |
//! | order of rows in a word | 0 to 7 | 0, 2, 4, 6, 1, 3, 5, 7 |

use super::{block::WeightFormat, source::ByteSource};
use crate::error::Result;
use half::{bf16, f16};
use std::sync::{Arc, Mutex, PoisonError};

/// Columns of the smallest block that a group may consist of.
pub(super) const BLOCK_COLUMNS: usize = 32;
/// Which of eight consecutive rows each nibble of an AWQ word belongs to, lowest nibble first.
const AWQ_ROWS: [usize; 8] = [0, 2, 4, 6, 1, 3, 5, 7];
/// Eight zeros of 8, which is what symmetric codes are relative to.
const SYMMETRIC: u32 = 0x8888_8888;
/// Bytes of `qzeros` that are looked at together.
const PIECE_BYTES: u64 = 1 << 20;
/// Bytes of rows that are put together at once. The words of a few rows lie scattered over the whole tensor, so asking
/// for as many rows as the loader uploads at a time would take ten times as many reads.
const WINDOW_BYTES: usize = 16 << 20;

/// Who packed the words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Method {
    Gptq,
    Awq,
}

/// A tensor inside its file; the layer's checks have made sure that it is as large as its shape says.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) source: Arc<ByteSource>,
    pub(super) offset: u64,
}

/// A linear layer as its three tensors.
#[derive(Debug)]
pub(super) struct PackedLayer {
    pub(super) method: Method,
    pub(super) rows: usize,
    pub(super) columns: usize,
    /// Columns that share a scale and a zero; a multiple of [`BLOCK_COLUMNS`].
    pub(super) group: usize,
    /// Added to each word of `qzeros`: a one in every nibble where the file holds them less one.
    pub(super) zero_offset: u32,
    pub(super) qweight: Place,
    pub(super) qzeros: Place,
    pub(super) scales: Place,
    /// Whether scales are bf16 instead of f16.
    pub(super) scales_are_bf16: bool,
    /// What the rows are presented as.
    pub(super) format: WeightFormat,
    /// The rows that were put together last, until the layer's end is read.
    pub(super) window: Mutex<Window>,
}

/// Consecutive rows, the first of them `first`.
#[derive(Debug, Default)]
pub(super) struct Window {
    first: usize,
    bytes: Vec<u8>,
}

impl PackedLayer {
    pub(super) fn n_groups(&self) -> usize {
        self.columns.div_ceil(self.group)
    }

    pub(super) fn row_bytes(&self) -> usize {
        self.columns / self.format.block_len() * self.format.block_bytes()
    }

    /// Where the codes are as they are stored, and how many bytes of them.
    pub(super) fn words(&self) -> (&Place, u64) {
        (&self.qweight, (self.rows * self.columns / 2) as u64)
    }

    /// Whether every zero is 8, as in symmetric quantisation; the file's word for it is not needed.
    pub(super) async fn is_symmetric(&self) -> Result<bool> {
        let total = 4 * (self.n_groups() * self.rows / 8) as u64;
        let mut piece = Vec::new();
        for from in (0..total).step_by(PIECE_BYTES as usize) {
            piece.resize(PIECE_BYTES.min(total - from) as usize, 0);
            self.qzeros.source.read_at(self.qzeros.offset + from, &mut piece).await?;
            if words(&piece).any(|word| word.wrapping_add(self.zero_offset) != SYMMETRIC) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Fills `out` from byte `offset` of the layer in [`Self::format`], row after row.
    pub(super) async fn read_at(&self, offset: u64, out: &mut [u8]) -> Result<()> {
        let row_bytes = self.row_bytes();
        let mut row = (offset / row_bytes as u64) as usize;
        let mut skip = (offset % row_bytes as u64) as usize;
        let mut window = std::mem::take(&mut *self.window.lock().unwrap_or_else(PoisonError::into_inner));
        let mut done = 0;
        while done < out.len() {
            if !(window.first..window.first + window.bytes.len() / row_bytes).contains(&row) {
                let n = (WINDOW_BYTES / row_bytes).max(1).min(self.rows - row);
                window = Window { first: row, bytes: self.read_rows(row, n).await? };
            }
            let there = &window.bytes[(row - window.first) * row_bytes + skip..];
            let n = there.len().min(out.len() - done);
            out[done..done + n].copy_from_slice(&there[..n]);
            (done, row, skip) = (done + n, row + (skip + n) / row_bytes, 0);
        }
        if row < self.rows {
            *self.window.lock().unwrap_or_else(PoisonError::into_inner) = window;
        }
        Ok(())
    }

    async fn read_rows(&self, first: usize, n: usize) -> Result<Vec<u8>> {
        let codes = match self.method {
            Method::Gptq => self.read_columns(&self.qweight, self.columns / 8, self.rows, 4, first, n).await?,
            Method::Awq => return self.read_awq_rows(first, n).await,
        };
        self.assemble(&words(&codes).collect::<Vec<_>>(), first, n).await
    }

    /// AWQ's words hold rows by eight: whole eights are read and turned into GPTQ's words.
    async fn read_awq_rows(&self, first: usize, n: usize) -> Result<Vec<u8>> {
        let (first_eight, end_eight) = (first / 8, (first + n).div_ceil(8));
        let eights = end_eight - first_eight;
        let bytes = self.read_columns(&self.qweight, self.columns, self.rows / 8, 4, first_eight, eights).await?;
        let packed: Vec<u32> = words(&bytes).collect();
        let mut codes = vec![0; self.columns / 8 * n];
        for k in 0..self.columns / 8 {
            for eight in 0..eights {
                let columns = std::array::from_fn(|i| packed[(8 * k + i) * eights + eight]);
                for (word, row) in transposed(columns).into_iter().zip(AWQ_ROWS) {
                    let row = (8 * (first_eight + eight) + row).wrapping_sub(first);
                    if row < n {
                        codes[k * n + row] = word;
                    }
                }
            }
        }
        self.assemble(&codes, first, n).await
    }

    /// Columns `first .. first + n` of a matrix `(height, width)` whose elements have `size` bytes.
    async fn read_columns(
        &self,
        place: &Place,
        height: usize,
        width: usize,
        size: usize,
        first: usize,
        n: usize,
    ) -> Result<Vec<u8>> {
        let mut out = vec![0; height * n * size];
        if n == width {
            place.source.read_at(place.offset, &mut out).await?;
            return Ok(out);
        }
        for (row, line) in out.chunks_exact_mut(n * size).enumerate() {
            let at = place.offset + ((row * width + first) * size) as u64;
            place.source.read_at(at, line).await?;
        }
        Ok(out)
    }

    /// Blocks from `codes`, (columns / 8, n): eight consecutive columns of a row in a word, lowest nibble first.
    async fn assemble(&self, codes: &[u32], first: usize, n: usize) -> Result<Vec<u8>> {
        let scales = self.read_columns(&self.scales, self.n_groups(), self.rows, 2, first, n).await?;
        let (first_eight, eights) = (first / 8, (first + n).div_ceil(8) - first / 8);
        let zeros = match self.format {
            WeightFormat::Q4_1 => {
                self.read_columns(&self.qzeros, self.n_groups(), self.rows / 8, 4, first_eight, eights).await?
            }
            _ => Vec::new(),
        };
        let zeros: Vec<u32> = words(&zeros).map(|word| word.wrapping_add(self.zero_offset)).collect();
        let mut out = Vec::with_capacity(n * self.row_bytes());
        for row in 0..n {
            for column in (0..self.columns).step_by(self.format.block_len()) {
                let group = column / self.group;
                let at = 2 * (group * n + row);
                let scale = self.scale([scales[at], scales[at + 1]]);
                out.extend(scale.to_le_bytes());
                if self.format == WeightFormat::Q4_1 {
                    let zero = self.zero(zeros[group * eights + (first + row) / 8 - first_eight], (first + row) % 8);
                    out.extend(f16::from_f32(-scale.to_f32() * zero as f32).to_le_bytes());
                }
                for k in (column..column + self.format.block_len()).step_by(BLOCK_COLUMNS) {
                    // Byte j of a block holds the codes of columns j and j + 16.
                    let word = |i: usize| bytes_of_nibbles(codes[(k / 8 + i) * n + row]);
                    out.extend((word(0) | word(2) << 4).to_le_bytes());
                    out.extend((word(1) | word(3) << 4).to_le_bytes());
                }
            }
        }
        Ok(out)
    }

    fn scale(&self, bytes: [u8; 2]) -> f16 {
        match self.scales_are_bf16 {
            true => f16::from_f32(bf16::from_le_bytes(bytes).to_f32()),
            false => f16::from_le_bytes(bytes),
        }
    }

    /// The zero of the `row`-th of the eight rows in a word.
    fn zero(&self, word: u32, row: usize) -> u32 {
        let nibble = match self.method {
            Method::Gptq => row,
            Method::Awq => AWQ_ROWS.iter().position(|&r| r == row).expect("all eight are listed"),
        };
        word >> (4 * nibble) & 15
    }
}

fn words(bytes: &[u8]) -> impl Iterator<Item = u32> + '_ {
    bytes.chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]))
}

/// Each nibble in a byte of its own.
fn bytes_of_nibbles(word: u32) -> u64 {
    let spread = |x: u64, by: u32, mask: u64| (x | x << by) & mask;
    let x = spread(word.into(), 16, 0x0000_ffff_0000_ffff);
    spread(spread(x, 8, 0x00ff_00ff_00ff_00ff), 4, 0x0f0f_0f0f_0f0f_0f0f)
}

/// Nibble i of word j becomes nibble j of word i.
fn transposed(mut words: [u32; 8]) -> [u32; 8] {
    // Blocks of 4, then 2, then 1 nibbles change places across the diagonal.
    for (distance, mask) in [(4, 0x0000_ffff), (2, 0x00ff_00ff), (1, 0x0f0f_0f0f)] {
        for low in (0..8).filter(|i| i & distance == 0) {
            let high = low + distance;
            let (a, b) = (words[low], words[high]);
            words[low] = a & mask | (b & mask) << (4 * distance);
            words[high] = a >> (4 * distance) & mask | b & !mask;
        }
    }
    words
}
