//! Which tensors a file gets, and in which format each.

use super::Output;
use crate::{
    error::{Error, Result},
    format::{TensorInfo, WeightFormat},
    model::{Architecture, ModelFile, TextSource},
};
use glob::Pattern;
use std::collections::BTreeMap;

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
    pattern: Pattern,
    format: WeightFormat,
}

impl Keep {
    /// For tensors whose names, with or without `.weight`, fit `pattern`: `*` stands for any text, `?` for any
    /// character.
    ///
    /// Errors: [`Error::Invalid`] for something that is no pattern.
    pub fn new(pattern: &str, format: WeightFormat) -> Result<Self> {
        let wrong = |error| Error::Invalid { what: format!("the pattern `{pattern}`: {error}") };
        Ok(Self { pattern: Pattern::new(pattern).map_err(wrong)?, format })
    }

    fn fits(&self, name: &str) -> bool {
        self.pattern.matches(name) || name.strip_suffix(".weight").is_some_and(|stem| self.pattern.matches(stem))
    }
}

/// The tensors of `file`, as they are to be written.
///
/// Errors: [`Error::Invalid`] for a rule that fits no matrix.
pub(super) fn outputs(file: &ModelFile, options: &ConvertOptions) -> Result<Vec<Output>> {
    let mut outputs: Vec<Output> = Vec::new();
    let mut stacks = BTreeMap::new();
    for tensor in file.tensors.iter().filter(|tensor| is_written(file, tensor)) {
        let (name, expert) = match expert_of(&tensor.name) {
            Some((name, expert)) => (name, Some(expert)),
            None => (tensor.name.clone(), None),
        };
        let Some(expert) = expert else {
            outputs.push(output(file, name, tensor.shape.clone(), vec![tensor.clone()], options));
            continue;
        };
        stacks.entry(name).or_insert_with(BTreeMap::new).insert(expert, tensor.clone());
    }
    for (name, experts) in stacks {
        let experts: Vec<TensorInfo> = experts.into_values().collect();
        let shape = [&[experts.len()][..], &experts[0].shape].concat();
        outputs.push(output(file, name, shape, experts, options));
    }
    let idle = |keep: &&Keep| !outputs.iter().any(|output| output.is_matrix() && keep.fits(&output.name));
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

fn output(
    file: &ModelFile,
    name: String,
    shape: Vec<usize>,
    sources: Vec<TensorInfo>,
    options: &ConvertOptions,
) -> Output {
    let format = match is_matrix(&name, &shape) {
        true => matrix_format(file, &name, sources[0].columns(), options),
        false => WeightFormat::F32,
    };
    let interleaved_head = interleaved_head(file, &name);
    Output { name, shape, format, sources, interleaved_head }
}

/// The stack that a single expert's tensor belongs to, and its place there: `blk.0.ffn_up.3.weight` is the fourth of
/// `blk.0.ffn_up_exps.weight`.
fn expert_of(name: &str) -> Option<(String, usize)> {
    let (stem, expert) = name.strip_prefix("blk.")?.strip_suffix(".weight")?.rsplit_once('.')?;
    let expert = expert.parse().ok()?;
    // A layer's own number is no expert's.
    stem.contains('.').then(|| (format!("blk.{stem}_exps.weight"), expert))
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
pub(super) fn is_matrix(name: &str, shape: &[usize]) -> bool {
    shape.len() > 1 && name.ends_with(".weight") && !name.contains("ffn_gate_inp")
}

fn matrix_format(file: &ModelFile, name: &str, columns: usize, options: &ConvertOptions) -> WeightFormat {
    let wanted = match options.keep.iter().find(|keep| keep.fits(name)) {
        Some(keep) => keep.format,
        None if is_head(file, name) => better(options.format, HEAD_FORMAT),
        None => options.format,
    };
    let fitting = wanted.for_columns(columns);
    if columns.is_multiple_of(fitting.block_len()) { fitting } else { WeightFormat::F16 }
}

/// What the output matrix gets at least: its errors go straight into the logits. llama.cpp has the same rule.
const HEAD_FORMAT: WeightFormat = WeightFormat::Q6_K;

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
fn interleaved_head(file: &ModelFile, name: &str) -> Option<usize> {
    let from_folder = matches!(file.text, TextSource::Folder(_));
    let rotated = matches!(name.rsplit('.').nth(1)?, "attn_q" | "attn_k");
    (from_folder && file.config.architecture == Architecture::Llama && rotated).then_some(file.config.head_dim)
}
