//! Every weight of a model by its role, whether it is still in a file ([`TensorInfo`]) or on a device.

use super::config::{Architecture, Biases, Config, Experts, NormKind};
use crate::{
    error::{Error, Result},
    format::{TensorInfo, WeightFormat},
    placement::{ExpertPool, ExpertStack, Matrix, Part, Placement},
    plan::WeightSlot,
};
use std::collections::{HashMap, HashSet};

/// What one tensor is: a description of bytes in a file, or a place on a device.
pub trait Stored {
    /// What a vector is then; in a file it may be put together from several tensors.
    type Vector: Clone + std::fmt::Debug;
}

impl Stored for TensorInfo {
    type Vector = Vec<TensorInfo>;
}

impl Stored for WeightSlot {
    type Vector = WeightSlot;
}

/// The weights of a transformer.
#[derive(Debug, Clone)]
pub struct Weights<T: Stored> {
    /// (n_vocab, n_embd)
    pub token_embd: Matrix<T>,
    pub layers: Vec<Layer<T>>,
    /// (n_embd)
    pub output_norm: Norm<T>,
    /// (n_vocab, n_embd); the embedding matrix itself where the two are tied.
    pub output: Linear<T>,
}

/// The weights of one block.
#[derive(Debug, Clone)]
pub struct Layer<T: Stored> {
    /// (n_embd)
    pub attn_norm: Norm<T>,
    /// (n_heads * head_dim + 2 * n_kv_heads * head_dim, n_embd): queries, keys, values
    pub attn_qkv: Linear<T>,
    /// (head_dim) each: norms on the heads of queries and keys
    pub attn_q_k_norms: Option<[T::Vector; 2]>,
    /// (n_embd, n_heads * head_dim)
    pub attn_output: Linear<T>,
    /// (n_embd)
    pub ffn_norm: Norm<T>,
    pub ffn: FeedForward<T>,
}

/// The second half of a block.
#[derive(Debug, Clone)]
pub enum FeedForward<T> {
    Dense {
        /// (2 * n_ff, n_embd): gate, then up
        gate_up: Matrix<T>,
        /// (n_embd, n_ff)
        down: Matrix<T>,
    },
    Experts {
        /// (n_experts, n_embd)
        router: Matrix<T>,
        /// (n_experts, 2 * n_ff, n_embd): gate, then up, for each expert
        gate_up: ExpertStack<T>,
        /// (n_experts, n_embd, n_ff)
        down: ExpertStack<T>,
        /// Where the device has slots for some experts only: index in the placement's list of pools.
        pool: Option<usize>,
    },
}

/// A matrix and what is added to its product.
#[derive(Debug, Clone)]
pub struct Linear<T: Stored> {
    pub weight: Matrix<T>,
    /// (rows)
    pub bias: Option<T::Vector>,
}

/// The weight of a norm, and the bias of a LayerNorm.
#[derive(Debug, Clone)]
pub struct Norm<T: Stored> {
    pub weight: T::Vector,
    pub bias: Option<T::Vector>,
}

impl Weights<TensorInfo> {
    /// Finds every weight that `config` calls for and checks its shape.
    ///
    /// Errors: [`Error::MissingTensor`], [`Error::Shape`]; [`Error::Unsupported`] for a tensor that this architecture
    /// has no use for, since ignoring it would give wrong text.
    pub fn locate(config: &Config, tensors: &[TensorInfo]) -> Result<Self> {
        let factors = ["rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight"];
        let mut table = Table {
            tensors: tensors.iter().map(|t| (t.name.as_str(), t)).collect(),
            used: factors.map(String::from).into(),
        };
        let token_embd = table.matrix("token_embd", &[("token_embd", config.n_vocab)], config.n_embd)?;
        let weight = match config.tied {
            true => {
                table.used.insert("output.weight".into());
                token_embd.clone()
            }
            false => table.matrix("output", &[("output", config.n_vocab)], config.n_embd)?,
        };
        let bias = table.bias(config.biases.output, &[("output".into(), config.n_vocab)])?;
        let output = Linear { weight, bias };
        let mut layers = Vec::with_capacity(config.n_layers.min(tensors.len()));
        for layer_index in 0..config.n_layers {
            layers.push(table.layer(config, layer_index)?);
        }
        let output_norm = table.norm("output_norm", config)?;
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
        self.place_within(tied, held, max_binding, usize::MAX)
    }

    /// As [`Weights::place`], with room for `experts_per_layer` experts in each layer.
    ///
    /// Errors: as [`Weights::place`].
    pub fn place_within(
        &self,
        tied: bool,
        held: Option<WeightFormat>,
        max_binding: u64,
        experts_per_layer: usize,
    ) -> Result<(Placement, Weights<WeightSlot>)> {
        let mut placer = Placer { placement: Placement::default(), held, max_binding, experts_per_layer };
        let token_embd = placer.matrix(&self.token_embd)?;
        let layers = self.layers.iter().map(|layer| placer.layer(layer)).collect::<Result<_>>()?;
        let output = match tied {
            true => Linear { weight: token_embd.clone(), bias: placer.vector(self.output.bias.as_ref()) },
            false => placer.linear(&self.output)?,
        };
        let output_norm = placer.norm(&self.output_norm);
        Ok((placer.placement, Weights { token_embd, layers, output_norm, output }))
    }
}

/// Gives each weight its place.
struct Placer {
    placement: Placement,
    held: Option<WeightFormat>,
    max_binding: u64,
    experts_per_layer: usize,
}

impl Placer {
    fn layer(&mut self, layer: &Layer<TensorInfo>) -> Result<Layer<WeightSlot>> {
        Ok(Layer {
            attn_norm: self.norm(&layer.attn_norm),
            attn_qkv: self.linear(&layer.attn_qkv)?,
            attn_q_k_norms: layer.attn_q_k_norms.as_ref().map(|norms| [0, 1].map(|i| self.placement.vector(&norms[i]))),
            attn_output: self.linear(&layer.attn_output)?,
            ffn_norm: self.norm(&layer.ffn_norm),
            ffn: match &layer.ffn {
                FeedForward::Dense { gate_up, down } => {
                    FeedForward::Dense { gate_up: self.matrix(gate_up)?, down: self.matrix(down)? }
                }
                FeedForward::Experts { router, gate_up, down, .. } => self.experts(router, gate_up, down)?,
            },
        })
    }

    fn experts(
        &mut self,
        router: &Matrix<TensorInfo>,
        gate_up: &ExpertStack<TensorInfo>,
        down: &ExpertStack<TensorInfo>,
    ) -> Result<FeedForward<WeightSlot>> {
        let Self { placement, held, max_binding, experts_per_layer } = self;
        // A router is small, and its choices are discrete: it is never rounded.
        let router = placement.matrix(router, Some(WeightFormat::F32), *max_binding)?;
        let n_slots = (*experts_per_layer).clamp(1, gate_up.n_experts);
        let (gate_up, mut runs) = placement.experts(gate_up, *held, *max_binding, n_slots)?;
        let (down, more) = placement.experts(down, *held, *max_binding, n_slots)?;
        runs.extend(more);
        let pool = (!runs.is_empty()).then(|| {
            placement.pools.push(ExpertPool { n_slots, runs });
            placement.pools.len() - 1
        });
        Ok(FeedForward::Experts { router, gate_up, down, pool })
    }

    fn matrix(&mut self, matrix: &Matrix<TensorInfo>) -> Result<Matrix<WeightSlot>> {
        self.placement.matrix(matrix, self.held, self.max_binding)
    }

    fn linear(&mut self, linear: &Linear<TensorInfo>) -> Result<Linear<WeightSlot>> {
        Ok(Linear { weight: self.matrix(&linear.weight)?, bias: self.vector(linear.bias.as_ref()) })
    }

    fn norm(&mut self, norm: &Norm<TensorInfo>) -> Norm<WeightSlot> {
        Norm { weight: self.placement.vector(&norm.weight), bias: self.vector(norm.bias.as_ref()) }
    }

    fn vector(&mut self, vector: Option<&Vec<TensorInfo>>) -> Option<WeightSlot> {
        vector.map(|vector| self.placement.vector(vector))
    }
}

/// The file's tensors by name, and which of them have been asked for.
struct Table<'a> {
    tensors: HashMap<&'a str, &'a TensorInfo>,
    used: HashSet<String>,
}

impl Table<'_> {
    fn layer(&mut self, config: &Config, layer_index: usize) -> Result<Layer<TensorInfo>> {
        let name = |part: &str| format!("blk.{layer_index}.{part}");
        let (n_embd, Biases { attn_qkv, attn_output, .. }) = (config.n_embd, config.biases);
        let q_k_v =
            [(name("attn_q"), config.q_dim()), (name("attn_k"), config.kv_dim()), (name("attn_v"), config.kv_dim())];
        let head_norm = |table: &mut Self, part| Ok(vec![table.tensor(&name(part), "weight", &[config.head_dim])?]);
        let out = [(name("attn_output"), n_embd)];
        Ok(Layer {
            attn_norm: self.norm(&name("attn_norm"), config)?,
            attn_qkv: Linear {
                weight: self.fused(&name("attn_qkv"), &name("attn_qkv"), &q_k_v, n_embd)?,
                bias: match self.tensors.contains_key(name("attn_qkv.bias").as_str()) {
                    true => self.bias(attn_qkv, &[(name("attn_qkv"), config.q_dim() + 2 * config.kv_dim())])?,
                    false => self.bias(attn_qkv, &q_k_v)?,
                },
            },
            attn_q_k_norms: match config.architecture {
                Architecture::Qwen3 => Some([head_norm(self, "attn_q_norm")?, head_norm(self, "attn_k_norm")?]),
                _ => None,
            },
            attn_output: Linear {
                weight: self.matrix(&name("attn_output"), &out, config.q_dim())?,
                bias: self.bias(attn_output, &out)?,
            },
            ffn_norm: self.norm(&name("ffn_norm"), config)?,
            ffn: match config.experts {
                Some(experts) => self.experts(config, experts, layer_index)?,
                None => self.dense(config, layer_index)?,
            },
        })
    }

    fn dense(&mut self, config: &Config, layer_index: usize) -> Result<FeedForward<TensorInfo>> {
        let name = |part: &str| format!("blk.{layer_index}.{part}");
        let gate_up = [(name("ffn_gate"), config.n_ff), (name("ffn_up"), config.n_ff)];
        let (gate_up, down) = (
            self.fused(&name("ffn_gate_up"), &name("ffn_up"), &gate_up, config.n_embd)?,
            self.matrix(&name("ffn_down"), &[(name("ffn_down"), config.n_embd)], config.n_ff)?,
        );
        Ok(FeedForward::Dense { gate_up, down })
    }

    fn experts(&mut self, config: &Config, experts: Experts, layer_index: usize) -> Result<FeedForward<TensorInfo>> {
        let name = |part: &str| format!("blk.{layer_index}.{part}");
        let (n_embd, n_ff) = (config.n_embd, config.n_ff);
        let router = self.matrix(&name("ffn_gate_inp"), &[(name("ffn_gate_inp"), experts.n)], n_embd)?;
        let gate = self.expert_tensors(&name("ffn_gate"), experts.n, n_ff, n_embd)?;
        let up = self.expert_tensors(&name("ffn_up"), experts.n, n_ff, n_embd)?;
        let down = self.expert_tensors(&name("ffn_down"), experts.n, n_embd, n_ff)?;
        let gate_up = gate.into_iter().zip(up).map(|(gate, up)| vec![gate, up]).collect();
        let stack = |part: &str, experts: Vec<Vec<TensorInfo>>, rows, columns| {
            ExpertStack::of_tensors(&name(part), experts, rows, columns)
        };
        let gate_up = stack("ffn_gate_up_exps", gate_up, 2 * n_ff, n_embd)?;
        let down = stack("ffn_down_exps", down.into_iter().map(|down| vec![down]).collect(), n_embd, n_ff)?;
        Ok(FeedForward::Experts { router, gate_up, down, pool: None })
    }

    /// One matrix for each expert: slices of `{name}_exps.weight`, or tensors `{name}.E.weight`.
    fn expert_tensors(&mut self, name: &str, n: usize, rows: usize, columns: usize) -> Result<Vec<TensorInfo>> {
        if self.tensors.contains_key(format!("{name}_exps.weight").as_str()) {
            let stack = self.tensor(&format!("{name}_exps"), "weight", &[n, rows, columns])?;
            return Ok((0..n).map(|expert| stack.rows(expert * rows, rows)).collect());
        }
        (0..n).map(|expert| self.tensor(&format!("{name}.{expert}"), "weight", &[rows, columns])).collect()
    }

    fn norm(&mut self, name: &str, config: &Config) -> Result<Norm<TensorInfo>> {
        let shape = [config.n_embd];
        let weight = vec![self.tensor(name, "weight", &shape)?];
        let bias = match config.norm {
            NormKind::Rms => None,
            NormKind::Layer => Some(vec![self.tensor(name, "bias", &shape)?]),
        };
        Ok(Norm { weight, bias })
    }

    /// The biases of tensors that are stacked into one matrix, where the configuration has them.
    fn bias(&mut self, wanted: bool, of: &[(String, usize)]) -> Result<Option<Vec<TensorInfo>>> {
        match wanted {
            true => of.iter().map(|(name, rows)| self.tensor(name, "bias", &[*rows])).collect::<Result<_>>().map(Some),
            false => Ok(None),
        }
    }

    /// `{name}.{kind}` with exactly this shape.
    fn tensor(&mut self, name: &str, kind: &str, shape: &[usize]) -> Result<TensorInfo> {
        let name = format!("{name}.{kind}");
        let Some(&tensor) = self.tensors.get(name.as_str()) else { return Err(Error::MissingTensor { name }) };
        if tensor.shape != shape {
            return Err(Error::Shape { name, expected: shape.to_vec(), found: tensor.shape.clone() });
        }
        self.used.insert(name);
        Ok(tensor.clone())
    }

    /// A matrix called `name`, stacked from `(tensor, rows)`.
    fn matrix<N: AsRef<str>>(&mut self, name: &str, from: &[(N, usize)], columns: usize) -> Result<Matrix<TensorInfo>> {
        let mut parts = Vec::new();
        let mut first_row = 0;
        for (tensor, rows) in from {
            let tensor = self.tensor(tensor.as_ref(), "weight", &[*rows, columns])?;
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
                supported: "the weights that this architecture is known to have; no adapters".into(),
            }),
        }
    }
}
