//! Sums of what is read: bandwidth of memory, or of a cache, when next to nothing is written.

use crate::kernels::{Call, Kernel, Needs};

pub static PROBE_READ: Kernel = Kernel {
    name: "probe_read",
    shader: include_str!("../../../shaders/measure/probe_read.wgsl"),
    params: &["n_lanes", "n", "per_lane"],
    reads: &["x"],
    writes: &["words"],
    needs: Needs::NOTHING,
    reference,
    tolerance: 0.0,
};

fn reference(call: &mut Call<'_>) {
    let [n_lanes, n, per_lane] = [0, 1, 2].map(|i| call.count(i));
    for lane in 0..n_lanes {
        let first = lane / 256 * 256 * per_lane + lane % 256;
        let units = (0..per_lane).map(|i| &call.reads[0][(first + i * 256) % n * 4..][..4]);
        call.writes[0][lane] = units.flatten().fold(0, |sum: u32, &word| sum.wrapping_add(word));
    }
}
