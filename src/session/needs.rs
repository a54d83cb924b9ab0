//! The plans that a session runs, and the device memory that they take.

use crate::{
    model::{Config, Phase, RecordOptions, Weights, record},
    placement::Placement,
    plan::{Content, Plan, WeightSlot},
};

/// Tokens of a prompt that are processed at once.
const MAX_BATCH: usize = 512;
/// Most bytes of logits that are held for a batch when every position's are asked for.
const ALL_LOGITS_BYTES: usize = 64 << 20;

/// Plans of every phase that a session may run.
///
/// `all_logits` adds [`Phase::AllLogits`] and keeps batches so small that their logits fit 64 MiB.
pub fn plans(
    config: &Config,
    placed: &Weights<WeightSlot>,
    options: &RecordOptions,
    all_logits: bool,
) -> Vec<(Phase, Plan)> {
    let mut phases = vec![Phase::Decode, Phase::Prompt, Phase::LastLogits];
    phases.extend(all_logits.then_some(Phase::AllLogits));
    phases.into_iter().map(|phase| (phase, record(config, placed, options, phase))).collect()
}

/// The context when none is asked for: the model's own, as far as most conversations need and most devices bear.
pub fn default_context(config: &Config) -> usize {
    config.context.min(4096)
}

/// The largest batch for a context, and for logits of every position where they are wanted.
pub fn batch_size(config: &Config, context: usize, all_logits: bool) -> usize {
    let fits = ALL_LOGITS_BYTES / (4 * config.n_vocab);
    MAX_BATCH.min(context).min(if all_logits { fits.max(1) } else { MAX_BATCH })
}

/// Device memory that a model takes, in bytes, by what it is for.
#[derive(Debug, Clone, Copy, serde::Serialize)]
pub struct MemoryNeeds {
    pub weights: u64,
    pub cache: u64,
    pub activations: u64,
}

impl MemoryNeeds {
    /// What `placement` and the plans of a session allocate.
    pub fn of(placement: &Placement, plans: &[(Phase, Plan)]) -> Self {
        Self { weights: placement.bytes(), ..Self::of_plans(plans) }
    }

    /// What the plans allocate beside the weights.
    pub fn of_plans(plans: &[(Phase, Plan)]) -> Self {
        let mut all = Plan::default();
        for buffer in plans.iter().flat_map(|(_, plan)| &plan.buffers) {
            all.buffer(&buffer.name, buffer.bytes, buffer.content.clone());
        }
        Self {
            weights: 0,
            cache: all.bytes(|content| *content == Content::Cache),
            activations: all.bytes(|c| !matches!(c, Content::Cache | Content::Vector(_))),
        }
    }
}
