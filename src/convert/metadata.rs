//! The metadata of a GGUF file: copied from another one, or made from a folder's configuration by the conventions that
//! llama.cpp reads.

use super::Output;
use crate::{
    error::Result,
    format::{ByteSource, Folder, TensorInfo, Value, WeightFormat, gguf_writer::GgufHeader},
    model::{Architecture, Config, ModelFile, TextSource},
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
        TextSource::Folder(folder) => write_folder(&file.config, folder, header)?,
        TextSource::None => {}
    }
    if let Some(kind) = file_type(format) {
        header.pair("general.file_type", &Value::Unsigned(kind));
    }
    header.pair("general.quantization_version", &Value::Unsigned(2));
    Ok(())
}

fn write_folder(config: &Config, folder: &Folder, header: &mut GgufHeader) -> Result<()> {
    let architecture = config.architecture.name();
    header.pair("general.architecture", &Value::String(architecture.into()));
    header.pair("general.type", &Value::String("model".into()));
    header.pair("general.name", &Value::String(name_of(folder)));
    for (key, value) in hyperparameters(config, folder) {
        header.pair(&format!("{architecture}.{key}"), &value);
    }
    for (key, value) in gguf_metadata(folder, config.n_vocab)? {
        header.pair(&key, &value);
    }
    Ok(())
}

fn hyperparameters(config: &Config, folder: &Folder) -> Vec<(&'static str, Value)> {
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
    match config.sliding_window {
        Some(window) => count("attention.sliding_window", window),
        // llama.cpp takes Phi-3 without the key for a file from before there were windows.
        None if config.architecture == Architecture::Phi3 => count("attention.sliding_window", 0),
        None => {}
    }
    count("rope.dimension_count", config.rope.dim);
    count("vocab_size", config.n_vocab);
    pairs.push(("attention.layer_norm_rms_epsilon", Value::Float(config.norm_eps as f64)));
    pairs.push(("rope.freq_base", Value::Float(rope_base(folder))));
    if let Scaling::Linear(factor) = Scaling::of(config, folder) {
        pairs.push(("rope.scaling.type", Value::String("linear".into())));
        pairs.push(("rope.scaling.factor", Value::Float(factor)));
    }
    pairs
}

fn rope_base(folder: &Folder) -> f64 {
    let inside = folder.config.get("rope_parameters").and_then(|rope| rope.get("rope_theta"));
    inside.or_else(|| folder.config.get("rope_theta")).and_then(|base| base.as_f64()).unwrap_or(10000.0)
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
    let TextSource::Folder(folder) = &file.text else { return Vec::new() };
    match Scaling::of(&file.config, folder) {
        Scaling::Factors(factors) => vec![vector("rope_freqs.weight", &factors)],
        Scaling::None | Scaling::Linear(_) => Vec::new(),
    }
}

/// What the frequencies of rope are divided by.
enum Scaling {
    None,
    Linear(f64),
    Factors(Vec<f32>),
}

impl Scaling {
    fn of(config: &Config, folder: &Folder) -> Self {
        let (rope, base) = (&config.rope, rope_base(folder));
        let plain = |i: usize| base.powf(-2.0 * i as f64 / rope.dim as f64);
        let factors: Vec<f64> = rope.frequencies.iter().enumerate().map(|(i, f)| plain(i) / f).collect();
        let first = factors[0];
        match factors.iter().all(|factor| (factor / first - 1.0).abs() < 1e-9) {
            true if (first - 1.0).abs() < 1e-9 => Self::None,
            true => Self::Linear(first),
            false => Self::Factors(factors.iter().map(|&factor| factor as f32).collect()),
        }
    }
}

fn vector(name: &str, values: &[f32]) -> Output {
    let format = WeightFormat::F32;
    let bytes = Arc::new(ByteSource::memory(name, format.encode(values)));
    let shape = vec![values.len()];
    let source = TensorInfo { name: name.into(), format, shape: shape.clone(), source: bytes, offset: 0 };
    Output { name: name.into(), shape, format, source, interleaved_head: None }
}

/// llama.cpp's number of the format that most of a file is in, for the name that it shows.
fn file_type(format: WeightFormat) -> Option<u64> {
    Some(match format {
        WeightFormat::F32 => 0,
        WeightFormat::F16 => 1,
        WeightFormat::Q4_0 => 2,
        WeightFormat::Q4_1 => 3,
        WeightFormat::Q8_0 => 7,
        WeightFormat::BF16 => 32,
    })
}
