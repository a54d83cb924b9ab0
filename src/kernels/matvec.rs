//! A packed matrix times one token's activations.

use super::{Call, Kernel, Needs};

pub static MATVEC: Kernel = Kernel {
    name: "matvec",
    shader: include_str!("../../shaders/matvec.wgsl"),
    params: &["n_rows", "n_blocks", "y_first", "accumulate"],
    reads: &["x"],
    writes: &["y"],
    needs: Needs { weights: true, x: true, tile: true, ..Needs::NOTHING },
    reference,
    tolerance: 1e-5,
};

fn reference(call: &mut Call<'_>) {
    let [n_rows, n_blocks, y_first, accumulate] = [0, 1, 2, 3].map(|i| call.count(i));
    let x = call.read(0);
    for r in 0..n_rows {
        let sum = call.weight_dot(r, n_blocks, x);
        let y = &mut call.write(0)[y_first + r];
        *y = (sum + if accumulate == 1 { *y as f64 } else { 0.0 }) as f32;
    }
}
