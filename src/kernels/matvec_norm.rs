//! A packed matrix times one token's normalised residual.

use super::{Call, Kernel, Needs};

pub static MATVEC_NORM: Kernel = Kernel {
    name: "matvec_norm",
    shader: include_str!("../../shaders/matvec_norm.wgsl"),
    params: &["n_rows", "n_blocks", "y_first", "has_bias", "n_squares", "dim", "eps"],
    reads: &["x", "squares", "bias"],
    writes: &["y"],
    needs: Needs { weights: true, x: true, tile: true, norm: true, ..Needs::NOTHING },
    reference,
    tolerance: 1e-5,
};

/// 1 / rms, from sums of squares over `dim` numbers (arXiv:1910.07467).
pub(super) fn inverse_rms(squares: &[f32], dim: usize, eps: f64) -> f64 {
    let sum: f64 = squares.iter().map(|&s| s as f64).sum();
    1.0 / (sum / dim as f64 + eps).sqrt()
}

fn reference(call: &mut Call<'_>) {
    let [n_rows, n_blocks, y_first, has_bias, n_squares, dim] = [0, 1, 2, 3, 4, 5].map(|i| call.count(i));
    let (x, bias) = (call.read(0), call.read(2));
    let scale = inverse_rms(&call.read(1)[..n_squares], dim, call.float(6));
    for r in 0..n_rows {
        let sum = call.weight_dot(r, n_blocks, x) * scale;
        let at = y_first + r;
        call.write(0)[at] = (sum + bias[at * has_bias] as f64) as f32;
    }
}
