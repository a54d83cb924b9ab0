//! The search: every kernel of a plan that leaves a choice, at each of its shapes, in each way that it can be built.

use super::{Choices, Kept, KeptShape};
use crate::{
    backend::{
        Gpu, check,
        gpu::{GpuWeights, Memory},
        lockstep::first_difference,
    },
    error::Result,
    kernels::{Choice, Kernel, Tuning, Variant},
    plan::{Batch, Dispatch, Plan},
    platform::now_s,
    timing::{Item, Method, Timer},
};
use xxhash_rust::xxh3::xxh3_64;

/// A candidate has to be so much faster than the usual numbers to take their place: less may be chance.
const WORTH_IT: f64 = 0.97;
/// Dispatches of one shape that take turns, so that their weights come from memory and not from a cache.
const TURNS: usize = 8;

/// How much to search.
#[derive(Debug, Clone, Copy)]
pub struct SearchOptions {
    /// Seconds after which no other shape is begun, nor one that could last longer, were it like those before; what is
    /// left is searched the next time.
    pub budget_s: f64,
    pub method: Method,
}

impl Default for SearchOptions {
    fn default() -> Self {
        Self { budget_s: 2.0, method: Method { rounds: 3, target_s: 0.001, budget_s: 0.05, ..Method::default() } }
    }
}

impl SearchOptions {
    /// For somebody who asked for it, and waits.
    pub const THOROUGH: Self = Self {
        budget_s: 600.0,
        method: Method { rounds: 7, target_s: 0.005, budget_s: 1.0, max_runs: 1 << 12, seed: 1 },
    };
}

/// A hash of what the dispatch's kernel is as text, in all ways that it can be built where `tuning` is the rule.
fn shaders_hash(gpu: &Gpu, dispatch: &Dispatch, tuning: Tuning) -> String {
    let built = |choice: Choice| dispatch.retuned(choice.apply(gpu.tuning)).variant;
    let texts =
        Choice::candidates(dispatch.kernel, tuning).into_iter().map(|c| dispatch.kernel.assemble(built(c)).wgsl);
    format!("{:016x}", xxh3_64(texts.collect::<String>().as_bytes()))
}

/// Searches what `kept` does not know yet of the kernels of `plan`, whose buffers are in `memory`; `hear` is told of
/// each shape that is done. What was begun within the budget is finished.
///
/// Errors: [`crate::Error::Device`].
pub async fn search(
    gpu: &Gpu,
    (plan, batch): (&Plan, Batch),
    (memory, weights): (&Memory, &GpuWeights),
    kept: &mut Kept,
    options: SearchOptions,
    mut hear: impl FnMut(&str, &KeptShape),
) -> Result<()> {
    let start_s = now_s();
    let mut longest_s: f64 = 0.0;
    for (key, members) in shapes(plan, batch) {
        let first = &plan.dispatches[members[0]];
        let tuning = first.kernel.usual(gpu.tuning, &first.params);
        let shader = shaders_hash(gpu, first, tuning);
        let all = Choice::candidates(first.kernel, tuning);
        // What a file says is believed only of what there is to choose.
        if kept.shapes.get(&key).is_some_and(|shape| shape.shader == shader && all.contains(&shape.choice)) {
            continue;
        }
        let begun_s = now_s();
        if begun_s - start_s + longest_s > options.budget_s {
            break;
        }
        let Some(&usual) = all.first() else { continue };
        let choices = right(gpu, first.kernel, first.variant, all).await?;
        let times = time(gpu, (plan, batch), (memory, weights), &members, &choices, options.method).await?;
        let candidates: Vec<_> = choices.iter().copied().zip(times).filter(|(_, s)| s.is_finite()).collect();
        // Where every time was lost in noise, or none was right, the usual one stays, and is not measured at every start.
        let best = candidates.iter().copied().min_by(|a, b| a.1.total_cmp(&b.1)).unwrap_or((usual, 0.0));
        let usual_s = candidates.iter().find(|candidate| candidate.0 == usual).map(|candidate| candidate.1);
        let (choice, chosen_s) = match usual_s {
            Some(usual_s) if best.1 < usual_s * WORTH_IT => best,
            Some(usual_s) => (usual, usual_s),
            // Where only the usual one's time was lost in noise, nothing can be said against it.
            None if choices.contains(&usual) || candidates.is_empty() => (usual, best.1),
            None => best,
        };
        let usual_s = usual_s.unwrap_or(chosen_s);
        let shape = KeptShape { shader, choice, usual_s, chosen_s, candidates };
        hear(&key, &shape);
        kept.shapes.insert(key, shape);
        longest_s = longest_s.max(now_s() - begun_s);
    }
    Ok(())
}

/// Whether any kernel of `plan` can be built in more than one way on this device.
pub fn has_choices(gpu: &Gpu, plan: &Plan) -> bool {
    plan.dispatches.iter().any(|dispatch| Choice::candidates(dispatch.kernel, gpu.tuning).len() > 1)
}

/// The choices of `kept` for the kernels of `plan`: those made for the same shaders, that this device can run and that
/// agree with the reference on it.
///
/// Errors: [`crate::Error::Device`].
pub async fn usable(gpu: &Gpu, kept: &Kept, plan: &Plan) -> Result<Choices> {
    let mut choices = Choices::default();
    for dispatch in &plan.dispatches {
        let Some(key) = dispatch.kernel.shape_key(dispatch.variant, &dispatch.params) else { continue };
        let Some(shape) = kept.shapes.get(&key).filter(|_| choices.of(dispatch).is_none()) else { continue };
        let tuning = dispatch.kernel.usual(gpu.tuning, &dispatch.params);
        let known = Choice::candidates(dispatch.kernel, tuning).contains(&shape.choice)
            && shape.shader == shaders_hash(gpu, dispatch, tuning);
        if known && !right(gpu, dispatch.kernel, dispatch.variant, vec![shape.choice]).await?.is_empty() {
            choices.set(key, shape.choice);
        }
    }
    Ok(choices)
}

/// The dispatches of each shape, those shapes first that there is most of.
fn shapes(plan: &Plan, batch: Batch) -> Vec<(String, Vec<usize>)> {
    let mut shapes: Vec<(String, Vec<usize>)> = Vec::new();
    for (index, dispatch) in plan.dispatches.iter().enumerate() {
        let Some(key) = dispatch.kernel.shape_key(dispatch.variant, &dispatch.params) else { continue };
        if dispatch.grid.iter().any(|extent| extent.resolve(batch) == 0) {
            continue;
        }
        // A part that may hold none of the chosen experts would have nothing to do.
        if dispatch.kernel.params.contains(&"first_expert")
            && dispatch.kernel.param(&dispatch.params, "first_expert") > 0
        {
            continue;
        }
        match shapes.iter_mut().find(|shape| shape.0 == key) {
            Some(shape) => shape.1.push(index),
            None => shapes.push((key, vec![index])),
        }
    }
    shapes.sort_by_key(|shape| std::cmp::Reverse(shape.1.len()));
    shapes
}

/// The choices that agree with the reference on this device. One that does not build or errs is left out.
async fn right(gpu: &Gpu, kernel: &'static Kernel, variant: Variant, choices: Vec<Choice>) -> Result<Vec<Choice>> {
    let build = |choice: &Choice| (kernel, kernel.variant(Variant { tuning: choice.apply(gpu.tuning), ..variant }));
    let wanted: Vec<_> = choices.iter().map(build).collect();
    // Whether each of them builds is found out below, one by one.
    drop(gpu.build(&wanted).await);
    let mut right = Vec::new();
    for (choice, (kernel, variant)) in choices.into_iter().zip(wanted) {
        // The last is as large as a model's: small ones leave lanes without anything to get wrong.
        let Some(case) = check::cases(kernel, variant).last() else { continue };
        match check::run(gpu, &case).await {
            Ok(outcomes) if first_difference(&outcomes).is_none() => right.push(choice),
            Ok(_) => tracing::warn!("kernel {} ({variant}) errs on this adapter and is not used", kernel.name),
            Err(error) => {
                gpu.check("tuning kernels")?;
                tracing::debug!("kernel {} ({variant}) does not run here: {error}", kernel.name);
            }
        }
    }
    Ok(right)
}

/// Seconds of one run of each choice; infinite where they are lost in noise.
async fn time(
    gpu: &Gpu,
    (plan, batch): (&Plan, Batch),
    (memory, weights): (&Memory, &GpuWeights),
    members: &[usize],
    choices: &[Choice],
    method: Method,
) -> Result<Vec<f64>> {
    let turns = &members[..members.len().min(TURNS)];
    let mut rival = Plan { buffers: plan.buffers.clone(), ..Plan::default() };
    let mut items = Vec::new();
    for choice in choices {
        let first = rival.dispatches.len();
        rival.dispatches.extend(turns.iter().map(|&i| plan.dispatches[i].retuned(choice.apply(gpu.tuning))));
        let dispatches = (first..rival.dispatches.len()).collect();
        items.push(Item { dispatches, batch, together: false });
    }
    let program = gpu.program(&rival, memory, weights).await?;
    let timings = Timer::new(gpu, method).time(&program, &items, |_| (), || ()).await?;
    let seconds = timings.iter().map(|t| if t.is_lost_in_noise() { f64::INFINITY } else { t.median_s });
    Ok(seconds.collect())
}
