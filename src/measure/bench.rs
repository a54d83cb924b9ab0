//! Prompt and decode speed of a session, as a user gets it: by the clock on the wall, through the session's own calls.

use super::About;
use crate::{
    SamplingOptions,
    backend::gpu::Counters,
    error::{Error, Result},
    kernels::{PromptMath, Situation, work},
    model::Phase,
    plan::Batch,
    platform::{self, now_s},
    session::Session,
    timing::{MARGIN, quantile},
};

/// What to measure.
#[derive(Debug, Clone)]
pub struct BenchOptions {
    /// Tokens of a prompt; 0 measures none.
    pub n_prompt: usize,
    /// Tokens decoded one by one; 0 measures none.
    pub n_decode: usize,
    /// Tokens that are in the context before, each depth measured by itself.
    pub depths: Vec<usize>,
    /// Rounds of each measurement, after one that warms up.
    pub rounds: usize,
    /// Of a copy that no cache holds, where it was measured.
    pub copy_bytes_per_s: Option<f64>,
    /// What loading took.
    pub load_s: f64,
}

/// The whole result.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Bench {
    pub kind: &'static str,
    pub about: About,
    pub n_weights: u64,
    pub weights: String,
    pub prompt_math: PromptMath,
    pub load_s: f64,
    /// Of the first prompt after loading, which also compiles what was not compiled before.
    pub first_token_s: Option<f64>,
    pub device_bytes: u64,
    pub weights_bytes: u64,
    pub session_bytes: u64,
    /// The most host memory that the process had, where the system tells.
    pub host_peak_bytes: Option<u64>,
    pub copy_bytes_per_s: Option<f64>,
    pub rows: Vec<BenchRow>,
    /// What makes the figures other than they seem, such as a slow path that was taken.
    pub warnings: Vec<String>,
}

/// One measurement.
#[derive(Debug, Clone, serde::Serialize)]
pub struct BenchRow {
    /// `pp512`, `tg128`, with ` @ d4096` behind it at a depth, as llama-bench writes it.
    pub test: String,
    pub n_tokens: usize,
    pub depth: usize,
    /// Of every round.
    pub tokens_per_s: Vec<f64>,
    pub median: f64,
    pub low: f64,
    pub high: f64,
    /// From the prompt to its first token, for prompts.
    pub first_token_s: Option<f64>,
    /// Of one token when decoding, of the whole batch for prompts.
    pub per_step: PathTaken,
    /// Bytes that a token must read, when decoding.
    pub bytes_per_token: Option<u64>,
    /// The share of the device's copy bandwidth that these are, from 0 to 1; `None` where a cache served them.
    pub bandwidth_share: Option<f64>,
    pub depth_cost: Option<DepthCost>,
}

/// What more context costs a token that is decoded: its row against that of the smallest depth.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct DepthCost {
    /// The other row's test.
    pub base: String,
    /// Seconds and bytes that a token takes more.
    pub more_s: f64,
    pub more_bytes: u64,
    /// Bytes a second at which these are read, and those of the other row.
    pub more_bytes_per_s: f64,
    pub base_bytes_per_s: f64,
}

/// Fills in what each depth costs, where that is more than times vary.
pub fn fill_depth_costs(rows: &mut [BenchRow]) {
    let decodes = rows.iter().filter_map(|row| Some((row.bytes_per_token?, row)));
    let Some((base_bytes, base)) = decodes.min_by_key(|(_, row)| row.depth) else { return };
    let (base, base_bytes) = (base.clone(), base_bytes);
    for row in rows {
        let more_bytes = row.bytes_per_token.and_then(|bytes| bytes.checked_sub(base_bytes)).filter(|more| *more > 0);
        // One round does not show how much times vary.
        let tells = row.tokens_per_s.len() > 1 && row.high < base.low;
        let Some(more_bytes) = more_bytes.filter(|_| tells) else { continue };
        let more_s = 1.0 / row.median - 1.0 / base.median;
        row.depth_cost = Some(DepthCost {
            base: base.test.clone(),
            more_s,
            more_bytes,
            more_bytes_per_s: more_bytes as f64 / more_s,
            base_bytes_per_s: base_bytes as f64 * base.median,
        });
    }
}

/// What was asked of the device in one step.
#[derive(Debug, Clone, Copy, Default, PartialEq, serde::Serialize)]
pub struct PathTaken {
    pub submits: f64,
    pub dispatches: f64,
    pub read_back_bytes: f64,
    pub created: f64,
}

impl PathTaken {
    /// The counts of `n` steps, for one.
    pub fn of(counters: Counters, n: usize) -> Self {
        let per = |count: u64| count as f64 / n as f64;
        Self {
            submits: per(counters.submits),
            dispatches: per(counters.dispatches),
            read_back_bytes: per(counters.read_back_bytes),
            created: per(counters.created),
        }
    }
}

/// Measures `session`; `progress` hears the share that is done.
///
/// Errors: those of [`Session::feed`].
pub async fn bench(
    session: &mut Session,
    options: &BenchOptions,
    about: About,
    mut progress: impl FnMut(f64),
) -> Result<Bench> {
    let mut rows = Vec::new();
    let mut first_token_s = None;
    let n_tests = options.depths.len() * ((options.n_prompt > 0) as usize + (options.n_decode > 0) as usize);
    let n_rounds = n_tests.max(1) * (options.rounds + 1);
    let mut n_done = 0;
    for &depth in &options.depths {
        for (decodes, n) in [(false, options.n_prompt), (true, options.n_decode)] {
            if n == 0 {
                continue;
            }
            let mut runs = Vec::new();
            for round in 0..=options.rounds {
                prepare(session, depth).await?;
                let run = run(session, depth, if decodes { (1, n) } else { (n, 1) }).await?;
                first_token_s = first_token_s.or((!decodes && round == 0).then_some(run.0));
                // The first one warms up.
                runs.extend((round > 0).then_some(run));
                n_done += 1;
                progress(n_done as f64 / n_rounds as f64);
            }
            rows.push(row(session, options, (decodes, n, depth), &runs));
        }
    }
    fill_depth_costs(&mut rows);
    let engine = session.engine();
    let warnings = rows.iter().flat_map(|row| wrong_paths(&row.test, &row.per_step, &expected(session, row))).collect();
    Ok(Bench {
        kind: "pocketlm-bench-1",
        about,
        n_weights: engine.config.n_weights(),
        weights: formats(session),
        prompt_math: engine.prompt_math(),
        load_s: options.load_s,
        first_token_s,
        device_bytes: engine.weights_bytes() + session.bytes(),
        weights_bytes: engine.weights_bytes(),
        session_bytes: session.bytes(),
        host_peak_bytes: platform::peak_memory(),
        copy_bytes_per_s: options.copy_bytes_per_s,
        rows,
        warnings,
    })
}

/// Arbitrary ids of the vocabulary.
fn ids(session: &Session, first: usize, n: usize) -> Vec<u32> {
    let n_vocab = session.engine().config.n_vocab;
    (first..first + n).map(|i| ((i * 7919 + 11) % n_vocab) as u32).collect()
}

/// Makes the context `depth` tokens long and waits until their keys and values are there.
async fn prepare(session: &mut Session, depth: usize) -> Result<()> {
    // One token is always fed: with it comes what a window has lost, which must not be timed.
    session.truncate(depth.saturating_sub(1));
    let known = session.tokens().len();
    let more = ids(session, known, depth - known);
    session.feed(&more).await?;
    session.engine().gpu.finished("filling the context").await
}

/// Seconds and counts of an answer of so many tokens to a prompt of so many, as a user asks for it.
async fn run(session: &mut Session, depth: usize, (n_prompt, n_answer): (usize, usize)) -> Result<(f64, Counters)> {
    let mut prompt = ids(session, depth, n_prompt);
    let before = session.engine().gpu.counters();
    let start_s = now_s();
    let mut left = n_answer;
    while left > 0 {
        let mut answer = session.generate(&prompt, SamplingOptions::default(), Some(left)).await?;
        let mut last = None;
        let n_before = left;
        while let Some(piece) = answer.next().await? {
            last = Some(piece.token);
            left -= 1;
        }
        // A model that has had its say is asked to go on.
        prompt = vec![last.unwrap_or(0)];
        drop(answer);
        if left == n_before && session.tokens().len() >= session.context() {
            return Err(Error::ContextFull { n_tokens: depth + n_prompt + n_answer, context: session.context() });
        }
    }
    session.engine().gpu.finished("measuring").await?;
    Ok((now_s() - start_s, session.engine().gpu.counters() - before))
}

fn row(
    session: &Session,
    options: &BenchOptions,
    (decodes, n, depth): (bool, usize, usize),
    runs: &[(f64, Counters)],
) -> BenchRow {
    let rates: Vec<f64> = runs.iter().map(|(s, _)| n as f64 / s).collect();
    let seconds: Vec<f64> = runs.iter().map(|(s, _)| *s).collect();
    let at = |q| quantile(&rates, q);
    let suffix = if depth > 0 { format!(" @ d{depth}") } else { String::new() };
    let steps = if decodes { n } else { 1 };
    let counters = runs.last().map(|(_, counters)| *counters).unwrap_or_default();
    let bytes_per_token = decodes.then(|| bytes_per_token(session, depth + n / 2));
    // More than that came from a cache, or was not read: it is no share of what memory can do.
    let share = |bytes: u64| Some(bytes as f64 * at(0.5) / options.copy_bytes_per_s?).filter(|share| *share <= MARGIN);
    BenchRow {
        test: format!("{}{n}{suffix}", if decodes { "tg" } else { "pp" }),
        n_tokens: n,
        depth,
        median: at(0.5),
        low: at(0.0),
        high: at(1.0),
        first_token_s: (!decodes).then(|| quantile(&seconds, 0.5)),
        per_step: PathTaken::of(counters, steps),
        bandwidth_share: bytes_per_token.and_then(share),
        bytes_per_token,
        depth_cost: None,
        tokens_per_s: rates,
    }
}

/// Bytes that the decode plan must read for a token at `position`, as far as its kernels are counted.
fn bytes_per_token(session: &Session, position: usize) -> u64 {
    let experts = session.engine().config.experts;
    let (n_experts, n_used) = experts.map_or((0, 0), |experts| (experts.n, experts.n_used));
    let situation = Situation { n_tokens: 1, position, n_experts, n_used };
    let plans = session.plans();
    let decode = plans.iter().filter(|(phase, _)| *phase == Phase::Decode).flat_map(|(_, plan)| &plan.dispatches);
    let batch = Batch { n_tokens: 1, position };
    let run = decode.filter(|d| d.grid.iter().all(|extent| extent.resolve(batch) > 0));
    run.filter_map(|d| work(d.kernel, d.variant, &d.params, situation)).map(|work| work.bytes_in()).sum()
}

/// The formats of the matrices that decoding reads.
fn formats(session: &Session) -> String {
    let mut names: Vec<&str> = Vec::new();
    for (_, plan) in session.plans() {
        for format in plan.dispatches.iter().filter_map(|d| d.variant.format) {
            if !names.contains(&format.name()) {
                names.push(format.name());
            }
        }
    }
    names.join("+")
}

/// What a step may ask of the device at most: the plan's dispatches, a submit for each batch and for reading back.
fn expected(session: &Session, row: &BenchRow) -> PathTaken {
    let plans = session.plans();
    let longest = plans.iter().map(|(_, plan)| plan.dispatches.len()).max().unwrap_or(0) as f64;
    let batches = row.n_tokens.div_ceil(session.max_batch()) as f64;
    let logits = 4.0 * session.engine().config.n_vocab as f64;
    // Before experts that take turns the CPU reads which are wanted, fetches them and submits what uses them, as often as
    // they do not fit at once.
    let stops = plans.iter().map(|(_, plan)| plan.stops.len()).max().unwrap_or(0) as f64;
    let (n, n_used) = session.engine().config.experts.map_or((0, 0), |experts| (experts.n, experts.n_used));
    let (decodes, tokens) = (row.first_token_s.is_none(), session.max_batch().min(row.n_tokens));
    let goes = if stops == 0.0 { 1.0 } else { 1.0 + if decodes { n_used } else { n } as f64 };
    let ids = stops * (4 * n_used * if decodes { 1 } else { tokens }).next_multiple_of(16) as f64;
    if decodes {
        let dispatches = 1.5 * longest * goes;
        return PathTaken { submits: 4.0 + stops * goes, dispatches, read_back_bytes: 64.0 + ids, created: 0.0 };
    }
    PathTaken {
        submits: (batches + 1.0) * (longest / 8.0 + 4.0 + stops * goes),
        dispatches: (batches + 1.0) * longest * goes,
        read_back_bytes: logits + (batches + 1.0) * ids,
        created: 0.0,
    }
}

/// What a step asked of the device beyond what the plan needs: signs of a slow path that nobody meant to take.
pub fn wrong_paths(test: &str, taken: &PathTaken, expected: &PathTaken) -> Vec<String> {
    let counts = [
        ("submits", taken.submits, expected.submits),
        ("dispatches", taken.dispatches, expected.dispatches),
        ("bytes read back", taken.read_back_bytes, expected.read_back_bytes),
        ("objects created", taken.created, expected.created),
    ];
    let beyond = counts.into_iter().filter(|(_, taken, expected)| taken > expected);
    beyond
        .map(|(what, taken, expected)| {
            format!("{test}: {taken:.1} {what} a step, where {expected:.1} are enough: a slow path was taken")
        })
        .collect()
}
