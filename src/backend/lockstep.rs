//! Runs a plan on CPU and GPU one dispatch at a time, from the same inputs, and compares what each wrote.

use super::{
    cpu::Cpu,
    gpu::{Gpu, Memory, Program, ReadBack},
    packed_cases::difference_in_codes,
};
use crate::{
    error::Result,
    kernels::{CacheFormat, CacheLayout},
    plan::{Batch, Dispatch, Plan},
};
use half::f16;

/// How far one output of one dispatch is from its reference.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Outcome {
    /// The dispatch, and the output's name.
    pub label: String,
    pub kernel: &'static str,
    pub variant: String,
    /// `max|a - b| / max|b|`; infinite where a number is missing or too much was written.
    pub error: f64,
    pub tolerance: f64,
}

impl Outcome {
    /// Within tolerance.
    pub fn passed(&self) -> bool {
        self.error <= self.tolerance
    }
}

/// Compares every dispatch of `plan`; `cpu` and `memory` are prepared and hold the same step.
///
/// Before each dispatch the CPU takes over the GPU's buffers, so errors do not add up and each is its kernel's own.
///
/// Errors: [`crate::Error::Device`].
pub async fn compare(
    plan: &Plan,
    cpu: &mut Cpu,
    gpu: &Gpu,
    memory: &Memory,
    program: &Program,
    batch: Batch,
) -> Result<Vec<Outcome>> {
    let largest = plan.buffers.iter().map(|buffer| buffer.bytes).max().unwrap_or(16);
    let through = gpu.read_back(largest);
    let mut outcomes = Vec::new();
    for (index, dispatch) in plan.dispatches.iter().enumerate() {
        // A dispatch of no workgroups is left out.
        if dispatch.grid.iter().any(|extent| extent.resolve(batch) == 0) {
            continue;
        }
        for slot in dispatch.reads.iter().chain(&dispatch.writes) {
            take_over(cpu, gpu, memory, &plan.buffers[slot.0].name, &through).await?;
        }
        cpu.dispatch(plan, dispatch);
        gpu.run_one(program, index, batch);
        for (slot, name) in dispatch.writes.iter().zip(dispatch.kernel.writes) {
            let buffer = &plan.buffers[slot.0].name;
            let want = &cpu.buffers[buffer];
            let mut got = vec![0; want.len()];
            gpu.read(memory, buffer, &through, &mut got).await?;
            outcomes.push(outcome(dispatch, name, want, &got));
        }
    }
    Ok(outcomes)
}

/// The first dispatch that is out of tolerance.
pub fn first_difference(outcomes: &[Outcome]) -> Option<&Outcome> {
    outcomes.iter().find(|outcome| !outcome.passed())
}

async fn take_over(cpu: &mut Cpu, gpu: &Gpu, memory: &Memory, name: &str, through: &ReadBack) -> Result<()> {
    let words = cpu.buffers.get_mut(name).expect("prepared");
    gpu.read(memory, name, through, words).await
}

fn outcome(dispatch: &Dispatch, write: &str, want: &[u32], got: &[u32]) -> Outcome {
    let cache = dispatch.variant.cache.filter(|_| write.ends_with("_cache"));
    let layout = cache.map(|format| {
        let param = |name| dispatch.kernel.param(&dispatch.params, name);
        CacheLayout { format, n_heads: param("part_kv_heads"), head_dim: param("head_dim") }
    });
    let (tolerance, error) = match (write, layout) {
        // Whole numbers, not floats.
        ("ids" | "groups" | "words", _) => (dispatch.kernel.tolerance, if want == got { 0.0 } else { f64::INFINITY }),
        _ if dispatch.kernel.needs.sampling => (0.0, if want == got { 0.0 } else { f64::INFINITY }),
        // In codes: likewise.
        ("packed", _) => (1.01, difference_in_codes(want, got)),
        // In steps of a group's scale: a number between two codes may go to either.
        (_, Some(layout)) if layout.format.is_quantised() => (1.01, difference_in_steps(want, got, layout)),
        (_, Some(CacheLayout { format: CacheFormat::F16, .. })) => {
            let halves = |words: &[u32]| -> Vec<f32> {
                bytemuck::cast_slice::<u32, u16>(words).iter().map(|&h| f16::from_bits(h).to_f32()).collect()
            };
            // One unit in the last place of an f16, either way it is rounded.
            (dispatch.kernel.tolerance.max(1e-3), difference(&halves(want), &halves(got)))
        }
        _ => (dispatch.kernel.tolerance, difference(bytemuck::cast_slice(want), bytemuck::cast_slice(got))),
    };
    Outcome {
        label: format!("{} {write}", dispatch.label),
        kernel: dispatch.kernel.name,
        variant: dispatch.variant.to_string(),
        error,
        tolerance,
    }
}

/// The largest difference of a number in a quantised cache, as a multiple of its group's scale. Infinite when a row that
/// should have been left alone was written, when more than one number in a hundred is off by half a step, since ties
/// are rare, and when the reference is all zeros and so proves nothing.
pub fn difference_in_steps(want: &[u32], got: &[u32], layout: CacheLayout) -> f64 {
    assert_eq!(want.len(), got.len(), "outputs of one length");
    let (mut worst, mut n_off, mut n_numbers) = (0f64, 0, 0);
    for (want, got) in want.chunks(layout.row_words()).zip(got.chunks(layout.row_words())) {
        // One word again and again is poison, or a row that no token has come to yet.
        let used = want.len() == layout.row_words() && want.iter().any(|word| *word != want[0]);
        if !used && want != got {
            return f64::INFINITY;
        }
        for head in 0..if used { layout.n_heads } else { 0 } {
            for (d, (w, g)) in layout.head(want, head).into_iter().zip(layout.head(got, head)).enumerate() {
                let steps = if w == g { 0.0 } else { (w - g).abs() / layout.scale(want, head, d / 32).abs() };
                worst = worst.max(if steps.is_nan() { f64::INFINITY } else { steps });
                n_off += (steps > 0.5) as usize;
                n_numbers += (w != 0.0) as usize;
            }
        }
    }
    if n_numbers == 0 || n_off * 100 > n_numbers + 100 { f64::INFINITY } else { worst }
}

/// `max|want - got| / max|want|`. Infinite when a number that should be there is NaN, when one that should have been
/// left poisoned was written, and when the reference is all but zero and so proves nothing.
pub fn difference(want: &[f32], got: &[f32]) -> f64 {
    assert_eq!(want.len(), got.len(), "outputs of one length");
    let scale = want.iter().filter(|v| v.is_finite()).fold(0f64, |m, v| m.max(v.abs() as f64));
    if scale < 1e-4 {
        return f64::INFINITY;
    }
    let worst = want.iter().zip(got).fold(0f64, |worst, (w, g)| match (w.is_nan(), g.is_nan()) {
        (true, true) => worst,
        (false, false) if w == g => worst,
        (false, false) => worst.max((*w as f64 - *g as f64).abs()),
        _ => f64::INFINITY,
    });
    worst / scale
}
