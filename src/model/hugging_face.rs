//! Hugging Face's names and configuration keys, turned into those of GGUF that the rest of the code uses.

use super::config::{Architecture, Config, Rope, rope_frequencies};
use crate::{
    error::{Error, Result},
    format::TensorInfo,
};
use serde_json::Value;

/// Gives every tensor its GGUF name; a name that has none is kept, and [`super::Weights::locate`] complains of it.
pub fn rename(tensors: &mut [TensorInfo]) {
    for tensor in tensors {
        if let Some(name) = gguf_name(&tensor.name) {
            tensor.name = name;
        }
    }
}

fn gguf_name(name: &str) -> Option<String> {
    let (stem, kind) = name.rsplit_once('.')?;
    let stem = match stem {
        "model.embed_tokens" => "token_embd".into(),
        "model.norm" => "output_norm".into(),
        "lm_head" => "output".into(),
        _ => {
            let (layer, part) = stem.strip_prefix("model.layers.")?.split_once('.')?;
            let part = match part {
                "input_layernorm" => "attn_norm",
                "post_attention_layernorm" => "ffn_norm",
                "self_attn.q_proj" => "attn_q",
                "self_attn.k_proj" => "attn_k",
                "self_attn.v_proj" => "attn_v",
                "self_attn.qkv_proj" => "attn_qkv",
                "self_attn.o_proj" => "attn_output",
                "mlp.gate_proj" => "ffn_gate",
                "mlp.up_proj" => "ffn_up",
                "mlp.gate_up_proj" => "ffn_up",
                "mlp.down_proj" => "ffn_down",
                _ => return None,
            };
            format!("blk.{layer}.{part}")
        }
    };
    Some(format!("{stem}.{kind}"))
}

impl Config {
    /// From `config.json`, as the model hub has it (`rope_theta`, `rope_scaling`) or as newer `transformers` write it
    /// (`rope_parameters`). Absent keys have the defaults of `transformers`.
    pub fn from_hugging_face(json: &Value) -> Result<Self> {
        let model_type = json.get("model_type").and_then(Value::as_str).unwrap_or("(none)");
        let architecture = match model_type {
            "llama" => Architecture::Llama,
            "phi3" => Architecture::Phi3,
            other => return Err(Architecture::unsupported(other)),
        };
        let keys = Keys { json };
        for flag in ["attention_bias", "mlp_bias"] {
            if json.get(flag).and_then(Value::as_bool) == Some(true) {
                return Err(Error::Unsupported {
                    what: format!("`{flag}`"),
                    supported: "layers without biases".into(),
                });
            }
        }
        let act = json.get("hidden_act").and_then(Value::as_str).unwrap_or("silu");
        if !matches!(act, "silu" | "swish") {
            return Err(Error::Unsupported { what: format!("activation `{act}`"), supported: "silu".into() });
        }
        let (n_embd, n_heads) = (keys.count("hidden_size")?, keys.count("num_attention_heads")?);
        let head_dim = match keys.optional("head_dim")? {
            Some(dim) => dim,
            None if n_heads > 0 && n_embd.is_multiple_of(n_heads) => n_embd / n_heads,
            None => return Err(Error::config(format!("{n_heads} heads do not divide a hidden size of {n_embd}"))),
        };
        let eps = if architecture == Architecture::Phi3 { 1e-5 } else { 1e-6 };
        let config = Self {
            architecture,
            n_layers: keys.count("num_hidden_layers")?,
            n_embd,
            n_heads,
            n_kv_heads: keys.optional("num_key_value_heads")?.unwrap_or(n_heads),
            head_dim,
            n_ff: keys.count("intermediate_size")?,
            n_vocab: keys.count("vocab_size")?,
            context: keys.optional("max_position_embeddings")?.unwrap_or(2048),
            norm_eps: json.get("rms_norm_eps").and_then(Value::as_f64).unwrap_or(eps) as f32,
            sliding_window: keys.optional("sliding_window")?,
            tied: json.get("tie_word_embeddings").and_then(Value::as_bool).unwrap_or(false),
            rope: rope(json, architecture, head_dim)?,
        };
        config.check()
    }
}

/// `rope_parameters` of the newer layout, or `rope_theta` beside `rope_scaling` of the older one.
fn rope(json: &Value, architecture: Architecture, head_dim: usize) -> Result<Rope> {
    let scaling = ["rope_parameters", "rope_scaling"].iter().find_map(|key| json.get(*key).filter(|v| v.is_object()));
    let inside = |key: &str| scaling.and_then(|s| s.get(key));
    let number = |key: &str| inside(key).or_else(|| json.get(key)).and_then(Value::as_f64);
    let base = number("rope_theta").unwrap_or(10000.0);
    let partial = match architecture {
        Architecture::Phi3 => number("partial_rotary_factor").unwrap_or(1.0),
        Architecture::Llama => 1.0,
    };
    let dim = (head_dim as f64 * partial) as usize;
    let mut frequencies = rope_frequencies(base, dim)?;
    let kind = inside("rope_type").or_else(|| inside("type")).and_then(Value::as_str).unwrap_or("default");
    let need = |key: &str| number(key).ok_or_else(|| Error::config(format!("rope scaling `{kind}` needs `{key}`")));
    match kind {
        "default" => {}
        "linear" => {
            let factor = need("factor")?;
            frequencies.iter_mut().for_each(|f| *f /= factor);
        }
        "llama3" => {
            let (factor, low, high) = (need("factor")?, need("low_freq_factor")?, need("high_freq_factor")?);
            let original = need("original_max_position_embeddings")?;
            if high <= low {
                return Err(Error::config(format!("rope scaling: high_freq_factor {high} is not above {low}")));
            }
            frequencies.iter_mut().for_each(|f| *f = llama3_frequency(*f, factor, low, high, original));
        }
        other => {
            return Err(Error::Unsupported {
                what: format!("rope scaling `{other}`"),
                supported: "default, linear, llama3".into(),
            });
        }
    }
    Ok(Rope { dim, interleaved: false, frequencies })
}

/// Llama 3.1's scaling: slow rotations are slowed by `factor`, fast ones kept, those between blended.
fn llama3_frequency(frequency: f64, factor: f64, low: f64, high: f64, original: f64) -> f64 {
    let turns = original * frequency / std::f64::consts::TAU;
    let smooth = ((turns - low) / (high - low)).clamp(0.0, 1.0);
    (1.0 - smooth) * frequency / factor + smooth * frequency
}

/// Counts of a `config.json`.
struct Keys<'a> {
    json: &'a Value,
}

impl Keys<'_> {
    fn optional(&self, key: &str) -> Result<Option<usize>> {
        match self.json.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => match value.as_u64() {
                Some(n) => Ok(Some(n as usize)),
                None => Err(Error::config(format!("`{key}` is {value}, not a count"))),
            },
        }
    }

    fn count(&self, key: &str) -> Result<usize> {
        self.optional(key)?.ok_or_else(|| Error::config(format!("`{key}` is missing")))
    }
}
