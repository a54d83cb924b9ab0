//! Multiply-adds in f16 and nothing else, for devices that have it.

use crate::kernels::{Kernel, Needs};

pub static PROBE_F16: Kernel = Kernel {
    name: "probe_f16",
    shader: include_str!("../../../shaders/measure/probe_f16.wgsl"),
    params: &["n_steps", "a"],
    reads: &["x"],
    writes: &["y"],
    needs: Needs { f16: true, ..Needs::NOTHING },
    reference: super::probe_f32::turn,
    tolerance: 5e-2,
};
