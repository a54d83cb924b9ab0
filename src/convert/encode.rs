//! Weights from one format to another, on every core, and how far that moves them.

use super::Output;
use crate::{
    error::{Error, Result},
    format::{TensorInfo, WeightFormat},
};
use std::thread;

/// Weights that are in memory at once: 8 MiB as f32, in a handful of copies.
const CHUNK_WEIGHTS: usize = 2 << 20;

/// How far encoded weights are from those that they stand for.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Deviation {
    sum_of_squares: f64,
    sum_of_squared_errors: f64,
    /// The largest difference of one weight.
    pub max_error: f64,
}

impl Deviation {
    /// Root of the mean square of the errors, divided by that of the weights.
    pub fn relative_rms_error(&self) -> f64 {
        if self.sum_of_squares == 0.0 { 0.0 } else { (self.sum_of_squared_errors / self.sum_of_squares).sqrt() }
    }

    /// That of both together.
    pub fn add(&mut self, other: &Self) {
        self.sum_of_squares += other.sum_of_squares;
        self.sum_of_squared_errors += other.sum_of_squared_errors;
        self.max_error = self.max_error.max(other.max_error);
    }

    fn of(weights: &[f32], decoded: &[f32]) -> Self {
        let mut deviation = Self::default();
        for (&weight, &decoded) in weights.iter().zip(decoded) {
            let error = (decoded as f64 - weight as f64).abs();
            deviation.sum_of_squares += weight as f64 * weight as f64;
            deviation.sum_of_squared_errors += error * error;
            deviation.max_error = deviation.max_error.max(error);
        }
        deviation
    }
}

/// Reads `tensor`'s sources piece by piece, encodes each, and hands (bytes read, encoded bytes) to `sink`.
///
/// Errors: those of the sources and of `sink`, [`Error::Config`] for a weight that is no finite number,
/// [`Error::Unsupported`] for one that the format cannot express.
pub async fn stream(tensor: &Output, mut sink: impl FnMut(u64, &[u8]) -> Result<()>) -> Result<Deviation> {
    let (mut bytes, mut deviation) = (Vec::new(), Deviation::default());
    // Rows change places only within a head.
    let unit = tensor.interleaved_head.unwrap_or(1);
    for source in &tensor.sources {
        let source = &rows_of(source, tensor.interleaved_head);
        let (rows, columns) = (source.n_weights() / source.columns(), source.columns());
        let step = (CHUNK_WEIGHTS / (columns * unit)).max(1) * unit;
        for first_row in (0..rows).step_by(step) {
            source.read_rows(first_row, step.min(rows - first_row), &mut bytes).await?;
            if let Some(head_dim) = tensor.interleaved_head {
                bytes = interleave(&bytes, head_dim, source.row_bytes());
            }
            let read = bytes.len() as u64;
            if source.format != tensor.format {
                let (encoded, moved) = encode(source, tensor.format, &bytes)?;
                deviation.add(&moved);
                bytes = encoded;
            }
            sink(read, &bytes)?;
        }
    }
    Ok(deviation)
}

/// A vector whose elements change places has a row for each of them.
fn rows_of(source: &TensorInfo, interleaved_head: Option<usize>) -> TensorInfo {
    let mut source = source.clone();
    if interleaved_head.is_some() && source.shape.len() == 1 {
        source.shape.push(1);
    }
    source
}

/// Whole heads of rows, with the rows of each head's second half between those of its first.
fn interleave(bytes: &[u8], head_dim: usize, row_bytes: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    for head in bytes.chunks_exact(head_dim * row_bytes) {
        for i in 0..head_dim / 2 {
            out.extend_from_slice(&head[i * row_bytes..][..row_bytes]);
            out.extend_from_slice(&head[(i + head_dim / 2) * row_bytes..][..row_bytes]);
        }
    }
    out
}

/// Encodes rows on as many threads as the machine has cores.
fn encode(source: &TensorInfo, format: WeightFormat, bytes: &[u8]) -> Result<(Vec<u8>, Deviation)> {
    let n_threads = crate::platform::n_cores();
    let n_rows = bytes.len() / source.row_bytes();
    let share = n_rows.div_ceil(n_threads) * source.row_bytes();
    let parts: Vec<Result<(Vec<u8>, Deviation)>> = thread::scope(|scope| {
        let encode = |rows| scope.spawn(move || encode_rows(source, format, rows));
        let threads: Vec<_> = bytes.chunks(share).map(encode).collect();
        threads.into_iter().map(|thread| thread.join().expect("encoding does not panic")).collect()
    });
    let (mut encoded, mut deviation) = (Vec::new(), Deviation::default());
    for part in parts {
        let (bytes, moved) = part?;
        encoded.extend(bytes);
        deviation.add(&moved);
    }
    Ok((encoded, deviation))
}

fn encode_rows(source: &TensorInfo, format: WeightFormat, rows: &[u8]) -> Result<(Vec<u8>, Deviation)> {
    let weights = source.format.decode(rows);
    if weights.iter().any(|weight| !weight.is_finite()) {
        return Err(Error::config(format!("tensor `{}` holds a weight that is no finite number", source.name)));
    }
    let encoded = format.encode(&weights);
    let decoded = format.decode(&encoded);
    if let Some(at) = decoded.iter().position(|weight| !weight.is_finite()) {
        let what = format!("tensor `{}` holds {}, which {format} cannot express", source.name, weights[at]);
        return Err(Error::Unsupported { what, supported: format!("--keep '{}=bf16'", source.name) });
    }
    Ok((encoded, Deviation::of(&weights, &decoded)))
}
