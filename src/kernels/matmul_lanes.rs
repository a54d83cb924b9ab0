//! A packed matrix times the activations of a batch of tokens, for a CPU that plays GPU.

use super::{Call, Kernel, Needs};

pub static MATMUL_LANES: Kernel = Kernel {
    name: "matmul_lanes",
    shader: include_str!("../../shaders/matmul_lanes.wgsl"),
    params: &["n_rows", "n_blocks", "y_first", "y_stride", "accumulate"],
    reads: &["step", "x"],
    writes: &["y"],
    needs: Needs { weights: true, eight: true, ..Needs::NOTHING },
    reference,
    tolerance: 1e-5,
};

fn reference(call: &mut Call<'_>) {
    let [n_rows, n_blocks, y_first, y_stride, accumulate] = [0, 1, 2, 3, 4].map(|i| call.count(i));
    let (n_tokens, x) = (call.step().n_tokens, call.read(1));
    for r in 0..n_rows {
        let row = call.weight_row(r, n_blocks);
        for t in 0..n_tokens {
            let sum: f64 = row.iter().zip(&x[t * n_blocks * 32..]).map(|(w, &x)| w * x as f64).sum();
            let y = &mut call.write(0)[t * y_stride + y_first + r];
            *y = (sum + if accumulate == 1 { *y as f64 } else { 0.0 }) as f32;
        }
    }
}
