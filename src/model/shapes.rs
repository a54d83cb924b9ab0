//! Real models' shapes by name, to measure and to plan with instead of a download: the numbers of their published
//! configurations, and tensors of random weights.

use super::{
    config::{
        Architecture, Biases, Config, Experts, LongRope, Rope, Routing, divided, longrope_scale, rope_frequencies,
    },
    synthetic,
};
use crate::{
    error::{Error, Result},
    format::{ByteSource, TensorInfo, WeightFormat},
};
use std::sync::Arc;

/// What a published configuration says; see [`Config`] for the meaning.
struct Shape {
    name: &'static str,
    architecture: Architecture,
    n_layers: usize,
    n_embd: usize,
    /// Query heads, key/value heads, numbers in a head.
    heads: [usize; 3],
    n_ff: usize,
    n_vocab: usize,
    context: usize,
    rope_base: f64,
    rope_dim: usize,
    extra: Extra,
}

/// What few of them have.
#[derive(Clone, Copy, PartialEq)]
enum Extra {
    None,
    Tied,
    Window(usize),
    /// Trained for 4096 tokens, stretched from there.
    LongRope {
        tied: bool,
    },
    Experts(usize),
    LongRopeExperts(usize),
}

use Architecture::*;

#[rustfmt::skip]
const SHAPES: [Shape; 16] = [
    Shape { name: "phi-3-mini", architecture: Phi3, n_layers: 32, n_embd: 3072, heads: [32, 32, 96], n_ff: 8192, n_vocab: 32064, context: 4096, rope_base: 1e4, rope_dim: 96, extra: Extra::Window(2047) },
    Shape { name: "phi-3.5-mini", architecture: Phi3, n_layers: 32, n_embd: 3072, heads: [32, 32, 96], n_ff: 8192, n_vocab: 32064, context: 131072, rope_base: 1e4, rope_dim: 96, extra: Extra::LongRope { tied: false } },
    Shape { name: "phi-3-medium", architecture: Phi3, n_layers: 40, n_embd: 5120, heads: [40, 10, 128], n_ff: 17920, n_vocab: 32064, context: 4096, rope_base: 1e4, rope_dim: 128, extra: Extra::Window(2047) },
    Shape { name: "phi-4-mini", architecture: Phi3, n_layers: 32, n_embd: 3072, heads: [24, 8, 128], n_ff: 8192, n_vocab: 200064, context: 131072, rope_base: 1e4, rope_dim: 96, extra: Extra::LongRope { tied: true } },
    Shape { name: "phi-3.5-moe", architecture: PhiMoe, n_layers: 32, n_embd: 4096, heads: [32, 8, 128], n_ff: 6400, n_vocab: 32064, context: 131072, rope_base: 1e4, rope_dim: 128, extra: Extra::LongRopeExperts(16) },
    Shape { name: "llama-2-7b", architecture: Llama, n_layers: 32, n_embd: 4096, heads: [32, 32, 128], n_ff: 11008, n_vocab: 32000, context: 4096, rope_base: 1e4, rope_dim: 128, extra: Extra::None },
    Shape { name: "llama-2-13b", architecture: Llama, n_layers: 40, n_embd: 5120, heads: [40, 40, 128], n_ff: 13824, n_vocab: 32000, context: 4096, rope_base: 1e4, rope_dim: 128, extra: Extra::None },
    Shape { name: "llama-3.2-1b", architecture: Llama, n_layers: 16, n_embd: 2048, heads: [32, 8, 64], n_ff: 8192, n_vocab: 128256, context: 131072, rope_base: 5e5, rope_dim: 64, extra: Extra::Tied },
    Shape { name: "llama-3.1-8b", architecture: Llama, n_layers: 32, n_embd: 4096, heads: [32, 8, 128], n_ff: 14336, n_vocab: 128256, context: 131072, rope_base: 5e5, rope_dim: 128, extra: Extra::None },
    Shape { name: "tinyllama-1.1b", architecture: Llama, n_layers: 22, n_embd: 2048, heads: [32, 4, 64], n_ff: 5632, n_vocab: 32000, context: 2048, rope_base: 1e4, rope_dim: 64, extra: Extra::None },
    Shape { name: "smollm2-135m", architecture: Llama, n_layers: 30, n_embd: 576, heads: [9, 3, 64], n_ff: 1536, n_vocab: 49152, context: 8192, rope_base: 1e5, rope_dim: 64, extra: Extra::Tied },
    Shape { name: "mistral-7b", architecture: Llama, n_layers: 32, n_embd: 4096, heads: [32, 8, 128], n_ff: 14336, n_vocab: 32000, context: 32768, rope_base: 1e4, rope_dim: 128, extra: Extra::Window(4096) },
    Shape { name: "mixtral-8x7b", architecture: Llama, n_layers: 32, n_embd: 4096, heads: [32, 8, 128], n_ff: 14336, n_vocab: 32000, context: 32768, rope_base: 1e6, rope_dim: 128, extra: Extra::Experts(8) },
    Shape { name: "qwen2.5-1.5b", architecture: Qwen2, n_layers: 28, n_embd: 1536, heads: [12, 2, 128], n_ff: 8960, n_vocab: 151936, context: 32768, rope_base: 1e6, rope_dim: 128, extra: Extra::Tied },
    Shape { name: "qwen3-4b", architecture: Qwen3, n_layers: 36, n_embd: 2560, heads: [32, 8, 128], n_ff: 9728, n_vocab: 151936, context: 40960, rope_base: 1e6, rope_dim: 128, extra: Extra::Tied },
    // Nobody's: small enough for tests of what takes a shape.
    Shape { name: "tiny-llama", architecture: Llama, n_layers: 2, n_embd: 128, heads: [4, 2, 32], n_ff: 256, n_vocab: 512, context: 2048, rope_base: 1e4, rope_dim: 32, extra: Extra::Tied },
];

/// Every name, in the order of the list.
pub fn names() -> impl Iterator<Item = &'static str> {
    SHAPES.iter().map(|shape| shape.name)
}

/// The configuration called `name`.
///
/// Errors: [`Error::Invalid`] with the names there are.
pub fn config(name: &str) -> Result<Config> {
    let found = SHAPES.iter().find(|shape| shape.name.eq_ignore_ascii_case(name));
    let unknown = || format!("no shape is called `{name}`; there are {}", names().collect::<Vec<_>>().join(", "));
    let shape = found.ok_or_else(|| Error::Invalid { what: unknown() })?;
    let [n_heads, n_kv_heads, head_dim] = shape.heads;
    let long = matches!(shape.extra, Extra::LongRope { .. } | Extra::LongRopeExperts(_));
    let config = Config {
        architecture: shape.architecture,
        n_layers: shape.n_layers,
        n_embd: shape.n_embd,
        n_heads,
        n_kv_heads,
        head_dim,
        n_ff: shape.n_ff,
        n_vocab: shape.n_vocab,
        context: shape.context,
        norm: shape.architecture.norm(),
        norm_eps: if matches!(shape.architecture, Qwen2 | Qwen3) { 1e-6 } else { 1e-5 },
        biases: Biases {
            attn_qkv: matches!(shape.architecture, Qwen2 | PhiMoe),
            attn_output: shape.architecture == PhiMoe,
            output: shape.architecture == PhiMoe,
        },
        sliding_window: match shape.extra {
            Extra::Window(window) => Some(window),
            _ => None,
        },
        tied: matches!(shape.extra, Extra::Tied | Extra::LongRope { tied: true }),
        rope: if long { long_rope(shape)? } else { rope(shape)? },
        experts: match shape.extra {
            Extra::Experts(n) => Some(Experts { n, n_used: 2, routing: Routing::TopK }),
            Extra::LongRopeExperts(n) => Some(Experts { n, n_used: 2, routing: Routing::SparseMixer { jitter: 0.01 } }),
            _ => None,
        },
    };
    config.check()
}

fn rope(shape: &Shape) -> Result<Rope> {
    let frequencies = rope_frequencies(shape.rope_base, shape.rope_dim)?;
    // As a GGUF file of that architecture has it: `synth` writes one.
    let interleaved = shape.architecture == Llama;
    Ok(Rope { dim: shape.rope_dim, interleaved, base: shape.rope_base, frequencies, scale: 1.0, long: None })
}

/// Factors of LongRoPE's kind: near 1 in the short set, growing with the wavelength in the long one. Their values do not
/// matter to speed and memory.
fn long_rope(shape: &Shape) -> Result<Rope> {
    let original = 4096;
    let scale = longrope_scale((shape.context / original) as f64, original);
    let plain = rope(shape)?;
    let n = plain.frequencies.len();
    let grown = |most: f64| (0..n).map(|i| most.powf(i as f64 / n as f64)).collect::<Vec<_>>();
    let frequencies = divided(&plain.frequencies, &grown(64.0), "long factors")?;
    let long = Some(LongRope { original, frequencies, scale });
    Ok(Rope { frequencies: divided(&plain.frequencies, &grown(2.8), "short factors")?, scale, long, ..plain })
}

/// The tensors of a model of this shape: matrices in `format` where their rows fill its blocks, all of them random.
/// Nothing is computed before it is read.
pub fn tensors(config: &Config, format: WeightFormat, seed: u64) -> Vec<TensorInfo> {
    synthetic::tensors(config, |name, shape, index| {
        let is_vector = shape.len() == 1;
        let columns = shape.last().copied().unwrap_or(1);
        let keeps = is_vector || name.contains("ffn_gate_inp");
        let format = if keeps { WeightFormat::F32 } else { format.for_columns(columns) };
        let n = shape.iter().product::<usize>();
        let source = Arc::new(ByteSource::random(format, n, seed.wrapping_add(index as u64), is_vector));
        TensorInfo { name, format, shape: shape.to_vec(), source, offset: 0 }
    })
}
