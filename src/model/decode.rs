//! One token through the transformer, in as few dispatches as the dependences allow: five for a block of dense layers,
//! six where the keys are split among workgroups.
//!
//! A product with the residual leaves what the next norm's product needs of it, so that an RMS norm is no dispatch of
//! its own; see `matvec_norm`. Where that does not fit (LayerNorm, experts, matrices whose parts fall apart), the
//! dispatches of a batch stand in, for one token.

use super::{
    config::{Config, NormKind},
    mixture::part_suffix,
    transformer::{Recorder, cache_parts, cache_rows, label_of, padded},
    weights::{FeedForward, Layer, Linear, Norm, Weights},
};
use crate::{
    format::{
        WeightFormat,
        pack::{TILE_ROWS, n_blocks, n_tiles},
    },
    kernels::{
        ATTEND, ATTEND_MERGE, AttentionTuning, EMBED_NORM, EXPERT_RESIDUAL, EXPERT_SWIGLU, HeadShape, Kernel,
        MATVEC_NORM, MATVEC_RESIDUAL, MATVEC_SWIGLU, Splits,
    },
    placement::{ExpertStack, Matrix},
    plan::{Content, Dispatch, Extent::*, Grid, Slot, WeightSlot},
};

impl Recorder<'_> {
    /// All blocks and the logits of one token.
    pub(super) fn decode(&mut self, weights: &Weights<WeightSlot>) {
        let norms = weights.layers.iter().map(|layer| &layer.attn_norm).chain([&weights.output_norm]);
        let mut norms: Vec<_> = norms.collect();
        let output_norm = norms.pop().expect("the output's");
        let mut ready = self.embed_ready(&weights.token_embd, norms.first().copied().unwrap_or(output_norm));
        for (layer_index, layer) in weights.layers.iter().enumerate() {
            self.layer = format!("layer{layer_index}.");
            let next = norms.get(layer_index + 1).copied();
            let next_name = next.map_or("output_norm".into(), |_| format!("layer{}.attn_norm", layer_index + 1));
            ready = self.decode_block(layer_index, layer, ready, (next.unwrap_or(output_norm), next_name));
        }
        self.layer.clear();
        self.normed_linear("output", ("output_norm", output_norm), &weights.output, "logits", ready);
    }

    fn decode_block(
        &mut self,
        layer_index: usize,
        layer: &Layer<WeightSlot>,
        ready: Ready,
        (next_norm, next_name): (&Norm<WeightSlot>, String),
    ) -> Ready {
        let qkv = self.normed_linear("attn_qkv", ("attn_norm", &layer.attn_norm), &layer.attn_qkv, "qkv", ready);
        let attended = self.decode_attention(layer_index, layer, qkv);
        let ffn_norm = (&layer.ffn_norm, format!("{}ffn_norm", self.layer));
        match &layer.ffn {
            FeedForward::Dense { gate_up, down } => {
                let ready = self.residual_linear("attn_output", &layer.attn_output, attended, ffn_norm);
                let h = self.gated(gate_up, &layer.ffn_norm, ready);
                let down = Linear { weight: down.clone(), bias: None };
                self.residual_linear("ffn_down", &down, h, (next_norm, next_name))
            }
            FeedForward::Experts { router, gate_up, down, pool } => {
                let ready = self.residual_linear("attn_output", &layer.attn_output, attended, ffn_norm);
                // An expert's rows may be in parts, where a binding holds less than one expert. And experts that take
                // turns on the device may take the same dispatches several times: then none may overwrite what they
                // read.
                let whole = gate_up.parts.iter().all(|part| part.rows == gate_up.rows)
                    && down.parts.iter().all(|part| part.rows == down.rows);
                if ready == Ready::No || !whole || pool.is_some() {
                    let normed = self.norm("ffn_norm", &layer.ffn_norm, false);
                    self.feed_forward(&layer.ffn, normed);
                    return Ready::No;
                }
                let router = Linear { weight: router.clone(), bias: None };
                let logits =
                    self.normed_linear("ffn_gate_inp", ("ffn_norm", &layer.ffn_norm), &router, "router", ready);
                let [ids, shares] = self.route(logits);
                let h = self.expert_gated(gate_up, [ids, shares]);
                self.expert_residual(down, [ids, h], (next_norm, next_name));
                Ready::Yes
            }
        }
    }

    /// What a product with the normalised residual reads: it weighted by the norm, and its sums of squares.
    fn ready_slots(&mut self) -> [Slot; 2] {
        let n_embd = self.config.n_embd;
        let weighted = self.plan.buffer("weighted", 4 * padded(n_embd) as u64, Content::Activation);
        let squares = self.plan.buffer("squares", 4 * n_blocks(n_embd) as u64, Content::Activation);
        [weighted, squares]
    }

    /// The bias, or a zero in its place and that it is none.
    fn bias(&mut self, label: &str, linear: &Linear<WeightSlot>) -> (Slot, u32) {
        match linear.bias {
            Some(bias) => (self.vector(&format!("{label}.bias"), linear.weight.rows, bias), 1),
            None => (self.plan.buffer("zero", 16, Content::Activation), 0),
        }
    }

    /// x = token_embd[token], made ready for `norm`.
    fn embed_ready(&mut self, matrix: &Matrix<WeightSlot>, norm: &Norm<WeightSlot>) -> Ready {
        if self.config.norm != NormKind::Rms {
            self.embed(matrix);
            return Ready::No;
        }
        let n_embd = self.config.n_embd;
        let [weighted, squares] = self.ready_slots();
        let name = if self.config.n_layers > 0 { "layer0.attn_norm.weight" } else { "output_norm.weight" };
        let norm = self.plan.buffer(name, 4 * n_embd as u64, Content::Vector(norm.weight.0));
        for part in &matrix.parts {
            let params = [n_embd, part.first_row, part.rows].map(|p| p as u32).to_vec();
            let label = label_of("token_embd", part.first_row);
            let grid = [Fixed(n_blocks(n_embd).div_ceil(64) as u32), Fixed(1)];
            let (step, x) = (self.step, self.x);
            self.push_weighted(
                &label,
                &EMBED_NORM,
                params,
                &[step, norm],
                &[x, weighted, squares],
                (part.tensor, part.format),
                grid,
            );
        }
        Ready::Yes
    }

    /// y = matrix * norm(x) + bias
    fn normed_linear(
        &mut self,
        label: &str,
        (norm_name, norm): (&str, &Norm<WeightSlot>),
        linear: &Linear<WeightSlot>,
        y: &str,
        ready: Ready,
    ) -> Slot {
        if ready == Ready::No {
            let normed = self.norm(norm_name, norm, false);
            return self.linear(label, linear, normed, y, false);
        }
        let Config { n_embd, norm_eps, .. } = *self.config;
        let [weighted, squares] = self.ready_slots();
        let (bias, has_bias) = self.bias(label, linear);
        let rows = linear.weight.rows;
        let y = self.plan.buffer(y, 4 * rows as u64, Content::Activation);
        for part in &linear.weight.parts {
            let blocks = n_blocks(n_embd) as u32;
            let params = [part.rows as u32, blocks, part.first_row as u32, has_bias, blocks, n_embd as u32];
            let params = params.into_iter().chain([norm_eps.to_bits()]).collect();
            let grid = [self.tile_groups(part.rows), Fixed(1)];
            let label = label_of(label, part.first_row);
            self.push_weighted(
                &label,
                &MATVEC_NORM,
                params,
                &[weighted, squares, bias],
                &[y],
                (part.tensor, part.format),
                grid,
            );
        }
        y
    }

    /// x += matrix * from + bias, made ready for the norm that comes next, which is called `next_name`.
    fn residual_linear(
        &mut self,
        label: &str,
        linear: &Linear<WeightSlot>,
        from: Slot,
        (next_norm, next_name): (&Norm<WeightSlot>, String),
    ) -> Ready {
        // Sums of squares are by tile, so parts have to begin with one.
        let whole_tiles = linear.weight.parts.iter().all(|part| part.first_row.is_multiple_of(TILE_ROWS));
        if self.config.norm != NormKind::Rms || !whole_tiles {
            self.linear(label, linear, from, "x", true);
            return Ready::No;
        }
        let [weighted, squares] = self.ready_slots();
        let (bias, has_bias) = self.bias(label, linear);
        let (n_embd, name) = (self.config.n_embd as u64, format!("{next_name}.weight"));
        let norm = self.plan.buffer(&name, 4 * n_embd, Content::Vector(next_norm.weight.0));
        for part in &linear.weight.parts {
            let blocks = n_blocks(linear.weight.columns) as u32;
            let params = vec![part.rows as u32, blocks, part.first_row as u32, has_bias];
            let grid = [self.tile_groups(part.rows), Fixed(1)];
            let (label, x) = (label_of(label, part.first_row), self.x);
            let writes = [x, weighted, squares];
            self.push_weighted(
                &label,
                &MATVEC_RESIDUAL,
                params,
                &[from, bias, norm],
                &writes,
                (part.tensor, part.format),
                grid,
            );
        }
        Ready::Yes
    }

    /// silu(gate * norm(x)) * (up * norm(x))
    fn gated(&mut self, gate_up: &Matrix<WeightSlot>, norm: &Norm<WeightSlot>, ready: Ready) -> Slot {
        let Config { n_embd, n_ff, norm_eps, .. } = *self.config;
        let [part] = &gate_up.parts[..] else { return self.gated_apart(gate_up, norm, ready) };
        if ready == Ready::No || !n_ff.is_multiple_of(TILE_ROWS) {
            return self.gated_apart(gate_up, norm, ready);
        }
        let [weighted, squares] = self.ready_slots();
        let h = self.activation("ffn_h", padded(n_ff));
        let blocks = n_blocks(n_embd) as u32;
        let params = vec![n_ff as u32, blocks, blocks, n_embd as u32, norm_eps.to_bits()];
        let grid = [self.tile_groups(n_ff), Fixed(1)];
        self.push_weighted(
            "ffn_gate_up",
            &MATVEC_SWIGLU,
            params,
            &[weighted, squares],
            &[h],
            (part.tensor, part.format),
            grid,
        );
        h
    }

    fn gated_apart(&mut self, gate_up: &Matrix<WeightSlot>, norm: &Norm<WeightSlot>, ready: Ready) -> Slot {
        let linear = Linear { weight: gate_up.clone(), bias: None };
        let gate_up = self.normed_linear("ffn_gate_up", ("ffn_norm", norm), &linear, "gate_up", ready);
        self.swiglu(gate_up, 1)
    }

    /// share * silu(gate * norm(x)) * (up * norm(x)) for each of the token's experts.
    fn expert_gated(&mut self, gate_up: &ExpertStack<WeightSlot>, [ids, shares]: [Slot; 2]) -> Slot {
        let Config { n_embd, n_ff, norm_eps, .. } = *self.config;
        let n_used = self.experts().n_used;
        let [weighted, squares] = self.ready_slots();
        let h = self.activation("ffn_h", n_used * padded(n_ff));
        let blocks = n_blocks(n_embd);
        for part in &gate_up.parts {
            let (first, n) = (part.first_expert, part.n_experts);
            let params = [n_ff, blocks, first, n, padded(n_ff), n_used, blocks, n_embd].map(|p| p as u32);
            let params = params.into_iter().chain([norm_eps.to_bits()]).collect();
            let grid = [self.tile_groups(n_ff), Fixed(n_used as u32)];
            let label = format!("ffn_gate_up_exps{}", part_suffix(first, 0));
            let weight = (part.tensor, part.format);
            self.push_weighted(&label, &EXPERT_SWIGLU, params, &[ids, shares, weighted, squares], &[h], weight, grid);
        }
        h
    }

    /// x += the experts' rows, made ready for the next norm.
    fn expert_residual(
        &mut self,
        down: &ExpertStack<WeightSlot>,
        [ids, h]: [Slot; 2],
        (next_norm, next_name): (&Norm<WeightSlot>, String),
    ) {
        let n_used = self.experts().n_used;
        let [weighted, squares] = self.ready_slots();
        let (name, n_embd) = (format!("{next_name}.weight"), self.config.n_embd as u64);
        let norm = self.plan.buffer(&name, 4 * n_embd, Content::Vector(next_norm.weight.0));
        for part in &down.parts {
            let (first, n) = (part.first_expert, part.n_experts);
            let params = [down.rows, n_blocks(down.columns), first, n, n_used].map(|p| p as u32).to_vec();
            let grid = [self.tile_groups(down.rows), Fixed(1)];
            let label = format!("ffn_down_exps{}", part_suffix(first, 0));
            let (reads, writes) = ([ids, h, norm], [self.x, weighted, squares]);
            let weight = (part.tensor, part.format);
            self.push_weighted(&label, &EXPERT_RESIDUAL, params, &reads, &writes, weight, grid);
        }
    }

    /// The heads' outputs, after the token's key and value are appended to the cache.
    fn decode_attention(&mut self, layer_index: usize, layer: &Layer<WeightSlot>, qkv: Slot) -> Slot {
        let Config { n_heads, n_kv_heads, head_dim, norm_eps, sliding_window, .. } = *self.config;
        let heads = HeadShape { head_dim: head_dim as u32, sharing: (n_heads / n_kv_heads) as u32 };
        if !heads.fits() {
            return self.attention_apart(layer_index, layer, qkv);
        }
        let (rope, rows) = (&self.config.rope, cache_rows(self.config, self.options));
        let n_angles = rope.n_angle_rows(self.options.capacity) * rope.dim;
        let angles = self.plan.buffer("angles", 4 * n_angles as u64, Content::Angles);
        let tuning = self.options.tuning.attention;
        let window = sliding_window.unwrap_or(0) as u32;
        let splits = Splits { keys: tuning.split_keys, most: tuning.most_splits, window };
        // Behind the rows of a prompt, whose padding stays zero.
        let partials_at = self.options.max_tokens * padded(self.config.q_dim());
        let n_partials = n_heads * AttentionTuning::MOST_SPLITS as usize * (head_dim + 2);
        let out = self.plan.buffer("attended", 4 * (partials_at + n_partials) as u64, Content::Activation);
        let (norms, norm_eps) = match layer.attn_q_k_norms {
            Some([q, k]) => {
                let q = self.vector("attn_q_norm.weight", head_dim, q);
                ([q, self.vector("attn_k_norm.weight", head_dim, k)], norm_eps)
            }
            None => ([self.plan.buffer("zero", 16, Content::Activation); 2], 0.0),
        };
        let q_scale = (1.0 / (head_dim as f64).sqrt()) as f32;
        for part in cache_parts(self.config, self.options, layer_index) {
            let (first, n_part) = (part.first, part.layout.n_heads);
            let bytes = rows as u64 * part.layout.row_bytes();
            let [k_cache, v_cache] = part.names.map(|name| self.plan.buffer(&name, bytes, Content::Cache));
            let shape = [n_heads, n_kv_heads, head_dim, rope.dim, rope.interleaved as usize, rows];
            let mut params: Vec<u32> = shape.iter().map(|&p| p as u32).collect();
            params.extend([window, first as u32, n_part as u32, splits.keys, splits.most, partials_at as u32]);
            params.extend([q_scale.to_bits(), norm_eps.to_bits()]);
            let reads = [self.step, qkv, angles, norms[0], norms[1]];
            let grid = [Fixed(n_part as u32), PerSplit(splits)];
            let writes = [k_cache, v_cache, out];
            let mut d = self.dispatch(&label_of("attend", first), &ATTEND, params, &reads, &writes, grid);
            d.variant = ATTEND.variant(crate::kernels::Variant { heads: Some(heads), ..self.variant_of(None) });
            self.plan.push(d);
            let (first_head, n_part_heads) = ((first as u32) * heads.sharing, n_part as u32 * heads.sharing);
            let params = [head_dim as u32, first_head, n_part_heads, window, splits.keys, splits.most];
            let params = params.into_iter().chain([partials_at as u32]).collect();
            let (label, step) = (label_of("attend_merge", first), self.step);
            self.push(&label, &ATTEND_MERGE, params, &[step], &[out], [IfSplit(n_part_heads, splits), Fixed(1)]);
        }
        out
    }

    fn tile_groups(&self, rows: usize) -> crate::plan::Extent {
        Fixed((n_tiles(rows) as u32).div_ceil(self.options.tuning.tiles))
    }

    #[allow(clippy::too_many_arguments, reason = "what a dispatch with weights consists of")]
    fn push_weighted(
        &mut self,
        label: &str,
        kernel: &'static Kernel,
        params: Vec<u32>,
        reads: &[Slot],
        writes: &[Slot],
        (weight, format): (WeightSlot, WeightFormat),
        grid: Grid,
    ) {
        let d = self.dispatch(label, kernel, params, reads, writes, grid);
        let variant = kernel.variant(self.variant_of(Some(format)));
        let tuning = kernel.usual(self.options.tuning, &d.params);
        self.plan.push(Dispatch { weight: Some(weight), variant, ..d }.retuned(tuning));
    }
}

/// Whether the residual is ready for the norm that comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ready {
    Yes,
    No,
}
