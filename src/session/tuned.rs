//! An engine's kernels as they are fastest on its adapter.

use super::{Engine, needs};
use crate::{
    error::Result,
    model::{Phase, RecordOptions, record},
    plan::{Batch, Plan},
    tune::{self, Kept, KeptShape, SearchOptions},
};

/// Keys that one token sees while attention is measured.
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
            let n_known = kept.shapes.len();
            self.search(&mut kept, SearchOptions::default(), |_, _| ()).await?;
            if kept.shapes.len() > n_known {
                kept.save(&self.gpu);
            }
        }
        let plan = self.decode_plan();
        self.choices = tune::usable(&self.gpu, &kept, &plan).await?;
        Ok(())
    }

    /// Measures what `kept` does not know of this model's kernels for one token; `hear` is told of each shape.
    ///
    /// Errors: [`crate::Error::Device`].
    pub async fn search(
        &self,
        kept: &mut Kept,
        options: SearchOptions,
        hear: impl FnMut(&str, &KeptShape),
    ) -> Result<()> {
        let plan = self.decode_plan();
        let angles = self.config.rope.angles(POSITION + 1);
        let memory = self.gpu.allocate(&[&plan], &self.weights, &angles).await?;
        self.gpu.write(&memory, "step", &[1, POSITION as u32, 0, 0, 0]);
        let batch = Batch { n_tokens: 1, position: POSITION };
        tune::search(&self.gpu, (&plan, batch), (&memory, &self.weights), kept, options, hear).await
    }

    /// One token's plan, for as few positions as tell kernels apart.
    pub fn decode_plan(&self) -> Plan {
        let session = self.origin.options.session.clone().unwrap_or_default();
        let full = needs::record_options(&self.config, &session, self.gpu.tuning, self.gpu.max_binding_bytes());
        let options = RecordOptions { capacity: POSITION + 1, max_tokens: 1, ..full };
        record(&self.config, &self.placed, &options, Phase::Decode)
    }
}
