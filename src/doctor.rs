//! Doctor: every kernel variant on an adapter against its reference, then small models in lockstep.

use crate::{
    CacheFormat, Result, WeightFormat,
    backend::{
        Cpu, Gpu, check,
        lockstep::{self, Outcome},
    },
    format::TensorInfo,
    kernels::{every, reference::STEP_HEAD_WORDS},
    model::{Config, Phase, RecordOptions, Weights, record, synthetic},
    plan::Batch,
};
use std::sync::Arc;

/// A row of the report.
#[derive(Debug, serde::Serialize)]
pub struct Row {
    pub name: String,
    pub n_checks: usize,
    pub passed: bool,
    /// Largest error as a multiple of its tolerance.
    pub worst: f64,
    pub detail: Option<String>,
}

/// The report as one object.
pub fn report(gpu: &Gpu, rows: &[Row]) -> serde_json::Value {
    let failed = rows.iter().filter(|row| !row.passed).count();
    serde_json::json!({ "adapter": gpu.report, "rows": rows, "failed": failed })
}

/// Examines everything there is; `show` hears each row as it is done, and says whether to go on.
pub async fn examine(gpu: &Gpu, mut show: impl FnMut(&Row) -> bool) -> Vec<Row> {
    let mut rows = Vec::new();
    let tunings = gpu.report.tunings();
    let mut add = |row: Row| {
        let more = show(&row);
        rows.push(row);
        more
    };
    for kernel in every().filter(|kernel| gpu.report.f16 || !kernel.needs.f16) {
        for variant in kernel.variants(&tunings) {
            if !add(row(format!("{} {variant}", kernel.name), check::check(gpu, kernel, variant).await)) {
                return rows;
            }
        }
    }
    match synthetic::all_tiny(WeightFormat::Q4_0, 1) {
        Err(error) => {
            add(row("small models".into(), Err(error)));
        }
        Ok(models) => {
            for (name, config, weights) in models {
                if !add(row(format!("lockstep of a small {name} model"), walk(gpu, &config, &weights).await)) {
                    break;
                }
            }
        }
    }
    rows
}

fn row(name: String, outcomes: Result<Vec<Outcome>>) -> Row {
    match outcomes {
        Err(error) => Row { name, n_checks: 0, passed: false, worst: f64::INFINITY, detail: Some(error.to_string()) },
        Ok(outcomes) => {
            let ratio = |o: &Outcome| if o.error == 0.0 { 0.0 } else { o.error / o.tolerance };
            let detail = lockstep::first_difference(&outcomes)
                .map(|o| format!("{}: error {:.2e}, tolerance {:.0e}", o.label, o.error, o.tolerance));
            Row {
                name,
                n_checks: outcomes.len(),
                passed: detail.is_none(),
                worst: outcomes.iter().map(ratio).fold(0.0, f64::max),
                detail,
            }
        }
    }
}

/// A prompt and a token of a small model, dispatch by dispatch.
async fn walk(gpu: &Gpu, config: &Config, weights: &Weights<TensorInfo>) -> Result<Vec<Outcome>> {
    let (placement, placed) = weights.place(config.tied, None, gpu.max_binding_bytes())?;
    let weights = Arc::new(gpu.load(&placement, |_| ()).await?);
    let (capacity, max_tokens) = (64, 40);
    let (cache, part_kv_heads) = (CacheFormat::Q8_0, 1);
    let options = RecordOptions { capacity, max_tokens, cache, part_kv_heads, tuning: gpu.tuning };
    let plans = [Phase::Prompt, Phase::LastLogits, Phase::Decode].map(|phase| record(config, &placed, &options, phase));
    let angles = config.rope.angles(capacity);
    let memory = gpu.allocate(&plans.iter().collect::<Vec<_>>(), &weights, &angles).await?;
    let mut cpu = Cpu::load(&placement).await?;
    let mut outcomes = Vec::new();
    let steps: [(u32, u32); 3] = [(33, 0), (33, 0), (1, 33)];
    for (plan, (n_tokens, position)) in plans.iter().zip(steps) {
        cpu.prepare(plan, &angles);
        let mut step = vec![0u32; STEP_HEAD_WORDS + max_tokens];
        (step[0], step[1]) = (n_tokens, position);
        for (i, token) in step[STEP_HEAD_WORDS..].iter_mut().enumerate() {
            *token = (i as u32 * 37 + 11) % config.n_vocab as u32;
        }
        gpu.write(&memory, "step", &step);
        let program = gpu.program(plan, &memory, &weights).await?;
        let batch = Batch { n_tokens: n_tokens as usize, position: position as usize };
        outcomes.extend(lockstep::compare(plan, &mut cpu, gpu, &memory, &program, batch).await?);
    }
    Ok(outcomes)
}
