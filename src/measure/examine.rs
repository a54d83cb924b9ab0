//! Every kernel at every shape of a model, and a token's waterfall: what each takes, and what it could take.

use super::{
    About, Ceilings, Limit, bound, measure_ceilings,
    subject::{Pass, Prepared, Subject, batch},
};
use crate::{
    backend::Gpu,
    error::Result,
    kernels::Work,
    timing::{Item, MARGIN, Method, Timer, Timing, plausible_rate},
};

/// How to examine.
#[derive(Debug, Clone, Copy, Default)]
pub struct ExamineOptions {
    pub method: Method,
}

/// The whole result, which is also the JSON file.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Examination {
    /// Tells this file from others, and later forms from this one.
    pub kind: String,
    pub about: About,
    pub ceilings: Ceilings,
    pub phases: Vec<PhaseReport>,
}

/// [`Examination::kind`] of files that this version writes and reads.
pub const KIND: &str = "pocketlm-kernels-1";

/// One plan, run for a batch.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct PhaseReport {
    /// `decode`, `choice` (of the most probable token), `draw` (of a token among the most probable), `prompt` or `logits`
    /// (of a prompt's last token).
    pub phase: String,
    pub n_tokens: usize,
    /// Tokens that are in the context before.
    pub position: usize,
    pub n_dispatches: usize,
    /// Kernels at their shapes, those that take longest in all first.
    pub rows: Vec<KernelRow>,
    /// What the rows say that all dispatches take together; `None` where one of them has no time to be believed.
    pub sum_s: Option<f64>,
    /// What all of them take together.
    pub whole: Timing,
    /// What they would take at their ceilings.
    pub least_s: Option<f64>,
    pub waterfall: Vec<WaterfallBar>,
    /// How the waterfall was made: `stamps`, a pass for each dispatch, or `differences`, the rows' times in a row.
    pub waterfall_by: String,
}

/// Equal dispatches of a plan: one kernel, one variant, one shape.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct KernelRow {
    /// Of the first of them, without its layer.
    pub label: String,
    pub kernel: String,
    pub variant: String,
    pub shape: String,
    /// How many there are in the plan.
    pub count: usize,
    pub grid: [u32; 2],
    /// Of one of them; `None` for a kernel that nobody has counted.
    pub work: Option<Work>,
    /// Bytes that took turns while it was timed.
    pub working_set: u64,
    pub timing: Timing,
    pub bytes_per_s: Option<f64>,
    pub operations_per_s: Option<f64>,
    pub limit: Option<Limit>,
    /// The share of the limiting ceiling that it reaches, from 0 to 1.
    pub share: Option<f64>,
    /// Why there are no figures.
    pub problem: Option<String>,
}

/// One dispatch of a waterfall, in seconds from the first.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct WaterfallBar {
    pub label: String,
    pub kernel: String,
    pub begin_s: f64,
    pub end_s: f64,
}

/// Measures the ceilings of a device and then everything that `subject` runs on it. `progress` hears what is being done
/// and the share of it that is over.
///
/// Errors: [`crate::Error::Device`], and those of loading.
pub async fn examine(
    gpu: &Gpu,
    subject: Subject,
    options: &ExamineOptions,
    about: About,
    mut progress: impl FnMut(&str, f64),
) -> Result<Examination> {
    let ceilings = measure_ceilings(gpu, &options.method, |share| progress("ceilings", share)).await?;
    let prepared = Prepared::load(gpu, subject, |share| progress("loading", share)).await?;
    let timer = Timer::new(gpu, options.method);
    let mut phases = Vec::new();
    for pass in &prepared.passes {
        phases.push(examine_pass(gpu, &timer, &prepared, pass, &ceilings, &mut progress).await?);
    }
    Ok(Examination { kind: KIND.into(), about, ceilings, phases })
}

async fn examine_pass(
    gpu: &Gpu,
    timer: &Timer<'_>,
    prepared: &Prepared,
    pass: &Pass,
    ceilings: &Ceilings,
    progress: &mut impl FnMut(&str, f64),
) -> Result<PhaseReport> {
    let batch = batch(&pass.situation);
    let mut items: Vec<Item> =
        pass.groups.iter().map(|group| Item { dispatches: group.turns.clone(), batch, together: false }).collect();
    items.push(Item { dispatches: pass.run.clone(), batch, together: true });
    let expected = (items.len() * (6 + 5 * timer.method.rounds)) as f64;
    let mut n = 0.0;
    let counted = || {
        n += 1.0;
        progress(&pass.name, f64::min(n / expected, 1.0));
    };
    let mut timings = timer.time(&pass.program, &items, |_| prepared.reset(gpu, pass), counted).await?;
    let whole = timings.pop().expect("the whole plan was last");
    let mut rows: Vec<KernelRow> =
        pass.groups.iter().zip(&timings).map(|(group, timing)| group.row(pass, *timing, ceilings)).collect();
    let sum_s = rows.iter().map(|row| Some(row.count as f64 * row.believed_s()?)).sum();
    let least_s = rows.iter().map(|row| Some(row.count as f64 * row.least_s(ceilings)?)).sum();
    let (waterfall, waterfall_by) = waterfall(gpu, timer, prepared, pass, &rows).await?;
    let total = |row: &KernelRow| row.count as f64 * row.timing.median_s;
    rows.sort_by(|a, b| total(b).total_cmp(&total(a)));
    Ok(PhaseReport {
        phase: pass.name.clone(),
        n_tokens: batch.n_tokens,
        position: batch.position,
        n_dispatches: pass.run.len(),
        rows,
        sum_s,
        whole,
        least_s,
        waterfall,
        waterfall_by: waterfall_by.into(),
    })
}

impl PhaseReport {
    /// Whether it is a token's or a prompt's whole way through the model, so that tokens a second can be told.
    pub fn is_whole(&self) -> bool {
        matches!(self.phase.as_str(), "decode" | "prompt")
    }

    /// Seconds that all of it takes together; `None` where they vary too much, or are fewer than the ceilings allow, so
    /// that nobody should believe them.
    pub fn whole_s(&self) -> Option<f64> {
        let plausible = self.least_s.is_none_or(|least| self.whole.median_s >= 0.9 * least);
        (plausible && !self.whole.is_lost_in_noise()).then_some(self.whole.median_s)
    }

    /// What a pass for each dispatch has cost, as a share of what the whole takes without; `None` where the waterfall was
    /// made otherwise. Its times are for proportions, never for figures.
    pub fn stamps_cost(&self) -> Option<f64> {
        let end = self.waterfall.iter().map(|bar| bar.end_s).fold(0.0, f64::max);
        (self.waterfall_by == "stamps").then(|| end / self.whole.median_s - 1.0)
    }
}

impl KernelRow {
    /// Seconds of one of its dispatches; `None` where they vary too much or are fewer than can be.
    pub fn believed_s(&self) -> Option<f64> {
        // Of what nobody has counted, only noise can be told.
        let refused = self.problem.is_some() && self.work.is_some();
        (!refused && !self.timing.is_lost_in_noise()).then_some(self.timing.median_s)
    }

    /// The least time that one of its dispatches can take.
    pub fn least_s(&self, ceilings: &Ceilings) -> Option<f64> {
        bound(self.work.as_ref()?, self.working_set, ceilings).map(|bound| bound.seconds)
    }

    /// Fills in the figures that are plausible; the first that is not takes its place as the problem, and then there is
    /// none.
    pub fn judge(&mut self, ceilings: &Ceilings) {
        let Some(work) = self.work else {
            self.problem = Some("its bytes and operations are not counted".into());
            return;
        };
        let bytes = plausible_rate(work.bytes() as f64, &self.timing, ceilings.bytes_per_s(self.working_set));
        let operations = plausible_rate(work.operations, &self.timing, ceilings.operations_per_s(work.unit));
        match (bytes, operations) {
            (Ok(bytes), Ok(operations)) => {
                let bound = bound(&work, self.working_set, ceilings);
                let share = bound.map(|bound| bound.seconds / self.timing.median_s);
                // What is sooner over than an empty dispatch shows that launching was measured badly, this or that one.
                if let Some(share) = share.filter(|share| *share > MARGIN) {
                    self.problem = Some(format!("implausible: {share:.1} times as fast as an empty dispatch"));
                    return;
                }
                (self.bytes_per_s, self.operations_per_s) = (Some(bytes), Some(operations));
                (self.limit, self.share) = (bound.map(|bound| bound.limit), share);
            }
            (Err(why), _) | (_, Err(why)) => self.problem = Some(why),
        }
    }
}

/// One run of the plan, dispatch by dispatch: by the device's stamps where it has them.
async fn waterfall(
    gpu: &Gpu,
    timer: &Timer<'_>,
    prepared: &Prepared,
    pass: &Pass,
    rows: &[KernelRow],
) -> Result<(Vec<WaterfallBar>, &'static str)> {
    let mut runs = Vec::new();
    for _ in 0..timer.method.rounds {
        prepared.reset(gpu, pass);
        runs.extend(timer.stopwatch().stamp_each(gpu, &pass.program, &pass.run, batch(&pass.situation)).await?);
    }
    let total = |run: &[[f64; 2]]| run.iter().map(|[_, end]| *end).fold(0.0, f64::max);
    runs.sort_by(|a, b| total(a).total_cmp(&total(b)));
    // The run in the middle as it was: medians of each dispatch would add up to a run that never was.
    let by = if runs.is_empty() { "differences" } else { "stamps" };
    let times = match runs.into_iter().nth(timer.method.rounds / 2) {
        Some(run) => run,
        None => in_a_row(pass, rows),
    };
    let bar = |(&index, [begin_s, end_s]): (&usize, [f64; 2])| {
        let dispatch = &pass.plan.dispatches[index];
        WaterfallBar { label: dispatch.label.clone(), kernel: dispatch.kernel.name.into(), begin_s, end_s }
    };
    Ok((pass.run.iter().zip(times).map(bar).collect(), by))
}

/// Each dispatch's time from its row, one after another.
fn in_a_row(pass: &Pass, rows: &[KernelRow]) -> Vec<[f64; 2]> {
    let mut at = 0.0;
    let row_of = |index: usize| pass.groups.iter().position(|group| group.members.contains(&index));
    pass.run
        .iter()
        .map(|&index| {
            let begin = at;
            at += row_of(index).map_or(0.0, |row| rows[row].timing.median_s.max(0.0));
            [begin, at]
        })
        .collect()
}
