//! An engine's kernels as they are fastest on its adapter.

use super::{Engine, needs};
use crate::{
    error::Result,
    model::{Phase, RecordOptions, record},
    plan::{Batch, Plan},
    platform::now_s,
    tune::{self, Kept, KeptShape, SearchOptions},
};

/// Where the token is whose kernels are measured, and the length of a prompt less one.
const POSITION: usize = 255;

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
        for (plan, _) in self.tuning_plans() {
            let usable = tune::usable(&self.gpu, &kept, &plan).await?;
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
        let angles = self.config.rope.angles(POSITION + 1);
        let start_s = now_s();
        for (plan, batch) in self.tuning_plans() {
            if !tune::has_choices(&self.gpu, &plan) {
                continue;
            }
            let memory = self.gpu.allocate(&[&plan], &self.weights, &angles).await?;
            self.gpu.write(&memory, "step", &[batch.n_tokens as u32, batch.position as u32]);
            // Once as it is, so that what a dispatch finds is what others leave for it: ids of experts, say.
            let program = self.gpu.program(&plan, &memory, &self.weights).await?;
            self.gpu.run(&[&program], batch)?;
            let left = SearchOptions { budget_s: options.budget_s - (now_s() - start_s), ..options };
            tune::search(&self.gpu, (&plan, batch), (&memory, &self.weights), kept, left, &mut hear).await?;
        }
        Ok(())
    }

    /// The plans of a token and of a prompt, for as few positions as tell kernels apart, and what they are timed on.
    pub fn tuning_plans(&self) -> [(Plan, Batch); 2] {
        let session = self.origin.options.session.clone().unwrap_or_default();
        let full = needs::record_options(&self.config, &session, self.gpu.tuning, self.gpu.max_binding_bytes());
        let plan = |phase, max_tokens| {
            let options = RecordOptions { capacity: POSITION + 1, max_tokens, ..full };
            record(&self.config, &self.placed, &options, phase)
        };
        let (token, prompt) =
            (Batch { n_tokens: 1, position: POSITION }, Batch { n_tokens: POSITION + 1, position: 0 });
        [(plan(Phase::Decode, 1), token), (plan(Phase::Prompt, prompt.n_tokens), prompt)]
    }
}
