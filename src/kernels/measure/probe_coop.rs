//! Products of cooperative matrices and nothing else, for devices that have them.

use crate::kernels::{Call, CoopShape, Kernel, Needs};
use half::f16;

pub static PROBE_COOP: Kernel = Kernel {
    name: "probe_coop",
    shader: include_str!("../../../shaders/measure/probe_coop.wgsl"),
    params: &["n_steps", "side"],
    reads: &["x"],
    writes: &["y"],
    needs: Needs { coop: true, f16: true, ..Needs::NOTHING },
    reference,
    // Either way of rounding to f16 is right, as in `matmul_coop`.
    tolerance: 2e-3,
};

/// Operations of a workgroup in a step: four subgroups, four products each.
pub fn operations(shape: CoopShape) -> usize {
    4 * 4 * 2 * (shape.side as usize).pow(3)
}

fn reference(call: &mut Call<'_>) {
    let (n_steps, side) = (call.count(0), call.count(1));
    let x: Vec<f64> = call.read(0).iter().map(|&x| f16::from_f32(x).to_f64()).collect();
    let pair = |first: usize, i: usize| x[first * side * side + i] + x[(first + 1) * side * side + i];
    for (i, y) in call.write(0)[..256].iter_mut().enumerate() {
        let (row, column) = (i / side % side, i % side);
        let sum: f64 = (0..side).map(|k| pair(0, row * side + k) * pair(2, k * side + column)).sum();
        *y = (n_steps as f64 * 4.0 * sum) as f32;
    }
}
