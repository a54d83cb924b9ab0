//! The engine: a model on a device, with its tokenizer and chat template.

use super::{
    SessionOptions,
    needs::{check_fit, default_context, plans},
};
use crate::{
    backend::{
        Gpu, check,
        gpu::{ExpertStats, GpuWeights},
    },
    error::{Error, Result},
    format::{TensorInfo, WeightFormat},
    kernels::{CacheFormat, PromptMath},
    model::{Config, ModelFile, RecordOptions, TextSource, Weights},
    placement::Placement,
    plan::WeightSlot,
    platform,
    text::{self, ChatTemplate, Tokenizer},
    tune::Choices,
};
use std::{
    collections::BTreeSet,
    path::Path,
    sync::{Arc, Mutex},
};
use xxhash_rust::xxh3::Xxh3;

/// How to load a model.
#[derive(Debug, Clone, Default)]
pub struct EngineOptions {
    /// Index or part of the name of an adapter.
    pub adapter: Option<String>,
    /// How matrices are held on the device. `None`: as the file has them; q4_0 for a Hugging Face folder of plain
    /// weights.
    pub weights: Option<WeightFormat>,
    /// Experts of each layer that have a place on the device, the others waiting in host memory. `None`: as many as
    /// `max_weights_bytes` allows.
    pub experts_per_layer: Option<usize>,
    /// Most bytes of weights on the device. Only experts can make way; a model that is too large without them is an
    /// error.
    pub max_weights_bytes: Option<u64>,
    /// How exactly prompts are multiplied by weights.
    pub prompt_math: PromptMath,
    /// What must be there for the caller to go on.
    pub text: TextNeed,
    /// Measure, at first use, which way of building each kernel is fastest: for some seconds, remembered. `None`: on a real
    /// GPU; software adapters only use what `pocketlm tune` found. `Some(false)`: neither measure nor use what is known.
    pub tune: Option<bool>,
    /// The session that is to be opened: what cannot hold it is refused before a weight is loaded.
    pub session: Option<SessionOptions>,
}

/// What a caller needs of a model's text. Without it, opening fails before weights are loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TextNeed {
    /// Ids are enough.
    #[default]
    Nothing,
    Tokenizer,
    /// The chat template, and the tokenizer with it.
    Template,
}

/// A model on a device.
#[derive(Debug)]
pub struct Engine {
    pub gpu: Gpu,
    pub config: Config,
    pub tokenizer: Option<Arc<Tokenizer>>,
    pub template: Option<Arc<ChatTemplate>>,
    /// Why there is no tokenizer, or no template, although the file holds one.
    text_problem: Option<String>,
    /// Ids after which an answer is over.
    pub end_ids: BTreeSet<u32>,
    /// Tells models apart, for session files.
    pub(super) fingerprint: String,
    pub(super) weights: Arc<GpuWeights>,
    pub(super) placed: Weights<WeightSlot>,
    /// How kernels are built where that is not as `gpu.tuning` says.
    pub choices: Choices,
    pub(super) origin: Origin,
    /// What took its place when the device was lost.
    successor: Mutex<Option<Arc<Engine>>>,
}

/// What the weights were loaded from and how, to do it again.
#[derive(Debug, Clone)]
pub(super) struct Origin {
    weights: Weights<TensorInfo>,
    held: Option<WeightFormat>,
    pub options: EngineOptions,
}

impl Engine {
    /// Opens a GGUF file or a Hugging Face folder and loads it; `progress` hears (bytes done, bytes in all).
    ///
    /// Errors: those of the file, of the adapter and of the device; [`Error::Text`] when what `options.text` asks for is
    /// not there.
    pub async fn open(path: &Path, options: &EngineOptions, progress: impl FnMut(u64, u64)) -> Result<Self> {
        Self::open_file(ModelFile::open(path).await?, options, progress).await
    }

    /// Loads an opened file onto the adapter that `options` name.
    ///
    /// Errors: as [`Engine::open`].
    pub async fn open_file(
        mut file: ModelFile,
        options: &EngineOptions,
        progress: impl FnMut(u64, u64),
    ) -> Result<Self> {
        let (held, text) = prepare(&mut file, options)?;
        let gpu = Gpu::open(options.adapter.as_deref()).await?;
        Self::load_held(file, text, gpu, held, options, progress).await
    }

    /// Loads an opened file onto a device.
    ///
    /// Errors: as [`Engine::open`].
    pub async fn load(
        mut file: ModelFile,
        gpu: Gpu,
        options: &EngineOptions,
        progress: impl FnMut(u64, u64),
    ) -> Result<Self> {
        let (held, text) = prepare(&mut file, options)?;
        Self::load_held(file, text, gpu, held, options, progress).await
    }

    async fn load_held(
        file: ModelFile,
        text: Text,
        mut gpu: Gpu,
        held: Option<WeightFormat>,
        options: &EngineOptions,
        mut progress: impl FnMut(u64, u64),
    ) -> Result<Self> {
        gpu.set_prompt_math(options.prompt_math);
        let (placement, placed) = place_held(&file, held, gpu.max_binding_bytes(), options)?;
        if let Some(session) = &options.session {
            check_fit(&file.config, &placement, &placed, &gpu, session)?;
        }
        let cache = options.session.as_ref().map_or(CacheFormat::F16, |session| session.cache);
        let part_kv_heads = file.config.n_kv_heads;
        let needed = |tuning| {
            let small = RecordOptions { capacity: 1, max_tokens: 1, cache, part_kv_heads, tuning };
            let plans = plans(&file.config, &placed, &small, false);
            check::needed(plans.iter().map(|(_, plan)| plan))
        };
        let total = placement.bytes() + placement.host_bytes();
        gpu.check_memory("the weights", total, "a smaller model or --weights q4_0 may fit")?;
        // Kernels compile while weights are read; whether they do is for `settle` to find out.
        let compile = async { drop(gpu.build(&check::variants(&needed(gpu.tuning), gpu.tuning)).await) };
        let weights = platform::beside(compile, gpu.load(&placement, |done| progress(done, total))).await;
        let weights = Arc::new(weights?);
        check::settle(&mut gpu, needed).await?;
        // It reads from all over the file, which is whole by now even if it was still on its way.
        let fingerprint = fingerprint(&file, held).await?;
        let Text { tokenizer, template, end_ids, problem } = text;
        let origin = Origin { weights: file.weights, held, options: options.clone() };
        let mut engine = Self {
            gpu,
            config: file.config,
            tokenizer: tokenizer.map(Arc::new),
            template: template.map(Arc::new),
            text_problem: problem,
            end_ids,
            fingerprint,
            weights,
            placed,
            choices: Choices::default(),
            origin,
            successor: Mutex::default(),
        };
        engine.tune(options.tune).await?;
        engine.gpu.save_pipelines();
        Ok(engine)
    }

    /// The engine in whose place the caller's is, now that its device is lost: made of the same file on a new device, by
    /// whoever asks first. Another thread that asks meanwhile makes one of its own.
    ///
    /// Errors: those of the adapter, the device and the file.
    pub async fn successor(&self) -> Result<Arc<Self>> {
        let known = self.successor.lock().expect("no panic holds it").clone();
        let next = match known {
            Some(known) if !known.gpu.is_lost() => return Ok(known),
            // All who came from one engine find the same one in the end.
            Some(known) => Box::pin(known.successor()).await?,
            None => Arc::new(self.reload().await?),
        };
        *self.successor.lock().expect("no panic holds it") = Some(next.clone());
        Ok(next)
    }

    async fn reload(&self) -> Result<Self> {
        let gpu = self.gpu.reopen().await?;
        let Origin { weights, held, options } = &self.origin;
        let (placement, placed) = place_weights(&self.config, weights, *held, gpu.max_binding_bytes(), options)?;
        let loaded = Arc::new(gpu.load(&placement, |_| ()).await?);
        let choices = if gpu.report.is_like(&self.gpu.report) { self.choices.clone() } else { Choices::default() };
        Ok(Self {
            gpu,
            config: self.config.clone(),
            tokenizer: self.tokenizer.clone(),
            template: self.template.clone(),
            text_problem: self.text_problem.clone(),
            end_ids: self.end_ids.clone(),
            fingerprint: self.fingerprint.clone(),
            weights: loaded,
            placed,
            choices,
            origin: self.origin.clone(),
            successor: Mutex::default(),
        })
    }

    /// How exactly prompts are multiplied by weights: what was asked for, or `Exact` where that fails on this device.
    pub fn prompt_math(&self) -> PromptMath {
        self.gpu.tuning.prompt.math
    }

    /// Bytes of weights on the device.
    pub fn weights_bytes(&self) -> u64 {
        self.weights.bytes
    }

    /// What experts that take turns on the device have cost; all zeros where all are there.
    pub fn expert_stats(&self) -> ExpertStats {
        self.weights.expert_stats()
    }

    /// The tokenizer. Errors: [`Error::Text`] when the model came without one.
    pub fn tokenizer(&self) -> Result<&Tokenizer> {
        self.tokenizer.as_deref().ok_or_else(|| no_tokenizer(self.text_problem.as_deref()))
    }

    /// The chat template. Errors: [`Error::Text`] when the model came without one.
    pub fn template(&self) -> Result<&ChatTemplate> {
        self.template.as_deref().ok_or_else(|| no_template(self.text_problem.as_deref()))
    }

    /// The context that a session gets for this wish.
    pub fn context(&self, wanted: Option<usize>) -> usize {
        wanted.unwrap_or_else(|| default_context(&self.config))
    }
}

/// What needs no device: the format that matrices are held in, which depends on where the text comes from, and that
/// text, taken out of the file.
///
/// Errors: [`Error::Text`].
fn prepare(file: &mut ModelFile, options: &EngineOptions) -> Result<(Option<WeightFormat>, Text)> {
    let held = held_format(file, options.weights);
    let text = Text::take(file);
    text.check(options.text)?;
    Ok((held, text))
}

/// Decides what goes where: everything to the device, or only as many experts as `options` leave room for.
///
/// Errors: those of [`Weights::place`]; [`Error::TooLarge`] when the rest alone is more than the bytes allowed.
pub fn place(file: &ModelFile, max_binding: u64, options: &EngineOptions) -> Result<(Placement, Weights<WeightSlot>)> {
    place_held(file, held_format(file, options.weights), max_binding, options)
}

fn place_held(
    file: &ModelFile,
    held: Option<WeightFormat>,
    max_binding: u64,
    options: &EngineOptions,
) -> Result<(Placement, Weights<WeightSlot>)> {
    place_weights(&file.config, &file.weights, held, max_binding, options)
}

fn place_weights(
    config: &Config,
    weights: &Weights<TensorInfo>,
    held: Option<WeightFormat>,
    max_binding: u64,
    options: &EngineOptions,
) -> Result<(Placement, Weights<WeightSlot>)> {
    let place = |experts| weights.place_within(config.tied, held, max_binding, experts);
    let n = config.experts.map_or(1, |experts| experts.n);
    let wanted = options.experts_per_layer.unwrap_or(n).min(n);
    let Some(limit) = options.max_weights_bytes else { return place(wanted) };
    // Every expert takes the same, so one placement with a single expert tells how many there is room for.
    let (least, whole) = (place(1)?.0.bytes(), place(n)?.0.bytes());
    if least > limit {
        let hint = match n {
            1 => "a smaller --weights format or a smaller model may fit".into(),
            _ => "that is with one expert of each layer on the device; a smaller --weights format may fit".into(),
        };
        return Err(Error::TooLarge { what: "the weights".into(), needed: least, limit, hint, fits: None });
    }
    let per_expert = (whole - least).checked_div(n as u64 - 1).unwrap_or(0);
    let room = (limit - least).checked_div(per_expert).map_or(n, |more| 1 + more as usize);
    place(wanted.min(room))
}

/// What matrices are converted to, `None` where each keeps its own format.
pub fn held_format(file: &ModelFile, wanted: Option<WeightFormat>) -> Option<WeightFormat> {
    // A folder that is quantised already keeps its codes.
    let is_quantised = file.tensors.iter().any(|tensor| tensor.format.block_len() > 1);
    wanted.or(match file.text {
        TextSource::Folder(_) if !is_quantised => Some(WeightFormat::Q4_0),
        _ => None,
    })
}

fn no_tokenizer(problem: Option<&str>) -> Error {
    let hint = match problem {
        Some(_) => "compare the file with its publisher's; `pocketlm logits --ids` works without a tokenizer",
        None => "a folder needs tokenizer.json beside config.json; `pocketlm logits --ids` works without one",
    };
    Error::Text { what: problem.unwrap_or("the model has no tokenizer").into(), hint }
}

fn no_template(problem: Option<&str>) -> Error {
    Error::Text {
        what: problem.unwrap_or("the model has no chat template").into(),
        hint: "give the prompt as it is, with --raw",
    }
}

/// A hash of the configuration, of each tensor's description, and of a sample of its numbers.
async fn fingerprint(file: &ModelFile, held: Option<WeightFormat>) -> Result<String> {
    let mut hash = Xxh3::new();
    hash.update(format!("{:?} {held:?}", file.config).as_bytes());
    for tensor in &file.tensors {
        hash.update(format!("{} {} {:?}", tensor.name, tensor.format.name(), tensor.shape).as_bytes());
        let mut sample = [0; 64];
        let sample = &mut sample[..tensor.n_bytes().min(64) as usize];
        tensor.source.sample(tensor.offset, tensor.n_bytes(), sample).await?;
        hash.update(sample);
    }
    Ok(format!("{:016x}", hash.digest()))
}

struct Text {
    tokenizer: Option<Tokenizer>,
    template: Option<ChatTemplate>,
    end_ids: BTreeSet<u32>,
    problem: Option<String>,
}

impl Text {
    /// Reads the file's text and drops the bytes it was read from: a large vocabulary's take tens of megabytes.
    ///
    /// A tokenizer or template that cannot be used is no error yet: logits of ids need neither.
    fn take(file: &mut ModelFile) -> Self {
        let source = std::mem::replace(&mut file.text, TextSource::None);
        let mut problem = None;
        let mut note = |error: Error| problem = Some(error.to_string());
        let (tokenizer, template_source) = match &source {
            TextSource::Gguf(metadata) => {
                (Tokenizer::from_gguf(metadata), ChatTemplate::source_in_gguf(metadata).map(str::to_string))
            }
            TextSource::Folder(folder) => (Tokenizer::in_folder(folder), ChatTemplate::source_in_folder(folder)),
            TextSource::None => (Ok(None), None),
        };
        let tokenizer = tokenizer.map_err(&mut note).unwrap_or_default();
        let mut end_ids = BTreeSet::new();
        let mut template = None;
        if let Some(tokenizer) = &tokenizer {
            end_ids.extend(tokenizer.end_of_generation_ids());
            let text_of = |id: Option<u32>| id.and_then(|id| tokenizer.token_text(id)).unwrap_or_default();
            let (bos, eos) = (text_of(tokenizer.bos()), text_of(tokenizer.eos()));
            let made = template_source.map(|source| ChatTemplate::new(&source, &bos, &eos));
            template = made.and_then(|made| made.map_err(&mut note).ok());
        } else if let TextSource::Folder(folder) = &source {
            end_ids.extend(text::end_ids(folder));
        }
        Self { tokenizer, template, end_ids, problem }
    }

    fn check(&self, need: TextNeed) -> Result<()> {
        let problem = self.problem.as_deref();
        match need {
            TextNeed::Tokenizer | TextNeed::Template if self.tokenizer.is_none() => Err(no_tokenizer(problem)),
            TextNeed::Template if self.template.is_none() => Err(no_template(problem)),
            _ => Ok(()),
        }
    }
}
