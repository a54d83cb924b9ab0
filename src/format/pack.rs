//! The layout of matrices on the GPU: lossless, one order for every mapping of threads.
//!
//! A matrix `(rows, columns)` is cut into tiles of [`TILE_ROWS`] rows and blocks of [`BLOCK_COLUMNS`] columns, both
//! padded with zeros. Tiles follow one another; inside a tile block follows block. One block of a tile is stored in up
//! to two planes:
//!
//! - *quants*: `[unit][slot]` of 16 bytes, where a unit is as many consecutive weights of one row as fill 16 bytes
//!   (the low nibbles of a whole block, for formats of 4 to 6 bits), and row `4 * lane + j` sits in slot
//!   `8 * j + lane`. Behind the units follow the bits above the nibbles, `[word][lane][j]`: one word per row for 5-bit
//!   codes and two for 6-bit codes, ordered so that a shift and a mask give four neighbours (see [`spread_high`]);
//! - *scales*: whatever else the file's block holds, at its own size; absent for plain floats. Formats of 32 weights
//!   have per row an f16 scale, or an f16 scale and an f16 minimum. Formats with longer blocks share scales between
//!   the blocks of a group, as [`put_scales`] says.
//!
//! So eight neighbouring lanes with four rows each load 128 consecutive bytes at a time (a GPU coalesces them), a
//! thread keeps four sums that share every activation it reads, and what belongs to a lane's four rows is adjacent.

use super::{block::WeightFormat, k_quants};
use half::f16;

/// Rows that are stored together.
pub const TILE_ROWS: usize = 32;
/// Columns that are stored together: the block length of most formats, and a part of the others' blocks.
pub const BLOCK_COLUMNS: usize = 32;
/// Lanes that share a tile; each owns [`TILE_ROWS`] / 8 rows.
const LANES: usize = 8;

/// Size of one (tile, block) in each plane, and how a row's piece of it is laid out.
impl WeightFormat {
    /// Words of the quants plane per tile and block.
    pub fn quant_words(self) -> usize {
        TILE_ROWS * (self.units() * 4 + self.high_words())
    }

    /// Words of the scales plane per tile and block; 0 where the format has no scales.
    pub fn scale_words(self) -> usize {
        TILE_ROWS * self.scale_bytes() / 4 / self.group_blocks()
    }

    /// 16-byte units in one row of a block.
    fn units(self) -> usize {
        match self {
            Self::F32 => 8,
            Self::F16 | Self::BF16 => 4,
            Self::Q8_0 => 2,
            _ => 1,
        }
    }

    /// Words of bits above the nibbles in one row of a block.
    fn high_words(self) -> usize {
        match self {
            Self::Q5_0 | Self::Q5_1 | Self::Q5_K => 1,
            Self::Q6_K => 2,
            _ => 0,
        }
    }

    /// Bytes of a block in the file that are no codes.
    fn scale_bytes(self) -> usize {
        match self {
            Self::F32 | Self::F16 | Self::BF16 => 0,
            Self::Q4_0 | Self::Q5_0 | Self::Q8_0 | Self::Q4_G128 => 2,
            Self::Q4_1 | Self::Q5_1 => 4,
            Self::Q4_K | Self::Q5_K => 16,
            Self::Q6_K => 18,
        }
    }

    /// Blocks of columns that one block of the file spans.
    fn group_blocks(self) -> usize {
        self.block_len().div_ceil(BLOCK_COLUMNS)
    }
}

/// Blocks of columns that `columns` need.
pub fn n_blocks(columns: usize) -> usize {
    columns.div_ceil(BLOCK_COLUMNS)
}

/// Tiles of rows that `rows` need.
pub fn n_tiles(rows: usize) -> usize {
    rows.div_ceil(TILE_ROWS)
}

/// Bytes that a matrix takes on the GPU, in both planes.
pub fn packed_bytes(format: WeightFormat, rows: usize, columns: usize) -> u64 {
    let words = format.quant_words() + format.scale_words();
    4 * words as u64 * n_tiles(rows) as u64 * n_blocks(columns) as u64
}

/// Packs consecutive rows, given in the file's layout, into the planes of whole tiles.
///
/// `rows` holds `n_rows` rows of `columns` weights; the last tile is padded with zeros. Returns `(quants, scales)`.
pub fn pack(format: WeightFormat, rows: &[u8], n_rows: usize, columns: usize) -> (Vec<u32>, Vec<u32>) {
    let n_blocks = n_blocks(columns);
    let group_blocks = format.group_blocks();
    assert!(columns.is_multiple_of(format.block_len()), "whole blocks of {}", format.name());
    let (quant_words, scale_words) = (format.quant_words(), format.scale_words());
    let mut quants = vec![0u32; n_tiles(n_rows) * n_blocks * quant_words];
    let mut scales = vec![0u32; n_tiles(n_rows) * n_blocks * scale_words];
    let row_bytes = columns / format.block_len() * format.block_bytes();
    assert_eq!(rows.len(), n_rows * row_bytes, "whole rows");
    let group_bytes = format.block_bytes() * (group_blocks * BLOCK_COLUMNS / format.block_len());
    for (row, bytes) in rows.chunks_exact(row_bytes).enumerate() {
        let (tile, in_tile) = (row / TILE_ROWS, row % TILE_ROWS);
        for (group, bytes) in bytes.chunks(group_bytes).enumerate() {
            let place = tile * n_blocks + group * group_blocks;
            for (part, quants) in quants[place * quant_words..].chunks_mut(quant_words).take(group_blocks).enumerate() {
                put_codes(format, bytes, part, in_tile, quants);
            }
            let scales = &mut scales[place * scale_words..][..group_blocks * scale_words];
            put_scales(format, bytes, in_tile, bytemuck::cast_slice_mut(scales));
        }
    }
    (quants, scales)
}

/// Stores the codes of one row of a block: part `part` of the 32 weights or more that `bytes` hold.
fn put_codes(format: WeightFormat, bytes: &[u8], part: usize, in_tile: usize, quants: &mut [u32]) {
    use WeightFormat::*;
    let (units, high) = match format {
        // A row of plain floats may end within the block.
        F32 | F16 | BF16 => (bytes, [0; 2]),
        Q4_0 | Q4_1 | Q8_0 => (&bytes[format.scale_bytes()..], [0; 2]),
        Q4_G128 => (&bytes[2 + 16 * part..][..16], [0; 2]),
        Q5_0 | Q5_1 => {
            let codes = &bytes[format.scale_bytes()..];
            (&codes[4..], [spread_high(u32::from_le_bytes([codes[0], codes[1], codes[2], codes[3]])), 0])
        }
        Q4_K | Q5_K | Q6_K => {
            quants[4 * slot(in_tile)..][..4].copy_from_slice(&k_quants::low_nibbles(format, bytes, part));
            (&[] as &[u8], k_quants::high_bits(format, bytes, part))
        }
    };
    for (unit, bytes) in units.chunks(16).enumerate() {
        let at = 4 * (unit * TILE_ROWS + slot(in_tile));
        let words: &mut [u8] = bytemuck::cast_slice_mut(&mut quants[at..][..4]);
        words[..bytes.len()].copy_from_slice(bytes);
    }
    let behind = &mut quants[4 * TILE_ROWS * format.units()..];
    for (word, high) in high.into_iter().take(format.high_words()).enumerate() {
        behind[word * TILE_ROWS + in_tile] = high;
    }
}

/// Bit `4 k + j` of a block's 32 high bits goes to bit `8 j + k`.
///
/// A shift by k and a mask then give those of the columns `4 k .. 4 k + 3`, one to a byte, as the nibbles come.
fn spread_high(bits: u32) -> u32 {
    (0..4).fold(0, |spread, j| {
        let every_fourth = bits >> j & 0x1111_1111;
        let pairs = (every_fourth | every_fourth >> 3) & 0x0303_0303;
        let fours = (pairs | pairs >> 6) & 0x000f_000f;
        spread | ((fours | fours >> 12) & 0xff) << (8 * j)
    })
}

/// Stores what is no code of one row's block, for the formats:
///
/// - blocks of 32, and q4_g128: `[lane][j]` of what precedes the codes in the file;
/// - q4_k and q5_k, in vec4s `[4][lane]`: first `(d, dmin)` of the four rows, then words A, B and C of four pairs of
///   parts. Byte j of a word is row j's: A and B hold the scales of the even and the odd part in their lower 6 bits,
///   C the even part's minimum; the upper bits of the three are the odd part's minimum, lowest first;
/// - q6_k: 8 times `[lane]` of two words, whose bytes j are the scales of row j for the two halves of 32 weights, then
///   `[lane][j]` of d.
fn put_scales(format: WeightFormat, bytes: &[u8], in_tile: usize, scales: &mut [u8]) {
    let (lane, j) = (in_tile / 4, in_tile % 4);
    match format {
        WeightFormat::Q4_K | WeightFormat::Q5_K => {
            scales[4 * in_tile..][..4].copy_from_slice(&bytes[..4]);
            let [scale, min] = k_quants::scales_and_minima(bytes);
            for pair in 0..4 {
                let (even, odd) = (2 * pair, 2 * pair + 1);
                let words =
                    [scale[even] | min[odd] << 6, scale[odd] | min[odd] >> 2 << 6, min[even] | min[odd] >> 4 << 6];
                for (word, byte) in words.into_iter().enumerate() {
                    scales[k_scale_at(word, pair, lane) + j] = byte;
                }
            }
        }
        WeightFormat::Q6_K => {
            for (i, scale) in k_quants::q6_scales(bytes).into_iter().enumerate() {
                scales[q6_scale_at(i, lane) + j] = scale as u8;
            }
            scales[Q6_D_AT + 2 * in_tile..][..2].copy_from_slice(&k_quants::q6_d(bytes));
        }
        _ => {
            let n = format.scale_bytes();
            scales[n * in_tile..][..n].copy_from_slice(&bytes[..n]);
        }
    }
}

/// Where word A, B or C of a pair of parts begins, in bytes.
fn k_scale_at(word: usize, pair: usize, lane: usize) -> usize {
    16 * ((1 + word) * LANES + lane) + 4 * pair
}

/// Where scale `i` of 16 begins, and d.
fn q6_scale_at(i: usize, lane: usize) -> usize {
    8 * (i / 2 * LANES + lane) + 4 * (i % 2)
}
const Q6_D_AT: usize = 8 * 8 * LANES;

/// Where in a tile's unit the 16 bytes of row `in_tile` sit.
fn slot(in_tile: usize) -> usize {
    in_tile % 4 * LANES + in_tile / 4
}

/// Decodes row `row` of packed planes: `n_blocks * 32` weights, padding included.
pub fn unpack_row(format: WeightFormat, quants: &[u32], scales: &[u32], n_blocks: usize, row: usize) -> Vec<f32> {
    let (tile, in_tile) = (row / TILE_ROWS, row % TILE_ROWS);
    let (quant_words, scale_words) = (format.quant_words(), format.scale_words() * format.group_blocks());
    let mut out = Vec::with_capacity(n_blocks * BLOCK_COLUMNS);
    for block in 0..n_blocks {
        let place = tile * n_blocks + block;
        let quants = &quants[place * quant_words..][..quant_words];
        if format.scale_words() == 0 {
            let units = (0..format.units()).map(|unit| &quants[4 * (unit * TILE_ROWS + slot(in_tile))..][..4]);
            out.extend(units.flat_map(|unit| format.decode(bytemuck::cast_slice(unit))));
            continue;
        }
        let group = &scales[place / format.group_blocks() * scale_words..][..scale_words];
        let halves = scales_of(format, bytemuck::cast_slice(group), block % format.group_blocks(), in_tile);
        let codes = codes_of(format, quants, in_tile).into_iter().enumerate();
        out.extend(codes.map(|(i, code)| halves[i / 16][0] * code + halves[i / 16][1]));
    }
    out
}

/// The 32 codes of one row of a block, less their zero point.
fn codes_of(format: WeightFormat, quants: &[u32], in_tile: usize) -> [f32; 32] {
    use WeightFormat::*;
    let byte = |unit: usize, i: usize| quants[4 * (unit * TILE_ROWS + slot(in_tile)) + i / 4].to_le_bytes()[i % 4];
    if format == Q8_0 {
        return std::array::from_fn(|i| byte(i / 16, i % 16) as i8 as f32);
    }
    let high = |word: usize| quants[4 * TILE_ROWS + word * TILE_ROWS + in_tile];
    std::array::from_fn(|i| {
        let low = byte(0, i % 16) >> (i / 16 * 4) & 15;
        let (quad, j) = (i / 4, i % 4);
        let high = match format.high_words() {
            0 => 0,
            1 => high(0) >> (8 * j + quad) & 1,
            _ => high(i / 16) >> (8 * j + quad % 4 * 2) & 3,
        };
        let zero = match format {
            Q4_0 | Q4_G128 => 8.0,
            Q5_0 => 16.0,
            Q6_K => 32.0,
            _ => 0.0,
        };
        (low as u32 | high << 4) as f32 - zero
    })
}

/// `[scale, min]` for each half of 32 weights of one row; the block is number `part` of its group.
fn scales_of(format: WeightFormat, scales: &[u8], part: usize, in_tile: usize) -> [[f32; 2]; 2] {
    let (lane, j) = (in_tile / 4, in_tile % 4);
    let half = |at: usize| f16::from_le_bytes([scales[at], scales[at + 1]]).to_f32();
    match format {
        WeightFormat::Q4_K | WeightFormat::Q5_K => {
            let [a, b, c] = [0, 1, 2].map(|word| scales[k_scale_at(word, part / 2, lane) + j]);
            let (scale, min) = match part % 2 {
                0 => (a & 63, c & 63),
                _ => (b & 63, a >> 6 | b >> 6 << 2 | c >> 6 << 4),
            };
            [[half(4 * in_tile) * scale as f32, -half(4 * in_tile + 2) * min as f32]; 2]
        }
        WeightFormat::Q6_K => {
            let scale = |i: usize| scales[q6_scale_at(2 * part + i, lane) + j] as i8 as f32;
            [0, 1].map(|i| [half(Q6_D_AT + 2 * in_tile) * scale(i), 0.0])
        }
        WeightFormat::Q4_1 | WeightFormat::Q5_1 => [[half(4 * in_tile), half(4 * in_tile + 2)]; 2],
        _ => [[half(2 * in_tile), 0.0]; 2],
    }
}

/// Re-encodes rows of `from` as `to`; padding weights are zero. `columns` may be any number for plain floats.
pub fn convert_rows(from: WeightFormat, to: WeightFormat, rows: &[u8], columns: usize) -> (Vec<u8>, usize) {
    let weights = from.decode(rows);
    let padded = columns.next_multiple_of(to.block_len());
    if padded == columns {
        return (to.encode(&weights), columns);
    }
    let mut wide = Vec::with_capacity(weights.len() / columns * padded);
    for row in weights.chunks_exact(columns) {
        wide.extend_from_slice(row);
        wide.resize(wide.len() + padded - columns, 0.0);
    }
    (to.encode(&wide), padded)
}
