//! Greedy sampling: the largest logit's index, the lowest among equals, or [`NOT_A_NUMBER`].

use super::{Call, Kernel, Needs};

/// What the kernel writes when a logit is NaN or infinite.
pub const NOT_A_NUMBER: u32 = u32::MAX;

pub static ARGMAX: Kernel = Kernel {
    name: "argmax",
    shader: include_str!("../../shaders/argmax.wgsl"),
    params: &["n_vocab"],
    reads: &["logits"],
    writes: &["token"],
    needs: Needs::NOTHING,
    reference,
    tolerance: 0.0,
};

fn reference(call: &mut Call<'_>) {
    let logits = &call.read(0)[..call.count(0)];
    let best = (0..logits.len()).fold(0, |best, i| if logits[i] > logits[best] { i } else { best });
    let broken = logits.iter().any(|&logit| logit.is_nan() || logit == f32::INFINITY);
    call.writes[0][0] = if broken { NOT_A_NUMBER } else { best as u32 };
}
