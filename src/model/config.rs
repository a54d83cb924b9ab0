//! The numbers that define a model, from a GGUF header or (in `hugging_face.rs`) a `config.json`.

use crate::{
    error::{Error, Result},
    format::{Metadata, TensorInfo},
};

/// Families whose blocks differ; each has its place in [`super::transformer::record`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Architecture {
    Llama,
    Phi3,
}

impl Architecture {
    /// Name as in GGUF's `general.architecture`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Llama => "llama",
            Self::Phi3 => "phi3",
        }
    }

    pub(super) fn unsupported(found: &str) -> Error {
        Error::Unsupported { what: format!("the architecture `{found}`"), supported: "llama, phi3".into() }
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
    /// Width of the feed-forward block.
    pub n_ff: usize,
    pub n_vocab: usize,
    /// Tokens that the model was trained for.
    pub context: usize,
    pub norm_eps: f32,
    /// A token sees this many keys, its own included; `None` sees all.
    pub sliding_window: Option<usize>,
    /// The output matrix is the embedding matrix.
    pub tied: bool,
    pub rope: Rope,
}

/// Rotary position embedding.
#[derive(Debug, Clone, PartialEq)]
pub struct Rope {
    /// The first `dim` numbers of a head are rotated.
    pub dim: usize,
    /// Pairs are (2i, 2i + 1), as GGUF files of Llama have their rows, instead of (i, i + dim / 2).
    pub interleaved: bool,
    /// Radians per position, `dim / 2` of them.
    pub frequencies: Vec<f64>,
}

impl Rope {
    /// `(cos, sin)` of every pair at every position below `n_positions`, as the `rope` kernel reads them.
    ///
    /// Computed in f64, since in f32 the angle alone is off by 1e-4 radians at position 4096.
    pub fn angles(&self, n_positions: usize) -> Vec<f32> {
        let mut table = Vec::with_capacity(n_positions * self.dim);
        for position in 0..n_positions {
            for frequency in &self.frequencies {
                let (sin, cos) = (position as f64 * frequency).sin_cos();
                table.extend([cos as f32, sin as f32]);
            }
        }
        table
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

/// Largest head that the attention kernel has workgroup memory for.
const MAX_HEAD_DIM: usize = 256;

impl Config {
    /// From GGUF metadata; `tensors` give the vocabulary's size and Llama 3's rope factors.
    ///
    /// Errors: [`Error::Unsupported`] for an architecture or scaling, [`Error::Config`] for absent or contradictory
    /// values.
    pub async fn from_gguf(metadata: &Metadata, tensors: &[TensorInfo]) -> Result<Self> {
        let name = metadata.string("general.architecture").unwrap_or("(none)");
        let architecture = match name {
            "llama" => Architecture::Llama,
            "phi3" => Architecture::Phi3,
            other => return Err(Architecture::unsupported(other)),
        };
        let key = |key: &str| format!("{name}.{key}");
        let count = |k: &str| {
            let found = metadata.unsigned(&key(k)).map(|n| n as usize);
            found.ok_or_else(|| Error::config(format!("`{}` is missing or no count", key(k))))
        };
        if metadata.unsigned(&key("expert_count")).unwrap_or(0) > 0 {
            let what = "a mixture of experts".into();
            return Err(Error::Unsupported { what, supported: "dense models".into() });
        }
        let find = |name: &str| tensors.iter().find(|t| t.name == name);
        let (n_embd, n_heads) = (count("embedding_length")?, count("attention.head_count")?);
        let head_dim = match metadata.unsigned(&key("attention.key_length")) {
            Some(dim) => dim as usize,
            None if n_heads > 0 && n_embd.is_multiple_of(n_heads) => n_embd / n_heads,
            None => return Err(Error::config(format!("{n_heads} heads do not divide a hidden size of {n_embd}"))),
        };
        let eps = metadata.float(&key("attention.layer_norm_rms_epsilon"));
        let config = Self {
            architecture,
            n_layers: count("block_count")?,
            n_embd,
            n_heads,
            n_kv_heads: metadata.unsigned(&key("attention.head_count_kv")).map_or(n_heads, |n| n as usize),
            head_dim,
            n_ff: count("feed_forward_length")?,
            n_vocab: match find("token_embd.weight") {
                Some(tensor) => tensor.shape[0],
                None => return Err(Error::MissingTensor { name: "token_embd.weight".into() }),
            },
            context: count("context_length")?,
            norm_eps: eps.ok_or_else(|| Error::config("the norm's epsilon is missing"))? as f32,
            // Zero is how writers say that there is none.
            sliding_window: metadata.unsigned(&key("attention.sliding_window")).map(|n| n as usize).filter(|&n| n > 0),
            tied: find("output.weight").is_none(),
            rope: gguf_rope(metadata, name, architecture, head_dim, find("rope_freqs.weight")).await?,
        };
        if find("rope_factors_long.weight").is_some() {
            let what = "LongRoPE (`rope_factors_long`)".into();
            return Err(Error::Unsupported { what, supported: "default, linear and llama3 rope".into() });
        }
        config.check()
    }

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
        if self.rope.frequencies.iter().any(|f| !f.is_finite()) {
            return Err(Error::config("a rope frequency is not finite"));
        }
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
        // Llama has no window, whatever a converter wrote; and one beyond every context is none.
        self.sliding_window = self.sliding_window.filter(|&w| w < 1 << 24 && self.architecture == Architecture::Phi3);
        Ok(self)
    }

    /// Numbers in the queries of one token.
    pub fn q_dim(&self) -> usize {
        self.n_heads * self.head_dim
    }

    /// Numbers in the keys, or the values, of one token.
    pub fn kv_dim(&self) -> usize {
        self.n_kv_heads * self.head_dim
    }

    /// Weights in the matrices that one token passes through, the output matrix included.
    pub fn n_weights(&self) -> u64 {
        let layer = (2 * self.q_dim() + 2 * self.kv_dim() + 3 * self.n_ff) as u64 * self.n_embd as u64;
        let ends = (self.n_vocab * self.n_embd) as u64 * if self.tied { 1 } else { 2 };
        layer * self.n_layers as u64 + ends
    }
}

async fn gguf_rope(
    metadata: &Metadata,
    name: &str,
    architecture: Architecture,
    head_dim: usize,
    factors: Option<&TensorInfo>,
) -> Result<Rope> {
    let key = |key: &str| format!("{name}.rope.{key}");
    let dim = metadata.unsigned(&key("dimension_count")).map_or(head_dim, |n| n as usize);
    let mut frequencies = rope_frequencies(metadata.float(&key("freq_base")).unwrap_or(10000.0), dim)?;
    match metadata.string(&key("scaling.type")) {
        None | Some("none") | Some("") => {}
        Some("linear") => {
            let factor = metadata.float(&key("scaling.factor")).unwrap_or(1.0);
            frequencies.iter_mut().for_each(|f| *f /= factor);
        }
        Some(other) => {
            let what = format!("rope scaling `{other}`");
            return Err(Error::Unsupported { what, supported: "none, linear, llama3's factors".into() });
        }
    }
    if let Some(tensor) = factors {
        if tensor.shape != [dim / 2] {
            let name = tensor.name.clone();
            return Err(Error::Shape { name, expected: vec![dim / 2], found: tensor.shape.clone() });
        }
        for (frequency, factor) in frequencies.iter_mut().zip(tensor.read_f32().await?) {
            *frequency /= factor as f64;
        }
    }
    // GGUF writers permute Llama's query and key rows for interleaved pairs, and leave Phi-3's as they are.
    Ok(Rope { dim, interleaved: architecture == Architecture::Llama, frequencies })
}
