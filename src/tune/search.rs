//! The search: every kernel of a plan that leaves a choice, at each of its shapes, in each way that it can be built.

use super::{Choices, Kept, KeptShape};
use crate::{
    backend::{
        Gpu, check,
        gpu::{GpuWeights, Memory},
        lockstep::first_difference,
    },
    error::Result,
    kernels::{ATTEND, ATTEND_MERGE, Choice, Kernel, Variant},
    plan::{Batch, Dispatch, Plan},
    platform::{self, now_s},
    timing::{Item, Method, Timer, Timing},
};
use xxhash_rust::xxh3::xxh3_64;

/// A candidate has to be so much faster than the usual numbers to take their place: less may be chance.
const WORTH_IT: f64 = 0.97;
/// Dispatches of one shape that take turns, so that their weights come from memory and not from a cache.
pub const TURNS: usize = 8;
/// Keys that a short conversation has.
const FEW_KEYS: usize = 256;

/// How much to search.
#[derive(Debug, Clone, Copy)]
pub struct SearchOptions {
    /// Seconds after which no other shape is begun, nor one that could last longer, were it like those before; what is
    /// left is searched the next time. Of one that was begun, candidates are left out for which there is no time. One is begun
    /// in any case, but for a negative budget.
    pub budget_s: f64,
    /// Whether a shape is searched again of which a budget left candidates out.
    pub thorough: bool,
    pub method: Method,
}

impl Default for SearchOptions {
    fn default() -> Self {
        Self {
            budget_s: 2.0,
            thorough: false,
            method: Method { rounds: 3, target_s: 0.001, budget_s: 0.05, ..Method::default() },
        }
    }
}

impl SearchOptions {
    /// For somebody who asked for it, and waits.
    pub const THOROUGH: Self = Self {
        budget_s: 600.0,
        thorough: true,
        method: Method { rounds: 7, target_s: 0.005, budget_s: 1.0, max_runs: 1 << 12, seed: 1 },
    };
}

/// A hash of what the dispatch's kernel is as text, in each of the ways that it can be built.
fn shaders_hash(gpu: &Gpu, dispatch: &Dispatch, all: &[Choice]) -> String {
    let mut variants: Vec<Variant> = Vec::new();
    for choice in all {
        let variant = dispatch.retuned(choice.apply(gpu.tuning)).variant;
        if !variants.contains(&variant) {
            variants.push(variant);
        }
    }
    let texts = variants.into_iter().map(|variant| dispatch.kernel.assemble(variant).wgsl);
    format!("{:016x}", xxh3_64(texts.collect::<String>().as_bytes()))
}

/// What one choice is about: dispatches of one shape, which take turns, and the batches that they are timed with.
struct Subject {
    key: String,
    /// Each with what depends on its choice: attention with what puts its splits together.
    units: Vec<Vec<usize>>,
    batches: Vec<Batch>,
    /// As texts: see [`shaders_hash`].
    shader: String,
    /// The usual one first.
    all: Vec<Choice>,
}

impl Subject {
    /// Whether a file has it, for these shaders, and says something that there is to choose. A `thorough` search wants
    /// every candidate looked at, and a time of the chosen one.
    fn is_known(&self, kept: &Kept, thorough: bool) -> bool {
        kept.shapes.get(&self.key).is_some_and(|shape| {
            let whole = shape.n_tried == self.all.len() && shape.chosen_s.is_some();
            shape.shader == self.shader && self.all.contains(&shape.choice) && (whole || !thorough)
        })
    }
}

/// Whether [`search`] would find anything to do: buffers need not be made for nothing.
pub fn unknown(gpu: &Gpu, (plan, batch): (&Plan, Batch), kept: &Kept, options: SearchOptions) -> bool {
    subjects(gpu, plan, batch).iter().any(|subject| !subject.is_known(kept, options.thorough))
}

/// Searches what `kept` does not know yet of the kernels of `plan`, whose buffers are in `memory`; `hear` is told of
/// each shape that is done.
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
    for subject in subjects(gpu, plan, batch) {
        if subject.is_known(kept, options.thorough) {
            continue;
        }
        let begun_s = now_s();
        let left_s = options.budget_s - (begun_s - start_s);
        // Something comes of every start, however short its time.
        let is_first = longest_s == 0.0 && options.budget_s >= 0.0;
        if left_s < longest_s && !is_first {
            break;
        }
        let first = &plan.dispatches[subject.units[0][0]];
        let (usual, n_all) = (subject.all[0], subject.all.len());
        // As long for finding out what runs as for timing it.
        let (choices, n_tried) =
            right(gpu, (first.kernel, first.variant), subject.all.clone(), begun_s + left_s / 2.0).await?;
        let share_s = (options.budget_s - (now_s() - start_s)) / (choices.len() * subject.batches.len()).max(1) as f64;
        let method = Method { budget_s: options.method.budget_s.min(share_s.max(0.0)), ..options.method };
        let times = time(gpu, plan, (memory, weights), &subject, &choices, method).await?;
        let candidates: Vec<_> = choices.iter().copied().zip(times).filter(|(_, s)| s.is_finite()).collect();
        let best = candidates.iter().copied().min_by(|a, b| a.1.total_cmp(&b.1));
        let usual_s = candidates.iter().find(|candidate| candidate.0 == usual).map(|candidate| candidate.1);
        let (choice, chosen_s) = match (best, usual_s) {
            (Some((best, s)), Some(usual_s)) if s < usual_s * WORTH_IT => (best, Some(s)),
            (Some((best, s)), None) if !choices.contains(&usual) => (best, Some(s)),
            // Where the usual one's time was lost in noise, nothing can be said against it, and where every time was, it
            // is not measured at every start.
            _ => (usual, usual_s),
        };
        let shape = KeptShape { shader: subject.shader, choice, usual_s, chosen_s, n_tried, n_all, candidates };
        hear(&subject.key, &shape);
        kept.shapes.insert(subject.key, shape);
        longest_s = longest_s.max(now_s() - begun_s);
    }
    Ok(())
}

/// The choices of `kept` for the kernels of `plan`: those made for the same shaders, that this device can run and that
/// agree with the reference on it.
///
/// Errors: [`crate::Error::Device`].
pub async fn usable(gpu: &Gpu, kept: &Kept, (plan, batch): (&Plan, Batch)) -> Result<Choices> {
    let mut choices = Choices::default();
    for subject in subjects(gpu, plan, batch).iter().filter(|subject| subject.is_known(kept, false)) {
        let first = &plan.dispatches[subject.units[0][0]];
        let choice = kept.shapes[&subject.key].choice;
        // What is usual is built without a file, too.
        if choice != subject.all[0]
            && agrees(gpu, first.kernel, first.retuned(choice.apply(gpu.tuning)).variant).await?
        {
            choices.set(subject.key.clone(), choice);
        }
    }
    Ok(choices)
}

/// The shapes of `plan` that leave a choice on this device, those first that there is most of.
fn subjects(gpu: &Gpu, plan: &Plan, batch: Batch) -> Vec<Subject> {
    let mut subjects: Vec<Subject> = Vec::new();
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
        let merge = plan.dispatches.get(index + 1).filter(|next| *next.kernel == ATTEND_MERGE);
        let unit = (index..=index + merge.is_some() as usize).collect();
        if let Some(subject) = subjects.iter_mut().find(|subject| subject.key == key) {
            subject.units.push(unit);
            continue;
        }
        let tuning = dispatch.kernel.usual(gpu.tuning, &dispatch.params);
        let all = Choice::candidates(dispatch.kernel, tuning);
        if all.len() < 2 {
            continue;
        }
        let few = Batch { position: batch.position.min(FEW_KEYS - 1), ..batch };
        let batches = if *dispatch.kernel == ATTEND { vec![few, batch] } else { vec![few] };
        let shader = shaders_hash(gpu, dispatch, &all);
        subjects.push(Subject { key, units: vec![unit], batches, shader, all });
    }
    subjects.sort_by_key(|subject| std::cmp::Reverse(subject.units.len()));
    subjects
}

/// The choices that agree with the reference on this device, of as many as were looked at: all that begin before
/// `until_s`, and a first one. One that does not build or errs is left out.
async fn right(
    gpu: &Gpu,
    (kernel, variant): (&'static Kernel, Variant),
    choices: Vec<Choice>,
    until_s: f64,
) -> Result<(Vec<Choice>, usize)> {
    let build = |choice: &Choice| kernel.variant(Variant { tuning: choice.apply(gpu.tuning), ..variant });
    // Choices that differ by parameters only share what is built.
    let mut known: Vec<(Variant, bool)> = Vec::new();
    let (mut right, mut n_tried) = (Vec::new(), 0);
    // Built together where there are cores for it, but few at a time: between them the budget is looked at.
    for some in choices.chunks(platform::n_at_once().min(4)) {
        if n_tried > 0 && now_s() >= until_s {
            break;
        }
        let wanted: Vec<_> = some.iter().map(build).collect();
        let new: Vec<_> = wanted.iter().filter(|variant| !known.iter().any(|(v, _)| v == *variant)).collect();
        // Whether each of them builds is found out below, one by one.
        drop(gpu.build(&new.iter().map(|&&variant| (kernel, variant)).collect::<Vec<_>>()).await);
        for (&choice, &variant) in some.iter().zip(&wanted) {
            let is_right = match known.iter().find(|(v, _)| *v == variant) {
                Some(&(_, is_right)) => is_right,
                None => {
                    let is_right = agrees(gpu, kernel, variant).await?;
                    known.push((variant, is_right));
                    is_right
                }
            };
            right.extend(is_right.then_some(choice));
            n_tried += 1;
        }
    }
    Ok((right, n_tried))
}

/// Whether a kernel agrees with its reference on this device.
async fn agrees(gpu: &Gpu, kernel: &'static Kernel, variant: Variant) -> Result<bool> {
    // The last is as large as a model's: small ones leave lanes without anything to get wrong.
    let Some(case) = check::cases(kernel, variant).last() else { return Ok(false) };
    match check::run(gpu, &case).await {
        Ok(outcomes) if first_difference(&outcomes).is_none() => return Ok(true),
        Ok(_) => tracing::warn!("kernel {} ({variant}) errs on this adapter and is not used", kernel.name),
        Err(error) => {
            gpu.check("tuning kernels")?;
            tracing::debug!("kernel {} ({variant}) does not run here: {error}", kernel.name);
        }
    }
    Ok(false)
}

/// Seconds of one run of each choice, the geometric mean over the batches; infinite where one is lost in noise.
async fn time(
    gpu: &Gpu,
    plan: &Plan,
    (memory, weights): (&Memory, &GpuWeights),
    Subject { units, batches, .. }: &Subject,
    choices: &[Choice],
    method: Method,
) -> Result<Vec<f64>> {
    let turns = &units[..units.len().min(TURNS)];
    let mut rival = Plan { buffers: plan.buffers.clone(), ..Plan::default() };
    let mut items = Vec::new();
    for choice in choices {
        let first = rival.dispatches.len();
        let dispatches = turns.iter().flatten().map(|&i| plan.dispatches[i].retuned(choice.apply(gpu.tuning)));
        rival.dispatches.extend(dispatches);
        let dispatches: Vec<_> = (first..rival.dispatches.len()).collect();
        items.extend(batches.iter().map(|&batch| Item { dispatches: dispatches.clone(), batch, together: false }));
    }
    let program = gpu.program(&rival, memory, weights).await?;
    let reset = |item: &Item| gpu.write(memory, "step", &[item.batch.n_tokens as u32, item.batch.position as u32]);
    let timings = Timer::new(gpu, method).time(&program, &items, reset, || ()).await?;
    let seconds = |t: &Timing| if t.is_lost_in_noise() { f64::INFINITY } else { t.median_s };
    let mean = |of: &[Timing]| (of.iter().map(|t| seconds(t).ln()).sum::<f64>() / of.len() as f64).exp();
    // Dispatches are timed one by one, and all of a unit are the price of its choice.
    let n = units[0].len() as f64;
    Ok(timings.chunks(batches.len()).map(|of| n * mean(of)).collect())
}
