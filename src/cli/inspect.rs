//! `pocketlm inspect`: what a file holds, what it needs on a device, the recorded plan.

use super::{human_bytes, options::ModelOptions};
use crate::{
    format::Value,
    kernels::{CacheLayout, CoopShape, Tuning},
    model::{Config, ModelFile, TextSource},
    session::{MemoryNeeds, place, plans, record_options},
};
use clap::Args;
use serde_json::json;
use std::{collections::BTreeMap, io::Write, process::ExitCode};

/// Every device may bind this much; those that can bind more need fewer parts.
const WEBGPU_BINDING_BYTES: u64 = 128 << 20;

#[derive(Debug, Args)]
pub struct Inspect {
    #[command(flatten)]
    model: ModelOptions,
    /// Also print the recorded plans, one line per dispatch
    #[arg(long)]
    plan: bool,
    /// Also list every tensor
    #[arg(long)]
    tensors: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

impl Inspect {
    pub fn execute(self) -> anyhow::Result<ExitCode> {
        let file = self.model.file()?;
        let config = &file.config;
        let (placement, placed) = place(&file, WEBGPU_BINDING_BYTES, &self.model.engine_options())?;
        let wanted = self.model.session_options(false);
        let mut tuning = Tuning::BASELINE;
        tuning.prompt.math = self.model.engine_options().prompt_math;
        // No device is asked, so the plan is one for the matrices that most devices have.
        tuning.prompt.coop = Some(CoopShape::USUAL);
        let options = record_options(config, &wanted, tuning, WEBGPU_BINDING_BYTES);
        let capacity = options.capacity;
        let plans = plans(config, &placed, &options, false);
        let needs = MemoryNeeds::of(&placement, &plans);
        let layout = CacheLayout { format: options.cache, n_heads: config.n_kv_heads, head_dim: config.head_dim };
        let per_token = 2 * config.n_layers as u64 * layout.row_bytes();
        let mut out = std::io::BufWriter::new(std::io::stdout().lock());
        if self.json {
            let memory = json!({ "context": capacity, "bytes": needs, "host_bytes": placement.host_bytes(),
                "cache_bytes_per_token": per_token });
            let object = json!({ "config": describe(config), "formats": formats(&file), "memory": memory });
            writeln!(out, "{}", serde_json::to_string_pretty(&object)?)?;
            out.flush()?;
            return Ok(ExitCode::SUCCESS);
        }
        self.write_file(&mut out, &file)?;
        let total = needs.weights + needs.cache + needs.activations;
        writeln!(out, "\non the device at a context of {capacity} ({} cache)", options.cache.name())?;
        writeln!(out, "  weights      {:>12}", human_bytes(needs.weights))?;
        writeln!(out, "  cache        {:>12}", human_bytes(needs.cache))?;
        writeln!(out, "  per token    {:>12}", human_bytes(per_token))?;
        writeln!(out, "  activations  {:>12}", human_bytes(needs.activations))?;
        writeln!(out, "  together     {:>12}", human_bytes(total))?;
        if let Some(pool) = placement.pools.first() {
            let (n_slots, host) = (pool.n_slots, human_bytes(placement.host_bytes()));
            writeln!(out, "  experts      {n_slots} of each layer there, all of them in host memory: {host}")?;
        }
        if self.plan {
            writeln!(
                out,
                "\nplans as recorded for WebGPU's default limits; an adapter's own tuning changes grids, not dispatches"
            )?;
            for (phase, plan) in &plans {
                writeln!(out, "\n{phase:?}: {} dispatches\n{plan}", plan.dispatches.len())?;
            }
        }
        out.flush()?;
        Ok(ExitCode::SUCCESS)
    }

    /// What the file itself says.
    fn write_file(&self, out: &mut impl Write, file: &ModelFile) -> anyhow::Result<()> {
        for (name, value) in describe(&file.config) {
            // Plain words here, quotes only in JSON.
            let plain = value.as_str().map_or_else(|| value.to_string(), str::to_string);
            writeln!(out, "{name:<18} {}", if value.is_null() { "none" } else { &plain })?;
        }
        for (format, (n_tensors, bytes)) in formats(file) {
            writeln!(out, "{:<18} {n_tensors} tensors, {}", format!("stored as {format}"), human_bytes(bytes))?;
        }
        if let TextSource::Gguf(metadata) = &file.text {
            writeln!(out, "\nmetadata")?;
            for (key, value) in metadata.sorted() {
                writeln!(out, "  {key} = {}", short(value))?;
            }
        }
        if self.tensors {
            writeln!(out, "\ntensors")?;
            for tensor in &file.tensors {
                writeln!(out, "  {:<34} {:<7} {:?}", tensor.name, tensor.format.name(), tensor.shape)?;
            }
        }
        Ok(())
    }
}

fn describe(config: &Config) -> Vec<(&'static str, serde_json::Value)> {
    vec![
        ("architecture", config.architecture.name().into()),
        ("parameters", format!("{:.2} M", config.n_weights() as f64 / 1e6).into()),
        ("used per token", format!("{:.2} M", config.n_active_weights() as f64 / 1e6).into()),
        ("layers", config.n_layers.into()),
        ("hidden size", config.n_embd.into()),
        ("heads", config.n_heads.into()),
        ("key/value heads", config.n_kv_heads.into()),
        ("head size", config.head_dim.into()),
        ("feed-forward size", config.n_ff.into()),
        ("experts", config.experts.map(|experts| format!("{} of {} per token", experts.n_used, experts.n)).into()),
        ("vocabulary", config.n_vocab.into()),
        ("context", config.context.into()),
        ("sliding window", config.sliding_window.into()),
        ("long rope beyond", config.rope.long.as_ref().map(|long| long.original).into()),
        ("tied embeddings", config.tied.into()),
    ]
}

/// Tensors and bytes by format.
fn formats(file: &ModelFile) -> BTreeMap<&'static str, (usize, u64)> {
    let mut all = BTreeMap::new();
    for tensor in &file.tensors {
        let entry: &mut (usize, u64) = all.entry(tensor.format.name()).or_default();
        *entry = (entry.0 + 1, entry.1 + tensor.n_bytes());
    }
    all
}

/// A metadata value on one short line.
fn short(value: &Value) -> String {
    let text = match value {
        Value::Unsigned(v) => v.to_string(),
        Value::Signed(v) => v.to_string(),
        Value::Float(v) => v.to_string(),
        Value::Bool(v) => v.to_string(),
        Value::String(v) => format!("{v:?}"),
        Value::Integers(v) => format!("{} integers", v.len()),
        Value::Floats(v) => format!("{} floats", v.len()),
        Value::Bools(v) => format!("{} truth values", v.len()),
        Value::Strings(v) => format!("{} strings", v.len()),
    };
    match text.chars().count() {
        0..=100 => text,
        _ => text.chars().take(97).chain("...".chars()).collect(),
    }
}
