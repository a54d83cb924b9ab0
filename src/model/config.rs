//! The numbers that define a model, and what no kernel could run refused. Read from a GGUF header in
//! `gguf_config.rs`, from a `config.json` in `hugging_face.rs`.

use crate::error::{Error, Result};

/// Families whose blocks differ; what they share is in [`Config`]'s fields, so each is mostly data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Architecture {
    /// Llama 2 and 3, Mistral, Mixtral.
    Llama,
    /// Phi-3, Phi-3.5, Phi-4-mini.
    Phi3,
    /// Qwen 2 and 2.5: biases on queries, keys and values.
    Qwen2,
    /// Qwen 3: norms on the heads of queries and keys.
    Qwen3,
    /// Phi-3.5-MoE: LayerNorm, biases everywhere, sparse mixer.
    PhiMoe,
}

impl Architecture {
    /// Every architecture.
    pub const ALL: [Self; 5] = [Self::Llama, Self::Phi3, Self::Qwen2, Self::Qwen3, Self::PhiMoe];

    /// Name as in GGUF's `general.architecture`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Llama => "llama",
            Self::Phi3 => "phi3",
            Self::Qwen2 => "qwen2",
            Self::Qwen3 => "qwen3",
            Self::PhiMoe => "phimoe",
        }
    }

    /// How its blocks normalise the residual stream.
    pub(super) fn norm(self) -> NormKind {
        match self {
            Self::PhiMoe => NormKind::Layer,
            _ => NormKind::Rms,
        }
    }

    pub(super) fn unsupported(found: &str) -> Error {
        let supported = "llama, mistral, mixtral, phi3, phimoe, qwen2, qwen3".into();
        Error::Unsupported { what: format!("the architecture `{found}`"), supported }
    }
}

/// Hyper-parameters. Built only through checked constructors, so kernels can rely on [`Config::check`].
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    pub architecture: Architecture,
    pub n_layers: usize,
    /// Width of the residual stream.
    pub n_embd: usize,
    pub n_heads: usize,
    /// Heads of keys and values; each serves `n_heads / n_kv_heads` query heads.
    pub n_kv_heads: usize,
    pub head_dim: usize,
    /// Width of the feed-forward block, or of one expert's.
    pub n_ff: usize,
    pub n_vocab: usize,
    /// Tokens that the model was trained for.
    pub context: usize,
    pub norm: NormKind,
    pub norm_eps: f32,
    pub biases: Biases,
    /// A token sees this many keys, its own included; `None` sees all.
    pub sliding_window: Option<usize>,
    /// The output matrix is the embedding matrix.
    pub tied: bool,
    pub rope: Rope,
    /// The feed-forward block is a mixture of experts.
    pub experts: Option<Experts>,
}

/// How the residual stream is normalised before each half of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NormKind {
    /// Root mean square, with a weight (arXiv:1910.07467).
    Rms,
    /// Mean and variance, with a weight and a bias (arXiv:1607.06450).
    Layer,
}

/// Which products add a bias vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Biases {
    pub attn_qkv: bool,
    pub attn_output: bool,
    pub output: bool,
}

/// A mixture of experts: each token passes through `n_used` of `n` feed-forward blocks.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Experts {
    pub n: usize,
    pub n_used: usize,
    pub routing: Routing,
}

/// How a router's logits become a choice of experts and their weights.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Routing {
    /// The largest logits, weighted by the softmax over them (Mixtral, arXiv:2401.04088).
    TopK,
    /// Two picks, each weighted by a softmax over the logits that come within `2 * jitter` of the pick, relative to
    /// their size (Phi-3.5-MoE's SparseMixer, arXiv:2409.12136).
    SparseMixer { jitter: f32 },
}

/// Rotary position embedding.
#[derive(Debug, Clone, PartialEq)]
pub struct Rope {
    /// The first `dim` numbers of a head are rotated.
    pub dim: usize,
    /// Pairs are (2i, 2i + 1), as GGUF files of Llama have their rows, instead of (i, i + dim / 2).
    pub interleaved: bool,
    /// What the frequencies are powers of, before anything scaled them.
    pub base: f64,
    /// Radians per position, `dim / 2` of them.
    pub frequencies: Vec<f64>,
    /// Factor on cosines and sines, 1 but for scaled contexts.
    pub scale: f64,
    /// What replaces the frequencies and the scale in long texts.
    pub long: Option<LongRope>,
}

/// LongRoPE's second set of frequencies (arXiv:2402.13753): used for every position of a text that is longer than
/// `original`.
#[derive(Debug, Clone, PartialEq)]
pub struct LongRope {
    /// The longest text, in tokens, that still takes the short set.
    pub original: usize,
    pub frequencies: Vec<f64>,
    pub scale: f64,
}

impl Rope {
    /// `(cos, sin)` of every pair as the `rope` kernel reads them: rows for every position below `n_positions`; with
    /// LongRoPE, rows of the short set for the texts that take it, then rows of the long set for all positions.
    ///
    /// Computed in f64, since in f32 the angle alone is off by 1e-4 radians at position 4096.
    pub fn angles(&self, n_positions: usize) -> Vec<f32> {
        let mut table = Vec::with_capacity(self.n_angle_rows(n_positions) * self.dim);
        let long = self.long.as_ref().filter(|long| n_positions > long.original);
        append_angles(&mut table, long.map_or(n_positions, |long| long.original), &self.frequencies, self.scale);
        if let Some(long) = long {
            append_angles(&mut table, n_positions, &long.frequencies, long.scale);
        }
        table
    }

    /// What scaling has divided each of `frequencies`, this rope's own or its long set, by.
    pub fn factors(&self, frequencies: &[f64]) -> Vec<f64> {
        let plain = |i: usize| self.base.powf(-2.0 * i as f64 / self.dim as f64);
        frequencies.iter().enumerate().map(|(i, frequency)| plain(i) / frequency).collect()
    }

    /// Rows of [`Rope::angles`] for a session of `n_positions`.
    pub fn n_angle_rows(&self, n_positions: usize) -> usize {
        match &self.long {
            Some(long) if n_positions > long.original => long.original + n_positions,
            _ => n_positions,
        }
    }

    /// The row of position 0 for a text of `n_tokens`.
    pub fn first_angle_row(&self, n_tokens: usize) -> usize {
        self.long.as_ref().filter(|long| n_tokens > long.original).map_or(0, |long| long.original)
    }
}

fn append_angles(table: &mut Vec<f32>, n_positions: usize, frequencies: &[f64], scale: f64) {
    for position in 0..n_positions {
        for frequency in frequencies {
            let (sin, cos) = (position as f64 * frequency).sin_cos();
            table.extend([(cos * scale) as f32, (sin * scale) as f32]);
        }
    }
}

/// `base^(-2i / dim)` for each pair.
pub(super) fn rope_frequencies(base: f64, dim: usize) -> Result<Vec<f64>> {
    // Before anything is allocated from it.
    if dim > MAX_HEAD_DIM {
        return Err(Error::config(format!("{dim} rotated numbers per head, at most {MAX_HEAD_DIM} can be")));
    }
    if !(base.is_finite() && base > 0.0) {
        return Err(Error::config(format!("rope base {base}")));
    }
    Ok((0..dim / 2).map(|i| base.powf(-2.0 * i as f64 / dim as f64)).collect())
}

/// Divides each frequency by its factor.
pub(super) fn divided(frequencies: &[f64], factors: &[f64], what: &str) -> Result<Vec<f64>> {
    if factors.len() != frequencies.len() {
        let (found, expected) = (factors.len(), frequencies.len());
        return Err(Error::config(format!("{found} {what} for {expected} pairs of a head")));
    }
    if let Some(bad) = factors.iter().find(|f| !(f.is_finite() && **f > 0.0)) {
        return Err(Error::config(format!("{what}: {bad}")));
    }
    Ok(frequencies.iter().zip(factors).map(|(frequency, factor)| frequency / factor).collect())
}

/// LongRoPE's factor on cosines and sines, for a context `factor` times the original one (arXiv:2402.13753).
pub(super) fn longrope_scale(factor: f64, original: usize) -> f64 {
    match factor > 1.0 && original > 1 {
        true => (1.0 + factor.ln() / (original as f64).ln()).sqrt(),
        false => 1.0,
    }
}

/// Largest head that the attention kernel has workgroup memory for.
const MAX_HEAD_DIM: usize = 256;
/// Most experts that the routing kernels have room for, and most that one token may use.
const MAX_EXPERTS: usize = 256;
const MAX_EXPERTS_USED: usize = 16;

impl Config {
    /// Refuses what no kernel could run, so that nothing later needs to.
    pub(super) fn check(mut self) -> Result<Self> {
        let positive = [
            ("layers", self.n_layers),
            ("hidden size", self.n_embd),
            ("heads", self.n_heads),
            ("key/value heads", self.n_kv_heads),
            ("head size", self.head_dim),
            ("feed-forward size", self.n_ff),
            ("vocabulary", self.n_vocab),
            ("context", self.context),
        ];
        // With 2^20 for each, no grid passes WebGPU's 65535 groups: the widest is a workgroup per 32 rows or 64 numbers.
        for (what, n) in positive {
            let largest = if what == "context" { 1 << 24 } else { 1 << 20 };
            if n == 0 || n > largest {
                return Err(Error::config(format!("{what}: {n}")));
            }
        }
        if !self.n_heads.is_multiple_of(self.n_kv_heads) {
            let (n, kv) = (self.n_heads, self.n_kv_heads);
            return Err(Error::config(format!("{n} heads cannot share {kv} key/value heads")));
        }
        if !self.head_dim.is_multiple_of(4) || self.head_dim > MAX_HEAD_DIM {
            return Err(Error::Unsupported {
                what: format!("a head size of {}", self.head_dim),
                supported: format!("multiples of 4 up to {MAX_HEAD_DIM}"),
            });
        }
        if self.rope.dim > self.head_dim || !self.rope.dim.is_multiple_of(2) || self.rope.dim == 0 {
            return Err(Error::config(format!("{} rotated of {} numbers per head", self.rope.dim, self.head_dim)));
        }
        let long = self.rope.long.iter();
        let sets = long.map(|l| (&l.frequencies, l.scale)).chain([(&self.rope.frequencies, self.rope.scale)]);
        for (frequencies, scale) in sets {
            if frequencies.len() != self.rope.dim / 2 || frequencies.iter().any(|f| !f.is_finite()) {
                return Err(Error::config("a rope frequency is missing or not finite"));
            }
            if !(scale.is_finite() && scale > 0.0) {
                return Err(Error::config(format!("a rope scale of {scale}")));
            }
        }
        if self.rope.long.as_ref().is_some_and(|long| long.original == 0 || long.original > self.context) {
            return Err(Error::config("an original context that is 0 or longer than the model's"));
        }
        self.check_experts()?;
        if self.sliding_window == Some(0) {
            return Err(Error::config("a sliding window of 0"));
        }
        if !(self.norm_eps.is_finite() && self.norm_eps >= 0.0) {
            return Err(Error::config(format!("norm epsilon {}", self.norm_eps)));
        }
        let qkv_dim = self.q_dim() + 2 * self.kv_dim();
        if self.n_layers > 4096 || self.n_heads > 65535 || qkv_dim > 1 << 21 {
            return Err(Error::config(format!("{} layers, {} heads", self.n_layers, self.n_heads)));
        }
        // A window that no text outgrows is none.
        self.sliding_window = self.sliding_window.filter(|&w| w < 1 << 24);
        Ok(self)
    }

    fn check_experts(&self) -> Result<()> {
        let Some(Experts { n, n_used, routing }) = self.experts else { return Ok(()) };
        if n == 0 || n > MAX_EXPERTS || n_used == 0 || n_used > n.min(MAX_EXPERTS_USED) {
            return Err(Error::config(format!("{n_used} of {n} experts per token")));
        }
        if let Routing::SparseMixer { jitter } = routing
            && !(n_used == 2 && jitter.is_finite() && jitter >= 0.0)
        {
            return Err(Error::config(format!("a sparse mixer of {n_used} experts with jitter {jitter}, not of two")));
        }
        // Each expert begins at a tile of 32 rows.
        if !(2 * self.n_ff).is_multiple_of(32) || !self.n_embd.is_multiple_of(32) {
            return Err(Error::Unsupported {
                what: format!("experts of {} by {}", self.n_ff, self.n_embd),
                supported: "feed-forward sizes in multiples of 16 and hidden sizes in multiples of 32".into(),
            });
        }
        Ok(())
    }

    /// The model in a few words, for messages.
    pub fn summary(&self) -> String {
        let Self { n_layers, n_embd, n_vocab, .. } = self;
        format!("{} with {n_layers} layers of {n_embd} and a vocabulary of {n_vocab}", self.architecture.name())
    }

    /// Numbers in the queries of one token.
    pub fn q_dim(&self) -> usize {
        self.n_heads * self.head_dim
    }

    /// Numbers in the keys, or the values, of one token.
    pub fn kv_dim(&self) -> usize {
        self.n_kv_heads * self.head_dim
    }

    /// Weights in all matrices.
    pub fn n_weights(&self) -> u64 {
        self.count_weights(self.experts.map_or(1, |experts| experts.n))
    }

    /// Weights in the matrices that one token passes through, the output matrix included.
    pub fn n_active_weights(&self) -> u64 {
        self.count_weights(self.experts.map_or(1, |experts| experts.n_used))
    }

    fn count_weights(&self, n_experts: usize) -> u64 {
        let router = self.experts.map_or(0, |experts| experts.n);
        let rows = 2 * self.q_dim() + 2 * self.kv_dim() + 3 * self.n_ff * n_experts + router;
        let layer = rows as u64 * self.n_embd as u64;
        let ends = (self.n_vocab * self.n_embd) as u64 * if self.tied { 1 } else { 2 };
        layer * self.n_layers as u64 + ends
    }
}
