//! Multiply-adds in f32 and nothing else: what the arithmetic of a device can do.

use crate::kernels::{Call, Kernel, Needs};

pub static PROBE_F32: Kernel = Kernel {
    name: "probe_f32",
    shader: include_str!("../../../shaders/measure/probe_f32.wgsl"),
    params: &["n_steps", "a"],
    reads: &["x"],
    writes: &["y"],
    needs: Needs::NOTHING,
    reference,
    tolerance: 1e-4,
};

/// Operations of a lane in a step.
pub const OPERATIONS: usize = 32;

fn reference(call: &mut Call<'_>) {
    turn(call);
}

/// Also what `probe_f16` computes, up to its rounding.
pub fn turn(call: &mut Call<'_>) {
    let (n_steps, a, x) = (call.count(0), call.float(1), call.read(0));
    for lane in 0..256 {
        let mut sum = 0.0;
        for start in &x[4 * lane..][..4] {
            let mut points = [(*start as f64, 0.0), (2.0 * *start as f64, 0.0)];
            for (u, v) in &mut points {
                for _ in 0..n_steps {
                    *u += a * *v;
                    *v -= a * *u;
                }
                sum += *u + *v;
            }
        }
        call.write(0)[lane] = sum as f32;
    }
}
