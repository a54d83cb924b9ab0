//! A mixture of experts as dispatches: who goes where, the experts' products, and what they say together.

use super::{
    config::{Experts, Routing},
    transformer::{Batch, Recorder, padded},
};
use crate::{
    format::pack::{n_blocks, n_tiles},
    kernels::{Batched, EXPERT_GROUPS, EXPERT_MATVEC, EXPERT_SUM, ROUTE},
    placement::ExpertStack,
    plan::{Content, Dispatch, Extent::*, Slot, WeightSlot},
};

impl Recorder<'_> {
    pub(super) fn experts(&self) -> Experts {
        self.config.experts.expect("a layer with experts has a configuration of them")
    }

    /// Which experts each token goes to, and how much each of them counts.
    pub(super) fn route(&mut self, logits: Slot) -> [Slot; 2] {
        let Experts { n, n_used, routing } = self.experts();
        let (ids, shares) = (self.activation("expert_ids", n_used), self.activation("expert_shares", n_used));
        let (sparse, jitter) = match routing {
            Routing::TopK => (0, 0.0),
            Routing::SparseMixer { jitter } => (1, jitter),
        };
        let params = vec![n as u32, n_used as u32, sparse, f32::to_bits(jitter)];
        let step = self.step;
        self.push("ffn_route", &ROUTE, params, &[step, logits], &[ids, shares], [PerTokens(64), Fixed(1)]);
        [ids, shares]
    }

    /// What tells `expert_product` which experts to use: the ids of one token's, or a batch's tokens grouped by expert.
    pub(super) fn assigned(&mut self, ids: Slot) -> Slot {
        if self.batch == Batch::One {
            return ids;
        }
        let Experts { n, n_used, .. } = self.experts();
        let size = self.options.tuning.prompt.mapping.expert_group();
        let n_groups = (self.options.max_tokens * n_used).div_ceil(size) + n;
        let groups = self.plan.buffer("expert_groups", (4 * n_groups * (1 + size)) as u64, Content::Activation);
        let params = [n, n_used, n_groups, size].map(|p| p as u32).to_vec();
        let step = self.step;
        self.push("ffn_groups", &EXPERT_GROUPS, params, &[step, ids], &[groups], [Fixed(1), Fixed(1)]);
        groups
    }

    /// One row for each assignment of a token to an expert; `per_x` of them share a row of `x`.
    pub(super) fn expert_product(
        &mut self,
        label: &str,
        stack: &ExpertStack<WeightSlot>,
        assigned: Slot,
        x: Slot,
        per_x: usize,
    ) -> Slot {
        let Experts { n, n_used, .. } = self.experts();
        let y = self.activation(&format!("{label}.y"), n_used * stack.rows);
        for part in &stack.parts {
            let mut params: Vec<u32> =
                [part.rows, n_blocks(stack.columns), part.first_expert, part.n_experts, part.first_row, stack.rows]
                    .map(|p| p as u32)
                    .to_vec();
            let tuning = self.options.tuning;
            let (kernel, tiles, assignments) = match self.batch {
                Batch::One => {
                    params.extend([n_used as u32, (per_x == n_used) as u32]);
                    (&EXPERT_MATVEC, tuning.tiles, Fixed(n_used as u32))
                }
                Batch::Many => {
                    params.push(per_x as u32);
                    let Batched { kernel, tokens, tiles } = tuning.prompt.expert_matmul(tuning.tiles);
                    (kernel, tiles, PerAssignments { per_token: n_used as u32, of: tokens, plus: n as u32 })
                }
            };
            let groups = Fixed((n_tiles(part.rows) as u32).div_ceil(tiles));
            let label = format!("{label}{}", part_suffix(part.first_expert, part.first_row));
            let d = self.dispatch(&label, kernel, params, &[assigned, x], &[y], [groups, assignments]);
            let variant = kernel.variant(self.variant_of(Some(part.format)));
            self.plan.push(Dispatch { weight: Some(part.tensor), variant, ..d });
        }
        y
    }

    /// x += the experts' rows, weighted.
    pub(super) fn expert_sum(&mut self, shares: Slot, said: Slot) {
        let (n_embd, n_used) = (self.config.n_embd, self.experts().n_used);
        let params = [n_embd, padded(n_embd), n_embd, n_used].map(|p| p as u32).to_vec();
        let grid = [Fixed(n_embd.div_ceil(64) as u32), PerTokens(1)];
        let (step, x) = (self.step, self.x);
        self.push("ffn_expert_sum", &EXPERT_SUM, params, &[step, shares, said], &[x], grid);
    }
}

/// Tells the parts of an expert stack apart.
pub(super) fn part_suffix(first_expert: usize, first_row: usize) -> String {
    match (first_expert, first_row) {
        (0, 0) => String::new(),
        (expert, 0) => format!("+{expert}"),
        (expert, row) => format!("+{expert}.{row}"),
    }
}
