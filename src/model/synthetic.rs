//! Small models with random weights, made in memory: for `doctor` and for tests.

use super::{
    config::{Architecture, Config, Rope, rope_frequencies},
    weights::Weights,
};
use crate::{
    error::Result,
    format::{ByteSource, TensorInfo, WeightFormat},
    random,
};
use std::sync::Arc;

/// A two-layer model of `architecture` with awkward sizes: grouped queries, a window, rows that fill no tile.
///
/// Errors: none that a caller could cause; the configuration goes through the same checks as a file's.
pub fn tiny(architecture: Architecture, format: WeightFormat, seed: u64) -> Result<(Config, Weights<TensorInfo>)> {
    let head_dim = 16;
    let config = Config {
        architecture,
        n_layers: 2,
        n_embd: 96,
        n_heads: 6,
        n_kv_heads: 2,
        head_dim,
        n_ff: 160,
        n_vocab: 250,
        context: 128,
        norm_eps: 1e-5,
        sliding_window: (architecture == Architecture::Phi3).then_some(24),
        tied: architecture == Architecture::Llama,
        rope: Rope {
            dim: head_dim,
            interleaved: architecture == Architecture::Llama,
            frequencies: rope_frequencies(10000.0, head_dim)?,
        },
    }
    .check()?;
    let mut tensors = Vec::new();
    let mut add = |name: String, shape: &[usize]| {
        let seed = seed.wrapping_mul(1000).wrapping_add(tensors.len() as u64);
        let n = shape.iter().product();
        let (format, values) = match shape {
            [_] => (WeightFormat::F32, random::with_outliers(seed, n, 0.2).iter().map(|v| 1.0 + v).collect()),
            _ => (format, random::with_outliers(seed, n, 0.1)),
        };
        let source = Arc::new(ByteSource::memory("synthetic", format.encode(&values)));
        tensors.push(TensorInfo { name: format!("{name}.weight"), format, shape: shape.to_vec(), source, offset: 0 });
    };
    let Config { n_embd, n_ff, n_vocab, .. } = config;
    add("token_embd".into(), &[n_vocab, n_embd]);
    add("output_norm".into(), &[n_embd]);
    if !config.tied {
        add("output".into(), &[n_vocab, n_embd]);
    }
    for layer_index in 0..config.n_layers {
        let name = |part: &str| format!("blk.{layer_index}.{part}");
        add(name("attn_norm"), &[n_embd]);
        add(name("ffn_norm"), &[n_embd]);
        match architecture {
            Architecture::Llama => {
                add(name("attn_q"), &[config.q_dim(), n_embd]);
                add(name("attn_k"), &[config.kv_dim(), n_embd]);
                add(name("attn_v"), &[config.kv_dim(), n_embd]);
                add(name("ffn_gate"), &[n_ff, n_embd]);
                add(name("ffn_up"), &[n_ff, n_embd]);
            }
            Architecture::Phi3 => {
                add(name("attn_qkv"), &[config.q_dim() + 2 * config.kv_dim(), n_embd]);
                add(name("ffn_up"), &[2 * n_ff, n_embd]);
            }
        }
        add(name("attn_output"), &[n_embd, config.q_dim()]);
        add(name("ffn_down"), &[n_embd, n_ff]);
    }
    let weights = Weights::locate(&config, &tensors)?;
    Ok((config, weights))
}
