//! An engine's kernels as they are fastest on its adapter.

use super::{Engine, needs};
use crate::{
    error::{Error, Result},
    model::{Phase, RecordOptions, record},
    plan::{Batch, Content, Plan, Slot},
    platform::now_s,
    tune::{self, Kept, KeptShape, SearchOptions, TURNS},
};

/// Tokens of a prompt whose kernels are measured.
const PROMPT: usize = 256;
/// Keys of a long conversation, at which attention is measured beside a short one's.
const KEYS: usize = 2048;

impl Engine {
    /// Takes over what is known of this adapter, and measures what is not, if `wanted` says so.
    ///
    /// Errors: [`crate::Error::Device`].
    pub(super) async fn tune(&mut self, wanted: Option<bool>) -> Result<()> {
        if wanted == Some(false) {
            return Ok(());
        }
        let mut kept = Kept::load(&self.gpu);
        if wanted == Some(true) || self.gpu.report.kind != "software" {
            let known = kept.clone();
            match self.search(&mut kept, SearchOptions::default(), |_, _| ()).await {
                // A session may still fit: it goes without.
                Err(error @ Error::OutOfMemory { .. }) => tracing::warn!("kernels are not tuned: {error}"),
                other => other?,
            }
            if kept != known {
                // What cannot be kept is found again.
                if let Err(error) = kept.save(&self.gpu) {
                    tracing::debug!("what tuning found is not kept: {error}");
                }
            }
        }
        for (plan, batch) in self.tuning_plans() {
            let usable = tune::usable(&self.gpu, &kept, (&plan, batch)).await?;
            self.choices.extend(usable);
        }
        Ok(())
    }

    /// Measures what `kept` does not know of this model's kernels; `hear` is told of each shape.
    ///
    /// Errors: [`crate::Error::Device`].
    pub async fn search(
        &self,
        kept: &mut Kept,
        options: SearchOptions,
        mut hear: impl FnMut(&str, &KeptShape),
    ) -> Result<()> {
        let start_s = now_s();
        for (plan, batch) in self.tuning_plans() {
            if !tune::unknown(&self.gpu, (&plan, batch), kept, options) {
                continue;
            }
            let angles = self.config.rope.angles(batch.position + batch.n_tokens);
            let memory = self.gpu.allocate(&[&plan], &self.weights, &angles).await?;
            self.gpu.write(&memory, "step", &[batch.n_tokens as u32, batch.position as u32]);
            // Once as it is, so that what a dispatch finds is what others leave for it: ids of experts, say.
            let program = self.gpu.program(&plan, &memory, &self.weights).await?;
            self.gpu.run(&[&program], batch)?;
            // Making buffers may have taken all of it.
            let left_s = (options.budget_s - (now_s() - start_s)).max(options.budget_s.min(0.0));
            let left = SearchOptions { budget_s: left_s, ..options };
            tune::search(&self.gpu, (&plan, batch), (&memory, &self.weights), kept, left, &mut hear).await?;
        }
        Ok(())
    }

    /// The plans of a token and of a prompt that kernels are measured in, and what they are timed on.
    pub fn tuning_plans(&self) -> [(Plan, Batch); 2] {
        let session = self.origin.options.session.clone().unwrap_or_default();
        let full = needs::record_options(&self.config, &session, self.gpu.tuning, self.gpu.max_binding_bytes());
        let plan = |phase, capacity, max_tokens| {
            let options = RecordOptions { capacity, max_tokens, ..full };
            with_few_caches(record(&self.config, &self.placed, &options, phase), self.config.n_layers)
        };
        let token = Batch { n_tokens: 1, position: KEYS - 1 };
        let prompt = Batch { n_tokens: PROMPT, position: 0 };
        [(plan(Phase::Decode, KEYS, 1), token), (plan(Phase::Prompt, PROMPT, PROMPT), prompt)]
    }
}

/// `plan` with the caches of as many layers as take turns, which the others share: those of all may be more than the
/// device has room for.
fn with_few_caches(mut plan: Plan, n_layers: usize) -> Plan {
    let slots = (0..plan.buffers.len()).map(Slot);
    let caches: Vec<Slot> = slots.filter(|slot| plan.buffers[slot.0].content == Content::Cache).collect();
    let n_kept = TURNS * caches.len() / n_layers.max(1);
    for (index, &cache) in caches.iter().enumerate().skip(n_kept) {
        plan.buffers[cache.0].bytes = 16;
        let shared = caches[index % n_kept];
        for slot in plan.dispatches.iter_mut().flat_map(|d| d.reads.iter_mut().chain(&mut d.writes)) {
            if *slot == cache {
                *slot = shared;
            }
        }
    }
    plan
}
