//! Products of packed 8-bit numbers and nothing else.

use crate::kernels::{Call, Kernel, Needs};

pub static PROBE_DOT8: Kernel = Kernel {
    name: "probe_dot8",
    shader: include_str!("../../../shaders/measure/probe_dot8.wgsl"),
    params: &["n_steps", "b"],
    reads: &["x"],
    writes: &["words"],
    needs: Needs::NOTHING,
    reference,
    tolerance: 0.0,
};

/// Operations of a lane in a step.
pub const OPERATIONS: usize = 64;

fn reference(call: &mut Call<'_>) {
    let (n_steps, b) = (call.count(0), call.params[1]);
    let next = |s: u32| {
        let products = s.to_le_bytes().into_iter().zip(b.to_le_bytes()).map(|(s, b)| s as i8 as i32 * b as i8 as i32);
        s.wrapping_add(products.sum::<i32>() as u32)
    };
    let end = |start: u32| (0..n_steps).fold(start, |s, _| next(s));
    for lane in 0..256 {
        let ends = call.reads[0][4 * lane..][..4].iter().map(|&s| end(s) ^ end(s ^ 0x5a5a_5a5a));
        call.writes[0][lane] = ends.fold(0, |sum, s| sum ^ s);
    }
}
