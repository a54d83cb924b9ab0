//! The plans that a session runs, and the device memory that they take.

use super::SessionOptions;
use crate::{
    backend::Gpu,
    error::{Error, Result},
    kernels::{CacheLayout, Tuning},
    model::{Config, Phase, RecordOptions, Weights, cache_rows, record},
    placement::Placement,
    plan::{Content, Plan, WeightSlot},
};

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
    let mut phases = vec![Phase::Decode, Phase::Prompt, Phase::LastLogits, Phase::Pick, Phase::FilteredPick];
    phases.extend(all_logits.then_some(Phase::AllLogits));
    phases.into_iter().map(|phase| (phase, record(config, placed, options, phase))).collect()
}

/// The context when none is asked for: the model's own, as far as most conversations need and most devices bear.
pub fn default_context(config: &Config) -> usize {
    config.context.min(4096)
}

/// What the plans of a session are recorded for once its context is full, on a device that binds `max_binding` bytes.
pub fn record_options(config: &Config, options: &SessionOptions, tuning: Tuning, max_binding: u64) -> RecordOptions {
    let capacity = options.context.unwrap_or_else(|| default_context(config));
    let max_tokens = batch_size(config, capacity, options);
    let all_heads = config.n_kv_heads;
    let mut record = RecordOptions { capacity, max_tokens, cache: options.cache, part_kv_heads: all_heads, tuning };
    // As many heads in a buffer as can be bound. Where not even one can, the check of the plans' sizes says so.
    let rows = cache_rows(config, &record) as u64;
    let bytes = |n_heads| rows * CacheLayout { format: options.cache, n_heads, head_dim: config.head_dim }.row_bytes();
    record.part_kv_heads = (1..=all_heads).rev().find(|&n| bytes(n) <= max_binding).unwrap_or(1);
    record
}

/// The largest batch for a context, and for logits of every position where they are wanted.
fn batch_size(config: &Config, context: usize, options: &SessionOptions) -> usize {
    let fits = ALL_LOGITS_BYTES / (4 * config.n_vocab);
    options.batch.clamp(1, context.max(1)).min(if options.all_logits { fits.max(1) } else { usize::MAX })
}

/// Refuses a session that the device cannot hold beside the weights, and names the longest context that it can.
///
/// Errors: [`Error::TooLarge`].
pub(super) fn check_fit(
    config: &Config,
    placement: &Placement,
    placed: &Weights<WeightSlot>,
    gpu: &Gpu,
    options: &SessionOptions,
) -> Result<()> {
    let binding = gpu.max_binding_bytes();
    let available = gpu.available_memory().unwrap_or(u64::MAX);
    let at = |context| {
        let options = SessionOptions { context: Some(context), ..options.clone() };
        let plans = plans(config, placed, &record_options(config, &options, gpu.tuning, binding), options.all_logits);
        let bound = gpu.check_sizes(&plans.iter().map(|(_, plan)| plan).collect::<Vec<_>>());
        (MemoryNeeds::of(placement, &plans), bound)
    };
    // Where the adapter tells how much there is, it is the system's memory, and experts that wait take of it too.
    let waiting = placement.host_bytes();
    let context = options.context.unwrap_or_else(|| default_context(config));
    let (needs, bound) = at(context);
    if needs.total().saturating_add(waiting) <= available && bound.is_ok() {
        return Ok(());
    }
    let fits = |context| matches!(at(context), (needs, Ok(())) if needs.total().saturating_add(waiting) <= available);
    let (mut longest, mut too_long) = (0, context);
    while longest + 1 < too_long {
        let middle = longest + (too_long - longest) / 2;
        *if fits(middle) { &mut longest } else { &mut too_long } = middle;
    }
    let fits = (longest > 0).then_some(longest);
    let hint = match longest {
        0 if config.experts.is_some() => {
            "not even a short context fits: a smaller --weights format may, or a device of \
            its own memory with --weights-memory SIZE, which keeps some of the experts there"
                .into()
        }
        0 => "not even a short context fits: a smaller model or a smaller --weights format may".into(),
        n => format!("--ctx {n} is the longest context that fits with this --kv"),
    };
    bound.map_err(|error| match error {
        Error::TooLarge { what, needed, limit, .. } => {
            Error::TooLarge { what, needed, limit, hint: hint.clone(), fits }
        }
        other => other,
    })?;
    let what = format!("the model with a context of {context}");
    Err(Error::TooLarge { what, needed: needs.total() + waiting, limit: available, hint, fits })
}

/// Device memory that a model takes, in bytes, by what it is for.
#[derive(Debug, Clone, Copy, serde::Serialize)]
pub struct MemoryNeeds {
    pub weights: u64,
    pub cache: u64,
    pub activations: u64,
}

impl MemoryNeeds {
    /// All of it.
    pub fn total(&self) -> u64 {
        self.weights + self.cache + self.activations
    }

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
