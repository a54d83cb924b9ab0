//! A packed matrix times the activations of a batch, both rounded to f16: cooperative matrices, where the device has them.

use super::{Call, Kernel, MATMUL_LANES, Needs};
use half::f16;

pub static MATMUL_COOP: Kernel = Kernel {
    name: "matmul_coop",
    shader: include_str!("../../shaders/matmul_coop.wgsl"),
    needs: Needs { weights: true, coop: true, f16: true, ..Needs::NOTHING },
    reference,
    // WGSL lets a device round to f16 upwards or downwards, where the reference rounds to the nearest: each of a
    // product's two numbers may be off by 1e-3 of itself.
    tolerance: 2e-3,
    ..MATMUL_LANES
};

/// The exact product of what both become in f16: how much rounding itself changes is no kernel's error.
fn reference(call: &mut Call<'_>) {
    let [n_rows, n_blocks, y_first, y_stride, accumulate] = [0, 1, 2, 3, 4].map(|i| call.count(i));
    let n_tokens = call.step().n_tokens;
    let rounded = |v: f64| f16::from_f64(v.clamp(-65504.0, 65504.0)).to_f64();
    let x: Vec<f64> = call.read(1)[..n_tokens * n_blocks * 32].iter().map(|&x| rounded(x as f64)).collect();
    for r in 0..n_rows {
        let row: Vec<f64> = call.weight_row(r, n_blocks).into_iter().map(rounded).collect();
        for t in 0..n_tokens {
            let sum: f64 = row.iter().zip(&x[t * n_blocks * 32..]).map(|(w, x)| w * x).sum();
            let y = &mut call.write(0)[t * y_stride + y_first + r];
            *y = (sum + if accumulate == 1 { *y as f64 } else { 0.0 }) as f32;
        }
    }
}
