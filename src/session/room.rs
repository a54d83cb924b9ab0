//! The room of a session: plans bound to buffers for so many positions, and how it grows.

use super::{Engine, MemoryNeeds, plans};
use crate::{
    backend::gpu::{Memory, Program},
    error::{Error, Result},
    model::{Phase, RecordOptions},
    plan::Plan,
};

/// Positions that a session has room for at first, and the multiple that it grows to.
const FIRST_POSITIONS: usize = 1024;
const POSITIONS_STEP: usize = 256;

/// Device memory for so many positions, and the plans bound to it.
#[derive(Debug)]
pub(super) struct Room {
    pub memory: Memory,
    /// `capacity` is what there is room for now.
    pub options: RecordOptions,
    programs: Option<Programs>,
    all_logits: bool,
}

/// A program for each phase.
#[derive(Debug)]
pub(super) struct Programs {
    pub decode: Program,
    pub prompt: Program,
    pub last_logits: Program,
    pub pick: Program,
    pub filtered_pick: Program,
    pub all_logits: Option<Program>,
}

/// Positions to make room for when `n_positions` are needed and there is room for `capacity`: twice as many, so that
/// growing costs little in all, but never more than the context.
fn grown(capacity: usize, n_positions: usize, context: usize) -> usize {
    n_positions.max(2 * capacity).next_multiple_of(POSITIONS_STEP).min(context)
}

impl Room {
    /// Room for the first positions of a context; `full` is what its plans are recorded for in the end.
    ///
    /// Errors: [`Error::TooLarge`] when the full context could not be bound; [`Error::Device`].
    pub async fn new(engine: &Engine, full: RecordOptions, all_logits: bool) -> Result<Self> {
        let record = |options| plans(&engine.config, &engine.placed, &options, all_logits);
        engine.gpu.check_sizes(&references(&record(full)))?;
        let options = RecordOptions { capacity: FIRST_POSITIONS.min(full.capacity), ..full };
        let plans = record(options);
        let angles = engine.config.rope.angles(options.capacity);
        let memory = engine.gpu.allocate(&references(&plans), &engine.weights, &angles).await;
        let memory = memory.map_err(|error| with_sizes(error, engine, &full, all_logits))?;
        let programs = Some(Programs::bind(engine, &plans, &memory).await?);
        Ok(Self { memory, options, programs, all_logits })
    }

    /// The programs. Errors: [`Error::Device`] when the device failed while they were bound anew.
    pub fn programs(&self) -> Result<&Programs> {
        let what = || "an attempt to enlarge the cache had failed".into();
        self.programs.as_ref().ok_or_else(|| Error::Device { doing: "running the model".into(), what: what() })
    }

    /// Makes room for `n_positions`, at most `context` of them. With `keep` the cache's content stays.
    ///
    /// Nothing is compiled, and at no time does more than one buffer exist twice. After an error there is room for as
    /// many as before.
    ///
    /// Errors: [`Error::Device`] when memory runs out.
    pub async fn reserve(&mut self, engine: &Engine, n_positions: usize, context: usize, keep: bool) -> Result<()> {
        let before = self.options;
        if n_positions <= before.capacity {
            return Ok(());
        }
        self.options.capacity = grown(before.capacity, n_positions, context);
        // What holds on to buffers goes first, so that each is given back as soon as it is replaced.
        self.programs = None;
        let mut plans = self.plans(engine);
        let angles = engine.config.rope.angles(self.options.capacity);
        let enlarged = engine.gpu.enlarge(&mut self.memory, &references(&plans), &angles, keep).await;
        let full = RecordOptions { capacity: context, ..self.options };
        let enlarged = enlarged.map_err(|error| with_sizes(error, engine, &full, self.all_logits));
        if enlarged.is_err() {
            self.options = before;
            plans = self.plans(engine);
        }
        // Buffers that did grow serve plans for fewer positions too.
        self.programs = Some(Programs::bind(engine, &plans, &self.memory).await?);
        enlarged
    }

    /// It is also made for the logits of every position.
    pub fn all_logits(&self) -> bool {
        self.all_logits
    }

    /// Bytes that the plans ask for.
    pub fn needs(&self, engine: &Engine) -> MemoryNeeds {
        MemoryNeeds::of_plans(&self.plans(engine))
    }

    /// Plans of every phase.
    pub fn plans(&self, engine: &Engine) -> Vec<(Phase, Plan)> {
        plans(&engine.config, &engine.placed, &self.options, self.all_logits)
    }
}

impl Programs {
    async fn bind(engine: &Engine, plans: &[(Phase, Plan)], memory: &Memory) -> Result<Self> {
        let mut programs = Vec::new();
        for (_, plan) in plans {
            let plan = engine.choices.apply(&engine.gpu, plan.clone());
            programs.push(engine.gpu.program(&plan, memory, &engine.weights).await?);
        }
        let mut programs = programs.into_iter();
        let mut next = || programs.next().expect("one per phase");
        let (decode, prompt, last_logits, pick, filtered_pick) = (next(), next(), next(), next(), next());
        Ok(Self { decode, prompt, last_logits, pick, filtered_pick, all_logits: programs.next() })
    }
}

/// Tells somebody whose device is full what the whole context takes, and half of it.
fn with_sizes(error: Error, engine: &Engine, full: &RecordOptions, all_logits: bool) -> Error {
    let Error::OutOfMemory { doing, .. } = error else { return error };
    let cache = |capacity| {
        let options = RecordOptions { capacity, ..*full };
        MemoryNeeds::of_plans(&plans(&engine.config, &engine.placed, &options, all_logits)).cache >> 20
    };
    let (all, half) = (full.capacity, full.capacity / 2);
    let hint = format!(
        "keys and values take {} MiB at the context of {all}; --ctx {half} makes it {} MiB, and --kv q8_0 about half of f16",
        cache(all),
        cache(half.max(1))
    );
    Error::OutOfMemory { doing, hint }
}

fn references(plans: &[(Phase, Plan)]) -> Vec<&Plan> {
    plans.iter().map(|(_, plan)| plan).collect()
}
