//! A packed matrix times one token's activations, added to the residual and made ready for the next norm.

use super::{Call, Kernel, Needs};

pub static MATVEC_RESIDUAL: Kernel = Kernel {
    name: "matvec_residual",
    shader: include_str!("../../shaders/matvec_residual.wgsl"),
    params: &["n_rows", "n_blocks", "first_row", "has_bias"],
    reads: &["x", "bias", "norm"],
    writes: &["residual", "weighted", "squares"],
    needs: Needs { weights: true, x: true, tile: true, lane8: true, ..Needs::NOTHING },
    reference,
    tolerance: 1e-5,
};

fn reference(call: &mut Call<'_>) {
    let [n_rows, n_blocks, first_row, has_bias] = [0, 1, 2, 3].map(|i| call.count(i));
    let (x, bias, norm) = (call.read(0), call.read(1), call.read(2));
    for tile in 0..n_rows.div_ceil(32) {
        let mut square = 0.0;
        for r in tile * 32..n_rows.min(tile * 32 + 32) {
            let (sum, at) = (call.weight_dot(r, n_blocks, x), first_row + r);
            let value = call.write(0)[at] as f64 + sum + bias[at * has_bias] as f64;
            call.write(0)[at] = value as f32;
            call.write(1)[at] = (value * norm[at] as f64) as f32;
            square += value * value;
        }
        call.write(2)[first_row / 32 + tile] = square as f32;
    }
}
