//! A tensor as a file describes it: name, format, shape and place.

use super::{block::WeightFormat, source::ByteSource};
use crate::error::Result;
use std::sync::Arc;

/// Where a tensor's bytes are and how to read them.
#[derive(Debug, Clone)]
pub struct TensorInfo {
    pub name: String,
    pub format: WeightFormat,
    /// Slowest dimension first: `(rows, columns)` for a matrix.
    pub shape: Vec<usize>,
    pub source: Arc<ByteSource>,
    /// Byte offset of the first block in `source`; the whole tensor lies inside it.
    pub offset: u64,
}

impl TensorInfo {
    /// Number of weights.
    pub fn n_weights(&self) -> usize {
        self.shape.iter().product()
    }

    /// Length of the last dimension.
    pub fn columns(&self) -> usize {
        self.shape.last().copied().unwrap_or(1)
    }

    /// Bytes of one row.
    pub fn row_bytes(&self) -> usize {
        self.columns() / self.format.block_len() * self.format.block_bytes()
    }

    /// Bytes of the whole tensor.
    pub fn n_bytes(&self) -> u64 {
        self.n_weights() as u64 / self.format.block_len() as u64 * self.format.block_bytes() as u64
    }

    /// Rows `first_row .. first_row + n_rows` as a tensor of its own; earlier dimensions count as rows.
    pub fn rows(&self, first_row: usize, n_rows: usize) -> Self {
        let columns = self.columns();
        assert!((first_row + n_rows) * columns <= self.n_weights(), "rows of `{}`", self.name);
        let offset = self.offset + first_row as u64 * self.row_bytes() as u64;
        Self { shape: vec![n_rows, columns], offset, ..self.clone() }
    }

    /// Reads the bytes of `n_rows` rows from `first_row` into `out`, replacing its content.
    pub async fn read_rows(&self, first_row: usize, n_rows: usize, out: &mut Vec<u8>) -> Result<()> {
        out.resize(n_rows * self.row_bytes(), 0);
        self.source.read_at(self.offset + first_row as u64 * self.row_bytes() as u64, out).await
    }

    /// Reads and decodes the whole tensor; meant for vectors.
    pub async fn read_f32(&self) -> Result<Vec<f32>> {
        let mut bytes = Vec::new();
        self.read_rows(0, self.n_weights() / self.columns(), &mut bytes).await?;
        Ok(self.format.decode(&bytes))
    }
}
