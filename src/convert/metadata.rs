//! The metadata of a GGUF file: copied from another one, or made from a folder's configuration by the conventions that
//! llama.cpp reads.

use super::Output;
use crate::{
    error::{Error, Result},
    format::{ByteSource, Folder, TensorInfo, Value, WeightFormat, gguf_writer::GgufHeader},
    model::{Architecture, Config, LongRope, ModelFile, Rope, TextSource},
    text::gguf_metadata,
};
use std::sync::Arc;

/// Keys that speak of the weights' storage, which changes.
const STORAGE_KEYS: [&str; 3] = ["general.alignment", "general.file_type", "general.quantization_version"];

/// Adds every pair to `header`.
pub(super) async fn write(file: &ModelFile, format: WeightFormat, header: &mut GgufHeader) -> Result<()> {
    match &file.text {
        TextSource::Gguf(metadata) => {
            for (key, bytes) in metadata.encoded().await? {
                if !STORAGE_KEYS.contains(&key.as_str()) {
                    header.encoded_pair(&bytes);
                }
            }
        }
        TextSource::Folder(folder) => {
            write_config(&file.config, &name_of(folder), header)?;
            for (key, value) in gguf_metadata(folder, file.config.n_vocab)? {
                header.pair(&key, &value);
            }
        }
        TextSource::None => {
            write_config(&file.config, "random weights", header)?;
            // What llama.cpp takes for a vocabulary of ids without text.
            header.pair("tokenizer.ggml.model", &Value::String("no_vocab".into()));
        }
    }
    if let Some(kind) = file_type(format) {
        header.pair("general.file_type", &Value::Unsigned(kind));
    }
    header.pair("general.quantization_version", &Value::Unsigned(2));
    Ok(())
}

fn write_config(config: &Config, name: &str, header: &mut GgufHeader) -> Result<()> {
    let architecture = config.architecture.name();
    header.pair("general.architecture", &Value::String(architecture.into()));
    header.pair("general.type", &Value::String("model".into()));
    header.pair("general.name", &Value::String(name.into()));
    for (key, value) in hyperparameters(config)? {
        header.pair(&format!("{architecture}.{key}"), &value);
    }
    Ok(())
}

fn hyperparameters(config: &Config) -> Result<Vec<(&'static str, Value)>> {
    let mut pairs = Vec::new();
    let mut count = |key, n: usize| pairs.push((key, Value::Unsigned(n as u64)));
    count("block_count", config.n_layers);
    count("context_length", config.context);
    count("embedding_length", config.n_embd);
    count("feed_forward_length", config.n_ff);
    count("attention.head_count", config.n_heads);
    count("attention.head_count_kv", config.n_kv_heads);
    if config.q_dim() != config.n_embd {
        count("attention.key_length", config.head_dim);
        count("attention.value_length", config.head_dim);
    }
    match (config.sliding_window, config.architecture) {
        (Some(window), _) => count("attention.sliding_window", window),
        // llama.cpp takes Phi-3 without the key for a file from before there were windows.
        (None, Architecture::Phi3 | Architecture::PhiMoe) => count("attention.sliding_window", 0),
        (None, _) => {}
    }
    if let Some(experts) = config.experts {
        count("expert_count", experts.n);
        count("expert_used_count", experts.n_used);
    }
    count("vocab_size", config.n_vocab);
    count("rope.dimension_count", config.rope.dim);
    pairs.push(("rope.freq_base", Value::Float(config.rope.base)));
    // Where a LayerNorm is meant, llama.cpp's writer uses this key all the same.
    pairs.push(("attention.layer_norm_rms_epsilon", Value::Float(config.norm_eps as f64)));
    match Scaling::of(&config.rope) {
        Scaling::None | Scaling::Factors(_) => {}
        Scaling::Linear(factor) => {
            pairs.push(("rope.scaling.type", Value::String("linear".into())));
            pairs.push(("rope.scaling.factor", Value::Float(factor)));
        }
        Scaling::Long(long) if long.scale != config.rope.scale => {
            let what = format!("LongRoPE with a scale of {} and of {}, in GGUF,", config.rope.scale, long.scale);
            return Err(Error::Unsupported { what, supported: "one scale for both sets of factors".into() });
        }
        Scaling::Long(long) => {
            pairs.push(("rope.scaling.type", Value::String("longrope".into())));
            pairs.push(("rope.scaling.original_context_length", Value::Unsigned(long.original as u64)));
            pairs.push(("rope.scaling.attn_factor", Value::Float(long.scale)));
        }
    }
    Ok(pairs)
}

/// What the checkpoint calls itself, or else its folder's name.
fn name_of(folder: &Folder) -> String {
    let own = folder.config.get("_name_or_path").and_then(|name| name.as_str());
    let own = own.and_then(|name| name.rsplit(['/', '\\']).find(|part| !part.is_empty()));
    let folder_name = || folder.path.file_name().map(|name| name.to_string_lossy().into_owned());
    own.map(str::to_string).or_else(folder_name).unwrap_or_else(|| "model".into())
}

/// Tensors that GGUF has where a folder has numbers in its configuration.
pub(super) fn tensors(file: &ModelFile) -> Vec<Output> {
    let rope = &file.config.rope;
    match (&file.text, Scaling::of(rope)) {
        (TextSource::Folder(_) | TextSource::None, Scaling::Factors(factors)) => {
            vec![vector("rope_freqs.weight", &factors)]
        }
        (TextSource::Folder(_) | TextSource::None, Scaling::Long(long)) => vec![
            vector("rope_factors_long.weight", &rope.factors(&long.frequencies)),
            vector("rope_factors_short.weight", &rope.factors(&rope.frequencies)),
        ],
        _ => Vec::new(),
    }
}

/// How GGUF tells what the frequencies of rope are.
enum Scaling<'a> {
    None,
    Linear(f64),
    /// What each is divided by, as Llama 3 has it.
    Factors(Vec<f64>),
    Long(&'a LongRope),
}

impl<'a> Scaling<'a> {
    fn of(rope: &'a Rope) -> Self {
        let factors = rope.factors(&rope.frequencies);
        let first = factors[0];
        match (&rope.long, factors.iter().all(|factor| (factor / first - 1.0).abs() < 1e-9)) {
            (Some(long), _) => Self::Long(long),
            (None, true) if (first - 1.0).abs() < 1e-9 => Self::None,
            (None, true) => Self::Linear(first),
            (None, false) => Self::Factors(factors),
        }
    }
}

fn vector(name: &str, values: &[f64]) -> Output {
    let format = WeightFormat::F32;
    let values: Vec<f32> = values.iter().map(|&value| value as f32).collect();
    let bytes = Arc::new(ByteSource::memory(name, format.encode(&values)));
    let shape = vec![values.len()];
    let source = TensorInfo { name: name.into(), format, shape: shape.clone(), source: bytes, offset: 0 };
    Output { name: name.into(), shape, format, sources: vec![source], interleaved_head: None }
}

/// llama.cpp's number of the format that most of a file is in, for the name that it shows.
fn file_type(format: WeightFormat) -> Option<u64> {
    Some(match format {
        WeightFormat::F32 => 0,
        WeightFormat::F16 => 1,
        WeightFormat::Q4_0 => 2,
        WeightFormat::Q4_1 => 3,
        WeightFormat::Q8_0 => 7,
        WeightFormat::Q5_0 => 8,
        WeightFormat::Q5_1 => 9,
        WeightFormat::Q4_K => 14,
        WeightFormat::Q5_K => 16,
        WeightFormat::Q6_K => 18,
        WeightFormat::BF16 => 32,
        WeightFormat::Q4_G128 => return None,
    })
}
