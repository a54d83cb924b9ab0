//! Dispatches under the method: any of a bound plan, with whatever variants the plan gives them.

use super::method::{self, Method, Rotation, Timing};
use crate::{
    backend::{
        Gpu,
        gpu::{Program, Stopwatch},
    },
    error::Result,
    plan::Batch,
};

/// Dispatches that are equal but for the weights and buffers they use. Taking turns, they find no weights in a cache that
/// an answer would not find there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// Indices in the plan.
    pub dispatches: Vec<usize>,
    pub batch: Batch,
    /// One run is all the dispatches instead of one of them: a whole plan, say.
    pub together: bool,
}

/// A stopwatch and the method that it is used with.
#[derive(Debug)]
pub struct Timer<'a> {
    gpu: &'a Gpu,
    stopwatch: Stopwatch,
    pub method: Method,
}

impl<'a> Timer<'a> {
    /// A timer for a device.
    pub fn new(gpu: &'a Gpu, method: Method) -> Self {
        Self { gpu, stopwatch: Stopwatch::new(gpu), method }
    }

    /// Whose clock it reads.
    pub fn clock(&self) -> &'static str {
        self.stopwatch.clock()
    }

    /// The stopwatch alone.
    pub fn stopwatch(&self) -> &Stopwatch {
        &self.stopwatch
    }

    /// Seconds of one run of each item. To choose among variants, let a plan hold the same work in each of them: one item
    /// is then one candidate. `reset` puts back what a run may have changed, such as the step; `progress` hears of every
    /// count of runs that is over.
    ///
    /// Errors: [`crate::Error::Device`].
    pub async fn time(
        &self,
        program: &Program,
        items: &[Item],
        reset: impl Fn(&Item),
        mut progress: impl FnMut(),
    ) -> Result<Vec<Timing>> {
        let mut turns: Vec<_> = items.iter().map(|item| Rotation::new(item.dispatches.len())).collect();
        let mut run_s = async |index: usize, n: u64| {
            let item = &items[index];
            reset(item);
            let n_dispatches = if item.together { n as usize * item.dispatches.len() } else { n as usize };
            let turns = turns[index].take(n_dispatches).map(|turn| item.dispatches[turn]);
            let s = self.stopwatch.time(self.gpu, program, turns, item.batch).await?;
            progress();
            Ok(s)
        };
        method::measure(items.len(), &self.method, &mut run_s).await
    }
}
