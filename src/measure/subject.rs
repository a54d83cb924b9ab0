//! A model's plans made ready to be measured: equal dispatches found, weights that take turns, a context that is there.

use super::{Ceilings, KernelRow};
use crate::{
    backend::{
        Gpu,
        gpu::{Memory, Program},
    },
    error::{Error, Result},
    kernels::{CacheFormat, Kernel, Situation, Variant, reference::STEP_HEAD_WORDS, sampling::SamplingWords, work},
    model::{ModelFile, Phase, record},
    placement::Placement,
    plan::{Batch, Content, Dispatch, Plan, WeightSlot},
    random,
    session::{EngineOptions, SessionOptions, place, record_options},
    timing::Timing,
    tune::{Kept, usable},
};
use std::sync::Arc;

/// Weights that take turns are at least so many bytes, more than any cache holds; or all that a token needs, if that is
/// less.
const TURN_BYTES: u64 = 256 << 20;
/// The same where memory is the system's.
const SOFTWARE_TURN_BYTES: u64 = 64 << 20;

/// A model, and the situations that its plans are measured in.
#[derive(Debug)]
pub struct Subject {
    placement: Placement,
    angles: Vec<f32>,
    passes: Vec<(String, Plan, Situation)>,
    n_vocab: usize,
}

impl Subject {
    /// Builds kernels as an engine on this device would, with what tuning has found.
    ///
    /// Errors: [`crate::Error::Device`].
    pub async fn take_choices(&mut self, gpu: &Gpu) -> Result<()> {
        let kept = Kept::load(gpu);
        for (_, plan, situation) in &mut self.passes {
            let Situation { n_tokens, position, .. } = *situation;
            let choices = usable(gpu, &kept, (plan, Batch { n_tokens, position })).await?;
            *plan = choices.apply(gpu, std::mem::take(plan));
        }
        Ok(())
    }

    /// The plans of a token after `depth` others and of its choice, the most probable or a drawn one, and those of a prompt of `n_prompt` tokens after as
    /// many and of its last logits; 0 for no prompt.
    ///
    /// Errors: those of [`place`]; [`Error::Invalid`] for experts that take turns.
    pub fn new(file: &ModelFile, gpu: &Gpu, options: &SubjectOptions) -> Result<Self> {
        let SubjectOptions { n_prompt, depth, cache, engine } = options;
        let (placement, placed) = place(file, gpu.max_binding_bytes(), engine)?;
        // Which of them a dispatch finds would be chance, and so its time.
        if !placement.pools.is_empty() {
            let what = "kernels are measured one by one, which tells nothing of experts that take turns on the device: \
                        leave out --experts and --weights-memory, or ask `pocketlm bench`";
            return Err(Error::Invalid { what: what.into() });
        }
        let config = &file.config;
        let batch = SessionOptions::default().batch.min((*n_prompt).max(1));
        let context = Some(depth + batch + 1);
        let session = SessionOptions { context, cache: *cache, batch, ..SessionOptions::default() };
        let record_options = record_options(config, &session, gpu.tuning, gpu.max_binding_bytes());
        let situation = |n_tokens| Situation {
            n_tokens,
            position: *depth,
            n_experts: config.experts.map_or(0, |experts| experts.n),
            n_used: config.experts.map_or(0, |experts| experts.n_used),
        };
        let pass = |name: &str, phase, n_tokens| {
            (name.to_string(), record(config, &placed, &record_options, phase), situation(n_tokens))
        };
        let mut passes = vec![pass("decode", Phase::Decode, 1), pass("choice", Phase::Pick, 1)];
        passes.push(pass("draw", Phase::FilteredPick, 1));
        if *n_prompt > 0 {
            passes.push(pass("prompt", Phase::Prompt, batch));
            passes.push(pass("logits", Phase::LastLogits, 1));
        }
        // Before anything of that length is made.
        gpu.check_sizes(&passes.iter().map(|(_, plan, _)| plan).collect::<Vec<_>>())?;
        let angles = config.rope.angles(record_options.capacity);
        Ok(Self { placement, angles, passes, n_vocab: config.n_vocab })
    }
}

/// What a model is measured with.
#[derive(Debug, Clone)]
pub struct SubjectOptions {
    /// Tokens of the prompt, at most a batch; 0 measures no prompt.
    pub n_prompt: usize,
    pub depth: usize,
    pub cache: CacheFormat,
    pub engine: EngineOptions,
}

/// A subject on a device.
#[derive(Debug)]
pub(super) struct Prepared {
    pub passes: Vec<Pass>,
    memory: Memory,
    n_vocab: usize,
}

/// One plan on a device.
#[derive(Debug)]
pub(super) struct Pass {
    pub name: String,
    pub situation: Situation,
    /// The plan's own dispatches, and behind them what takes turns with them.
    pub plan: Plan,
    /// Those of the plan that this batch runs, in order.
    pub run: Vec<usize>,
    pub groups: Vec<Group>,
    pub program: Program,
}

/// Equal dispatches.
#[derive(Debug, Clone)]
pub(super) struct Group {
    pub members: Vec<usize>,
    /// The members, and more of the kind with other weights.
    pub turns: Vec<usize>,
}

/// What equal dispatches have in common.
type Sameness<'a> = (&'static str, Variant, &'a [u32], [u32; 2]);

/// What the grid of a dispatch depends on.
pub(super) fn batch(situation: &Situation) -> Batch {
    Batch { n_tokens: situation.n_tokens, position: situation.position }
}

fn sameness<'a>(dispatch: &'a Dispatch, situation: &Situation) -> Sameness<'a> {
    let grid = dispatch.grid.map(|extent| extent.resolve(batch(situation)));
    (dispatch.kernel.name, dispatch.variant, &dispatch.params, grid)
}

fn groups(plan: &Plan, run: &[usize], situation: &Situation) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for &index in run {
        let dispatch = &plan.dispatches[index];
        let same = |group: &&mut Group| {
            sameness(&plan.dispatches[group.members[0]], situation) == sameness(dispatch, situation)
        };
        match groups.iter_mut().find(same) {
            Some(group) => group.members.push(index),
            None => groups.push(Group { members: vec![index], turns: Vec::new() }),
        }
    }
    for group in &mut groups {
        group.turns = group.members.clone();
    }
    groups
}

impl Prepared {
    /// Loads weights, twice and more where few of them would take turns, and fills a context.
    pub async fn load(gpu: &Gpu, subject: Subject, mut progress: impl FnMut(f64)) -> Result<Self> {
        let Subject { mut placement, angles, passes, n_vocab } = subject;
        let enough = if gpu.report.kind == "software" { SOFTWARE_TURN_BYTES } else { TURN_BYTES };
        let enough = enough.min(placement.bytes());
        let mut grouped = Vec::new();
        for (name, mut plan, situation) in passes {
            // Without workgroups a dispatch is left out.
            let grid = |index: usize| sameness(&plan.dispatches[index], &situation).3;
            let run: Vec<usize> = (0..plan.dispatches.len()).filter(|&i| grid(i).iter().all(|n| *n > 0)).collect();
            let mut groups = groups(&plan, &run, &situation);
            // Of a prompt's kernels each weight is used so often that where it comes from matters little.
            for group in groups.iter_mut().filter(|_| situation.n_tokens == 1) {
                add_turns(&mut plan, &mut placement, group, enough);
            }
            grouped.push((name, plan, situation, run, groups));
        }
        let total = placement.bytes().max(1);
        gpu.check_memory("the weights", total, "a smaller shape or --weights q4_0 may fit")?;
        let weights = Arc::new(gpu.load(&placement, |done| progress(done as f64 / total as f64)).await?);
        let plans: Vec<&Plan> = grouped.iter().map(|(_, plan, ..)| plan).collect();
        gpu.check_sizes(&plans)?;
        let memory = gpu.allocate(&plans, &weights, &angles).await?;
        fill_caches(gpu, &memory, &plans).await?;
        let mut passes = Vec::new();
        for (name, plan, situation, run, groups) in grouped {
            let program = gpu.program(&plan, &memory, &weights).await?;
            passes.push(Pass { name, situation, plan, run, groups, program });
        }
        let prepared = Self { passes, memory, n_vocab };
        // Activations are then what a model's are, and experts have been chosen.
        for pass in prepared.passes.iter().rev() {
            prepared.reset(gpu, pass);
            gpu.run(&[&pass.program], batch(&pass.situation))?;
            gpu.finished("running the model once").await?;
        }
        Ok(prepared)
    }

    /// Writes the step: which tokens, from which position on, and how the next is chosen.
    pub fn reset(&self, gpu: &Gpu, pass: &Pass) {
        // What people use to chat.
        let drawn = SamplingWords { top_k: 40, top_p: (0.95 * 2f64.powi(32)) as u32, ..SamplingWords::GREEDY };
        let words = if pass.name == "draw" { drawn.with_temperature(0.8) } else { SamplingWords::GREEDY };
        if pass.plan.find("sampling").is_some() {
            gpu.write(&self.memory, "sampling", bytemuck::cast_slice(&[words]));
        }
        let Situation { n_tokens, position, .. } = pass.situation;
        let mut step = vec![n_tokens as u32, position as u32];
        step.resize(STEP_HEAD_WORDS, 0);
        step.extend((0..n_tokens).map(|i| ((i * 7919 + 11) % self.n_vocab) as u32));
        gpu.write(&self.memory, "step", &step);
    }
}

/// Gives a group more weights to take turns with, until they are `enough` bytes.
fn add_turns(plan: &mut Plan, placement: &mut Placement, group: &mut Group, enough: u64) {
    let first = &plan.dispatches[group.members[0]];
    let Some(slot) = first.weight else { return };
    // An embedding reads single rows.
    if first.kernel.params.iter().all(|param| *param != "n_blocks") {
        return;
    }
    let bytes: u64 = placement.matrices[slot.0].plane_bytes().iter().sum();
    let template = first.clone();
    while (group.turns.len() as u64) * bytes < enough && group.turns.len() < 1000 {
        let matrix = placement.matrices[slot.0].clone();
        placement.matrices.push(matrix);
        let weight = Some(WeightSlot(placement.matrices.len() - 1));
        let label = format!("{} again {}", template.label, group.turns.len());
        plan.push(Dispatch { label, weight, ..template.clone() });
        group.turns.push(plan.dispatches.len() - 1);
    }
}

/// Small numbers in any cache format, so that nothing is measured on zeros: as halves and as scales they are below 0.1.
async fn fill_caches(gpu: &Gpu, memory: &Memory, plans: &[&Plan]) -> Result<()> {
    const WORDS: usize = 1 << 20;
    let sane = |bits: u32| (bits & 0x83ff_83ff) | 0x2800_2800;
    let words: Vec<u32> = (0..WORDS as u64 / 4).flat_map(|i| random::bits4(3, i)).map(sane).collect();
    let caches = plans.iter().flat_map(|plan| &plan.buffers).filter(|buffer| buffer.content == Content::Cache);
    for buffer in caches {
        for first in (0..buffer.bytes as usize / 4).step_by(WORDS) {
            let n = WORDS.min(buffer.bytes as usize / 4 - first);
            gpu.write_at(memory, &buffer.name, 4 * first as u64, &words[..n]);
        }
        // What waits to be copied stays bounded.
        gpu.finished("filling the cache").await?;
    }
    Ok(())
}

impl Group {
    /// What its time says of it.
    pub fn row(&self, pass: &Pass, timing: Timing, ceilings: &Ceilings) -> KernelRow {
        let dispatch = &pass.plan.dispatches[self.members[0]];
        let (kernel, variant, params, grid) = sameness(dispatch, &pass.situation);
        let work = work(dispatch.kernel, variant, params, pass.situation);
        // Weights and caches are each dispatch's own, activations are shared.
        let own = dispatch.weight.is_some() || dispatch.kernel.needs.cache;
        let working_set =
            work.map_or(0, |work| if own { self.turns.len() as u64 * work.bytes_in() } else { work.bytes() });
        let layer_and_label = dispatch.label.split_once('.');
        let mut row = KernelRow {
            label: layer_and_label.map_or(dispatch.label.as_str(), |(_, label)| label).into(),
            kernel: kernel.into(),
            variant: variant.to_string(),
            shape: shape(dispatch.kernel, params, &pass.situation),
            count: self.members.len(),
            grid,
            work,
            working_set,
            timing,
            bytes_per_s: None,
            operations_per_s: None,
            limit: None,
            share: None,
            problem: None,
        };
        row.judge(ceilings);
        row
    }
}

/// The sizes that tell a dispatch from others of its kernel.
fn shape(kernel: &Kernel, params: &[u32], situation: &Situation) -> String {
    let has = |name: &str| kernel.params.contains(&name);
    let param = |name: &str| kernel.param(params, name);
    let tokens = if situation.n_tokens > 1 { format!(" x {}", situation.n_tokens) } else { String::new() };
    if has("n_rows") && has("n_blocks") {
        return format!("{} x {}{tokens}", param("n_rows"), 32 * param("n_blocks"));
    }
    if has("n_heads") && has("head_dim") {
        let keys = has("window").then(|| {
            let end = situation.position + situation.n_tokens;
            // Of a batch, each token sees a window's, and the last ones have seen the most.
            let seen = if param("window") > 0 { end.min(param("window") + situation.n_tokens - 1) } else { end };
            format!(", {seen} keys")
        });
        let keys = keys.unwrap_or_default();
        let of_keys = if has("n_kv_heads") { format!("/{}", param("n_kv_heads")) } else { String::new() };
        return format!("{}{of_keys} heads of {}{keys}{tokens}", param("n_heads"), param("head_dim"));
    }
    format!("{}{tokens}", params.first().copied().unwrap_or(0))
}
