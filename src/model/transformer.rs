//! The transformer as a list of dispatches: reads like the paper, knows no device.

use super::{
    config::Config,
    weights::{Layer, Weights},
};
use crate::{
    format::pack::{n_blocks, n_tiles},
    kernels::{
        ARGMAX, ATTENTION, CacheFormat, EMBED, Kernel, MATMUL, MATVEC, RMS_NORM, ROPE, SWIGLU, Tuning,
        reference::STEP_HEAD_WORDS,
    },
    placement::Matrix,
    plan::{Content, Dispatch, Extent, Extent::*, Plan, Slot, WeightSlot},
};

/// Which piece of the work a plan is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// One token through the whole model, to its logits and the most probable token.
    Decode,
    /// A batch of tokens through all blocks, without logits.
    Prompt,
    /// The logits of the last token of the batch before, and the most probable token.
    LastLogits,
    /// The logits of every token of the batch before.
    AllLogits,
}

/// What a plan is recorded for, beside the model.
#[derive(Debug, Clone, Copy)]
pub struct RecordOptions {
    /// Positions that the cache has room for.
    pub capacity: usize,
    /// Largest batch of tokens.
    pub max_tokens: usize,
    pub cache: CacheFormat,
    pub tuning: Tuning,
}

/// Records the dispatches of `phase`. Pure: equal arguments give equal plans.
pub fn record(config: &Config, weights: &Weights<WeightSlot>, options: &RecordOptions, phase: Phase) -> Plan {
    let mut recorder = Recorder::new(config, options, phase);
    if matches!(phase, Phase::Decode | Phase::Prompt) {
        recorder.embed(&weights.token_embd);
        for (layer_index, layer) in weights.layers.iter().enumerate() {
            recorder.layer = format!("layer{layer_index}.");
            recorder.block(layer_index, layer);
        }
        recorder.layer.clear();
    }
    match phase {
        Phase::Prompt => {}
        Phase::Decode | Phase::LastLogits => {
            let normed = recorder.norm("output_norm", weights.output_norm, true);
            recorder.batch = Batch::One;
            let logits = recorder.product("output", &weights.output, normed, "logits", false);
            recorder.argmax(logits);
        }
        Phase::AllLogits => {
            let normed = recorder.norm("output_norm", weights.output_norm, false);
            recorder.product("output", &weights.output, normed, "all_logits", false);
        }
    }
    recorder.plan
}

/// Whether products are by one token's activations or by a batch's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Batch {
    One,
    Many,
}

struct Recorder<'a> {
    config: &'a Config,
    options: &'a RecordOptions,
    plan: Plan,
    batch: Batch,
    /// Prefix of labels.
    layer: String,
    step: Slot,
    /// The residual stream, (tokens, stride of n_embd).
    x: Slot,
}

/// Activations are padded to whole blocks, as weights are, so that products need no tail.
fn padded(n: usize) -> usize {
    n_blocks(n) * 32
}

impl<'a> Recorder<'a> {
    fn new(config: &'a Config, options: &'a RecordOptions, phase: Phase) -> Self {
        let mut plan = Plan::default();
        let batch = if phase == Phase::Decode { Batch::One } else { Batch::Many };
        let step = plan.buffer("step", 4 * (STEP_HEAD_WORDS + options.max_tokens) as u64, Content::Step);
        let x = plan.buffer("x", 4 * (options.max_tokens * padded(config.n_embd)) as u64, Content::Activation);
        Self { config, options, plan, batch, layer: String::new(), step, x }
    }

    /// x += attention(norm(x)); x += ffn(norm(x))
    fn block(&mut self, layer_index: usize, layer: &Layer<WeightSlot>) {
        let Config { n_ff, .. } = *self.config;
        let normed = self.norm("attn_norm", layer.attn_norm, false);
        let qkv = self.product("attn_qkv", &layer.attn_qkv, normed, "qkv", false);
        let (q, k_cache, v_cache) = self.rope(layer_index, qkv);
        let attended = self.attention(q, k_cache, v_cache);
        self.product("attn_output", &layer.attn_output, attended, "x", true);
        let normed = self.norm("ffn_norm", layer.ffn_norm, false);
        let gate_up = self.product("ffn_gate_up", &layer.ffn_gate_up, normed, "gate_up", false);
        let h = self.activation("ffn_h", padded(n_ff));
        let params = vec![n_ff as u32, 2 * n_ff as u32, padded(n_ff) as u32];
        let (step, grid) = (self.step, [Fixed(n_ff.div_ceil(64) as u32), PerTokens(1)]);
        self.push("ffn_swiglu", &SWIGLU, params, &[step, gate_up], &[h], grid);
        self.product("ffn_down", &layer.ffn_down, h, "x", true);
    }

    /// x[t] = token_embd[token[t]]
    fn embed(&mut self, matrix: &Matrix<WeightSlot>) {
        let (dim, stride) = (self.config.n_embd as u32, padded(self.config.n_embd) as u32);
        for part in &matrix.parts {
            let params = vec![dim, stride, part.first_row as u32, part.rows as u32];
            let label = label_of("token_embd", part.first_row);
            let (step, x) = (self.step, self.x);
            let d = self.dispatch(&label, &EMBED, params, &[step], &[x], [PerTokens(1), Fixed(1)]);
            let variant = EMBED.variant(Some(part.format), None, self.options.tuning);
            self.plan.push(Dispatch { weight: Some(part.tensor), variant, ..d });
        }
    }

    /// x / rms(x) * weight, for every token of the batch or the last alone.
    fn norm(&mut self, label: &str, weight: WeightSlot, last_only: bool) -> Slot {
        let Config { n_embd, norm_eps, .. } = *self.config;
        let name = format!("{}{label}.weight", self.layer);
        let weight = self.plan.buffer(&name, 4 * n_embd as u64, Content::Vector(weight.0));
        let normed = self.activation("normed", padded(n_embd));
        let params = vec![n_embd as u32, padded(n_embd) as u32, norm_eps.to_bits(), last_only as u32];
        let rows = if last_only { Fixed(1) } else { PerTokens(1) };
        let (step, x) = (self.step, self.x);
        self.push(label, &RMS_NORM, params, &[step, x, weight], &[normed], [rows, Fixed(1)]);
        normed
    }

    /// y (+)= matrix * x, into the activation called `y`.
    fn product(&mut self, label: &str, matrix: &Matrix<WeightSlot>, x: Slot, y: &str, accumulate: bool) -> Slot {
        let y_stride = if y == "x" { padded(matrix.rows) } else { matrix.rows };
        let y = match (y, self.batch) {
            ("logits", Batch::One) => self.plan.buffer(y, 4 * y_stride as u64, Content::Activation),
            _ => self.activation(y, y_stride),
        };
        let tuning = self.options.tuning;
        for part in &matrix.parts {
            let blocks = n_blocks(matrix.columns) as u32;
            let mut params = vec![part.rows as u32, blocks, part.first_row as u32];
            let groups = Fixed((n_tiles(part.rows) as u32).div_ceil(tuning.tiles));
            let label = label_of(label, part.first_row);
            let d = match self.batch {
                Batch::One => {
                    params.push(accumulate as u32);
                    self.dispatch(&label, &MATVEC, params, &[x], &[y], [groups, Fixed(1)])
                }
                Batch::Many => {
                    params.extend([y_stride as u32, accumulate as u32]);
                    let step = self.step;
                    self.dispatch(&label, &MATMUL, params, &[step, x], &[y], [groups, PerTokens(4)])
                }
            };
            let variant = d.kernel.variant(Some(part.format), None, tuning);
            self.plan.push(Dispatch { weight: Some(part.tensor), variant, ..d });
        }
        y
    }

    /// Rotated queries, and this layer's cache with the batch's keys and values appended.
    fn rope(&mut self, layer_index: usize, qkv: Slot) -> (Slot, Slot, Slot) {
        let Config { n_heads, n_kv_heads, head_dim, .. } = *self.config;
        let (rope, capacity) = (&self.config.rope, self.options.capacity);
        let bytes = self.options.cache.bytes(n_kv_heads * capacity * head_dim);
        let k_cache = self.plan.buffer(&format!("k_cache{layer_index}"), bytes, Content::Cache);
        let v_cache = self.plan.buffer(&format!("v_cache{layer_index}"), bytes, Content::Cache);
        let angles = self.plan.buffer("angles", (capacity * rope.dim * 4) as u64, Content::Angles);
        let q = self.activation("q", self.config.q_dim());
        let qkv_dim = self.config.q_dim() + 2 * self.config.kv_dim();
        let q_scale = (1.0 / (head_dim as f64).sqrt()) as f32;
        let params = [n_heads, n_kv_heads, head_dim, rope.dim, rope.interleaved as usize, capacity, qkv_dim];
        let params = params.iter().map(|&p| p as u32).chain([q_scale.to_bits()]).collect();
        let grid = [Fixed((qkv_dim / 4).div_ceil(64) as u32), PerTokens(1)];
        let step = self.step;
        self.push("rope", &ROPE, params, &[step, qkv, angles], &[q, k_cache, v_cache], grid);
        (q, k_cache, v_cache)
    }

    fn attention(&mut self, q: Slot, k_cache: Slot, v_cache: Slot) -> Slot {
        let Config { n_heads, n_kv_heads, head_dim, sliding_window, .. } = *self.config;
        let stride = padded(self.config.q_dim());
        let out = self.activation("attended", stride);
        let window = sliding_window.unwrap_or(0);
        let params = [n_heads, n_kv_heads, head_dim, self.options.capacity, window, stride];
        let params = params.iter().map(|&p| p as u32).collect();
        let (step, grid) = (self.step, [Fixed(n_heads as u32), PerTokens(1)]);
        self.push("attention", &ATTENTION, params, &[step, q, k_cache, v_cache], &[out], grid);
        out
    }

    fn argmax(&mut self, logits: Slot) {
        let token = self.plan.buffer("token", 4, Content::Activation);
        let params = vec![self.config.n_vocab as u32];
        self.push("argmax", &ARGMAX, params, &[logits], &[token], [Fixed(1), Fixed(1)]);
    }

    /// A buffer of `stride` numbers per token.
    fn activation(&mut self, name: &str, stride: usize) -> Slot {
        let bytes = 4 * (self.options.max_tokens * stride) as u64;
        self.plan.buffer(name, bytes, Content::Activation)
    }

    fn push(
        &mut self,
        label: &str,
        kernel: &'static Kernel,
        params: Vec<u32>,
        reads: &[Slot],
        writes: &[Slot],
        grid: [Extent; 2],
    ) {
        let dispatch = self.dispatch(label, kernel, params, reads, writes, grid);
        self.plan.push(dispatch);
    }

    fn dispatch(
        &self,
        label: &str,
        kernel: &'static Kernel,
        params: Vec<u32>,
        reads: &[Slot],
        writes: &[Slot],
        grid: [Extent; 2],
    ) -> Dispatch {
        Dispatch {
            label: format!("{}{label}", self.layer),
            kernel,
            // A kernel with weights gets its format from the part it multiplies.
            variant: kernel.variant(None, Some(self.options.cache), self.options.tuning),
            params,
            reads: reads.to_vec(),
            writes: writes.to_vec(),
            weight: None,
            grid,
        }
    }
}

fn label_of(label: &str, first_row: usize) -> String {
    match first_row {
        0 => label.into(),
        row => format!("{label}+{row}"),
    }
}
