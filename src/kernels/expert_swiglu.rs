//! The gate and up matrices of the experts that one token uses times its normalised residual, and SwiGLU of the two.

use super::{Call, Kernel, Needs, matvec_norm::inverse_rms};

pub static EXPERT_SWIGLU: Kernel = Kernel {
    name: "expert_swiglu",
    shader: include_str!("../../shaders/expert_swiglu.wgsl"),
    params: &["n_rows", "n_blocks", "first_expert", "n_experts", "h_stride", "n_used", "n_squares", "dim", "eps"],
    reads: &["ids", "shares", "x", "squares"],
    writes: &["h"],
    needs: Needs { weights: true, x: true, tile: true, pair: true, norm: true, ..Needs::NOTHING },
    reference,
    tolerance: 1e-5,
};

fn reference(call: &mut Call<'_>) {
    let [n_rows, n_blocks, first_expert, n_experts, h_stride, n_used, n_squares, dim] =
        [0, 1, 2, 3, 4, 5, 6, 7].map(|i| call.count(i));
    let (ids, x) = (call.reads[0], call.read(2));
    let scale = inverse_rms(&call.read(3)[..n_squares], dim, call.float(8));
    for (s, &id) in ids[..n_used].iter().enumerate() {
        let expert = (id as usize).wrapping_sub(first_expert);
        for r in 0..if expert < n_experts { n_rows } else { 0 } {
            let row = expert * 2 * n_rows + r;
            let [gate, up] = [row, row + n_rows].map(|row| call.weight_dot(row, n_blocks, x) * scale);
            call.write(0)[s * h_stride + r] = (call.read(1)[s] as f64 * gate / (1.0 + (-gate).exp()) * up) as f32;
        }
    }
}
