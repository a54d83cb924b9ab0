//! The layout of matrices on the GPU: lossless, one order for every mapping of threads.
//!
//! A matrix `(rows, columns)` is cut into tiles of [`TILE_ROWS`] rows and blocks of [`BLOCK_COLUMNS`] columns, both
//! padded with zeros. Tiles follow one another; inside a tile block follows block. One block of a tile is stored in up
//! to two planes:
//!
//! - *quants*: `[unit][slot]` of 16 bytes, where a unit is as many consecutive weights of one row as fill 16 bytes
//!   (a whole block of 4-bit weights), and row `4 * lane + j` sits in slot `8 * j + lane`;
//! - *scales*: per row an f16 scale, or an f16 scale and an f16 minimum; absent for plain floats.
//!
//! So eight neighbouring lanes with four rows each load 128 consecutive bytes at a time (a GPU coalesces them), a
//! thread keeps four sums that share every activation it reads, and a lane's four scales are 8 consecutive bytes.

use super::block::WeightFormat;

/// Rows that are stored together.
pub const TILE_ROWS: usize = 32;
/// Columns that are stored together: the block length of the 4-bit and 8-bit formats.
pub const BLOCK_COLUMNS: usize = 32;
/// Lanes that share a tile; each owns [`TILE_ROWS`] / 8 rows.
const LANES: usize = 8;

/// Size of one (tile, block) in each plane, and how a row's piece of it is laid out.
impl WeightFormat {
    /// Words of the quants plane per tile and block.
    pub fn quant_words(self) -> usize {
        TILE_ROWS * self.units() * 4
    }

    /// Words of the scales plane per tile and block; 0 where the format has no scales.
    pub fn scale_words(self) -> usize {
        match self {
            Self::F32 | Self::F16 | Self::BF16 => 0,
            Self::Q4_0 | Self::Q8_0 => TILE_ROWS / 2,
            Self::Q4_1 => TILE_ROWS,
        }
    }

    /// 16-byte units in one row of a block.
    fn units(self) -> usize {
        match self {
            Self::F32 => 8,
            Self::F16 | Self::BF16 => 4,
            Self::Q8_0 => 2,
            Self::Q4_0 | Self::Q4_1 => 1,
        }
    }

    /// Bytes of scale at the head of a block in the file.
    fn scale_bytes(self) -> usize {
        match self {
            Self::F32 | Self::F16 | Self::BF16 => 0,
            Self::Q4_0 | Self::Q8_0 => 2,
            Self::Q4_1 => 4,
        }
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
    let mut quants = vec![0u32; n_tiles(n_rows) * n_blocks * format.quant_words()];
    let mut scales = vec![0u32; n_tiles(n_rows) * n_blocks * format.scale_words()];
    let quant_bytes: &mut [u8] = bytemuck::cast_slice_mut(&mut quants);
    let scale_bytes: &mut [u8] = bytemuck::cast_slice_mut(&mut scales);
    let row_bytes = columns / format.block_len() * format.block_bytes();
    assert_eq!(rows.len(), n_rows * row_bytes, "whole rows");
    let (head, body) = (format.scale_bytes(), format.units() * 16);
    for (row, bytes) in rows.chunks_exact(row_bytes).enumerate() {
        let (tile, in_tile) = (row / TILE_ROWS, row % TILE_ROWS);
        for (block, bytes) in bytes.chunks(head + body).enumerate() {
            let place = tile * n_blocks + block;
            for (unit, bytes) in bytes[head..].chunks(16).enumerate() {
                let at = (place * format.units() + unit) * TILE_ROWS + slot(in_tile);
                quant_bytes[at * 16..][..bytes.len()].copy_from_slice(bytes);
            }
            scale_bytes[(place * TILE_ROWS + in_tile) * head..][..head].copy_from_slice(&bytes[..head]);
        }
    }
    (quants, scales)
}

/// Decodes row `row` of packed planes: `n_blocks * 32` weights, padding included.
pub fn unpack_row(format: WeightFormat, quants: &[u32], scales: &[u32], n_blocks: usize, row: usize) -> Vec<f32> {
    let (tile, in_tile) = (row / TILE_ROWS, row % TILE_ROWS);
    let mut out = Vec::with_capacity(n_blocks * BLOCK_COLUMNS);
    for block in 0..n_blocks {
        let place = tile * n_blocks + block;
        let mut bytes = Vec::with_capacity(132);
        let scale: &[u8] = bytemuck::cast_slice(scales);
        let head = format.scale_bytes();
        bytes.extend(&scale[(place * TILE_ROWS + in_tile) * head..][..head]);
        for unit in 0..format.units() {
            let at = (place * format.units() + unit) * TILE_ROWS + slot(in_tile);
            bytes.extend(bytemuck::cast_slice::<u32, u8>(&quants[at * 4..][..4]));
        }
        out.extend(format.decode(&bytes));
    }
    out
}

/// Where in a tile's unit the 16 bytes of row `in_tile` sit.
fn slot(in_tile: usize) -> usize {
    in_tile % 4 * LANES + in_tile / 4
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
