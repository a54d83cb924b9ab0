//! Every weight of a model by its role, whether it is still in a file ([`TensorInfo`]) or on a device.

use super::config::Config;
use crate::{
    error::{Error, Result},
    format::{TensorInfo, WeightFormat},
    placement::{Matrix, Part, Placement},
    plan::WeightSlot,
};
use std::collections::{HashMap, HashSet};

/// The weights of a transformer. `T` is what one tensor is: a description of bytes, or a place on the device.
#[derive(Debug, Clone)]
pub struct Weights<T> {
    /// (n_vocab, n_embd)
    pub token_embd: Matrix<T>,
    pub layers: Vec<Layer<T>>,
    /// (n_embd)
    pub output_norm: T,
    /// (n_vocab, n_embd); the embedding matrix itself where the two are tied.
    pub output: Matrix<T>,
}

/// The weights of one block.
#[derive(Debug, Clone)]
pub struct Layer<T> {
    /// (n_embd)
    pub attn_norm: T,
    /// (n_heads * head_dim + 2 * n_kv_heads * head_dim, n_embd): queries, keys, values
    pub attn_qkv: Matrix<T>,
    /// (n_embd, n_heads * head_dim)
    pub attn_output: Matrix<T>,
    /// (n_embd)
    pub ffn_norm: T,
    /// (2 * n_ff, n_embd): gate, then up
    pub ffn_gate_up: Matrix<T>,
    /// (n_embd, n_ff)
    pub ffn_down: Matrix<T>,
}

impl Weights<TensorInfo> {
    /// Finds every weight that `config` calls for and checks its shape.
    ///
    /// Errors: [`Error::MissingTensor`], [`Error::Shape`]; [`Error::Unsupported`] for a tensor that this architecture
    /// has no use for, since ignoring it would give wrong text.
    pub fn locate(config: &Config, tensors: &[TensorInfo]) -> Result<Self> {
        let mut table = Table {
            tensors: tensors.iter().map(|t| (t.name.as_str(), t)).collect(),
            used: HashSet::from(["rope_freqs.weight".to_string()]),
        };
        let (n_embd, n_ff) = (config.n_embd, config.n_ff);
        let token_embd = table.matrix("token_embd", &[("token_embd", config.n_vocab)], n_embd)?;
        let output = match config.tied {
            true => {
                table.used.insert("output.weight".into());
                token_embd.clone()
            }
            false => table.matrix("output", &[("output", config.n_vocab)], n_embd)?,
        };
        let mut layers = Vec::with_capacity(config.n_layers.min(tensors.len()));
        for layer_index in 0..config.n_layers {
            let name = |part: &str| format!("blk.{layer_index}.{part}");
            let q_k_v = [
                (name("attn_q"), config.q_dim()),
                (name("attn_k"), config.kv_dim()),
                (name("attn_v"), config.kv_dim()),
            ];
            let gate_up = [(name("ffn_gate"), n_ff), (name("ffn_up"), n_ff)];
            layers.push(Layer {
                attn_norm: table.vector(&name("attn_norm"), n_embd)?,
                attn_qkv: table.fused(&name("attn_qkv"), &name("attn_qkv"), &q_k_v, n_embd)?,
                attn_output: table.matrix(&name("attn_output"), &[(&name("attn_output"), n_embd)], config.q_dim())?,
                ffn_norm: table.vector(&name("ffn_norm"), n_embd)?,
                ffn_gate_up: table.fused(&name("ffn_gate_up"), &name("ffn_up"), &gate_up, n_embd)?,
                ffn_down: table.matrix(&name("ffn_down"), &[(&name("ffn_down"), n_embd)], n_ff)?,
            });
        }
        let output_norm = table.vector("output_norm", n_embd)?;
        table.all_used(config)?;
        Ok(Self { token_embd, layers, output_norm, output })
    }

    /// Plans where the weights go. `held` is the format that matrices are converted to, `None` keeps each as it is;
    /// `max_binding` is the most bytes that one binding may have.
    ///
    /// Errors: [`Error::TooLarge`] when not even one tile of a matrix can be bound.
    pub fn place(
        &self,
        tied: bool,
        held: Option<WeightFormat>,
        max_binding: u64,
    ) -> Result<(Placement, Weights<WeightSlot>)> {
        let mut placement = Placement::default();
        let token_embd = placement.matrix(&self.token_embd, held, max_binding)?;
        let mut layers = Vec::with_capacity(self.layers.len());
        for layer in &self.layers {
            let mut place = |matrix| placement.matrix(matrix, held, max_binding);
            let (attn_qkv, attn_output) = (place(&layer.attn_qkv)?, place(&layer.attn_output)?);
            let (ffn_gate_up, ffn_down) = (place(&layer.ffn_gate_up)?, place(&layer.ffn_down)?);
            let attn_norm = placement.vector(&layer.attn_norm);
            let ffn_norm = placement.vector(&layer.ffn_norm);
            layers.push(Layer { attn_norm, attn_qkv, attn_output, ffn_norm, ffn_gate_up, ffn_down });
        }
        let output = match tied {
            true => token_embd.clone(),
            false => placement.matrix(&self.output, held, max_binding)?,
        };
        let output_norm = placement.vector(&self.output_norm);
        Ok((placement, Weights { token_embd, layers, output_norm, output }))
    }
}

impl<T> Weights<T> {
    /// Every matrix once: the embedding first, layer by layer, the output matrix last unless it is tied.
    pub fn matrices(&self, tied: bool) -> Vec<&Matrix<T>> {
        let mut all = vec![&self.token_embd];
        for layer in &self.layers {
            all.extend([&layer.attn_qkv, &layer.attn_output, &layer.ffn_gate_up, &layer.ffn_down]);
        }
        all.extend((!tied).then_some(&self.output));
        all
    }
}

/// The file's tensors by name, and which of them have been asked for.
struct Table<'a> {
    tensors: HashMap<&'a str, &'a TensorInfo>,
    used: HashSet<String>,
}

impl Table<'_> {
    /// `{name}.weight` with exactly this shape.
    fn tensor(&mut self, name: &str, shape: &[usize]) -> Result<TensorInfo> {
        let name = format!("{name}.weight");
        let Some(&tensor) = self.tensors.get(name.as_str()) else { return Err(Error::MissingTensor { name }) };
        if tensor.shape != shape {
            return Err(Error::Shape { name, expected: shape.to_vec(), found: tensor.shape.clone() });
        }
        self.used.insert(name);
        Ok(tensor.clone())
    }

    fn vector(&mut self, name: &str, n: usize) -> Result<TensorInfo> {
        self.tensor(name, &[n])
    }

    /// A matrix called `name`, stacked from `(tensor, rows)`.
    fn matrix<N: AsRef<str>>(&mut self, name: &str, from: &[(N, usize)], columns: usize) -> Result<Matrix<TensorInfo>> {
        let mut parts = Vec::new();
        let mut first_row = 0;
        for (tensor, rows) in from {
            let tensor = self.tensor(tensor.as_ref(), &[*rows, columns])?;
            parts.push(Part { first_row, rows: *rows, format: tensor.format, tensor });
            first_row += rows;
        }
        Ok(Matrix { name: name.into(), rows: first_row, columns, parts })
    }

    /// A matrix that some files have in one tensor (`whole`) and some in several (`from`).
    fn fused(
        &mut self,
        name: &str,
        whole: &str,
        from: &[(String, usize)],
        columns: usize,
    ) -> Result<Matrix<TensorInfo>> {
        if self.tensors.contains_key(format!("{}.weight", from[0].0).as_str()) {
            return self.matrix(name, from, columns);
        }
        let rows = from.iter().map(|part| part.1).sum();
        match self.tensors.contains_key(format!("{whole}.weight").as_str()) {
            true => self.matrix(name, &[(whole, rows)], columns),
            false => Err(Error::MissingTensor { name: format!("{}.weight", from[0].0) }),
        }
    }

    /// Complains of a tensor that nothing asked for.
    fn all_used(&self, config: &Config) -> Result<()> {
        // Tables that some converters store although they follow from the configuration.
        let derived = |name: &str| name.ends_with("rotary_emb.inv_freq") || name.ends_with("attn_rot_embd.weight");
        let mut rest: Vec<_> =
            self.tensors.keys().filter(|name| !self.used.contains(**name) && !derived(name)).collect();
        rest.sort();
        match rest.first() {
            None => Ok(()),
            Some(name) => Err(Error::Unsupported {
                what: format!("tensor `{name}` in a model of architecture {}", config.architecture.name()),
                supported: "the weights of Llama and Phi-3 without biases or adapters".into(),
            }),
        }
    }
}
