//! A copy: bandwidth of memory when as much is written as is read.

use crate::kernels::{Call, Kernel, Needs};

pub static PROBE_COPY: Kernel = Kernel {
    name: "probe_copy",
    shader: include_str!("../../../shaders/measure/probe_copy.wgsl"),
    params: &["n", "per_lane"],
    reads: &["x"],
    writes: &["words"],
    needs: Needs::NOTHING,
    reference,
    tolerance: 0.0,
};

fn reference(call: &mut Call<'_>) {
    let n_words = 4 * call.count(0);
    call.writes[0][..n_words].copy_from_slice(&call.reads[0][..n_words]);
}
