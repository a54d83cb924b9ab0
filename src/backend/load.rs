//! Streams weights from their files, converted and packed, a few megabytes at a time.

use crate::{
    error::Result,
    format::pack,
    placement::{PackedMatrix, Placement},
    plan::WeightSlot,
    platform,
};

/// Weights that one core has in hand at a time: 8 MiB as f32, which bounds every buffer on the way.
const CHUNK_WEIGHTS: usize = 2 << 20;

/// Consecutive words of one plane of one matrix.
#[derive(Debug)]
pub struct Chunk<'a> {
    pub slot: WeightSlot,
    /// 0: quants, 1: scales.
    pub plane: usize,
    pub offset_bytes: u64,
    pub words: &'a [u32],
}

/// Hands every chunk of every matrix to `sink`, in order.
///
/// Errors: those of the files, and of `sink`.
pub async fn stream(placement: &Placement, mut sink: impl AsyncFnMut(Chunk<'_>) -> Result<()>) -> Result<()> {
    for (index, matrix) in placement.matrices.iter().enumerate() {
        stream_matrix(matrix, WeightSlot(index), &mut sink).await?;
    }
    Ok(())
}

/// Hands every chunk of one matrix to `sink`, as those of `slot`.
///
/// Errors: as [`stream`].
pub async fn stream_matrix(
    matrix: &PackedMatrix,
    slot: WeightSlot,
    sink: &mut impl AsyncFnMut(Chunk<'_>) -> Result<()>,
) -> Result<()> {
    let tiles = (CHUNK_WEIGHTS / (matrix.columns * pack::TILE_ROWS)).max(1);
    let step = tiles * pack::TILE_ROWS;
    let mut offsets = [0u64; 2];
    let first_rows: Vec<usize> = (0..matrix.rows).step_by(step).collect();
    for first_rows in first_rows.chunks(platform::n_at_once()) {
        let packed = platform::spread(first_rows.len(), async |index| {
            let rows = step.min(matrix.rows - first_rows[index]);
            let (bytes, columns) = read_rows(matrix, first_rows[index], rows).await?;
            let (quants, scales) = pack::pack(matrix.format, &bytes, rows, columns);
            Ok([quants, scales])
        });
        for planes in packed.await {
            for (plane, words) in planes?.iter().enumerate().filter(|(_, words)| !words.is_empty()) {
                sink(Chunk { slot, plane, offset_bytes: offsets[plane], words }).await?;
                offsets[plane] += 4 * words.len() as u64;
            }
        }
    }
    Ok(())
}

/// Rows of a matrix in its own format, whichever pieces they come from, and how many columns they then have.
async fn read_rows(matrix: &PackedMatrix, first_row: usize, n_rows: usize) -> Result<(Vec<u8>, usize)> {
    let (mut all, mut columns) = (Vec::new(), matrix.columns);
    let mut bytes = Vec::new();
    let mut piece_start = 0;
    for piece in &matrix.pieces {
        let from = first_row.max(piece_start);
        let to = (first_row + n_rows).min(piece_start + piece.rows);
        if from < to {
            piece.tensor.read_rows(piece.first_row + from - piece_start, to - from, &mut bytes).await?;
            if piece.tensor.format == matrix.format {
                all.extend_from_slice(&bytes);
            } else {
                let (converted, padded) =
                    pack::convert_rows(piece.tensor.format, matrix.format, &bytes, matrix.columns);
                all.extend(converted);
                columns = padded;
            }
        }
        piece_start += piece.rows;
    }
    Ok((all, columns))
}
