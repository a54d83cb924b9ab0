//! Which tensors a file gets, and in which format each.

use super::Output;
use crate::{
    error::{Error, Result},
    format::{TensorInfo, WeightFormat},
    model::{Architecture, ModelFile, TextSource},
};

/// What to convert to.
#[derive(Debug, Clone)]
pub struct ConvertOptions {
    /// Of the matrices.
    pub format: WeightFormat,
    /// Exceptions; the first that fits a tensor's name counts.
    pub keep: Vec<Keep>,
}

/// Tensors that get a format of their own.
#[derive(Debug, Clone)]
pub struct Keep {
    /// A tensor's name, with or without `.weight`; `*` stands for any text and `?` for any character.
    pub pattern: String,
    pub format: WeightFormat,
}

impl Keep {
    fn fits(&self, name: &str) -> bool {
        let stem = name.strip_suffix(".weight").unwrap_or(name);
        glob(self.pattern.as_bytes(), name.as_bytes()) || glob(self.pattern.as_bytes(), stem.as_bytes())
    }
}

/// The tensors of `file`, as they are to be written.
///
/// Errors: [`Error::Invalid`] for a rule that fits no matrix.
pub(super) fn outputs(file: &ModelFile, options: &ConvertOptions) -> Result<Vec<Output>> {
    let mut outputs = Vec::new();
    for tensor in file.tensors.iter().filter(|tensor| is_written(file, tensor)) {
        let format = match is_matrix(tensor) {
            true => matrix_format(file, tensor, options),
            false => WeightFormat::F32,
        };
        outputs.push(Output {
            name: tensor.name.clone(),
            shape: tensor.shape.clone(),
            format,
            source: tensor.clone(),
            interleaved_head: interleaved_head(file, tensor),
        });
    }
    let idle = |keep: &&Keep| !file.tensors.iter().any(|tensor| is_matrix(tensor) && keep.fits(&tensor.name));
    match options.keep.iter().find(idle) {
        Some(keep) => Err(Error::Invalid {
            what: format!(
                "--keep {}={}: no matrix has such a name; `pocketlm inspect MODEL --tensors` lists them",
                keep.pattern, keep.format
            ),
        }),
        None => Ok(outputs),
    }
}

/// Where a tensor belongs in a file: as a token passes through them.
pub(super) fn place(name: &str) -> (usize, usize) {
    let layer = name.strip_prefix("blk.").and_then(|rest| rest.split('.').next()).and_then(|n| n.parse().ok());
    match (name, layer) {
        (_, Some(layer)) => (1, layer),
        _ if name.starts_with("output") => (2, 0),
        _ => (0, 0),
    }
}

/// A tied model's file may hold the matrix twice, and tables that follow from the configuration.
fn is_written(file: &ModelFile, tensor: &TensorInfo) -> bool {
    let name = tensor.name.as_str();
    let derived = name.ends_with("rotary_emb.inv_freq") || name.ends_with("attn_rot_embd.weight");
    let double = file.config.tied && name == "output.weight";
    !derived && !double
}

/// Everything else stays exact: norms and biases are small, and an error in a router changes which experts answer.
fn is_matrix(tensor: &TensorInfo) -> bool {
    let name = tensor.name.as_str();
    tensor.shape.len() > 1 && name.ends_with(".weight") && !name.contains("ffn_gate_inp")
}

fn matrix_format(file: &ModelFile, tensor: &TensorInfo, options: &ConvertOptions) -> WeightFormat {
    let wanted = match options.keep.iter().find(|keep| keep.fits(&tensor.name)) {
        Some(keep) => keep.format,
        None if is_head(file, &tensor.name) => better(options.format, HEAD_FORMAT),
        None => options.format,
    };
    if tensor.columns().is_multiple_of(wanted.block_len()) { wanted } else { WeightFormat::F16 }
}

/// What the output matrix gets at least: its errors go straight into the logits. llama.cpp has the same rule.
const HEAD_FORMAT: WeightFormat = WeightFormat::Q8_0;

/// The matrix that makes the logits: the embedding's, where the two are tied.
fn is_head(file: &ModelFile, name: &str) -> bool {
    name == if file.config.tied { "token_embd.weight" } else { "output.weight" }
}

/// The one with more bits for a weight.
fn better(a: WeightFormat, b: WeightFormat) -> WeightFormat {
    let bits = |format: WeightFormat| format.block_bytes() as f64 / format.block_len() as f64;
    if bits(a) < bits(b) { b } else { a }
}

/// Folders have the rows of queries and keys in halves of a head, GGUF files of `llama` interleaved.
fn interleaved_head(file: &ModelFile, tensor: &TensorInfo) -> Option<usize> {
    let from_folder = matches!(file.text, TextSource::Folder(_));
    let part = tensor.name.rsplit('.').nth(1)?;
    let rotated = matches!(part, "attn_q" | "attn_k");
    (from_folder && file.config.architecture == Architecture::Llama && rotated).then_some(file.config.head_dim)
}

/// Whether `*` and `?` in `pattern` can stand for something that makes it `text`.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    // Where to go on after the last star, and how much of the text it stands for so far.
    let (mut p, mut t, mut star) = (0, 0, None);
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p + 1, t));
                p += 1;
            }
            Some(&c) if c == b'?' || c == text[t] => {
                p += 1;
                t += 1;
            }
            _ => match star {
                Some((after, taken)) => {
                    star = Some((after, taken + 1));
                    p = after;
                    t = taken + 1;
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|&c| c == b'*')
}
