//! Small models with random weights, made in memory: for `doctor` and for tests.

use super::{
    config::{
        Architecture, Biases, Config, Experts, LongRope, NormKind, Rope, Routing, longrope_scale, rope_frequencies,
    },
    weights::Weights,
};
use crate::{
    error::Result,
    format::{ByteSource, TensorInfo, WeightFormat},
    random,
};
use std::sync::Arc;

/// A two-layer model of `architecture` with awkward sizes: grouped queries, a window, rows that fill no tile, LongRoPE
/// and experts where the architecture has them.
///
/// Errors: none that a caller could cause; the configuration goes through the same checks as a file's.
pub fn tiny(architecture: Architecture, format: WeightFormat, seed: u64) -> Result<(Config, Weights<TensorInfo>)> {
    use Architecture::*;
    let head_dim = 16;
    let mut rope = Rope {
        dim: head_dim,
        interleaved: architecture == Llama,
        base: 10000.0,
        frequencies: rope_frequencies(10000.0, head_dim)?,
        scale: 1.0,
        long: None,
    };
    if architecture == Phi3 {
        rope.scale = longrope_scale(2.0, 64);
        let frequencies = rope.frequencies.iter().map(|f| f / 3.0).collect();
        rope.long = Some(LongRope { original: 64, frequencies, scale: rope.scale });
    }
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
        norm: architecture.norm(),
        norm_eps: 1e-5,
        biases: Biases {
            attn_qkv: matches!(architecture, PhiMoe | Qwen2),
            attn_output: architecture == PhiMoe,
            output: architecture == PhiMoe,
        },
        sliding_window: (architecture == Phi3).then_some(24),
        tied: architecture == Llama,
        rope,
        experts: (architecture == PhiMoe).then_some(Experts {
            n: 5,
            n_used: 2,
            routing: Routing::SparseMixer { jitter: 0.01 },
        }),
    }
    .check()?;
    let tensors = small_tensors(&config, format, seed);
    let weights = Weights::locate(&config, &tensors)?;
    Ok((config, weights))
}

/// Every kind of small model there is, by name.
///
/// Errors: as [`tiny`].
pub fn all_tiny(format: WeightFormat, seed: u64) -> Result<Vec<(&'static str, Config, Weights<TensorInfo>)>> {
    let mut all = Vec::new();
    for architecture in Architecture::ALL {
        let (config, weights) = tiny(architecture, format, seed)?;
        all.push((architecture.name(), config, weights));
    }
    let (config, weights) = tiny_mixtral(format, seed)?;
    all.push(("mixtral", config, weights));
    Ok(all)
}

/// [`tiny`]'s Llama with a mixture of experts in place of its feed-forward blocks, as Mixtral has it.
///
/// Errors: as [`tiny`].
pub fn tiny_mixtral(format: WeightFormat, seed: u64) -> Result<(Config, Weights<TensorInfo>)> {
    let (mut config, _) = tiny(Architecture::Llama, format, seed)?;
    config.experts = Some(Experts { n: 5, n_used: 2, routing: Routing::TopK });
    let config = config.check()?;
    let tensors = small_tensors(&config, format, seed);
    let weights = Weights::locate(&config, &tensors)?;
    Ok((config, weights))
}

/// Random numbers, encoded, in memory.
fn small_tensors(config: &Config, format: WeightFormat, seed: u64) -> Vec<TensorInfo> {
    tensors(config, |name, shape, index| {
        let seed = seed.wrapping_mul(1000).wrapping_add(index as u64);
        let n = shape.iter().product();
        let (format, values) = match shape {
            [_] if name.ends_with("bias") => (WeightFormat::F32, random::with_outliers(seed, n, 0.1)),
            [_] => (WeightFormat::F32, random::with_outliers(seed, n, 0.2).iter().map(|v| 1.0 + v).collect()),
            [.., columns] => {
                let format = format.for_columns(*columns);
                (format, random::with_outliers(seed, n, 0.1))
            }
            [] => unreachable!("tensors have a shape"),
        };
        let source = Arc::new(ByteSource::memory("synthetic", format.encode(&values)));
        TensorInfo { name, format, shape: shape.to_vec(), source, offset: 0 }
    })
}

/// The tensors that [`Weights::locate`] looks for, made by `make` from name, shape and index.
pub(super) fn tensors(config: &Config, mut make: impl FnMut(String, &[usize], usize) -> TensorInfo) -> Vec<TensorInfo> {
    let mut tensors = Vec::new();
    let mut add = |name: String, shape: &[usize]| tensors.push(make(name, shape, tensors.len()));
    let Config { n_embd, n_ff, n_vocab, biases, .. } = *config;
    let layer_norm = config.norm == NormKind::Layer;
    let kinds = |bias: bool| ["weight", "bias"].into_iter().take(1 + bias as usize);
    add("token_embd.weight".into(), &[n_vocab, n_embd]);
    kinds(layer_norm).for_each(|kind| add(format!("output_norm.{kind}"), &[n_embd]));
    if !config.tied {
        add("output.weight".into(), &[n_vocab, n_embd]);
    }
    if biases.output {
        add("output.bias".into(), &[n_vocab]);
    }
    for layer_index in 0..config.n_layers {
        let name = |part: &str| format!("blk.{layer_index}.{part}");
        let (q, kv) = (config.q_dim(), config.kv_dim());
        for norm in ["attn_norm", "ffn_norm"] {
            kinds(layer_norm).for_each(|kind| add(name(&format!("{norm}.{kind}")), &[n_embd]));
        }
        if config.architecture == Architecture::Phi3 {
            add(name("attn_qkv.weight"), &[q + 2 * kv, n_embd]);
            add(name("ffn_up.weight"), &[2 * n_ff, n_embd]);
        } else {
            for (part, rows) in [("attn_q", q), ("attn_k", kv), ("attn_v", kv)] {
                add(name(&format!("{part}.weight")), &[rows, n_embd]);
                if biases.attn_qkv {
                    add(name(&format!("{part}.bias")), &[rows]);
                }
            }
        }
        if config.architecture == Architecture::Qwen3 {
            ["attn_q_norm", "attn_k_norm"]
                .iter()
                .for_each(|norm| add(name(&format!("{norm}.weight")), &[config.head_dim]));
        }
        add(name("attn_output.weight"), &[n_embd, q]);
        if biases.attn_output {
            add(name("attn_output.bias"), &[n_embd]);
        }
        match config.experts {
            Some(Experts { n, .. }) => {
                add(name("ffn_gate_inp.weight"), &[n, n_embd]);
                add(name("ffn_gate_exps.weight"), &[n, n_ff, n_embd]);
                add(name("ffn_up_exps.weight"), &[n, n_ff, n_embd]);
                add(name("ffn_down_exps.weight"), &[n, n_embd, n_ff]);
            }
            None if config.architecture == Architecture::Phi3 => add(name("ffn_down.weight"), &[n_embd, n_ff]),
            None => {
                add(name("ffn_gate.weight"), &[n_ff, n_embd]);
                add(name("ffn_up.weight"), &[n_ff, n_embd]);
                add(name("ffn_down.weight"), &[n_embd, n_ff]);
            }
        }
    }
    tensors
}
