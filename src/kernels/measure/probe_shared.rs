//! Reads of workgroup memory and nothing else.

use crate::kernels::{Call, Kernel, Needs};

pub static PROBE_SHARED: Kernel = Kernel {
    name: "probe_shared",
    shader: include_str!("../../../shaders/measure/probe_shared.wgsl"),
    params: &["n_steps", "stride"],
    reads: &["x"],
    writes: &["y"],
    needs: Needs::NOTHING,
    reference,
    tolerance: 1e-5,
};

/// Bytes that a lane reads in a step.
pub const BYTES: usize = 64;

fn reference(call: &mut Call<'_>) {
    let (n_steps, stride, x) = (call.count(0), call.count(1), call.read(0));
    for lane in 0..256 {
        let mut sum = 0.0;
        for step in 0..n_steps {
            for entry in (0..4).map(|i| (lane + step * stride + 8 * i) % 256) {
                sum += x[4 * entry..][..4].iter().map(|&v| v as f64).sum::<f64>();
            }
        }
        call.write(0)[lane] = sum as f32;
    }
}
