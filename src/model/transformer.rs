//! The transformer as a list of dispatches: reads like the paper, knows no device.

use super::{
    config::{Config, NormKind},
    pick,
    weights::{FeedForward, Layer, Linear, Norm, Weights},
};
use crate::{
    format::{
        WeightFormat,
        pack::{n_blocks, n_tiles},
    },
    kernels::{
        ADD_BIAS, ATTENTION, Batched, CacheFormat, CacheLayout, EMBED, HEAD_NORM, Kernel, LAYER_NORM, MATVEC,
        PACKED_WORDS, PromptMath, QUANTISE, RMS_NORM, ROPE, SWIGLU, Tuning, Variant, reference::STEP_HEAD_WORDS,
        rope_workgroups,
    },
    placement::Matrix,
    plan::{Content, Dispatch, Extent, Extent::*, Plan, Slot, Stop, WeightSlot},
};

/// Which piece of the work a plan is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// One token through the whole model, to its logits.
    Decode,
    /// A batch of tokens through all blocks, without logits.
    Prompt,
    /// The logits of the last token of the batch before.
    LastLogits,
    /// The logits of every token of the batch before.
    AllLogits,
    /// The next token from logits, as the step of the next [`Phase::Decode`]: see [`pick`].
    Pick,
    /// The same with filters by rank or by reached probability.
    FilteredPick,
}

impl Phase {
    /// Every phase.
    pub const ALL: [Self; 6] =
        [Self::Decode, Self::Prompt, Self::LastLogits, Self::AllLogits, Self::Pick, Self::FilteredPick];
}

/// What a plan is recorded for, beside the model.
#[derive(Debug, Clone, Copy)]
pub struct RecordOptions {
    /// Positions that there is room for. With a sliding window the cache holds fewer, see [`cache_rows`].
    pub capacity: usize,
    /// Largest batch of tokens.
    pub max_tokens: usize,
    pub cache: CacheFormat,
    /// Key/value heads whose cache lies in one buffer: fewer than all where that would be too large to bind.
    pub part_kv_heads: usize,
    pub tuning: Tuning,
}

/// Rows of the cache: one for each position, or as many as a window and the batch behind it need. Position `p` then has
/// row `p mod rows`, and the batch's last token overwrites what its first no longer sees.
pub fn cache_rows(config: &Config, options: &RecordOptions) -> usize {
    let needed = config.sliding_window.map_or(usize::MAX, |window| window - 1 + options.max_tokens);
    options.capacity.min(needed)
}

/// Every buffer of the cache in order, layer by layer and part by part, keys before values, with what a row holds.
pub fn cache_buffers(config: &Config, options: &RecordOptions) -> Vec<(String, CacheLayout)> {
    let parts = (0..config.n_layers).flat_map(|layer_index| cache_parts(config, options, layer_index));
    parts.flat_map(|part| part.names.map(|name| (name, part.layout))).collect()
}

/// The cache of some heads of one layer.
pub(super) struct CachePart {
    pub first: usize,
    pub layout: CacheLayout,
    /// Of the keys' buffer and of the values'.
    pub names: [String; 2],
}

pub(super) fn cache_parts(config: &Config, options: &RecordOptions, layer_index: usize) -> Vec<CachePart> {
    let Config { n_kv_heads, head_dim, .. } = *config;
    let part = |first| CachePart {
        first,
        layout: CacheLayout { format: options.cache, n_heads: options.part_kv_heads.min(n_kv_heads - first), head_dim },
        names: ["k", "v"].map(|name| label_of(&format!("{name}_cache{layer_index}"), first)),
    };
    (0..n_kv_heads).step_by(options.part_kv_heads).map(part).collect()
}

/// First head, heads, and the buffers of keys and values of a part of the cache.
type CacheSlots = (usize, usize, [Slot; 2]);

/// Records the dispatches of `phase`. Pure: equal arguments give equal plans.
pub fn record(config: &Config, weights: &Weights<WeightSlot>, options: &RecordOptions, phase: Phase) -> Plan {
    let mut recorder = Recorder::new(config, options, phase);
    if phase == Phase::Decode {
        recorder.decode(weights);
    }
    if phase == Phase::Prompt {
        recorder.embed(&weights.token_embd);
        for (layer_index, layer) in weights.layers.iter().enumerate() {
            recorder.layer = format!("layer{layer_index}.");
            recorder.block(layer_index, layer);
        }
        recorder.layer.clear();
    }
    match phase {
        Phase::Decode | Phase::Prompt => {}
        Phase::Pick | Phase::FilteredPick => return pick::record(config, options, phase == Phase::FilteredPick),
        Phase::LastLogits => {
            let normed = recorder.norm("output_norm", &weights.output_norm, true);
            recorder.batch = Batch::One;
            recorder.linear("output", &weights.output, normed, "logits", false);
        }
        Phase::AllLogits => {
            let normed = recorder.norm("output_norm", &weights.output_norm, false);
            recorder.linear("output", &weights.output, normed, "all_logits", false);
        }
    }
    recorder.plan
}

/// Whether products are by one token's activations or by a batch's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Batch {
    One,
    Many,
}

pub(super) struct Recorder<'a> {
    pub config: &'a Config,
    pub options: &'a RecordOptions,
    pub plan: Plan,
    pub batch: Batch,
    /// Prefix of labels.
    pub layer: String,
    pub step: Slot,
    /// The residual stream, (tokens, stride of n_embd).
    pub x: Slot,
}

/// Activations are padded to whole blocks, as weights are, so that products need no tail.
pub(super) fn padded(n: usize) -> usize {
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
        let normed = self.norm("attn_norm", &layer.attn_norm, false);
        let qkv = self.linear("attn_qkv", &layer.attn_qkv, normed, "qkv", false);
        let attended = self.attention_apart(layer_index, layer, qkv);
        self.linear("attn_output", &layer.attn_output, attended, "x", true);
        let normed = self.norm("ffn_norm", &layer.ffn_norm, false);
        self.feed_forward(&layer.ffn, normed);
    }

    /// Norms of heads, rotation and append, and attention, each by itself.
    pub(super) fn attention_apart(&mut self, layer_index: usize, layer: &Layer<WeightSlot>, qkv: Slot) -> Slot {
        if let Some(norms) = layer.attn_q_k_norms {
            self.head_norm(norms, qkv);
        }
        let (q, caches) = self.rope(layer_index, qkv);
        self.attention(q, &caches)
    }

    /// x += ffn(normed)
    pub(super) fn feed_forward(&mut self, ffn: &FeedForward<WeightSlot>, normed: Slot) {
        match ffn {
            FeedForward::Dense { gate_up, down } => {
                let gate_up = self.product("ffn_gate_up", gate_up, normed, "gate_up", false);
                let h = self.swiglu(gate_up, 1);
                self.product("ffn_down", down, h, "x", true);
            }
            FeedForward::Experts { router, gate_up, down, pool } => {
                let logits = self.product("ffn_gate_inp", router, normed, "router", false);
                let [ids, shares] = self.route(logits);
                let first = self.plan.dispatches.len();
                let assigned = self.assigned(ids);
                let n_used = self.experts().n_used;
                let gate_up = self.expert_product("ffn_gate_up_exps", gate_up, assigned, normed, n_used);
                let h = self.swiglu(gate_up, n_used);
                let said = self.expert_product("ffn_down_exps", down, assigned, h, 1);
                let dispatches = first..self.plan.dispatches.len();
                self.plan.stops.extend(pool.map(|pool| Stop { pool, dispatches, ids, n_used }));
                self.expert_sum(shares, said);
            }
        }
    }

    /// How a kernel is to be built, of which it takes what it needs.
    pub(super) fn variant_of(&self, format: Option<WeightFormat>) -> Variant {
        Variant { format, cache: Some(self.options.cache), heads: None, tuning: self.options.tuning }
    }

    /// silu(gate) * up, for each of a token's `rows_per_token` feed-forward blocks.
    pub(super) fn swiglu(&mut self, gate_up: Slot, rows_per_token: usize) -> Slot {
        let n_ff = self.config.n_ff;
        let h = self.activation("ffn_h", rows_per_token * padded(n_ff));
        let params = [n_ff, 2 * n_ff, padded(n_ff), rows_per_token].map(|p| p as u32).to_vec();
        let rows = match rows_per_token as u32 {
            1 => PerTokens(1),
            per_token => PerAssignments { per_token, of: 1, plus: 0 },
        };
        let (step, grid) = (self.step, [Fixed(n_ff.div_ceil(64) as u32), rows]);
        self.push("ffn_swiglu", &SWIGLU, params, &[step, gate_up], &[h], grid);
        h
    }

    /// RMS norms on the heads of queries and keys, in place.
    pub(super) fn head_norm(&mut self, norms: [WeightSlot; 2], qkv: Slot) {
        let Config { n_heads, n_kv_heads, head_dim, norm_eps, .. } = *self.config;
        let [q, k] = norms;
        let q = self.vector("attn_q_norm.weight", head_dim, q);
        let k = self.vector("attn_k_norm.weight", head_dim, k);
        let stride = self.config.q_dim() + 2 * self.config.kv_dim();
        let params = [n_heads, n_kv_heads, head_dim, stride].map(|p| p as u32).into_iter().chain([norm_eps.to_bits()]);
        let grid = [Fixed((n_heads + n_kv_heads) as u32), PerTokens(1)];
        let step = self.step;
        self.push("attn_head_norm", &HEAD_NORM, params.collect(), &[step, q, k], &[qkv], grid);
    }

    /// A constant vector of `n` numbers.
    pub(super) fn vector(&mut self, name: &str, n: usize, slot: WeightSlot) -> Slot {
        self.plan.buffer(&format!("{}{name}", self.layer), 4 * n as u64, Content::Vector(slot.0))
    }

    /// x[t] = token_embd[token[t]]
    pub(super) fn embed(&mut self, matrix: &Matrix<WeightSlot>) {
        let (dim, stride) = (self.config.n_embd as u32, padded(self.config.n_embd) as u32);
        for part in &matrix.parts {
            let params = vec![dim, stride, part.first_row as u32, part.rows as u32];
            let label = label_of("token_embd", part.first_row);
            let (step, x) = (self.step, self.x);
            let d = self.dispatch(&label, &EMBED, params, &[step], &[x], [PerTokens(1), Fixed(1)]);
            let variant = EMBED.variant(self.variant_of(Some(part.format)));
            self.plan.push(Dispatch { weight: Some(part.tensor), variant, ..d });
        }
    }

    /// norm(x), for every token of the batch or the last alone.
    pub(super) fn norm(&mut self, label: &str, norm: &Norm<WeightSlot>, last_only: bool) -> Slot {
        let Config { n_embd, norm_eps, .. } = *self.config;
        let weight = self.vector(&format!("{label}.weight"), n_embd, norm.weight);
        let bias = norm.bias.map(|bias| self.vector(&format!("{label}.bias"), n_embd, bias));
        let normed = self.activation("normed", padded(n_embd));
        let params = vec![n_embd as u32, padded(n_embd) as u32, norm_eps.to_bits(), last_only as u32];
        let rows = if last_only { Fixed(1) } else { PerTokens(1) };
        let mut reads = vec![self.step, self.x, weight];
        reads.extend(bias);
        let kernel = match self.config.norm {
            NormKind::Rms => &RMS_NORM,
            NormKind::Layer => &LAYER_NORM,
        };
        self.push(label, kernel, params, &reads, &[normed], [rows, Fixed(1)]);
        normed
    }

    /// y (+)= matrix * x + bias
    pub(super) fn linear(
        &mut self,
        label: &str,
        linear: &Linear<WeightSlot>,
        x: Slot,
        y: &str,
        accumulate: bool,
    ) -> Slot {
        let y_slot = self.product(label, &linear.weight, x, y, accumulate);
        if let Some(bias) = linear.bias {
            let rows = linear.weight.rows;
            let bias = self.vector(&format!("{label}.bias"), rows, bias);
            let stride = if y == "x" { padded(rows) } else { rows };
            // After the batch, the logits of the last token are one row.
            let one_row = y == "logits";
            let params = vec![rows as u32, stride as u32, one_row as u32];
            let grid = [Fixed(rows.div_ceil(64) as u32), if one_row { Fixed(1) } else { PerTokens(1) }];
            let step = self.step;
            self.push(&format!("{label}_bias"), &ADD_BIAS, params, &[step, bias], &[y_slot], grid);
        }
        y_slot
    }

    /// y (+)= matrix * x, into the activation called `y`.
    fn product(&mut self, label: &str, matrix: &Matrix<WeightSlot>, x: Slot, y: &str, accumulate: bool) -> Slot {
        let y_stride = if y == "x" { padded(matrix.rows) } else { matrix.rows };
        let y = match (y, self.batch) {
            ("logits", Batch::One) => self.plan.buffer(y, 4 * y_stride as u64, Content::Activation),
            _ => self.activation(y, y_stride),
        };
        let tuning = self.options.tuning;
        let packs = |format: WeightFormat| tuning.prompt.math == PromptMath::Packed && format.has_bytes();
        let any_packs = self.batch == Batch::Many && matrix.parts.iter().any(|part| packs(part.format));
        let packed = any_packs.then(|| self.quantise(label, x, n_blocks(matrix.columns)));
        for part in &matrix.parts {
            let blocks = n_blocks(matrix.columns) as u32;
            let mut params = vec![part.rows as u32, blocks, part.first_row as u32];
            let n_tiles = n_tiles(part.rows) as u32;
            let label = label_of(label, part.first_row);
            let d = match self.batch {
                Batch::One => {
                    params.push(accumulate as u32);
                    let groups = Fixed(n_tiles.div_ceil(tuning.tiles));
                    self.dispatch(&label, &MATVEC, params, &[x], &[y], [groups, Fixed(1)])
                }
                Batch::Many => {
                    params.extend([y_stride as u32, accumulate as u32]);
                    let step = self.step;
                    let (x, Batched { kernel, tokens, tiles }) = match packed.filter(|_| packs(part.format)) {
                        Some(packed) => (packed, tuning.prompt.packed_matmul()),
                        None => (x, tuning.prompt.half_matmul().unwrap_or(tuning.prompt.matmul(tuning.tiles))),
                    };
                    let grid = [Fixed(n_tiles.div_ceil(tiles)), PerTokens(tokens)];
                    self.dispatch(&label, kernel, params, &[step, x], &[y], grid)
                }
            };
            let variant = d.kernel.variant(self.variant_of(Some(part.format)));
            self.plan.push(Dispatch { weight: Some(part.tensor), variant, ..d });
        }
        y
    }

    /// The batch's activations as signed bytes, for the product called `label`.
    fn quantise(&mut self, label: &str, x: Slot, n_blocks: usize) -> Slot {
        let packed = self.activation("packed", n_blocks * PACKED_WORDS);
        let (step, grid) = (self.step, [Fixed(n_blocks.div_ceil(64) as u32), PerTokens(1)]);
        self.push(&format!("{label}_packed"), &QUANTISE, vec![n_blocks as u32], &[step, x], &[packed], grid);
        packed
    }

    /// Rotated queries, and this layer's cache with the batch's keys and values appended.
    fn rope(&mut self, layer_index: usize, qkv: Slot) -> (Slot, Vec<CacheSlots>) {
        let Config { n_heads, n_kv_heads, head_dim, .. } = *self.config;
        let (rope, capacity) = (&self.config.rope, self.options.capacity);
        let (rows, qkv_dim) = (cache_rows(self.config, self.options), self.config.q_dim() + 2 * self.config.kv_dim());
        let angles = self.plan.buffer("angles", (rope.n_angle_rows(capacity) * rope.dim * 4) as u64, Content::Angles);
        let q = self.activation("q", self.config.q_dim());
        let q_scale = (1.0 / (head_dim as f64).sqrt()) as f32;
        let parts = cache_parts(self.config, self.options, layer_index);
        let mut caches = Vec::new();
        for CachePart { first, layout, names } in parts {
            let bytes = rows as u64 * layout.row_bytes();
            let [k_cache, v_cache] = names.map(|name| self.plan.buffer(&name, bytes, Content::Cache));
            let interleaved = rope.interleaved as usize;
            let part = layout.n_heads;
            let params = [n_heads, n_kv_heads, head_dim, rope.dim, interleaved, rows, first, part, qkv_dim];
            let params = params.iter().map(|&p| p as u32).chain([q_scale.to_bits()]).collect();
            let grid = [Fixed(rope_workgroups(layout, n_heads / n_kv_heads) as u32), PerTokens(1)];
            let (label, step) = (label_of("rope", first), self.step);
            self.push(&label, &ROPE, params, &[step, qkv, angles], &[q, k_cache, v_cache], grid);
            caches.push((first, part, [k_cache, v_cache]));
        }
        (q, caches)
    }

    fn attention(&mut self, q: Slot, caches: &[CacheSlots]) -> Slot {
        let Config { n_heads, n_kv_heads, head_dim, sliding_window, .. } = *self.config;
        let (rows, stride) = (cache_rows(self.config, self.options), padded(self.config.q_dim()));
        let out = self.activation("attended", stride);
        let window = sliding_window.unwrap_or(0);
        for &(first, part, [k_cache, v_cache]) in caches {
            let params = [n_heads, n_kv_heads, head_dim, rows, window, first, part, stride];
            let params = params.iter().map(|&p| p as u32).collect();
            let (kernel, tokens) = match self.batch {
                Batch::One => (&ATTENTION, 1),
                Batch::Many => {
                    let Batched { kernel, tokens, .. } = self.options.tuning.prompt.attention();
                    (kernel, tokens)
                }
            };
            let grid = [Fixed((part * (n_heads / n_kv_heads)) as u32), PerTokens(tokens)];
            let (label, step) = (label_of("attention", first), self.step);
            self.push(&label, kernel, params, &[step, q, k_cache, v_cache], &[out], grid);
        }
        out
    }

    /// A buffer of `stride` numbers per token.
    pub(super) fn activation(&mut self, name: &str, stride: usize) -> Slot {
        let bytes = 4 * (self.options.max_tokens * stride) as u64;
        self.plan.buffer(name, bytes, Content::Activation)
    }

    pub(super) fn push(
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

    pub(super) fn dispatch(
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
            variant: kernel.variant(self.variant_of(None)),
            params,
            reads: reads.to_vec(),
            writes: writes.to_vec(),
            weight: None,
            grid,
        }
    }
}

pub(super) fn label_of(label: &str, first_row: usize) -> String {
    match first_row {
        0 => label.into(),
        row => format!("{label}+{row}"),
    }
}
