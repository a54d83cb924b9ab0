//! Which ceiling a dispatch runs into first, and how soon it could be over.

use super::Ceilings;
use crate::kernels::Work;

/// What limits a dispatch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Limit {
    Bandwidth,
    Arithmetic,
    /// It is so small that launching it takes longer than what it does.
    Launch,
}

impl Limit {
    /// As people read it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bandwidth => "bandwidth",
            Self::Arithmetic => "arithmetic",
            Self::Launch => "launch",
        }
    }
}

/// The least time that a dispatch can take, and why.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Bound {
    pub limit: Limit,
    pub seconds: f64,
}

/// The bound of some work whose bytes come from a working set of `working_set` bytes; `None` where no ceiling was
/// measured.
pub fn bound(work: &Work, working_set: u64, ceilings: &Ceilings) -> Option<Bound> {
    let of = |limit, amount: f64, per_s: Option<f64>| Some(Bound { limit, seconds: amount / per_s? });
    let bandwidth = of(Limit::Bandwidth, work.bytes() as f64, ceilings.bytes_per_s(working_set));
    let arithmetic = of(Limit::Arithmetic, work.operations, ceilings.operations_per_s(work.unit));
    // Whichever was measured as the shorter: a launch that waits takes no less than one that does not.
    let launches = [&ceilings.dependent_dispatch_s, &ceilings.independent_dispatch_s];
    let launch = launches
        .into_iter()
        .filter_map(|launch| launch.value)
        .reduce(f64::min)
        .map(|seconds| Bound { limit: Limit::Launch, seconds });
    let later = |a: Bound, b: Bound| if b.seconds > a.seconds { b } else { a };
    [bandwidth, arithmetic, launch].into_iter().flatten().reduce(later)
}
