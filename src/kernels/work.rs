//! What a dispatch has to do: the bytes it must move and the operations it must carry out, from its parameters alone.
//!
//! Bytes are counted as an ideal device moves them: what is read comes from memory once, however many workgroups use it,
//! and what is written goes there once. A kernel that moves more is slower than it could be, and the report shows it.

use super::sampling::{BIN_WORDS, GROUP_LOGITS, N_BINS, WORKGROUP_LOGITS};
use super::{CacheFormat, CacheLayout, Kernel, PACKED_WORDS, Variant};
use crate::format::{WeightFormat, pack};

/// What the parameters leave open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Situation {
    /// Tokens of the batch.
    pub n_tokens: usize,
    /// Position of its first token.
    pub position: usize,
    /// Experts of a layer, of which a dispatch may hold a part; 0 in a model without.
    pub n_experts: usize,
    /// Experts that a token uses.
    pub n_used: usize,
}

/// Which of a device's arithmetic units a kernel is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    F32,
    F16,
    /// Products of four packed 8-bit numbers.
    Dot8,
    CooperativeMatrix,
}

/// Bytes and operations of one dispatch.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Work {
    pub weight_bytes: u64,
    /// Activations, caches, tables.
    pub read_bytes: u64,
    pub written_bytes: u64,
    /// Multiplications and additions, two for each weight and token.
    pub operations: f64,
    pub unit: Unit,
}

impl Work {
    /// All bytes that are read.
    pub fn bytes_in(&self) -> u64 {
        self.weight_bytes + self.read_bytes
    }

    /// All bytes that are moved.
    pub fn bytes(&self) -> u64 {
        self.bytes_in() + self.written_bytes
    }
}

/// The work of `kernel` with `params`, a dispatch's words; `None` for a kernel that nobody has counted.
pub fn work(kernel: &Kernel, variant: Variant, params: &[u32], situation: Situation) -> Option<Work> {
    let call = Counting { kernel, variant, params, situation };
    Some(match kernel.name {
        "matvec" => call.product(1),
        "matvec_norm" | "matvec_residual" | "matvec_swiglu" => call.fused_product(),
        "matmul_lanes" | "matmul_tiles" => call.product(situation.n_tokens),
        "matmul_coop" => Work { unit: Unit::CooperativeMatrix, ..call.product(situation.n_tokens) },
        "matmul_packed" => call.packed_product(),
        "expert_matvec" => call.experts(1),
        "expert_matmul_lanes" | "expert_matmul_tiles" => call.experts(situation.n_tokens),
        "expert_swiglu" | "expert_residual" => call.fused_experts(),
        "attention" | "attention_lanes" | "attention_tiles" => call.attention(),
        "attend" => call.attend(),
        "attend_merge" => call.attend_merge(),
        "rope" => call.rope(),
        _ => call.small()?,
    })
}

/// A float or an id.
const WORD: usize = 4;

struct Counting<'a> {
    kernel: &'a Kernel,
    variant: Variant,
    params: &'a [u32],
    situation: Situation,
}

impl Counting<'_> {
    fn param(&self, name: &str) -> usize {
        self.kernel.param(self.params, name)
    }

    fn work(&self, weight_bytes: u64, read: usize, written: usize, operations: f64) -> Work {
        let (read_bytes, written_bytes) = ((WORD * read) as u64, (WORD * written) as u64);
        Work { weight_bytes, read_bytes, written_bytes, operations, unit: Unit::F32 }
    }

    fn format(&self) -> WeightFormat {
        self.variant.format.expect("a kernel with weights has their format")
    }

    fn product(&self, n_tokens: usize) -> Work {
        let (rows, columns) = (self.param("n_rows"), self.param("n_blocks") * pack::BLOCK_COLUMNS);
        let accumulated = if self.param("accumulate") == 1 { n_tokens * rows } else { 0 };
        let weights = pack::packed_bytes(self.format(), rows, columns);
        self.work(
            weights,
            n_tokens * columns + accumulated,
            n_tokens * rows,
            2.0 * (rows * columns) as f64 * n_tokens as f64,
        )
    }

    /// As [`Counting::product`], of bytes.
    fn packed_product(&self) -> Work {
        let (n_tokens, n_blocks) = (self.situation.n_tokens, self.param("n_blocks"));
        let (plain, packed) = (n_blocks * pack::BLOCK_COLUMNS, n_blocks * PACKED_WORDS);
        let work = self.product(n_tokens);
        let read_bytes = work.read_bytes - (WORD * n_tokens * (plain - packed)) as u64;
        Work { read_bytes, unit: Unit::Dot8, ..work }
    }

    /// One token's products with a norm before them or after them.
    fn fused_product(&self) -> Work {
        let (rows, columns) = (self.param("n_rows"), self.param("n_blocks") * pack::BLOCK_COLUMNS);
        let bias = |rows| if self.param("has_bias") == 1 { rows } else { 0 };
        // Rows of weights, and numbers read and written beside a row of x.
        let (weight_rows, read, written) = match self.kernel.name {
            "matvec_norm" => (rows, self.param("n_squares") + bias(rows), rows),
            // The residual and the next norm's weights; the residual, its weighted form and sums of squares.
            "matvec_residual" => (rows, 2 * rows + bias(rows), 2 * rows + pack::n_tiles(rows)),
            _ => (2 * rows, self.param("n_squares"), rows),
        };
        let weights = pack::packed_bytes(self.format(), weight_rows, columns);
        self.work(weights, columns + read, written, 2.0 * (weight_rows * columns) as f64)
    }

    /// Which experts a batch uses is not known beforehand: counted is what it uses on average when each token chooses
    /// freely.
    fn experts(&self, n_tokens: usize) -> Work {
        let Situation { n_experts, n_used, .. } = self.situation;
        let (rows, columns) = (self.param("n_rows"), self.param("n_blocks") * pack::BLOCK_COLUMNS);
        let held = self.param("n_experts") as f64;
        let share = held / n_experts.max(1) as f64;
        let assignments = (n_tokens * n_used) as f64;
        // Of a token's experts no two are the same; those of different tokens may be.
        let unused = (1.0 - n_used as f64 / n_experts.max(1) as f64).powi(n_tokens as i32);
        let x_rows = match self.kernel.name {
            "expert_matvec" if self.param("shared_x") == 1 => 1.0,
            "expert_matvec" => assignments * share,
            _ => assignments / self.param("per_x") as f64,
        };
        let weights = pack::packed_bytes(self.format(), rows, columns) as f64 * held * (1.0 - unused);
        let written = assignments * share * rows as f64;
        let operations = 2.0 * written * columns as f64;
        self.work(weights as u64, (x_rows * columns as f64) as usize, written as usize, operations)
    }

    /// One token's products with its experts, with a norm before them or after them.
    fn fused_experts(&self) -> Work {
        let Situation { n_experts, n_used, .. } = self.situation;
        let (rows, columns) = (self.param("n_rows"), self.param("n_blocks") * pack::BLOCK_COLUMNS);
        // Of the token's experts, those that this part holds on average.
        let used = n_used as f64 * self.param("n_experts") as f64 / n_experts.max(1) as f64;
        let (weight_rows, read, written) = match self.kernel.name {
            "expert_swiglu" => (2 * rows, columns + self.param("n_squares"), used * rows as f64),
            _ => (rows, (used * columns as f64) as usize + 2 * rows, (2 * rows + pack::n_tiles(rows)) as f64),
        };
        let weights = pack::packed_bytes(self.format(), weight_rows, columns) as f64 * used;
        self.work(weights as u64, read, written as usize, 2.0 * used * (weight_rows * columns) as f64)
    }

    fn layout(&self) -> CacheLayout {
        let format = self.variant.cache.unwrap_or(CacheFormat::F32);
        CacheLayout { format, n_heads: self.param("part_kv_heads"), head_dim: self.param("head_dim") }
    }

    fn attention(&self) -> Work {
        let Situation { n_tokens, position, .. } = self.situation;
        let (layout, window) = (self.layout(), self.param("window"));
        let seen_by = |token: usize| {
            let end = position + token + 1;
            if window > 0 { end.min(window) } else { end }
        };
        // Keys that some token of the batch sees, and pairs of a token and a key that it sees.
        let end = position + n_tokens;
        let keys = if window > 0 { end.min(window - 1 + n_tokens) } else { end };
        let pairs: usize = (0..n_tokens).map(seen_by).sum();
        let heads = layout.n_heads * (self.param("n_heads") / self.param("n_kv_heads"));
        let numbers = n_tokens * heads * layout.head_dim;
        let cached = 2 * keys * layout.row_words();
        self.work(0, numbers + cached, numbers, 4.0 * (heads * layout.head_dim) as f64 * pairs as f64)
    }

    /// Keys that a token sees, and splits of them.
    fn keys_and_splits(&self) -> (usize, usize) {
        let (end, window) = (self.situation.position + 1, self.param("window"));
        let keys = if window > 0 { end.min(window) } else { end };
        (keys, keys.div_ceil(self.param("split_keys")).min(self.param("most_splits")))
    }

    /// One token's attention with its rotation and the append: its own key and value do not come from the cache.
    fn attend(&self) -> Work {
        let (layout, (keys, splits)) = (self.layout(), self.keys_and_splits());
        let Situation { position, .. } = self.situation;
        let heads = layout.n_heads * (self.param("n_heads") / self.param("n_kv_heads"));
        let own = (heads + 2 * layout.n_heads) * layout.head_dim;
        let cached = keys.min(position);
        let read = own + self.param("rope_dim") + 2 * cached * layout.row_words();
        let out = if splits > 1 { splits * heads * (layout.head_dim + 2) } else { heads * layout.head_dim };
        self.work(0, read, 2 * layout.row_words() + out, 4.0 * (heads * layout.head_dim * keys) as f64)
    }

    fn attend_merge(&self) -> Work {
        let (heads, dim, (_, splits)) = (self.param("n_heads"), self.param("head_dim"), self.keys_and_splits());
        let partials = splits * heads * (dim + 2);
        self.work(0, partials, heads * dim, (2 * partials) as f64)
    }

    fn rope(&self) -> Work {
        let (layout, n_tokens) = (self.layout(), self.situation.n_tokens);
        let queries = layout.n_heads * (self.param("n_heads") / self.param("n_kv_heads")) * layout.head_dim;
        let keys = layout.n_heads * layout.head_dim;
        let read = queries + 2 * keys + self.param("rope_dim");
        let written = queries + 2 * layout.row_words();
        // Three for each number that is rotated, and a scale for each of the queries.
        let operations = 3 * (queries + keys) + queries;
        self.work(0, n_tokens * read, n_tokens * written, (n_tokens * operations) as f64)
    }

    /// Kernels whose time is a launch's, whatever they compute: counted to a few per cent.
    fn small(&self) -> Option<Work> {
        let n_tokens = self.situation.n_tokens;
        Some(match self.kernel.name {
            "embed" => {
                let dim = self.param("dim");
                let row = pack::packed_bytes(self.format(), pack::TILE_ROWS, dim) / pack::TILE_ROWS as u64;
                self.work(row * n_tokens as u64, n_tokens, n_tokens * dim, (2 * n_tokens * dim) as f64)
            }
            "embed_norm" => {
                let dim = self.param("dim");
                let row = pack::packed_bytes(self.format(), pack::TILE_ROWS, dim) / pack::TILE_ROWS as u64;
                self.work(row, 1 + dim, 2 * dim + pack::n_blocks(dim), (5 * dim) as f64)
            }
            "rms_norm" | "layer_norm" => {
                let (dim, rows) = (self.param("dim"), if self.param("last_only") == 1 { 1 } else { n_tokens });
                let vectors = self.kernel.reads.len() - 2;
                self.work(0, (rows + vectors) * dim, rows * dim, (4 * rows * dim) as f64)
            }
            "head_norm" => {
                let heads = self.param("n_heads") + self.param("n_kv_heads");
                let numbers = heads * self.param("head_dim") * n_tokens;
                self.work(0, numbers + 2 * self.param("head_dim"), numbers, (4 * numbers) as f64)
            }
            "add_bias" => {
                let (dim, rows) = (self.param("dim"), self.param("rows"));
                let rows = if rows > 0 { rows } else { n_tokens };
                self.work(0, (rows + 1) * dim, rows * dim, (rows * dim) as f64)
            }
            "swiglu" => {
                let numbers = self.param("dim") * self.param("rows_per_token") * n_tokens;
                self.work(0, 2 * numbers, numbers, (5 * numbers) as f64)
            }
            "sample_peaks" | "sample_bins" | "sample_pick" => {
                let (n, bins) = (self.param("n_vocab"), N_BINS * BIN_WORDS);
                let (groups, tops) = (n.div_ceil(GROUP_LOGITS), 2 * n.div_ceil(WORKGROUP_LOGITS));
                match self.kernel.name {
                    "sample_peaks" => self.work(0, n + n.div_ceil(32), groups + tops + bins, n as f64),
                    "sample_bins" => self.work(0, n + n.div_ceil(32) + tops, bins, n as f64),
                    // Passes over what lies too low to be chosen, so this is the least that it reads.
                    _ => self.work(0, groups + tops, 4, groups as f64),
                }
            }
            "quantise" => {
                let blocks = n_tokens * self.param("n_blocks");
                self.work(0, blocks * pack::BLOCK_COLUMNS, blocks * 12, (4 * blocks * pack::BLOCK_COLUMNS) as f64)
            }
            "route" => {
                let logits = self.param("n_experts") * n_tokens;
                let used = self.param("n_used");
                self.work(0, logits, 2 * used * n_tokens, (4 * used * logits) as f64)
            }
            "expert_groups" => {
                let (ids, groups) = (self.param("n_used") * n_tokens, self.param("n_groups"));
                self.work(0, ids, groups * (1 + self.param("group_size")), (ids * self.param("n_experts")) as f64)
            }
            "expert_sum" => {
                let (dim, used) = (self.param("dim"), self.param("n_used"));
                let read = n_tokens * (used * (dim + 1) + dim);
                self.work(0, read, n_tokens * dim, (2 * n_tokens * used * dim) as f64)
            }
            _ => return None,
        })
    }
}
