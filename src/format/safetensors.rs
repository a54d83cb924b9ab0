//! A Hugging Face model folder: configuration, tokenizer files, and safetensors shards.
//!
//! The `safetensors` crate checks each header; weights stay on disk.

use super::{block::WeightFormat, source::ByteSource, tensor::TensorInfo};
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
        let mut tensors = Vec::new();
        for shard in shards(path).await? {
            tensors.extend(read_header(Arc::new(ByteSource::open(&path.join(shard))?)).await?);
        }
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
        return Ok(vec!["model.safetensors".into()]);
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

async fn read_header(source: Arc<ByteSource>) -> Result<Vec<TensorInfo>> {
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
    let mut infos = Vec::new();
    for name in metadata.offset_keys() {
        let Some(info) = metadata.info(&name) else { continue };
        let format = match info.dtype {
            Dtype::F32 => WeightFormat::F32,
            Dtype::F16 => WeightFormat::F16,
            Dtype::BF16 => WeightFormat::BF16,
            // Buffers such as rotary tables or position ids come as integers; nothing reads them.
            Dtype::I64 | Dtype::I32 | Dtype::BOOL | Dtype::U8 => continue,
            other => {
                return Err(Error::Unsupported {
                    what: format!("dtype {other:?} of tensor `{name}`"),
                    supported: "F32, F16, BF16".into(),
                });
            }
        };
        let shape = info.shape.clone();
        if shape.is_empty() || shape.contains(&0) {
            return Err(corrupt(format!("tensor `{name}` has shape {shape:?}")));
        }
        let offset = data + info.data_offsets.0 as u64;
        infos.push(TensorInfo { name, format, shape, source: source.clone(), offset });
    }
    Ok(infos)
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
