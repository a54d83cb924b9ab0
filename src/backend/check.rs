//! One kernel in one variant against its reference: awkward shapes, outliers, poisoned outputs.

use super::{
    cpu::Cpu,
    gpu::Gpu,
    lockstep::{self, Outcome},
};
use crate::{
    error::{Error, Result},
    format::{ByteSource, TensorInfo, WeightFormat, pack::n_blocks},
    kernels::{CacheLayout, Kernel, PromptMath, PromptTuning, Tuning, Variant, rope_workgroups},
    placement::{Matrix, Part, Placement},
    plan::{Batch, Content, Dispatch, Extent::*, Grid, Plan, Slot, WeightSlot},
    random,
};
use std::sync::Arc;

/// A quiet NaN that no kernel computes: what outputs hold before a kernel runs.
const POISON: u32 = 0x7fc0_dead;

/// One dispatch with its inputs.
#[derive(Debug)]
pub struct Case {
    /// The shape, in a few words.
    pub name: String,
    plan: Plan,
    placement: Placement,
    contents: Vec<Vec<u32>>,
    n_tokens: usize,
}

/// Runs `kernel` in `variant` at every shape of [`cases`].
///
/// Errors: [`crate::Error::Device`], also when the driver refuses the shader.
pub async fn check(gpu: &Gpu, kernel: &'static Kernel, variant: Variant) -> Result<Vec<Outcome>> {
    let mut outcomes = Vec::new();
    for case in cases(kernel, variant) {
        outcomes.extend(run(gpu, &case).await?);
    }
    Ok(outcomes)
}

/// Kernels and what they are needed for: each with formats and heads as it is run, whatever the tuning.
pub type Needed = Vec<(&'static Kernel, Variant)>;

/// The kernels that `plans` run.
pub fn needed<'a>(plans: impl IntoIterator<Item = &'a Plan>) -> Needed {
    let mut all = Needed::new();
    for dispatch in plans.into_iter().flat_map(|plan| &plan.dispatches) {
        let needed = (dispatch.kernel, Variant { tuning: Tuning::BASELINE, ..dispatch.variant });
        if !all.contains(&needed) {
            all.push(needed);
        }
    }
    all
}

/// What is needed, built as `tuning` says.
pub fn variants(needed: &Needed, tuning: Tuning) -> Vec<(&'static Kernel, Variant)> {
    needed.iter().map(|(kernel, variant)| (*kernel, kernel.variant(Variant { tuning, ..*variant }))).collect()
}

/// Tries the kernels that a model needs, built as `gpu.tuning` says, at one small shape each; where one of them errs
/// or does not build, first exact prompts take the place of others, then the baseline that of the tuning. Which kernels
/// are needed depends on the tuning.
///
/// Errors: [`Error::Device`] when the baseline fails too.
pub async fn settle(gpu: &mut Gpu, needed: impl Fn(Tuning) -> Needed) -> Result<()> {
    loop {
        let Some(what) = first_failure(gpu, &needed(gpu.tuning)).await else { return Ok(()) };
        if gpu.tuning.prompt.math != PromptMath::Exact {
            let math = gpu.tuning.prompt.math.name();
            tracing::warn!("{what}; prompts are multiplied exactly instead of {math} (`pocketlm doctor` tells more)");
            gpu.tuning.prompt.math = PromptMath::Exact;
            continue;
        }
        if gpu.tuning == Tuning::BASELINE {
            return Err(Error::Device { doing: "testing kernels".into(), what });
        }
        tracing::warn!("{what}; falling back to the slower kernels that run everywhere (`pocketlm doctor` tells more)");
        gpu.tuning = Tuning::BASELINE;
    }
}

async fn first_failure(gpu: &Gpu, needed: &Needed) -> Option<String> {
    for (kernel, variant) in variants(needed, gpu.tuning) {
        let outcomes = match cases(kernel, variant).next() {
            Some(case) => run(gpu, &case).await,
            None => continue,
        };
        let told = match &outcomes {
            Ok(outcomes) => lockstep::first_difference(outcomes).map(|bad| format!("error {:.1e}", bad.error)),
            Err(error) => Some(error.to_string()),
        };
        if let Some(told) = told {
            return Some(format!("kernel {} ({variant}) fails on this adapter: {told}", kernel.name));
        }
    }
    None
}

/// Runs one case on both sides.
///
/// Errors: [`crate::Error::Device`].
pub async fn run(gpu: &Gpu, case: &Case) -> Result<Vec<Outcome>> {
    compare(gpu, case, &case.plan).await
}

/// Runs one case with one parameter changed on the GPU's side: the comparison must find it.
///
/// Errors: [`crate::Error::Device`].
pub async fn run_spoiled(gpu: &Gpu, case: &Case) -> Result<Vec<Outcome>> {
    let mut spoiled = case.plan.clone();
    // The count of rows, numbers or keys that each kernel's first parameter is.
    spoiled.dispatches[0].params[0] /= 2;
    compare(gpu, case, &spoiled).await
}

async fn compare(gpu: &Gpu, case: &Case, gpu_plan: &Plan) -> Result<Vec<Outcome>> {
    let weights = Arc::new(gpu.load(&case.placement, |_| ()).await?);
    let memory = gpu.allocate(&[&case.plan], &weights, &[]).await?;
    let program = gpu.program(gpu_plan, &memory, &weights).await?;
    let mut cpu = Cpu::load(&case.placement).await?;
    for (buffer, words) in case.plan.buffers.iter().zip(&case.contents) {
        gpu.write(&memory, &buffer.name, words);
        cpu.buffers.insert(buffer.name.clone(), words.clone());
    }
    let position = case.plan.find("step").map_or(0, |step| case.contents[step.0][1] as usize);
    let batch = Batch { n_tokens: case.n_tokens, position };
    let mut outcomes = lockstep::compare(&case.plan, &mut cpu, gpu, &memory, &program, batch).await?;
    for outcome in &mut outcomes {
        outcome.label = format!("{} {}", case.name, outcome.label);
    }
    Ok(outcomes)
}

/// The shapes that `kernel` is tried at: ones that fill its tiles, ones that do not, one, and a real model's.
///
/// Each is made when it is asked for, since a start-up check wants the first alone.
pub fn cases(kernel: &'static Kernel, variant: Variant) -> Box<dyn Iterator<Item = Case>> {
    let build = move |name: String| Builder::new(kernel, variant, name);
    let whole = move |columns| whole_blocks(variant, columns);
    match kernel.name {
        "embed" => Box::new(
            [(96, 70, 3), (32, 33, 1), (576, 300, 5)]
                .into_iter()
                .map(move |(dim, rows, t)| (whole(dim), rows, t))
                .map(move |(dim, rows, t)| build(format!("{t}x{dim}")).embed(dim, rows, t)),
        ),
        "rms_norm" => Box::new(
            [(576, 3, 0), (1, 2, 0), (97, 4, 1), (3072, 2, 1)]
                .into_iter()
                .map(move |(dim, t, last)| build(format!("{t}x{dim}")).rms_norm(dim, t, last)),
        ),
        "matvec" => Box::new(
            [(33, 32, 0, 1), (1, 96, 5, 0), (260, 576, 0, 0), (130, 1536, 7, 1), (64, 3072, 0, 0)].into_iter().map(
                move |(rows, columns, first, add)| {
                    let columns = whole(columns);
                    build(format!("{rows}x{columns}")).product(rows, columns, 0, first, add)
                },
            ),
        ),
        "matmul_lanes" | "matmul_tiles" | "matmul_coop" => {
            Box::new([(33, 32, 1, 0, 1), (1, 96, 5, 5, 0), (260, 576, 70, 0, 0), (70, 1536, 17, 9, 1)].into_iter().map(
                move |(rows, columns, t, first, add)| {
                    let columns = whole(columns);
                    build(format!("{rows}x{columns}x{t}")).product(rows, columns, t, first, add)
                },
            ))
        }
        "rope" => Box::new(ROPE_CASES.iter().map(move |case| build(case.0.to_string()).rope(case))),
        "attention" | "attention_lanes" | "attention_tiles" => {
            Box::new(ATTENTION_CASES.iter().map(move |case| build(case.0.to_string()).attention(case)))
        }
        "swiglu" => Box::new(
            [(1, 1, 1), (160, 3, 1), (1537, 2, 1), (96, 3, 2)]
                .into_iter()
                .map(move |(dim, t, rows)| build(format!("{t}x{rows}x{dim}")).swiglu(dim, t, rows)),
        ),
        other => super::decode_cases::cases(kernel, variant)
            .or_else(|| super::expert_cases::cases(kernel, variant))
            .or_else(|| super::probe_cases::cases(kernel, variant))
            .or_else(|| super::sample_cases::cases(kernel, variant))
            .or_else(|| super::packed_cases::cases(kernel, variant))
            .unwrap_or_else(|| unreachable!("no cases of `{other}`")),
    }
}

/// Heads of queries and of keys and values, numbers of a head, the part of the key/value heads that a cache is for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Heads {
    pub n: usize,
    pub n_kv: usize,
    pub dim: usize,
    pub first: usize,
    pub part: usize,
}

/// A batch of tokens from a position on, and the rows of the cache; 0: one for each position, and some to spare.
#[derive(Debug, Clone, Copy)]
pub(super) struct Span {
    pub n_tokens: usize,
    pub position: usize,
    pub capacity: usize,
}

const fn heads(n: usize, n_kv: usize, dim: usize) -> Heads {
    Heads { n, n_kv, dim, first: 0, part: n_kv }
}

const fn span(n_tokens: usize, position: usize, capacity: usize) -> Span {
    Span { n_tokens, position, capacity }
}

/// What, heads, span, rope_dim, interleaved.
type RopeCase = (&'static str, Heads, Span, usize, usize);
const ROPE_CASES: [RopeCase; 9] = [
    ("3/1 heads of 64", heads(3, 1, 64), span(3, 5, 0), 64, 0),
    ("2/2 heads of 96", heads(2, 2, 96), span(1, 0, 0), 96, 1),
    ("4/2 heads of 128, 96 rotated", heads(4, 2, 128), span(2, 62, 0), 96, 0),
    ("1/1 heads of 4, 2 rotated", heads(1, 1, 4), span(5, 1, 0), 2, 1),
    ("6/3 heads of 16", heads(6, 3, 16), span(2, 3, 0), 16, 0),
    ("2/1 heads of 100", heads(2, 1, 100), span(2, 3, 0), 100, 0),
    ("a ring of 8 wraps", heads(2, 1, 32), span(5, 13, 8), 32, 0),
    ("the last part of 10/5 heads of 96", Heads { first: 3, part: 2, ..heads(10, 5, 96) }, span(2, 3, 0), 96, 0),
    ("a middle part of 3/3 heads of 16", Heads { first: 1, part: 1, ..heads(3, 3, 16) }, span(3, 6, 7), 16, 1),
];

/// What, heads, span, window.
type AttentionCase = (&'static str, Heads, Span, usize);
const ATTENTION_CASES: [AttentionCase; 14] = [
    ("1 key, 3/1 heads of 64", heads(3, 1, 64), span(1, 0, 0), 0),
    ("33 keys, 2/2 heads of 96", heads(2, 2, 96), span(3, 30, 0), 0),
    ("129 keys, 4/2 heads of 128, window 48", heads(4, 2, 128), span(2, 127, 0), 48),
    ("5 keys, 1/1 heads of 4, window 2", heads(1, 1, 4), span(5, 0, 0), 2),
    ("1032 keys, 2/1 heads of 96", heads(2, 1, 96), span(2, 1030, 0), 0),
    ("2101 keys, 2/1 heads of 256, window 2047", heads(2, 1, 256), span(1, 2100, 0), 2047),
    ("40 keys, 6/3 heads of 16", heads(6, 3, 16), span(2, 38, 0), 0),
    ("40 keys, 2/1 heads of 100", heads(2, 1, 100), span(2, 38, 0), 0),
    ("a ring of 24, window 20", heads(3, 3, 64), span(5, 61, 24), 20),
    ("a ring of 1302, window 1300", heads(2, 1, 16), span(3, 2000, 1302), 1300),
    ("75 queries behind 60 keys, 2/1 heads of 64", heads(2, 1, 64), span(75, 60, 0), 0),
    ("37 queries, a ring of 60, window 24", heads(2, 2, 80), span(37, 101, 60), 24),
    ("9 queries behind 590 keys, 2/2 heads of 32", heads(2, 2, 32), span(9, 590, 0), 0),
    ("the last part of 10/5 heads of 96", Heads { first: 3, part: 2, ..heads(10, 5, 96) }, span(2, 70, 0), 0),
];

/// At least `columns`: the shapes are awkward for blocks of 32, and wider blocks have to be whole too.
pub(super) fn whole_blocks(variant: Variant, columns: usize) -> usize {
    columns.next_multiple_of(variant.format.map_or(1, WeightFormat::block_len))
}

pub(super) struct Builder {
    pub(super) kernel: &'static Kernel,
    pub(super) variant: Variant,
    name: String,
    pub(super) plan: Plan,
    placement: Placement,
    pub(super) contents: Vec<Vec<u32>>,
    seed: u64,
}

/// Rows of the cache beyond those in use, which nothing may read or write.
const SPARE_ROWS: usize = 3;

impl Span {
    pub fn rows(self) -> usize {
        if self.capacity > 0 { self.capacity } else { self.position + self.n_tokens + SPARE_ROWS }
    }
}

impl Builder {
    pub(super) fn new(kernel: &'static Kernel, variant: Variant, name: String) -> Self {
        let seed = name.bytes().fold(7u64, |seed, b| seed.wrapping_mul(31).wrapping_add(b as u64));
        let (plan, placement) = (Plan::default(), Placement::default());
        Self { kernel, variant, name, plan, placement, contents: Vec::new(), seed }
    }

    fn embed(mut self, dim: usize, n_rows: usize, n_tokens: usize) -> Case {
        let tokens: Vec<u32> = (0..n_tokens).map(|t| (t * 37 % n_rows) as u32).collect();
        let stride = n_blocks(dim) * 32;
        let (step, weight) = (self.step(n_tokens, 0, &tokens), self.matrix(n_rows, dim));
        let x = self.poisoned("x", n_tokens * stride);
        let params = vec![dim as u32, stride as u32, 0, n_rows as u32];
        self.case(params, &[step], &[x], Some(weight), [PerTokens(1), Fixed(1)], n_tokens)
    }

    fn rms_norm(mut self, dim: usize, n_tokens: usize, last_only: usize) -> Case {
        let stride = n_blocks(dim) * 32;
        let step = self.step(n_tokens, 0, &[]);
        let (x, weight) = (self.random("x", n_tokens * stride, 1.0), self.random("weight", dim, 1.0));
        let y = self.poisoned("y", n_tokens * stride);
        let params = vec![dim as u32, stride as u32, 1e-5f32.to_bits(), last_only as u32];
        let rows = if last_only == 1 { Fixed(1) } else { PerTokens(1) };
        self.case(params, &[step, x, weight], &[y], None, [rows, Fixed(1)], n_tokens)
    }

    /// `n_tokens` is 0 for the product with one token.
    fn product(mut self, rows: usize, columns: usize, n_tokens: usize, y_first: usize, accumulate: usize) -> Case {
        let (tokens, y_stride) = (n_tokens.max(1), y_first + rows + 3);
        let step = (n_tokens > 0).then(|| self.step(n_tokens, 0, &[]));
        let x = self.random("x", tokens * n_blocks(columns) * 32, 1.0);
        let weight = self.matrix(rows, columns);
        let y = match accumulate {
            1 => self.random("y", tokens * y_stride, 1.0),
            _ => self.poisoned("y", tokens * y_stride),
        };
        let (n_tiles, tuning) = (rows.div_ceil(32) as u32, self.variant.tuning);
        let mut params = vec![rows as u32, n_blocks(columns) as u32, y_first as u32];
        match step {
            Some(step) => {
                params.extend([y_stride as u32, accumulate as u32]);
                let half = PromptTuning { math: PromptMath::Half, ..tuning.prompt }.half_matmul();
                let batched = half.unwrap_or(self.prompt().matmul(tuning.tiles));
                self.case(
                    params,
                    &[step, x],
                    &[y],
                    Some(weight),
                    [Fixed(n_tiles.div_ceil(batched.tiles)), PerTokens(batched.tokens)],
                    n_tokens,
                )
            }
            None => {
                params.push(accumulate as u32);
                self.case(params, &[x], &[y], Some(weight), [Fixed(n_tiles.div_ceil(tuning.tiles)), Fixed(1)], 1)
            }
        }
    }

    fn rope(mut self, &(_, heads, span, rope_dim, interleaved): &RopeCase) -> Case {
        let Span { n_tokens, position, .. } = span;
        let (capacity, layout) = (span.rows(), self.layout(heads));
        let stride = (heads.n + 2 * heads.n_kv) * heads.dim;
        let step = self.step(n_tokens, position, &[]);
        let qkv = self.random("qkv", n_tokens * stride, 1.0);
        let angles = self.random("angles", (position + n_tokens) * rope_dim, 0.5);
        let q = self.poisoned("q", n_tokens * heads.n * heads.dim);
        let words = capacity * layout.row_words();
        let (k, v) = (self.poisoned("k", words), self.poisoned("v", words));
        let Heads { n, n_kv, dim, first, part } = heads;
        let params = [n, n_kv, dim, rope_dim, interleaved, capacity, first, part, stride];
        let params = params.iter().map(|&p| p as u32).chain([0.125f32.to_bits()]).collect();
        let grid = [Fixed(rope_workgroups(layout, n / n_kv) as u32), PerTokens(1)];
        self.case(params, &[step, qkv, angles], &[q, k, v], None, grid, n_tokens)
    }

    fn attention(mut self, &(_, heads, span, window): &AttentionCase) -> Case {
        let Span { n_tokens, position, .. } = span;
        let capacity = span.rows();
        let step = self.step(n_tokens, position, &[]);
        let q = self.random("q", n_tokens * heads.n * heads.dim, 0.3);
        let (k, v) = (self.cached("k", heads, span, window), self.cached("v", heads, span, window));
        let stride = n_blocks(heads.n * heads.dim) * 32;
        let out = self.poisoned("out", n_tokens * stride);
        let Heads { n, n_kv, dim, first, part } = heads;
        let params = [n, n_kv, dim, capacity, window, first, part, stride].map(|p| p as u32).to_vec();
        let tokens = if self.kernel.name == "attention" { 1 } else { self.prompt().attention().tokens };
        let grid = [Fixed((part * (n / n_kv)) as u32), PerTokens(tokens)];
        self.case(params, &[step, q, k, v], &[out], None, grid, n_tokens)
    }

    fn swiglu(mut self, dim: usize, n_tokens: usize, rows_per_token: usize) -> Case {
        let (step, stride, rows) = (self.step(n_tokens, 0, &[]), n_blocks(dim) * 32, n_tokens * rows_per_token);
        let gate_up = self.random("gate_up", rows * 2 * dim, 2.0);
        let h = self.poisoned("h", rows * stride);
        let params = [dim, 2 * dim, stride, rows_per_token].map(|p| p as u32).to_vec();
        let rows = PerAssignments { per_token: rows_per_token as u32, of: 1, plus: 0 };
        self.case(params, &[step, gate_up], &[h], None, [Fixed(dim.div_ceil(64) as u32), rows], n_tokens)
    }

    /// The way of working on batches that the kernel belongs to.
    pub(super) fn prompt(&self) -> PromptTuning {
        if self.kernel.name.ends_with("_tiles") { PromptTuning::TILES } else { PromptTuning::LANES }
    }

    fn layout(&self, heads: Heads) -> CacheLayout {
        let format = self.variant.cache.expect("a kernel with a cache");
        CacheLayout { format, n_heads: heads.part, head_dim: heads.dim }
    }

    pub(super) fn next_seed(&mut self) -> u64 {
        self.seed = self.seed.wrapping_add(0x9e37_79b9);
        self.seed
    }

    pub(super) fn buffer(&mut self, name: &str, words: Vec<u32>) -> Slot {
        // Guard words behind every buffer: nothing may touch them.
        let mut words = words;
        words.extend([POISON; 8]);
        let slot = self.plan.buffer(name, 4 * words.len() as u64, Content::Activation);
        self.contents.push(words);
        slot
    }

    pub(super) fn step(&mut self, n_tokens: usize, position: usize, tokens: &[u32]) -> Slot {
        let mut words = vec![n_tokens as u32, position as u32, 0, 0];
        words.extend_from_slice(tokens);
        self.buffer("step", words)
    }

    pub(super) fn random(&mut self, name: &str, n: usize, deviation: f32) -> Slot {
        let values = random::with_outliers(self.next_seed(), n, deviation);
        self.buffer(name, bytemuck::cast_vec(values))
    }

    pub(super) fn poisoned(&mut self, name: &str, words: usize) -> Slot {
        self.buffer(name, vec![POISON; words])
    }

    /// A cache with numbers in the rows that the batch's tokens see; the others hold NaN, which must not be read.
    pub(super) fn cached(&mut self, name: &str, heads: Heads, span: Span, window: usize) -> Slot {
        let (layout, end) = (self.layout(heads), span.position + span.n_tokens);
        let begin = if window > 0 { (span.position + 1).saturating_sub(window) } else { 0 };
        // In f32, in f16 and as scales of groups, these words are NaN.
        let mut words = vec![0x7fff_7fff; span.rows() * layout.row_words()];
        for position in begin..end {
            let values = random::with_outliers(self.next_seed(), heads.part * heads.dim, 0.5);
            let row = &mut words[position % span.rows() * layout.row_words()..][..layout.row_words()];
            for (head, values) in values.chunks(heads.dim).enumerate() {
                layout.set_head(row, head, &values.iter().map(|&v| v as f64).collect::<Vec<_>>());
            }
        }
        self.buffer(name, words)
    }

    pub(super) fn matrix(&mut self, rows: usize, columns: usize) -> (WeightSlot, WeightFormat) {
        let format = self.variant.format.expect("a kernel with weights");
        let bytes = format.encode(&random::with_outliers(self.next_seed(), rows * columns, 0.05));
        let source = Arc::new(ByteSource::memory("test matrix", bytes));
        let tensor = TensorInfo { name: "weight".into(), format, shape: vec![rows, columns], source, offset: 0 };
        let parts = vec![Part { first_row: 0, rows, format, tensor }];
        let matrix = Matrix { name: "weight".into(), rows, columns, parts };
        let placed = self.placement.matrix(&matrix, None, u64::MAX >> 8).expect("no limit");
        (placed.parts[0].tensor, format)
    }

    pub(super) fn case(
        mut self,
        params: Vec<u32>,
        reads: &[Slot],
        writes: &[Slot],
        weight: Option<(WeightSlot, WeightFormat)>,
        grid: Grid,
        n_tokens: usize,
    ) -> Case {
        self.plan.push(Dispatch {
            label: self.kernel.name.into(),
            kernel: self.kernel,
            variant: self.variant,
            params,
            reads: reads.to_vec(),
            writes: writes.to_vec(),
            weight: weight.map(|w| w.0),
            grid,
        });
        let Self { name, plan, placement, contents, .. } = self;
        Case { name, plan, placement, contents, n_tokens }
    }
}
