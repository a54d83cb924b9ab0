//! Which way of building each kernel is fastest on this adapter: found by measuring, checked against the reference,
//! remembered.

mod kept;
mod search;

pub use kept::{Kept, KeptShape, WGPU};
pub use search::{SearchOptions, TURNS, search, unknown, usable};

use crate::{
    backend::Gpu,
    kernels::{ATTEND, ATTEND_MERGE, Choice},
    plan::{Dispatch, Plan},
};
use std::collections::BTreeMap;

/// What was chosen, by [`crate::kernels::Kernel::shape_key`].
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Choices(BTreeMap<String, Choice>);

impl Choices {
    /// The choice for a dispatch, if there is one.
    pub fn of(&self, dispatch: &Dispatch) -> Option<Choice> {
        self.0.get(&dispatch.kernel.shape_key(dispatch.variant, &dispatch.params)?).copied()
    }

    /// Chooses.
    pub fn set(&mut self, key: String, choice: Choice) {
        self.0.insert(key, choice);
    }

    /// Takes a choice back.
    pub fn remove(&mut self, key: &str) {
        self.0.remove(key);
    }

    /// Takes over others' choices.
    pub fn extend(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// Whether nothing is chosen.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// `plan` with every choice made, on a device whose tuning is the rule.
    pub fn apply(&self, gpu: &Gpu, mut plan: Plan) -> Plan {
        // Attention and what puts its splits together are one choice.
        let mut split = None;
        for dispatch in &mut plan.dispatches {
            let choice = if *dispatch.kernel == ATTEND_MERGE { split } else { self.of(dispatch) };
            if *dispatch.kernel == ATTEND {
                split = choice;
            }
            if let Some(choice) = choice {
                *dispatch = dispatch.retuned(choice.apply(gpu.tuning));
            }
        }
        plan
    }
}
