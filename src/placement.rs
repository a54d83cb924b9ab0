//! Which packed matrices go to the device: tensors of one format are merged, matrices too large to bind are split.

use crate::{
    error::{Error, Result},
    format::{TensorInfo, WeightFormat, pack},
    plan::WeightSlot,
};

/// A matrix in one or more parts, stacked row on row.
#[derive(Debug, Clone)]
pub struct Matrix<T> {
    pub name: String,
    pub rows: usize,
    pub columns: usize,
    pub parts: Vec<Part<T>>,
}

/// Consecutive rows of a matrix that are stored together.
#[derive(Debug, Clone)]
pub struct Part<T> {
    pub first_row: usize,
    pub rows: usize,
    pub format: WeightFormat,
    pub tensor: T,
}

/// Everything that has to be uploaded, in upload order.
#[derive(Debug, Default)]
pub struct Placement {
    /// Indexed by [`WeightSlot`].
    pub matrices: Vec<PackedMatrix>,
    /// Norm weights and biases, (n), each put together from its tensors in order; indexed by `Content::Vector`.
    pub vectors: Vec<Vec<TensorInfo>>,
}

/// Rows that become one packed matrix, bound as one.
#[derive(Debug, Clone)]
pub struct PackedMatrix {
    pub label: String,
    pub format: WeightFormat,
    pub rows: usize,
    pub columns: usize,
    /// Where the rows come from, in order.
    pub pieces: Vec<Piece>,
}

/// Consecutive rows of one tensor.
#[derive(Debug, Clone)]
pub struct Piece {
    pub tensor: TensorInfo,
    pub first_row: usize,
    pub rows: usize,
}

impl PackedMatrix {
    /// Bytes of the two planes on the device: quants and scales.
    pub fn plane_bytes(&self) -> [u64; 2] {
        let places = pack::n_tiles(self.rows) as u64 * pack::n_blocks(self.columns) as u64;
        [self.format.quant_words(), self.format.scale_words()].map(|words| 4 * words as u64 * places)
    }
}

impl Placement {
    /// Bytes of all weights on the device.
    pub fn bytes(&self) -> u64 {
        let matrices: u64 = self.matrices.iter().map(|m| m.plane_bytes().iter().sum::<u64>()).sum();
        matrices + self.vectors.iter().map(|v| 4 * v.iter().map(|t| t.n_weights() as u64).sum::<u64>()).sum::<u64>()
    }

    /// Adds a vector, the concatenation of `tensors`; returns its index in `vectors`.
    pub fn vector(&mut self, tensors: &[TensorInfo]) -> WeightSlot {
        self.vectors.push(tensors.to_vec());
        WeightSlot(self.vectors.len() - 1)
    }

    /// The numbers of vector `index`.
    ///
    /// Errors: those of the file.
    pub async fn read_vector(&self, index: usize) -> Result<Vec<f32>> {
        let mut all = Vec::new();
        for tensor in &self.vectors[index] {
            all.extend(tensor.read_f32().await?);
        }
        Ok(all)
    }

    /// Adds a matrix, merged and split as needed.
    ///
    /// Errors: [`Error::TooLarge`] when not even one tile can be bound.
    pub fn matrix(
        &mut self,
        matrix: &Matrix<TensorInfo>,
        held: Option<WeightFormat>,
        max_binding: u64,
    ) -> Result<Matrix<WeightSlot>> {
        let mut parts: Vec<Part<WeightSlot>> = Vec::new();
        for part in &matrix.parts {
            let format = held.unwrap_or(part.format);
            let tile_bytes = pack::packed_bytes(format, 1, matrix.columns);
            let max_rows = (max_binding / tile_bytes) as usize * pack::TILE_ROWS;
            if max_rows == 0 {
                return Err(Error::TooLarge {
                    what: format!("{} rows of `{}` in one binding", pack::TILE_ROWS, matrix.name),
                    needed: tile_bytes,
                    limit: max_binding,
                    hint: "choose a smaller weight format with --weights".into(),
                });
            }
            let mut first_row = 0;
            while first_row < part.rows {
                // Rows join the matrix before them while the format is the same and it stays bindable.
                let room = match parts.last() {
                    Some(last) if last.format == format && last.rows < max_rows => max_rows - last.rows,
                    _ => {
                        parts.push(self.open(matrix, part.first_row + first_row, format));
                        max_rows
                    }
                };
                let rows = room.min(part.rows - first_row);
                let last = parts.last_mut().expect("one was just made");
                last.rows += rows;
                let packed = &mut self.matrices[last.tensor.0];
                packed.rows += rows;
                packed.pieces.push(Piece { tensor: part.tensor.clone(), first_row, rows });
                first_row += rows;
            }
        }
        Ok(Matrix { name: matrix.name.clone(), rows: matrix.rows, columns: matrix.columns, parts })
    }

    fn open(&mut self, matrix: &Matrix<TensorInfo>, first_row: usize, format: WeightFormat) -> Part<WeightSlot> {
        let label = match first_row {
            0 => matrix.name.clone(),
            row => format!("{} from row {row}", matrix.name),
        };
        let columns = matrix.columns;
        self.matrices.push(PackedMatrix { label, format, rows: 0, columns, pieces: Vec::new() });
        Part { first_row, rows: 0, format, tensor: WeightSlot(self.matrices.len() - 1) }
    }
}
