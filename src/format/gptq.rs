//! GPTQ and AWQ folders: which tensors together are one 4-bit linear layer, and whether it is of a kind that our blocks
//! can hold. Nothing but zeros and group indices is read here.

use super::{
    block::WeightFormat,
    packed_layer::{BLOCK_COLUMNS, Method, PackedLayer, Place},
    source::ByteSource,
    tensor::TensorInfo,
};
use crate::error::{Error, Result};
use serde_json::Value;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

/// A tensor of 32-bit words in a safetensors file.
#[derive(Debug)]
pub(super) struct Words {
    pub(super) name: String,
    pub(super) shape: Vec<usize>,
    pub(super) source: Arc<ByteSource>,
    pub(super) offset: u64,
}

/// `quantization_config` of a `config.json`, as far as it says how words are packed.
#[derive(Debug)]
struct Scheme {
    method: Method,
    /// Columns that share a scale; `None` for a whole row.
    group: Option<usize>,
    zero_offset: u32,
    /// Whether columns may belong to groups in any order.
    desc_act: bool,
}

/// Replaces the tensors of each packed layer by one tensor, `NAME.weight`, with rows of 4-bit blocks.
///
/// Errors: [`Error::Unsupported`] for other methods, widths and orders; [`Error::MissingTensor`] and [`Error::Shape`] for
/// layers whose tensors do not belong together.
pub(super) async fn assemble(config: &Value, tensors: &mut Vec<TensorInfo>, words: Vec<Words>) -> Result<()> {
    let Some(quantization) = config.get("quantization_config").filter(|value| !value.is_null()) else { return Ok(()) };
    let scheme = Scheme::read(quantization)?;
    let words: HashMap<&str, &Words> = words.iter().map(|words| (words.name.as_str(), words)).collect();
    let mut stems: Vec<&str> = words.keys().filter_map(|name| name.strip_suffix(".qweight")).collect();
    stems.sort();
    let mut layers = Vec::new();
    for stem in stems {
        let at = tensors.iter().position(|tensor| tensor.name.strip_suffix(".scales") == Some(stem));
        let scales = tensors.swap_remove(at.ok_or_else(|| missing(stem, "scales"))?);
        let layer = scheme.layer(stem, &words, &scales).await?;
        layers.push(TensorInfo {
            name: format!("{stem}.weight"),
            format: layer.format,
            shape: vec![layer.rows, layer.columns],
            source: Arc::new(ByteSource::layer(scales.source.name(), layer)),
            offset: 0,
        });
    }
    tensors.extend(layers);
    Ok(())
}

impl Scheme {
    fn read(json: &Value) -> Result<Self> {
        let text = |key: &str| json.get(key).and_then(Value::as_str).map(str::to_ascii_lowercase);
        let number = |keys: [&str; 2]| keys.iter().find_map(|key| json.get(*key)).and_then(Value::as_i64);
        let unsupported = |what: String, supported: &str| Err(Error::Unsupported { what, supported: supported.into() });
        let method = match text("quant_method").as_deref() {
            Some("gptq") => Method::Gptq,
            Some("awq") => Method::Awq,
            other => {
                let what = format!("the quantisation method `{}`", other.unwrap_or("(none)"));
                return unsupported(what, "gptq and awq with 4 bits, folders of plain weights, GGUF files");
            }
        };
        if number(["bits", "w_bit"]) != Some(4) {
            let bits = json.get("bits").or(json.get("w_bit")).unwrap_or(&Value::Null);
            return unsupported(format!("quantisation to {bits} bits"), "gptq and awq with 4 bits");
        }
        let (layout, plain) = match method {
            Method::Gptq => (text("checkpoint_format"), ["gptq", "gptq_v2"]),
            Method::Awq => (text("version"), ["gemm", "gemm"]),
        };
        let layout = layout.unwrap_or(plain[0].into());
        if !plain.contains(&layout.as_str()) || text("pack_dtype").is_some_and(|dtype| dtype != "int32") {
            let what = format!("quantised weights packed as `{layout}`");
            return unsupported(what, "gptq as `gptq` or `gptq_v2`, awq as `gemm`, in words of 32 bits");
        }
        let group = match number(["group_size", "q_group_size"]) {
            Some(-1) | None => None,
            Some(n) if n > 0 && (n as usize).is_multiple_of(BLOCK_COLUMNS) => Some(n as usize),
            Some(n) => return unsupported(format!("quantisation in groups of {n}"), "multiples of 32, and -1"),
        };
        let zero_offset = if method == Method::Gptq && layout == "gptq" { 0x1111_1111 } else { 0 };
        let desc_act = json.get("desc_act").and_then(Value::as_bool).unwrap_or(false);
        Ok(Self { method, group, zero_offset, desc_act })
    }

    /// Checks that the tensors of one layer belong together.
    async fn layer(&self, stem: &str, words: &HashMap<&str, &Words>, scales: &TensorInfo) -> Result<PackedLayer> {
        let find =
            |part: &str| words.get(format!("{stem}.{part}").as_str()).ok_or_else(|| missing(stem, part)).copied();
        let (qweight, qzeros) = (find("qweight")?, find("qzeros")?);
        let [height, width] = match qweight.shape[..] {
            [height, width] if height > 0 && width > 0 => [height, width],
            _ => return Err(Error::corrupt(qweight.source.name(), format!("`{stem}.qweight` is not a matrix"))),
        };
        // The header's own check bounds both, since every word is in the file.
        let (rows, columns) = match self.method {
            Method::Gptq => (width, 8 * height),
            Method::Awq => (8 * width, height),
        };
        if !columns.is_multiple_of(BLOCK_COLUMNS) || !rows.is_multiple_of(8) {
            return Err(Error::Unsupported {
                what: format!("the quantised layer `{stem}` of {rows} rows with {columns} weights"),
                supported: "multiples of 8 rows with multiples of 32 weights".into(),
            });
        }
        let group = self.group.unwrap_or(columns);
        let n_groups = columns.div_ceil(group);
        for (name, found, expected) in
            [("scales", &scales.shape, [n_groups, rows]), ("qzeros", &qzeros.shape, [n_groups, rows / 8])]
        {
            if *found != expected {
                let (expected, found) = (expected.to_vec(), found.clone());
                return Err(Error::Shape { name: format!("{stem}.{name}"), expected, found });
            }
        }
        let scales_are_bf16 = match scales.format {
            WeightFormat::F16 => false,
            WeightFormat::BF16 => true,
            other => {
                let what = format!("`{stem}.scales` in {other}");
                return Err(Error::Unsupported { what, supported: "scales in f16 and bf16".into() });
            }
        };
        if self.method == Method::Gptq {
            self.check_order(stem, find("g_idx").ok(), columns, group).await?;
        }
        let place = |words: &Words| Place { source: words.source.clone(), offset: words.offset };
        let mut layer = PackedLayer {
            method: self.method,
            rows,
            columns,
            group,
            zero_offset: self.zero_offset,
            qweight: place(qweight),
            qzeros: place(qzeros),
            scales: Place { source: scales.source.clone(), offset: scales.offset },
            scales_are_bf16,
            format: WeightFormat::Q4_1,
            window: Mutex::default(),
        };
        if layer.is_symmetric().await? {
            // The larger block where it fits, since it stores each scale once.
            let fits = [group, columns].iter().all(|n| n.is_multiple_of(WeightFormat::Q4_G128.block_len()));
            layer.format = if fits { WeightFormat::Q4_G128 } else { WeightFormat::Q4_0 };
        }
        Ok(layer)
    }

    /// Column k belongs to group k / `group`, or no block could have one scale.
    async fn check_order(&self, stem: &str, g_idx: Option<&Words>, columns: usize, group: usize) -> Result<()> {
        let in_order = match g_idx {
            Some(g_idx) if g_idx.shape != [columns] => {
                let (expected, found) = (vec![columns], g_idx.shape.clone());
                return Err(Error::Shape { name: format!("{stem}.g_idx"), expected, found });
            }
            Some(g_idx) => {
                let mut bytes = vec![0; 4 * columns];
                g_idx.source.read_at(g_idx.offset, &mut bytes).await?;
                let of_column = bytes.chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]) as usize);
                of_column.enumerate().all(|(column, found)| found == column / group)
            }
            None => !self.desc_act || columns <= group,
        };
        match in_order {
            true => Ok(()),
            false => Err(Error::Unsupported {
                what: format!("act-order in GPTQ (`desc_act`: the columns of `{stem}` are grouped out of order)"),
                supported: "GPTQ with `desc_act` false or static groups, AWQ, and GGUF files of the same model".into(),
            }),
        }
    }
}

fn missing(stem: &str, part: &str) -> Error {
    Error::MissingTensor { name: format!("{stem}.{part}") }
}
