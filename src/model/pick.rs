//! The choice of the next token as dispatches: from the logits of the last one to the next step.

use super::{config::Config, transformer::RecordOptions};
use crate::{
    kernels::{
        Kernel, SAMPLE_BINS, SAMPLE_PEAKS, SAMPLE_PICK, Variant,
        reference::STEP_HEAD_WORDS,
        sampling::{BIN_WORDS, DRAWN_TOKENS, GROUP_LOGITS, N_BINS, SamplingWords, WORKGROUP_LOGITS},
    },
    plan::{Content, Dispatch, Extent::Fixed, Plan, Slot},
};

/// Records the choice; `filtered` where tokens have to be counted, or their weights summed, in order of probability.
pub(super) fn record(config: &Config, options: &RecordOptions, filtered: bool) -> Plan {
    let n_vocab = config.n_vocab;
    let n_workgroups = n_vocab.div_ceil(WORKGROUP_LOGITS);
    let mut plan = Plan::default();
    let mut words = |name: &str, n: usize, content| plan.buffer(name, 4 * n as u64, content);
    let step = words("step", STEP_HEAD_WORDS + options.max_tokens, Content::Step);
    let logits = words("logits", n_vocab, Content::Activation);
    let sampling = words("sampling", size_of::<SamplingWords>() / 4, Content::Activation);
    let seen = words("seen", n_vocab.div_ceil(32), Content::Activation);
    let peaks = words("peaks", n_vocab.div_ceil(GROUP_LOGITS), Content::Activation);
    let tops = words("tops", 2 * n_workgroups, Content::Activation);
    let bins = words("bins", N_BINS * BIN_WORDS, Content::Activation);
    let drawn = words("drawn", 1 + DRAWN_TOKENS, Content::Activation);
    let mut push = |kernel: &'static Kernel, reads: &[Slot], writes: &[Slot], n_workgroups: usize| {
        plan.push(Dispatch {
            label: kernel.name.into(),
            kernel,
            variant: kernel.variant(Variant { format: None, cache: None, heads: None, tuning: options.tuning }),
            params: vec![n_vocab as u32],
            reads: reads.to_vec(),
            writes: writes.to_vec(),
            weight: None,
            grid: [Fixed(n_workgroups as u32), Fixed(1)],
        });
    };
    push(&SAMPLE_PEAKS, &[sampling, seen, logits], &[peaks, tops, bins], n_workgroups);
    if filtered {
        push(&SAMPLE_BINS, &[sampling, seen, logits, tops], &[bins], n_workgroups);
    }
    push(&SAMPLE_PICK, &[sampling, logits, peaks, tops, bins], &[seen, step, drawn], 1);
    plan
}
