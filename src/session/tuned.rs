//! An engine's kernels as they are fastest on its adapter.

use super::{Engine, needs};
use crate::{
    error::Result,
    kernels::keys_class,
    model::{Phase, RecordOptions, record},
    plan::{Batch, Plan},
    platform::now_s,
    tune::{self, Kept, KeptShape, SearchOptions},
};

/// Tokens of a prompt whose kernels are measured.
const PROMPT: usize = 256;

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
            self.search(&mut kept, SearchOptions::default(), |_, _| ()).await?;
            if kept != known {
                kept.save(&self.gpu);
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
            record(&self.config, &self.placed, &RecordOptions { capacity, max_tokens, ..full }, phase)
        };
        // No more memory than the session will take.
        let keys = keys_class(full.capacity);
        let token = Batch { n_tokens: 1, position: keys - 1 };
        let prompt = Batch { n_tokens: PROMPT, position: 0 };
        [(plan(Phase::Decode, keys, 1), token), (plan(Phase::Prompt, PROMPT, PROMPT), prompt)]
    }
}
