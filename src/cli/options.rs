//! Options that commands share, and how they open models with them.

use super::pull::resolve;
use crate::{
    CacheFormat, Engine, EngineOptions, SamplingOptions, Session, SessionOptions, TextNeed, WeightFormat,
    model::ModelFile,
};
use anyhow::Context;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use std::{io::Read, path::PathBuf, sync::Arc};

/// What to load and where.
#[derive(Debug, Args)]
pub struct ModelOptions {
    /// A GGUF file, a Hugging Face folder with config.json and *.safetensors, or hf:OWNER/REPO[:FILE] of the hub
    pub model: PathBuf,
    /// Adapter to run on: a part of its name, or its index in `pocketlm devices`
    #[arg(long, value_name = "NAME|INDEX")]
    pub adapter: Option<String>,
    #[arg(long, value_name = "FORMAT", value_parser = weight_format, help = weights_help())]
    pub weights: Option<WeightFormat>,
    /// How keys and values are held: f32, f16, q8_0 or q4_0
    #[arg(long, value_name = "FORMAT", default_value = "f16", value_parser = cache_format)]
    pub kv: CacheFormat,
    /// Most tokens of prompt and answer together [default: the model's context, at most 4096]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1 << 24))]
    pub ctx: Option<u32>,
}

/// How tokens are chosen.
#[derive(Debug, Args)]
pub struct SamplingArguments {
    /// Temperature; 0 always takes the most probable token
    #[arg(long, value_name = "T", default_value_t = 0.0, allow_negative_numbers = true)]
    pub temp: f32,
    /// Choose among the K most probable tokens; 0 for all
    #[arg(long, value_name = "K", default_value_t = 0)]
    pub top_k: usize,
    /// Choose among the most probable tokens that together reach P
    #[arg(long, value_name = "P", default_value_t = 1.0)]
    pub top_p: f32,
    /// Choose among tokens at least P times as probable as the most probable one
    #[arg(long, value_name = "P", default_value_t = 0.0)]
    pub min_p: f32,
    /// Make tokens that were there before less likely; 1 changes nothing
    #[arg(long, value_name = "R", default_value_t = 1.0)]
    pub repeat_penalty: f32,
    /// Seed of the random choice: the same seed gives the same text
    #[arg(long, value_name = "S", default_value_t = 0)]
    pub seed: u64,
}

impl SamplingArguments {
    /// The options; values without a meaning are wrong usage and end the program with 2.
    pub fn checked(&self) -> SamplingOptions {
        let Self { temp, top_k, top_p, min_p, repeat_penalty, seed } = *self;
        let options = SamplingOptions { temperature: temp, top_k, top_p, min_p, repeat_penalty, seed };
        if let Err(error) = options.check() {
            clap::Error::raw(clap::error::ErrorKind::ValueValidation, format!("{error}\n")).exit();
        }
        options
    }
}

impl ModelOptions {
    /// Loads the model, with a progress bar on stderr where someone can see it.
    pub fn engine(&self, text: TextNeed) -> anyhow::Result<Arc<Engine>> {
        let model = resolve(&self.model)?;
        let options = EngineOptions { adapter: self.adapter.clone(), weights: self.weights, text };
        let bar = ProgressBar::new(0).with_style(ProgressStyle::with_template(
            "loading {bar:30} {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec}",
        )?);
        let progress = |done, total| {
            bar.set_length(total);
            bar.set_position(done);
        };
        let engine = pollster::block_on(Engine::open(&model, &options, progress));
        bar.finish_and_clear();
        Ok(Arc::new(engine?))
    }

    /// Loads the model and opens a session on it.
    pub fn session(&self, text: TextNeed, all_logits: bool) -> anyhow::Result<Session> {
        let engine = self.engine(text)?;
        let trained = engine.config.context;
        if let Some(wanted) = self.ctx.filter(|&n| n as usize > trained) {
            eprintln!(
                "warning: the model was trained for {trained} tokens; beyond them (--ctx {wanted}) text may suffer"
            );
        }
        Ok(pollster::block_on(Session::new(engine, &self.session_options(all_logits)))?)
    }

    /// The session that the options ask for.
    pub fn session_options(&self, all_logits: bool) -> SessionOptions {
        let context = self.ctx.map(|n| n as usize);
        SessionOptions { context, cache: self.kv, all_logits, ..SessionOptions::default() }
    }

    /// Reads the model's description only.
    pub fn file(&self) -> anyhow::Result<ModelFile> {
        Ok(pollster::block_on(ModelFile::open(&resolve(&self.model)?))?)
    }
}

/// The text given, or stdin's for `-`.
pub fn text_or_stdin(text: &str) -> anyhow::Result<String> {
    if text != "-" {
        return Ok(text.into());
    }
    let mut bytes = Vec::new();
    std::io::stdin().read_to_end(&mut bytes).context("reading stdin")?;
    String::from_utf8(bytes).context("stdin is not UTF-8")
}

fn weights_help() -> String {
    format!(
        "How weights are held on the device: {} [default: as the GGUF file has them; q4_0 for a folder]",
        WeightFormat::names()
    )
}

/// A weight format by its name.
pub fn weight_format(name: &str) -> Result<WeightFormat, String> {
    WeightFormat::from_name(name).ok_or_else(|| format!("formats are {}", WeightFormat::names()))
}

fn cache_format(name: &str) -> Result<CacheFormat, String> {
    CacheFormat::from_name(name).ok_or_else(|| format!("formats are {}", CacheFormat::ALL.map(|f| f.name()).join(", ")))
}
