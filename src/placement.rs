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

/// Matrices of one shape, one for each expert.
#[derive(Debug, Clone)]
pub struct ExpertStack<T> {
    pub name: String,
    pub n_experts: usize,
    /// Rows of one expert's matrix, a multiple of the tile's.
    pub rows: usize,
    pub columns: usize,
    pub parts: Vec<ExpertPart<T>>,
}

/// The same rows of consecutive experts, stored together, expert by expert.
#[derive(Debug, Clone)]
pub struct ExpertPart<T> {
    pub first_expert: usize,
    pub n_experts: usize,
    /// Within an expert's matrix.
    pub first_row: usize,
    pub rows: usize,
    pub format: WeightFormat,
    pub tensor: T,
}

impl ExpertStack<TensorInfo> {
    /// A stack whose experts' matrices are each stacked from tensors, all experts' in the same way.
    ///
    /// Errors: [`Error::Unsupported`] when experts differ in format.
    pub fn of_tensors(name: &str, experts: Vec<Vec<TensorInfo>>, rows: usize, columns: usize) -> Result<Self> {
        let (n_experts, mut parts) = (experts.len(), Vec::new());
        let formats: Vec<_> = experts[0].iter().map(|tensor| tensor.format).collect();
        for (first_expert, tensors) in experts.into_iter().enumerate() {
            let mut first_row = 0;
            for (tensor, format) in tensors.into_iter().zip(&formats) {
                if tensor.format != *format {
                    let what = format!("`{}` in {}, other experts in {format}", tensor.name, tensor.format);
                    return Err(Error::Unsupported { what, supported: "experts of one format".into() });
                }
                let rows = tensor.shape[0];
                parts.push(ExpertPart { first_expert, n_experts: 1, first_row, rows, format: *format, tensor });
                first_row += rows;
            }
        }
        Ok(Self { name: name.into(), n_experts, rows, columns, parts })
    }
}

/// Everything that has to be uploaded, in upload order.
#[derive(Debug, Default)]
pub struct Placement {
    /// Indexed by [`WeightSlot`].
    pub matrices: Vec<PackedMatrix>,
    /// Norm weights and biases, (n), each put together from its tensors in order; indexed by `Content::Vector`.
    pub vectors: Vec<Vec<TensorInfo>>,
    /// Layers whose experts do not all have a place on the device.
    pub pools: Vec<ExpertPool>,
}

/// A layer's experts when the device has slots for some of them only: at first the lowest-numbered, later whichever
/// were used last.
#[derive(Debug, Clone, Default)]
pub struct ExpertPool {
    pub n_slots: usize,
    /// What makes up an expert.
    pub runs: Vec<PoolRun>,
}

/// Rows that every expert of a pool has, stored together on the device.
#[derive(Debug, Clone)]
pub struct PoolRun {
    /// Where the rows of each slot are: parts hold slots as they would hold experts.
    pub slots: Vec<ExpertPart<WeightSlot>>,
    /// The rows of each expert by itself.
    pub experts: Vec<PackedMatrix>,
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

    /// Bytes of the experts that wait in host memory for a place on the device.
    pub fn host_bytes(&self) -> u64 {
        let experts = self.pools.iter().flat_map(|pool| &pool.runs).flat_map(|run| &run.experts);
        experts.map(|matrix| matrix.plane_bytes().iter().sum::<u64>()).sum()
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
            let format = held.map_or(part.format, |held| held.for_columns(matrix.columns));
            let tile_bytes = pack::packed_bytes(format, 1, matrix.columns);
            let max_rows = (max_binding / tile_bytes) as usize * pack::TILE_ROWS;
            if max_rows == 0 {
                return Err(too_large(&matrix.name, tile_bytes, max_binding));
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

    /// Adds the matrices of a layer's experts: as many experts as can be bound together make one packed matrix, and an
    /// expert that alone is too large is split by rows. With fewer `n_slots` than experts, only so many get a place,
    /// and what fills it is returned as well.
    ///
    /// Errors: [`Error::TooLarge`] when not even one tile can be bound; [`Error::Unsupported`] for rows that fill no
    /// whole tiles.
    pub fn experts(
        &mut self,
        stack: &ExpertStack<TensorInfo>,
        held: Option<WeightFormat>,
        max_binding: u64,
        n_slots: usize,
    ) -> Result<(ExpertStack<WeightSlot>, Vec<PoolRun>)> {
        let (mut parts, mut pool) = (Vec::new(), Vec::new());
        let n_slots = n_slots.clamp(1, stack.n_experts);
        let of_expert = |expert: usize| stack.parts.iter().filter(move |part| part.first_expert == expert);
        // The runs of rows that share a format, from the first expert; all are alike.
        let mut runs: Vec<(usize, usize, WeightFormat)> = Vec::new();
        for part in of_expert(0) {
            let format = held.map_or(part.format, |held| held.for_columns(stack.columns));
            match runs.last_mut() {
                Some((_, rows, last)) if *last == format => *rows += part.rows,
                _ => runs.push((part.first_row, part.rows, format)),
            }
        }
        for (run_first, run_rows, format) in runs {
            let tile_bytes = pack::packed_bytes(format, 1, stack.columns);
            let max_rows = (max_binding / tile_bytes) as usize * pack::TILE_ROWS;
            if max_rows == 0 {
                return Err(too_large(&stack.name, tile_bytes, max_binding));
            }
            if !run_rows.is_multiple_of(pack::TILE_ROWS) {
                let what = format!("`{}` with {run_rows} rows of {format}", stack.name);
                return Err(Error::Unsupported { what, supported: "experts' rows in multiples of 32".into() });
            }
            for first_row in (run_first..run_first + run_rows).step_by(max_rows) {
                let rows = max_rows.min(run_first + run_rows - first_row);
                // The rows of some experts as one packed matrix.
                let packed = |first_expert: usize, n_experts: usize| {
                    let mut pieces = Vec::new();
                    for part in (first_expert..first_expert + n_experts).flat_map(of_expert) {
                        let from = first_row.max(part.first_row);
                        let to = (first_row + rows).min(part.first_row + part.rows);
                        if from < to {
                            let first_row = from - part.first_row;
                            pieces.push(Piece { tensor: part.tensor.clone(), first_row, rows: to - from });
                        }
                    }
                    let label = format!("{} {first_expert}+{n_experts} from row {first_row}", stack.name);
                    PackedMatrix { label, format, rows: n_experts * rows, columns: stack.columns, pieces }
                };
                let mut slots = Vec::new();
                let together = (max_rows / rows).min(n_slots);
                for first_expert in (0..n_slots).step_by(together) {
                    let n_experts = together.min(n_slots - first_expert);
                    self.matrices.push(packed(first_expert, n_experts));
                    let tensor = WeightSlot(self.matrices.len() - 1);
                    slots.push(ExpertPart { first_expert, n_experts, first_row, rows, format, tensor });
                }
                if n_slots < stack.n_experts {
                    let experts = (0..stack.n_experts).map(|expert| packed(expert, 1)).collect();
                    pool.push(PoolRun { slots: slots.clone(), experts });
                }
                parts.extend(slots);
            }
        }
        let ExpertStack { name, n_experts, rows, columns, .. } = stack;
        let stack = ExpertStack { name: name.clone(), n_experts: *n_experts, rows: *rows, columns: *columns, parts };
        Ok((stack, pool))
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

fn too_large(name: &str, needed: u64, limit: u64) -> Error {
    Error::TooLarge {
        what: format!("{} rows of `{name}` in one binding", pack::TILE_ROWS),
        needed,
        limit,
        hint: "choose a smaller weight format with --weights".into(),
        fits: None,
    }
}
