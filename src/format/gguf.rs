//! GGUF versions 2 and 3: metadata and the table of tensors.
//!
//! Format: <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>. Every length is checked against the file's
//! size before anything is allocated from it.

use super::{block::WeightFormat, source::ByteSource, tensor::TensorInfo};
use crate::error::{Error, Result};
use std::{collections::HashMap, ops::Range, sync::Arc};

/// A header larger than this is not a model's: the largest vocabularies need about 20 MB.
const MAX_HEADER_BYTES: u64 = 64 << 20;
const MAX_DIMS: usize = 4;

/// A GGUF file's description: everything but the weights themselves.
#[derive(Debug)]
pub struct Gguf {
    pub metadata: Metadata,
    pub tensors: Vec<TensorInfo>,
    /// The format's version, 2 or 3.
    pub version: u32,
}

/// Key-value pairs of a GGUF header.
#[derive(Debug, Default, Clone)]
pub struct Metadata {
    values: HashMap<String, Value>,
    /// The file that the pairs were read from.
    origin: Option<Arc<ByteSource>>,
    /// Where in it each of them is, in its order.
    places: Vec<(String, Range<u64>)>,
}

/// One metadata value; integers and floats are widened, since no reader cares for their storage.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    Bool(bool),
    String(String),
    Integers(Vec<i64>),
    Floats(Vec<f32>),
    Bools(Vec<bool>),
    Strings(Vec<String>),
}

impl Metadata {
    /// The value of `key`.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.values.get(key)
    }

    /// Adds or replaces a value.
    pub fn insert(&mut self, key: &str, value: Value) {
        self.values.insert(key.into(), value);
    }

    /// All pairs, sorted by key.
    pub fn sorted(&self) -> Vec<(&str, &Value)> {
        let mut pairs: Vec<_> = self.values.iter().map(|(key, value)| (key.as_str(), value)).collect();
        pairs.sort_by_key(|pair| pair.0);
        pairs
    }

    /// All pairs, sorted by key.
    pub fn into_pairs(self) -> Vec<(String, Value)> {
        let mut pairs: Vec<_> = self.values.into_iter().collect();
        pairs.sort_by(|a, b| a.0.cmp(&b.0));
        pairs
    }

    /// The pairs in the bytes, and the order, of the file that they were read from: key by key what another file can
    /// hold unchanged, whatever the storage type. Of pairs with one key the last counts, as everywhere here. Empty for
    /// metadata that no file had.
    ///
    /// Errors: those of reading the file.
    pub async fn encoded(&self) -> Result<Vec<(String, Vec<u8>)>> {
        let mut pairs = Vec::new();
        let Some(source) = &self.origin else { return Ok(pairs) };
        let last: HashMap<&str, u64> = self.places.iter().map(|(key, place)| (key.as_str(), place.start)).collect();
        for (key, place) in self.places.iter().filter(|(key, place)| last[key.as_str()] == place.start) {
            let mut bytes = vec![0; (place.end - place.start) as usize];
            source.read_at(place.start, &mut bytes).await?;
            pairs.push((key.clone(), bytes));
        }
        Ok(pairs)
    }

    /// A non-negative integer; `None` when absent or of another kind.
    pub fn unsigned(&self, key: &str) -> Option<u64> {
        match self.get(key)? {
            Value::Unsigned(v) => Some(*v),
            Value::Signed(v) => u64::try_from(*v).ok(),
            _ => None,
        }
    }

    /// A float; integers are converted.
    pub fn float(&self, key: &str) -> Option<f64> {
        match self.get(key)? {
            Value::Float(v) => Some(*v),
            Value::Unsigned(v) => Some(*v as f64),
            Value::Signed(v) => Some(*v as f64),
            _ => None,
        }
    }

    /// A truth value.
    pub fn bool(&self, key: &str) -> Option<bool> {
        match self.get(key)? {
            Value::Bool(v) => Some(*v),
            _ => None,
        }
    }

    /// A string.
    pub fn string(&self, key: &str) -> Option<&str> {
        match self.get(key)? {
            Value::String(v) => Some(v),
            _ => None,
        }
    }

    /// An array of strings.
    pub fn strings(&self, key: &str) -> Option<&[String]> {
        match self.get(key)? {
            Value::Strings(v) => Some(v),
            _ => None,
        }
    }

    /// An array of integers.
    pub fn integers(&self, key: &str) -> Option<&[i64]> {
        match self.get(key)? {
            Value::Integers(v) => Some(v),
            _ => None,
        }
    }

    /// An array of floats.
    pub fn floats(&self, key: &str) -> Option<&[f32]> {
        match self.get(key)? {
            Value::Floats(v) => Some(v),
            _ => None,
        }
    }
}

impl Gguf {
    /// Reads the header of `source`; the weights stay where they are.
    ///
    /// Errors: [`Error::Corrupt`] for anything that breaks the format, [`Error::Unsupported`] for an unknown version
    /// or weight format, and for arrays of arrays in the metadata.
    pub async fn read(source: Arc<ByteSource>) -> Result<Self> {
        let mut header = Header::new(&source);
        if header.take(4).await? != *b"GGUF" {
            return Err(header.corrupt("it does not begin with `GGUF`"));
        }
        let version = header.u32().await?;
        if !(2..=3).contains(&version) {
            let what = match version.swap_bytes() {
                2 | 3 => "big-endian GGUF".to_string(),
                _ => format!("GGUF version {version}"),
            };
            return Err(Error::Unsupported { what, supported: "little-endian GGUF versions 2 and 3".into() });
        }
        let n_tensors = header.count("tensors", 24).await?;
        let n_pairs = header.count("metadata pairs", 12).await?;
        let metadata = read_metadata(&mut header, n_pairs).await?;
        let mut tensors = Vec::with_capacity(n_tensors);
        for _ in 0..n_tensors {
            tensors.push(header.tensor().await?);
        }
        let alignment = metadata.unsigned("general.alignment").unwrap_or(32);
        if !alignment.is_power_of_two() || alignment > 1 << 20 {
            return Err(header.corrupt(format!("alignment {alignment}")));
        }
        let data = header.position.next_multiple_of(alignment);
        let mut seen = std::collections::HashSet::new();
        let mut infos = Vec::with_capacity(n_tensors);
        for tensor in tensors {
            if !seen.insert(tensor.name.clone()) {
                return Err(Error::corrupt(source.name(), format!("tensor `{}` appears twice", tensor.name)));
            }
            infos.push(tensor.locate(&source, data)?);
        }
        Ok(Self { metadata, tensors: infos, version })
    }
}

async fn read_metadata(header: &mut Header<'_>, n_pairs: usize) -> Result<Metadata> {
    let mut metadata = Metadata::default();
    for _ in 0..n_pairs {
        let start = header.position;
        let key = header.string().await?;
        let kind = header.u32().await?;
        let value = header.value(kind).await?;
        metadata.places.push((key.clone(), start..header.position));
        metadata.values.insert(key, value);
    }
    metadata.origin = Some(header.source.clone());
    Ok(metadata)
}

/// A tensor as the header has it, before its place in the file is checked.
struct RawTensor {
    name: String,
    /// Fastest dimension first, as GGUF writes them.
    dims: Vec<u64>,
    kind: u32,
    offset: u64,
}

impl RawTensor {
    fn locate(self, source: &Arc<ByteSource>, data: u64) -> Result<TensorInfo> {
        let corrupt = |what: String| Error::corrupt(source.name(), format!("tensor `{}`: {what}", self.name));
        let Some(format) = WeightFormat::from_ggml(self.kind) else {
            return Err(Error::Unsupported {
                what: format!("the weight format {} of tensor `{}`", ggml_name(self.kind), self.name),
                supported: WeightFormat::names(),
            });
        };
        let n_weights = self.dims.iter().try_fold(1u64, |n, &d| n.checked_mul(d)).filter(|&n| n > 0);
        let Some(n_weights) = n_weights else {
            return Err(corrupt(format!("dimensions {:?}", self.dims)));
        };
        let (block_len, block_bytes) = (format.block_len() as u64, format.block_bytes() as u64);
        if !self.dims[0].is_multiple_of(block_len) {
            return Err(corrupt(format!("rows of {} do not fill blocks of {block_len}", self.dims[0])));
        }
        let n_bytes = (n_weights / block_len).checked_mul(block_bytes);
        let offset = data.checked_add(self.offset);
        match (offset, n_bytes) {
            (Some(offset), Some(n_bytes)) if offset.checked_add(n_bytes).is_some_and(|end| end <= source.n_bytes()) => {
                let shape = self.dims.iter().rev().map(|&d| d as usize).collect();
                Ok(TensorInfo { name: self.name, format, shape, source: source.clone(), offset })
            }
            _ => Err(corrupt(format!("its data lies beyond the file's {} bytes", source.n_bytes()))),
        }
    }
}

/// Buffered, bounds-checked reader of the header.
struct Header<'a> {
    source: &'a Arc<ByteSource>,
    position: u64,
    window: Vec<u8>,
    window_start: u64,
}

impl<'a> Header<'a> {
    fn new(source: &'a Arc<ByteSource>) -> Self {
        Self { source, position: 0, window: Vec::new(), window_start: 0 }
    }

    fn corrupt(&self, what: impl Into<String>) -> Error {
        Error::corrupt(self.source.name(), format!("{} (at byte {})", what.into(), self.position))
    }

    /// The next `n` bytes.
    async fn bytes(&mut self, n: u64) -> Result<&[u8]> {
        let left = self.source.n_bytes().min(MAX_HEADER_BYTES).saturating_sub(self.position);
        if n > left {
            return Err(self.corrupt(format!("the header needs {n} more bytes, {left} are left")));
        }
        let in_window = self.position - self.window_start;
        if in_window + n > self.window.len() as u64 {
            let length = n.max(1 << 18).min(left);
            self.window.resize(length as usize, 0);
            self.source.read_at(self.position, &mut self.window).await?;
            self.window_start = self.position;
        }
        let start = (self.position - self.window_start) as usize;
        self.position += n;
        Ok(&self.window[start..start + n as usize])
    }

    async fn take(&mut self, n: u64) -> Result<Vec<u8>> {
        Ok(self.bytes(n).await?.to_vec())
    }

    async fn u32(&mut self) -> Result<u32> {
        let bytes = self.bytes(4).await?;
        Ok(u32::from_le_bytes(bytes.try_into().expect("four bytes")))
    }

    async fn u64(&mut self) -> Result<u64> {
        let bytes = self.bytes(8).await?;
        Ok(u64::from_le_bytes(bytes.try_into().expect("eight bytes")))
    }

    /// A count of things that take at least `min_bytes` each: never more than the rest of the file can hold.
    async fn count(&mut self, what: &str, min_bytes: u64) -> Result<usize> {
        let n = self.u64().await?;
        let left = self.source.n_bytes().min(MAX_HEADER_BYTES) - self.position;
        if n > left / min_bytes {
            return Err(self.corrupt(format!("{n} {what} do not fit the file")));
        }
        Ok(n as usize)
    }

    /// Text; bytes that are no UTF-8 are replaced, since one odd vocabulary entry does not spoil a model.
    async fn string(&mut self) -> Result<String> {
        let n = self.u64().await?;
        Ok(String::from_utf8_lossy(self.bytes(n).await?).into_owned())
    }

    async fn value(&mut self, kind: u32) -> Result<Value> {
        Ok(match kind {
            8 => Value::String(self.string().await?),
            9 => self.array().await?,
            _ => {
                let n = scalar_bytes(kind).ok_or_else(|| self.corrupt(format!("metadata type {kind}")))?;
                scalar(kind, self.bytes(n).await?)
            }
        })
    }

    async fn array(&mut self) -> Result<Value> {
        let kind = self.u32().await?;
        if kind == 8 {
            let n = self.count("strings", 8).await?;
            let mut strings = Vec::with_capacity(n);
            for _ in 0..n {
                strings.push(self.string().await?);
            }
            return Ok(Value::Strings(strings));
        }
        if kind == 9 {
            // The format allows it; nobody was seen to use it.
            let (what, supported) =
                ("an array of arrays in the metadata".into(), "arrays of strings and numbers".into());
            return Err(Error::Unsupported { what, supported });
        }
        let size = scalar_bytes(kind).ok_or_else(|| self.corrupt(format!("array of metadata type {kind}")))?;
        let n = self.count("array elements", size).await?;
        let bytes = self.bytes(n as u64 * size).await?;
        let scalars = bytes.chunks_exact(size as usize).map(|b| scalar(kind, b));
        Ok(match kind {
            6 | 12 => Value::Floats(scalars.map(|v| if let Value::Float(v) = v { v as f32 } else { 0.0 }).collect()),
            7 => Value::Bools(scalars.map(|v| v == Value::Bool(true)).collect()),
            _ => Value::Integers(
                scalars
                    .map(|v| match v {
                        Value::Unsigned(v) => v as i64,
                        Value::Signed(v) => v,
                        _ => 0,
                    })
                    .collect(),
            ),
        })
    }

    async fn tensor(&mut self) -> Result<RawTensor> {
        let name = self.string().await?;
        let n_dims = self.u32().await? as usize;
        if n_dims == 0 || n_dims > MAX_DIMS {
            return Err(self.corrupt(format!("tensor `{name}` has {n_dims} dimensions")));
        }
        let mut dims = Vec::with_capacity(n_dims);
        for _ in 0..n_dims {
            dims.push(self.u64().await?);
        }
        Ok(RawTensor { name, dims, kind: self.u32().await?, offset: self.u64().await? })
    }
}

fn scalar_bytes(kind: u32) -> Option<u64> {
    Some(match kind {
        0 | 1 | 7 => 1,
        2 | 3 => 2,
        4..=6 => 4,
        10..=12 => 8,
        _ => return None,
    })
}

/// `bytes` has exactly [`scalar_bytes`] of `kind`.
fn scalar(kind: u32, bytes: &[u8]) -> Value {
    let mut wide = [0u8; 8];
    wide[..bytes.len()].copy_from_slice(bytes);
    let word = u64::from_le_bytes(wide);
    match kind {
        1 => Value::Signed(word as u8 as i8 as i64),
        3 => Value::Signed(word as u16 as i16 as i64),
        5 => Value::Signed(word as u32 as i32 as i64),
        6 => Value::Float(f32::from_bits(word as u32) as f64),
        7 => Value::Bool(word != 0),
        11 => Value::Signed(word as i64),
        12 => Value::Float(f64::from_bits(word)),
        _ => Value::Unsigned(word),
    }
}

/// ggml's name of a tensor type, for messages about those we cannot run.
fn ggml_name(kind: u32) -> String {
    let name = match kind {
        9 => "Q8_1",
        10 => "Q2_K",
        11 => "Q3_K",
        15 => "Q8_K",
        16 => "IQ2_XXS",
        17 => "IQ2_XS",
        18 => "IQ3_XXS",
        19 => "IQ1_S",
        20 => "IQ4_NL",
        21 => "IQ3_S",
        22 => "IQ2_S",
        23 => "IQ4_XS",
        24 => "I8",
        25 => "I16",
        26 => "I32",
        27 => "I64",
        28 => "F64",
        29 => "IQ1_M",
        34 => "TQ1_0",
        35 => "TQ2_0",
        39 => "MXFP4",
        _ => return format!("number {kind}"),
    };
    name.into()
}
