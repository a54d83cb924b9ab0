//! Options that commands share, and how they open models with them.

use super::pull::resolve;
use crate::{
    CacheFormat, Engine, EngineOptions, SamplingOptions, Session, SessionOptions, TextNeed, WeightFormat,
    kernels::PromptMath, model::ModelFile, session::MAX_TOKENS_PER_SUBMIT,
};
use anyhow::Context;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use std::{
    io::Read,
    path::{Path, PathBuf},
    sync::Arc,
};

/// What to load and where.
#[derive(Debug, Args)]
pub struct ModelOptions {
    /// A GGUF file, a Hugging Face folder with config.json and *.safetensors, or hf:OWNER/REPO[:FILE] of the hub
    #[arg(required_unless_present = "shape", conflicts_with = "shape")]
    pub model: Option<PathBuf>,
    /// Instead of MODEL: the shape of a real model, such as phi-3-mini, with random weights made on the device
    #[arg(long, value_name = "SHAPE")]
    pub shape: Option<String>,
    /// Experts of each layer that are kept on the device; the others wait in host memory [default: all]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub experts: Option<u32>,
    /// Most memory for weights on the device, such as 6GiB: as many experts as fit are kept there
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub weights_memory: Option<u64>,
    /// Adapter to run on: a part of its name, or its index in `pocketlm devices`
    #[arg(long, value_name = "NAME|INDEX")]
    pub adapter: Option<String>,
    #[arg(long, value_name = "FORMAT", value_parser = weight_format, help = weights_help())]
    pub weights: Option<WeightFormat>,
    /// How keys and values are held: f32, f16, q8_0 or q4_0 [default: f16]
    #[arg(long, value_name = "FORMAT", value_parser = cache_format)]
    pub kv: Option<CacheFormat>,
    /// How prompts are multiplied by weights: exact; packed: activations rounded to 8 bits, faster on GPUs that multiply
    /// bytes; or half: activations and weights rounded to 16 bits, faster on GPUs with matrix units. Packed and half
    /// change logits slightly [default: exact]
    #[arg(long, value_name = "MATH", value_parser = prompt_math)]
    pub prompt_math: Option<PromptMath>,
    /// Most tokens of prompt and answer together [default: the model's context, at most 4096]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1 << 24))]
    pub ctx: Option<u32>,
    /// Tokens of an answer that the device chooses before the CPU looks [default: as many as take 30 ms]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=MAX_TOKENS_PER_SUBMIT as i64))]
    pub tokens_per_submit: Option<u32>,
    /// Build kernels as is usual for such adapters: neither measure at first use nor take what was measured before
    #[arg(long)]
    pub no_tune: bool,
}

/// Counts of tokens that any context could hold.
pub fn tokens() -> impl clap::builder::TypedValueParser<Value = usize> {
    clap::builder::TypedValueParser::map(clap::value_parser!(u32).range(..=1 << 24), |n| n as usize)
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
    fn engine(&self, text: TextNeed, session: SessionOptions) -> anyhow::Result<Arc<Engine>> {
        let file = self.file()?;
        let options = EngineOptions { text, session: Some(session), ..self.engine_options() };
        let bar = ProgressBar::new(0).with_style(ProgressStyle::with_template(
            "loading {bar:30} {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec}",
        )?);
        let progress = |done, total| {
            bar.set_length(total);
            bar.set_position(done);
        };
        let engine = pollster::block_on(Engine::open_file(file, &options, progress));
        bar.finish_and_clear();
        Ok(Arc::new(engine?))
    }

    /// Loads the model and opens a session on it.
    pub fn session(&self, text: TextNeed, all_logits: bool) -> anyhow::Result<Session> {
        let options = self.session_options(all_logits);
        let engine = self.engine(text, options.clone())?;
        let trained = engine.config.context;
        if let Some(wanted) = self.ctx.filter(|&n| n as usize > trained) {
            eprintln!(
                "warning: the model was trained for {trained} tokens; beyond them (--ctx {wanted}) text may suffer"
            );
        }
        Ok(pollster::block_on(Session::new(engine, &options))?)
    }

    /// Refuses a context (`--ctx`) that is too short for what is to be measured, before anything is.
    ///
    /// Errors: [`crate::Error::ContextFull`].
    pub fn check_context(&self, n_tokens: usize) -> Result<(), crate::Error> {
        match self.ctx {
            Some(context) if (context as usize) < n_tokens => {
                Err(crate::Error::ContextFull { n_tokens, context: context as usize })
            }
            _ => Ok(()),
        }
    }

    /// The session that the options ask for.
    pub fn session_options(&self, all_logits: bool) -> SessionOptions {
        let context = self.ctx.map(|n| n as usize);
        let defaults = SessionOptions::default();
        SessionOptions {
            context,
            cache: self.kv.unwrap_or(defaults.cache),
            all_logits,
            tokens_per_submit: self.tokens_per_submit.map(|n| n as usize),
            ..defaults
        }
    }

    /// Reads the model's description only.
    pub fn file(&self) -> anyhow::Result<ModelFile> {
        if let Some(shape) = &self.shape {
            return Ok(ModelFile::from_shape(shape, self.weights.unwrap_or(WeightFormat::Q4_0), 1)?);
        }
        let model = self.model.as_ref().context("no MODEL is given")?;
        Ok(pollster::block_on(ModelFile::open(&resolve(model)?))?)
    }

    /// `model` with every option at its default.
    pub fn of(model: &Path) -> Self {
        Self {
            model: Some(model.into()),
            shape: None,
            experts: None,
            weights_memory: None,
            adapter: None,
            weights: None,
            kv: None,
            prompt_math: None,
            ctx: None,
            tokens_per_submit: None,
            no_tune: false,
        }
    }

    /// The model as it was named.
    pub fn name(&self) -> String {
        let path = || self.model.as_ref().map(|path| path.display().to_string());
        self.shape.clone().or_else(path).unwrap_or_default()
    }

    /// What the options say of loading.
    pub fn engine_options(&self) -> EngineOptions {
        EngineOptions {
            adapter: self.adapter.clone(),
            // A synthetic model is made in that format, each matrix as far as its rows fill the blocks.
            weights: self.weights.filter(|_| self.shape.is_none()),
            tune: self.no_tune.then_some(false),
            prompt_math: self.prompt_math.unwrap_or_default(),
            text: TextNeed::Nothing,
            experts_per_layer: self.experts.map(|n| n as usize),
            max_weights_bytes: self.weights_memory,
            session: None,
        }
    }
}

/// `300MB`, `6GiB`, `2.5 GB` or a number of bytes.
fn size(text: &str) -> Result<u64, String> {
    let digits = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
    let unit = match text[digits..].trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1.0,
        "mb" => 1e6,
        "gb" => 1e9,
        "mib" => (1u64 << 20) as f64,
        "gib" => (1u64 << 30) as f64,
        other => return Err(format!("`{other}` is no unit; MB, GB, MiB and GiB are")),
    };
    let number: f64 = text[..digits].parse().map_err(|_| format!("`{text}` is no size, such as 6GiB"))?;
    Ok((number * unit) as u64)
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

fn prompt_math(name: &str) -> Result<PromptMath, String> {
    PromptMath::from_name(name).ok_or_else(|| format!("choices are {}", PromptMath::ALL.map(|m| m.name()).join(", ")))
}

fn cache_format(name: &str) -> Result<CacheFormat, String> {
    CacheFormat::from_name(name).ok_or_else(|| format!("formats are {}", CacheFormat::ALL.map(|f| f.name()).join(", ")))
}
