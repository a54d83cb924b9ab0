//! A Hugging Face model folder: configuration, tokenizer files, and safetensors shards.
//!
//! The `safetensors` crate checks each header; weights stay on disk.

use super::{
    block::WeightFormat,
    gptq::{self, Words},
    source::ByteSource,
    tensor::TensorInfo,
};
use crate::error::{Error, Result};
use safetensors::{Dtype, tensor::Metadata};
use serde_json::Value;
use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::Arc,
};

/// The format's own limit on a header.
const MAX_HEADER_BYTES: u64 = 100_000_000;
/// JSON and template files larger than this are refused; the largest tokenizers take about 35 MB.
const MAX_TEXT_BYTES: u64 = 128 << 20;

/// What a model folder holds.
#[derive(Debug)]
pub struct Folder {
    pub path: PathBuf,
    pub config: Value,
    pub generation_config: Option<Value>,
    pub tokenizer_config: Option<Value>,
    pub tokenizer: Option<Vec<u8>>,
    /// `chat_template.jinja`, which newer checkpoints have beside `tokenizer_config.json`.
    pub chat_template: Option<String>,
    pub tensors: Vec<TensorInfo>,
}

impl Folder {
    /// Reads the folder's JSON files and the headers of its shards.
    ///
    /// Errors: [`Error::Io`], [`Error::Corrupt`], [`Error::Unsupported`] for a dtype without a weight format.
    pub async fn read(path: &Path) -> Result<Self> {
        let config = read_json(path, "config.json")
            .await?
            .ok_or_else(|| Error::Io { path: path.join("config.json"), source: std::io::ErrorKind::NotFound.into() })?;
        let (mut tensors, mut words) = (Vec::new(), Vec::new());
        for shard in shards(path).await? {
            read_header(Arc::new(ByteSource::open(&path.join(shard))?), &mut tensors, &mut words).await?;
        }
        gptq::assemble(&config, &mut tensors, words).await?;
        let mut seen = BTreeSet::new();
        if let Some(twice) = tensors.iter().find(|t| !seen.insert(t.name.as_str())) {
            return Err(Error::corrupt(twice.source.name(), format!("tensor `{}` is in two shards", twice.name)));
        }
        Ok(Self {
            path: path.into(),
            config,
            generation_config: read_json(path, "generation_config.json").await?,
            tokenizer_config: read_json(path, "tokenizer_config.json").await?,
            tokenizer: read_text(path, "tokenizer.json").await?,
            chat_template: read_text(path, "chat_template.jinja")
                .await?
                .map(|bytes| String::from_utf8_lossy(&bytes).into_owned()),
            tensors,
        })
    }
}

/// File names of the shards, from the index where there is one.
async fn shards(path: &Path) -> Result<Vec<String>> {
    const INDEX: &str = "model.safetensors.index.json";
    let Some(index) = read_json(path, INDEX).await? else {
        return Ok(vec![only_shard(path)]);
    };
    let map = index.get("weight_map").and_then(Value::as_object);
    let map = map.ok_or_else(|| Error::corrupt(INDEX, "it has no `weight_map`"))?;
    let mut names = BTreeSet::new();
    for file in map.values() {
        let name = file.as_str().unwrap_or_default();
        // A shard is a file of this folder: a path that leaves it is an attack, not a model.
        if !name.ends_with(".safetensors") || Path::new(name).file_name() != Some(name.as_ref()) {
            return Err(Error::corrupt(INDEX, format!("shard name {file}")));
        }
        names.insert(name.to_string());
    }
    Ok(names.into_iter().collect())
}

/// `model.safetensors`, or another name if that file is the only one of its kind: older quantisers name it after its
/// format.
fn only_shard(path: &Path) -> String {
    let usual = "model.safetensors".to_string();
    let names =
        std::fs::read_dir(path).into_iter().flatten().flatten().filter_map(|e| e.file_name().into_string().ok());
    let names: Vec<String> = names.filter(|name| name.ends_with(".safetensors")).collect();
    match names.as_slice() {
        [only] => only.clone(),
        _ => usual,
    }
}

/// Adds the shard's tensors to `tensors`, and those of 32-bit words to `words`.
async fn read_header(source: Arc<ByteSource>, tensors: &mut Vec<TensorInfo>, words: &mut Vec<Words>) -> Result<()> {
    let corrupt = |what: String| Error::corrupt(source.name(), what);
    let mut length = [0; 8];
    source.read_at(0, &mut length).await?;
    let length = u64::from_le_bytes(length);
    if length > MAX_HEADER_BYTES || length > source.n_bytes() - 8 {
        return Err(corrupt(format!("a header of {length} bytes in a file of {}", source.n_bytes())));
    }
    let mut header = vec![0; length as usize];
    source.read_at(8, &mut header).await?;
    let metadata: Metadata = serde_json::from_slice(&header).map_err(|e| corrupt(format!("header: {e}")))?;
    let data = 8 + length;
    if metadata.data_len() as u64 > source.n_bytes() - data {
        let (needed, found) = (metadata.data_len(), source.n_bytes() - data);
        return Err(corrupt(format!("its tensors need {needed} bytes, {found} are there")));
    }
    for name in metadata.offset_keys() {
        let Some(info) = metadata.info(&name) else { continue };
        let (shape, offset) = (info.shape.clone(), data + info.data_offsets.0 as u64);
        let format = match info.dtype {
            Dtype::F32 => WeightFormat::F32,
            Dtype::F16 => WeightFormat::F16,
            Dtype::BF16 => WeightFormat::BF16,
            // Eight 4-bit weights to a word, if the configuration says so.
            Dtype::I32 => {
                words.push(Words { name, shape, source: source.clone(), offset });
                continue;
            }
            // Buffers such as rotary tables or position ids come as integers; nothing reads them.
            Dtype::I64 | Dtype::BOOL | Dtype::U8 => continue,
            other => {
                return Err(Error::Unsupported {
                    what: format!("dtype {other:?} of tensor `{name}`"),
                    supported: "F32, F16, BF16".into(),
                });
            }
        };
        if shape.is_empty() || shape.contains(&0) {
            return Err(corrupt(format!("tensor `{name}` has shape {shape:?}")));
        }
        tensors.push(TensorInfo { name, format, shape, source: source.clone(), offset });
    }
    Ok(())
}

/// A file of the folder, `None` when it is not there.
async fn read_text(folder: &Path, name: &str) -> Result<Option<Vec<u8>>> {
    let source = match ByteSource::open(&folder.join(name)) {
        Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    if source.n_bytes() > MAX_TEXT_BYTES {
        return Err(Error::corrupt(name, format!("{} bytes are too many for such a file", source.n_bytes())));
    }
    let mut bytes = vec![0; source.n_bytes() as usize];
    source.read_at(0, &mut bytes).await?;
    Ok(Some(bytes))
}

async fn read_json(folder: &Path, name: &str) -> Result<Option<Value>> {
    let Some(bytes) = read_text(folder, name).await? else { return Ok(None) };
    serde_json::from_slice(&bytes).map(Some).map_err(|e| Error::corrupt(name, e.to_string()))
}
