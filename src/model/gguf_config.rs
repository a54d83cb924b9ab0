//! A model's configuration from a GGUF header.

use super::config::{
    Architecture, Biases, Config, Experts, LongRope, Rope, Routing, divided, longrope_scale, rope_frequencies,
};
use crate::{
    error::{Error, Result},
    format::{Metadata, TensorInfo},
};

impl Config {
    /// From GGUF metadata; `tensors` give the vocabulary's size, rope factors, and which biases there are.
    ///
    /// Errors: [`Error::Unsupported`] for an architecture or scaling, [`Error::Config`] for absent or contradictory
    /// values.
    pub async fn from_gguf(metadata: &Metadata, tensors: &[TensorInfo]) -> Result<Self> {
        let name = metadata.string("general.architecture").unwrap_or("(none)");
        let known = Architecture::ALL.into_iter().find(|architecture| architecture.name() == name);
        let architecture = known.ok_or_else(|| Architecture::unsupported(name))?;
        let header = Header { metadata, tensors, name };
        let (n_embd, n_heads) = (header.count("embedding_length")?, header.count("attention.head_count")?);
        let head_dim = match header.optional("attention.key_length") {
            Some(dim) => dim,
            None if n_heads > 0 && n_embd.is_multiple_of(n_heads) => n_embd / n_heads,
            None => return Err(Error::config(format!("{n_heads} heads do not divide a hidden size of {n_embd}"))),
        };
        // Writers of models with LayerNorm use one key or the other.
        let eps = ["attention.layer_norm_rms_epsilon", "attention.layer_norm_epsilon"]
            .iter()
            .find_map(|key| metadata.float(&header.key(key)));
        let context = header.count("context_length")?;
        let config = Self {
            architecture,
            n_layers: header.count("block_count")?,
            n_embd,
            n_heads,
            n_kv_heads: header.optional("attention.head_count_kv").unwrap_or(n_heads),
            head_dim,
            n_ff: header.count("feed_forward_length")?,
            n_vocab: match header.find("token_embd.weight").map(|tensor| tensor.shape[0]) {
                Some(n_vocab) => n_vocab,
                None => return Err(Error::MissingTensor { name: "token_embd.weight".into() }),
            },
            context,
            norm: architecture.norm(),
            norm_eps: eps.ok_or_else(|| Error::config("the norm's epsilon is missing"))? as f32,
            biases: Biases {
                attn_qkv: header.find("blk.0.attn_q.bias").or(header.find("blk.0.attn_qkv.bias")).is_some(),
                attn_output: header.find("blk.0.attn_output.bias").is_some(),
                output: header.find("output.bias").is_some(),
            },
            // Zero is how writers say that there is none.
            sliding_window: header.optional("attention.sliding_window").filter(|&n| n > 0),
            tied: header.find("output.weight").is_none(),
            rope: header.rope(architecture, head_dim, context).await?,
            experts: header.experts(architecture)?,
        };
        config.check()
    }
}

struct Header<'a> {
    metadata: &'a Metadata,
    tensors: &'a [TensorInfo],
    /// The architecture's, which begins most keys.
    name: &'a str,
}

impl Header<'_> {
    fn key(&self, key: &str) -> String {
        format!("{}.{key}", self.name)
    }

    fn optional(&self, key: &str) -> Option<usize> {
        self.metadata.unsigned(&self.key(key)).map(|n| n as usize)
    }

    fn count(&self, key: &str) -> Result<usize> {
        self.optional(key).ok_or_else(|| Error::config(format!("`{}` is missing or no count", self.key(key))))
    }

    fn find(&self, name: &str) -> Option<&TensorInfo> {
        self.tensors.iter().find(|t| t.name == name)
    }

    fn experts(&self, architecture: Architecture) -> Result<Option<Experts>> {
        let Some(n) = self.optional("expert_count").filter(|&n| n > 0) else {
            return match architecture {
                Architecture::PhiMoe => Err(Error::config(format!("`{}` is missing", self.key("expert_count")))),
                _ => Ok(None),
            };
        };
        let routing = match architecture {
            // GGUF has no key for the jitter: it is what the published model has.
            Architecture::PhiMoe => Routing::SparseMixer { jitter: 0.01 },
            _ => Routing::TopK,
        };
        Ok(Some(Experts { n, n_used: self.count("expert_used_count")?, routing }))
    }

    async fn rope(&self, architecture: Architecture, head_dim: usize, context: usize) -> Result<Rope> {
        let number = |key: &str| self.metadata.float(&self.key(&format!("rope.{key}")));
        let dim = self.optional("rope.dimension_count").unwrap_or(head_dim);
        let base = number("freq_base").unwrap_or(10000.0);
        let mut frequencies = rope_frequencies(base, dim)?;
        let kind = self.metadata.string(&self.key("rope.scaling.type"));
        match kind {
            // LongRoPE is told by its factors, whatever the key says.
            None | Some("none" | "" | "longrope") => {}
            Some("linear") => {
                let factor = number("scaling.factor").unwrap_or(1.0);
                frequencies.iter_mut().for_each(|f| *f /= factor);
            }
            Some(other) => {
                let what = format!("rope scaling `{other}`");
                return Err(Error::Unsupported { what, supported: "none, linear, llama3's factors, longrope".into() });
            }
        }
        if let Some(factors) = self.factors("rope_freqs.weight").await? {
            frequencies = divided(&frequencies, &factors, "rope factors")?;
        }
        // GGUF writers permute Llama's query and key rows for interleaved pairs, and leave the others' as they are.
        let interleaved = architecture == Architecture::Llama;
        let mut rope = Rope { dim, interleaved, base, frequencies, scale: 1.0, long: None };
        let long = self.factors("rope_factors_long.weight").await?;
        let short = self.factors("rope_factors_short.weight").await?;
        let (long, short) = match (long, short) {
            (Some(long), Some(short)) => (long, short),
            (None, None) => return Ok(rope),
            _ => return Err(Error::config("only one of LongRoPE's two sets of factors")),
        };
        let original = self.count("rope.scaling.original_context_length")?;
        let scale = number("scaling.attn_factor").filter(|&scale| scale != 0.0);
        rope.scale = scale.unwrap_or_else(|| longrope_scale(context as f64 / original as f64, original));
        let frequencies = divided(&rope.frequencies, &long, "long rope factors")?;
        rope.long = Some(LongRope { original, frequencies, scale: rope.scale });
        rope.frequencies = divided(&rope.frequencies, &short, "short rope factors")?;
        Ok(rope)
    }

    async fn factors(&self, name: &str) -> Result<Option<Vec<f64>>> {
        let Some(tensor) = self.find(name) else { return Ok(None) };
        // Before anything is read: a head has at most 128 pairs.
        if tensor.shape.len() != 1 || tensor.shape[0] > 128 {
            return Err(Error::Shape { name: name.into(), expected: vec![128], found: tensor.shape.clone() });
        }
        Ok(Some(tensor.read_f32().await?.into_iter().map(f64::from).collect()))
    }
}
