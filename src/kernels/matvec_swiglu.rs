//! The gate and up matrices times one token's normalised residual, and SwiGLU (arXiv:2002.05202) of the two.

use super::{Call, Kernel, Needs, matvec_norm::inverse_rms};

pub static MATVEC_SWIGLU: Kernel = Kernel {
    name: "matvec_swiglu",
    shader: include_str!("../../shaders/matvec_swiglu.wgsl"),
    params: &["n_rows", "n_blocks", "n_squares", "dim", "eps"],
    reads: &["x", "squares"],
    writes: &["h"],
    needs: Needs { weights: true, x: true, tile: true, pair: true, norm: true, ..Needs::NOTHING },
    reference,
    tolerance: 1e-5,
};

fn reference(call: &mut Call<'_>) {
    let [n_rows, n_blocks, n_squares, dim] = [0, 1, 2, 3].map(|i| call.count(i));
    let x = call.read(0);
    let scale = inverse_rms(&call.read(1)[..n_squares], dim, call.float(4));
    for r in 0..n_rows {
        let [gate, up] = [r, n_rows + r].map(|row| call.weight_dot(row, n_blocks, x) * scale);
        call.write(0)[r] = (gate / (1.0 + (-gate).exp()) * up) as f32;
    }
}
