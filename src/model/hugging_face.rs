//! Hugging Face's names and configuration keys, turned into those of GGUF that the rest of the code uses.

use super::config::{
    Architecture, Biases, Config, Experts, LongRope, Rope, Routing, divided, longrope_scale, rope_frequencies,
};
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

/// Removes biases of zeros that the architecture has no place for: some quantisers give one to every linear layer.
pub async fn drop_zero_biases(config: &Config, tensors: &mut Vec<TensorInfo>) -> Result<()> {
    if !tensors.iter().any(|tensor| tensor.format.block_len() > 1) {
        return Ok(());
    }
    let mut kept = Vec::with_capacity(tensors.len());
    for tensor in tensors.drain(..) {
        let has_place = match tensor.name.strip_suffix(".bias").and_then(|name| name.split('.').nth(2)) {
            Some("attn_q" | "attn_k" | "attn_v" | "attn_qkv") => config.biases.attn_qkv,
            Some("attn_output") => config.biases.attn_output,
            part => !part.is_some_and(|part| part.starts_with("ffn_") && part != "ffn_norm"),
        };
        if has_place || tensor.shape.len() != 1 || tensor.read_f32().await?.iter().any(|&bias| bias != 0.0) {
            kept.push(tensor);
        }
    }
    *tensors = kept;
    Ok(())
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
                "self_attn.q_norm" => "attn_q_norm",
                "self_attn.k_norm" => "attn_k_norm",
                "self_attn.o_proj" => "attn_output",
                "mlp.gate_proj" => "ffn_gate",
                "mlp.up_proj" => "ffn_up",
                "mlp.gate_up_proj" => "ffn_up",
                "mlp.down_proj" => "ffn_down",
                "block_sparse_moe.gate" => "ffn_gate_inp",
                _ => return expert_name(layer, part).map(|name| format!("{name}.{kind}")),
            };
            format!("blk.{layer}.{part}")
        }
    };
    Some(format!("{stem}.{kind}"))
}

/// `block_sparse_moe.experts.E.w1`, `w3` and `w2` are an expert's gate, up and down.
fn expert_name(layer: &str, part: &str) -> Option<String> {
    let (expert, part) = part.strip_prefix("block_sparse_moe.experts.")?.split_once('.')?;
    let part = match part {
        "w1" => "ffn_gate",
        "w2" => "ffn_down",
        "w3" => "ffn_up",
        _ => return None,
    };
    Some(format!("blk.{layer}.{part}.{expert}"))
}

/// What `transformers` takes where a `config.json` is silent, by `model_type`.
struct Defaults {
    architecture: Architecture,
    norm_eps: f64,
    n_kv_heads: Option<usize>,
    rope_base: f64,
    /// The sliding window, and whether it must be switched on by `use_sliding_window`.
    window: Option<usize>,
    window_is_optional: bool,
    head_dim: Option<usize>,
}

impl Defaults {
    fn of(model_type: &str) -> Result<Self> {
        let plain = Self {
            architecture: Architecture::Llama,
            norm_eps: 1e-6,
            n_kv_heads: None,
            rope_base: 1e4,
            window: None,
            window_is_optional: false,
            head_dim: None,
        };
        Ok(match model_type {
            "llama" => plain,
            "mistral" => Self { n_kv_heads: Some(8), window: Some(4096), ..plain },
            "mixtral" => Self { n_kv_heads: Some(8), norm_eps: 1e-5, rope_base: 1e6, ..plain },
            "phi3" => Self { architecture: Architecture::Phi3, norm_eps: 1e-5, ..plain },
            "phimoe" => Self {
                architecture: Architecture::PhiMoe,
                norm_eps: 1e-5,
                rope_base: 1e6,
                n_kv_heads: Some(8),
                ..plain
            },
            "qwen2" => {
                Self { architecture: Architecture::Qwen2, window: Some(4096), window_is_optional: true, ..plain }
            }
            "qwen3" => Self {
                architecture: Architecture::Qwen3,
                window: Some(4096),
                window_is_optional: true,
                head_dim: Some(128),
                ..plain
            },
            other => return Err(Architecture::unsupported(other)),
        })
    }
}

impl Config {
    /// From `config.json`, as the model hub has it (`rope_theta`, `rope_scaling`) or as newer `transformers` write it
    /// (`rope_parameters`). Absent keys have the defaults of `transformers`.
    pub fn from_hugging_face(json: &Value) -> Result<Self> {
        let model_type = json.get("model_type").and_then(Value::as_str).unwrap_or("(none)");
        let defaults = Defaults::of(model_type)?;
        let architecture = defaults.architecture;
        let keys = Keys { json };
        if keys.flag("mlp_bias") {
            let what = "`mlp_bias`".into();
            return Err(Error::Unsupported { what, supported: "feed-forward blocks without biases".into() });
        }
        let act = json.get("hidden_act").and_then(Value::as_str).unwrap_or("silu");
        if !matches!(act, "silu" | "swish") {
            return Err(Error::Unsupported { what: format!("activation `{act}`"), supported: "silu".into() });
        }
        let (n_embd, n_heads) = (keys.count("hidden_size")?, keys.count("num_attention_heads")?);
        let head_dim = match keys.optional("head_dim")?.or(defaults.head_dim.filter(|_| !json_has(json, "head_dim"))) {
            Some(dim) => dim,
            None if n_heads > 0 && n_embd.is_multiple_of(n_heads) => n_embd / n_heads,
            None => return Err(Error::config(format!("{n_heads} heads do not divide a hidden size of {n_embd}"))),
        };
        let n_kv_heads = match keys.optional("num_key_value_heads")? {
            None if json_has(json, "num_key_value_heads") => n_heads,
            given => given.or(defaults.n_kv_heads).unwrap_or(n_heads),
        };
        let attention_bias = keys.flag("attention_bias");
        let context = keys.optional("max_position_embeddings")?.unwrap_or(2048);
        let config = Self {
            architecture,
            n_layers: keys.count("num_hidden_layers")?,
            n_embd,
            n_heads,
            n_kv_heads,
            head_dim,
            n_ff: keys.count("intermediate_size")?,
            n_vocab: keys.count("vocab_size")?,
            context,
            norm: architecture.norm(),
            norm_eps: json.get("rms_norm_eps").and_then(Value::as_f64).unwrap_or(defaults.norm_eps) as f32,
            biases: Biases {
                // Qwen 2 has them on queries, keys and values whatever the configuration says.
                attn_qkv: attention_bias || architecture == Architecture::Qwen2,
                attn_output: attention_bias && architecture != Architecture::Qwen2,
                output: architecture == Architecture::PhiMoe && keys.flag("lm_head_bias"),
            },
            sliding_window: keys.window(&defaults, model_type)?,
            tied: keys.flag("tie_word_embeddings"),
            rope: rope(json, &defaults, head_dim, context)?,
            experts: keys.experts(architecture, model_type)?,
        };
        config.check()
    }
}

/// The key is there, if only as null.
fn json_has(json: &Value, key: &str) -> bool {
    json.get(key).is_some()
}

/// `rope_parameters` of the newer layout, or `rope_theta` beside `rope_scaling` of the older one.
fn rope(json: &Value, defaults: &Defaults, head_dim: usize, context: usize) -> Result<Rope> {
    let inside = |key: &str| in_rope_scaling(json, key);
    let number = |key: &str| inside(key).or_else(|| json.get(key)).and_then(Value::as_f64);
    let base = number("rope_theta").unwrap_or(defaults.rope_base);
    let partial = match defaults.architecture {
        Architecture::Phi3 => number("partial_rotary_factor").unwrap_or(1.0),
        _ => 1.0,
    };
    let dim = (head_dim as f64 * partial) as usize;
    let mut frequencies = rope_frequencies(base, dim)?;
    let kind = inside("rope_type").or_else(|| inside("type")).and_then(Value::as_str).unwrap_or("default");
    let need = |key: &str| number(key).ok_or_else(|| Error::config(format!("rope scaling `{kind}` needs `{key}`")));
    let mut rope = Rope { dim, interleaved: false, base, frequencies: Vec::new(), scale: 1.0, long: None };
    match kind {
        "default" => {}
        "linear" => {
            let factor = need("factor")?;
            frequencies.iter_mut().for_each(|f| *f /= factor);
        }
        "longrope" | "su" => return long_rope(json, &frequencies, context, rope),
        // What the first files of Phi-3 call the same thing.
        "yarn" if defaults.architecture == Architecture::Phi3 => return long_rope(json, &frequencies, context, rope),
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
                supported: "default, linear, llama3, longrope".into(),
            });
        }
    }
    rope.frequencies = frequencies;
    Ok(rope)
}

/// A value of the object that tells of rope, by its newer name or its older one.
fn in_rope_scaling<'a>(json: &'a Value, key: &str) -> Option<&'a Value> {
    let scaling = ["rope_parameters", "rope_scaling"].iter().find_map(|key| json.get(*key).filter(|v| v.is_object()));
    scaling.and_then(|scaling| scaling.get(key))
}

/// LongRoPE: two sets of factors, and a scale that follows from how much longer the context became unless it is given.
fn long_rope(json: &Value, frequencies: &[f64], context: usize, rope: Rope) -> Result<Rope> {
    let inside = |key: &str| in_rope_scaling(json, key);
    let factors = |key: &str| -> Result<Vec<f64>> {
        let list = inside(key).and_then(Value::as_array);
        let list = list.ok_or_else(|| Error::config(format!("LongRoPE needs `{key}`, a list")))?;
        // What is no number becomes one that `divided` refuses.
        divided(frequencies, &list.iter().map(|v| v.as_f64().unwrap_or(f64::NAN)).collect::<Vec<_>>(), key)
    };
    let original = "original_max_position_embeddings";
    let original = match inside(original).or_else(|| json.get(original)) {
        Some(value) => value.as_u64().ok_or_else(|| Error::config(format!("`{original}` is {value}, not a count")))?,
        None => context as u64,
    };
    let original = usize::try_from(original).unwrap_or(usize::MAX);
    let number = |key: &str| inside(key).and_then(Value::as_f64);
    let factor = number("factor").unwrap_or(context as f64 / original as f64);
    let scale = number("attention_factor").unwrap_or_else(|| longrope_scale(factor, original));
    // Phi-3.5-MoE gives the scale of each set by itself.
    let [short_scale, long_scale] = ["short_mscale", "long_mscale"].map(|key| number(key).unwrap_or(scale));
    let long = LongRope { original, frequencies: factors("long_factor")?, scale: long_scale };
    Ok(Rope { frequencies: factors("short_factor")?, scale: short_scale, long: Some(long), ..rope })
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

    fn flag(&self, key: &str) -> bool {
        self.json.get(key).and_then(Value::as_bool).unwrap_or(false)
    }

    fn window(&self, defaults: &Defaults, model_type: &str) -> Result<Option<usize>> {
        // Llama has none, whatever its configuration says.
        if model_type == "llama" || defaults.window_is_optional && !self.flag("use_sliding_window") {
            return Ok(None);
        }
        let window = match self.optional("sliding_window")? {
            None if !json_has(self.json, "sliding_window") => defaults.window,
            given => given,
        };
        if !defaults.window_is_optional || window.is_none() {
            return Ok(window);
        }
        let (first, n_layers) = (self.optional("max_window_layers")?.unwrap_or(28), self.count("num_hidden_layers")?);
        match first {
            0 => Ok(window),
            first if first >= n_layers => Ok(None),
            first => Err(Error::Unsupported {
                what: format!("a sliding window from layer {first} on"),
                supported: "a window in all layers or in none".into(),
            }),
        }
    }

    fn experts(&self, architecture: Architecture, model_type: &str) -> Result<Option<Experts>> {
        let routing = match (architecture, model_type) {
            (Architecture::PhiMoe, _) => {
                let jitter = self.json.get("router_jitter_noise").and_then(Value::as_f64).unwrap_or(0.01);
                Routing::SparseMixer { jitter: jitter as f32 }
            }
            (_, "mixtral") => Routing::TopK,
            _ => return Ok(None),
        };
        let default = if architecture == Architecture::PhiMoe { 16 } else { 8 };
        let n = self.optional("num_local_experts")?.unwrap_or(default);
        Ok(Some(Experts { n, n_used: self.optional("num_experts_per_tok")?.unwrap_or(2), routing }))
    }

    fn count(&self, key: &str) -> Result<usize> {
        self.optional(key)?.ok_or_else(|| Error::config(format!("`{key}` is missing")))
    }
}
