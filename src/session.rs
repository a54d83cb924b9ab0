//! The engine (device, weights, tokenizer) and sessions on it (cache, position, answers).

use crate::{
    backend::{
        Gpu,
        gpu::{GpuWeights, Memory, Program, ReadBack},
    },
    error::{Error, Result},
    format::{Folder, WeightFormat},
    kernels::{CacheFormat, NOT_A_NUMBER, reference::STEP_HEAD_WORDS},
    model::{Config, ModelFile, Phase, RecordOptions, TextSource, Weights, record},
    placement::Placement,
    plan::{Content, Plan, WeightSlot},
    platform::now_s,
    sample::{Sampler, SamplingOptions, not_a_number},
    text::{ChatTemplate, TextStream, Tokenizer},
};
use serde_json::Value;
use std::{collections::BTreeSet, path::Path, sync::Arc};

/// Tokens of a prompt that are processed at once.
const MAX_BATCH: usize = 512;
/// Context when none is asked for: what most conversations need, at a memory cost that most devices bear.
const DEFAULT_CONTEXT: usize = 4096;
/// Most bytes of logits that are held for a batch when every position's are asked for.
const ALL_LOGITS_BYTES: usize = 64 << 20;

/// How to load a model.
#[derive(Debug, Clone, Default)]
pub struct EngineOptions {
    /// Index or part of the name of an adapter.
    pub adapter: Option<String>,
    /// How matrices are held on the device. `None`: as a GGUF file has them; q4_0 for a Hugging Face folder.
    pub weights: Option<WeightFormat>,
}

/// How to open a session.
#[derive(Debug, Clone)]
pub struct SessionOptions {
    /// Most tokens; `None`: the model's context, at most 4096.
    pub context: Option<usize>,
    pub cache: CacheFormat,
    /// Also make ready for the logits of every position.
    pub all_logits: bool,
}

impl Default for SessionOptions {
    fn default() -> Self {
        Self { context: None, cache: CacheFormat::F16, all_logits: false }
    }
}

/// A model on a device.
#[derive(Debug)]
pub struct Engine {
    pub gpu: Gpu,
    pub config: Config,
    pub tokenizer: Option<Tokenizer>,
    pub template: Option<ChatTemplate>,
    /// Ids after which an answer is over.
    pub end_ids: BTreeSet<u32>,
    weights: Arc<GpuWeights>,
    placed: Weights<WeightSlot>,
}

impl Engine {
    /// Opens a GGUF file or a Hugging Face folder and loads it; `progress` hears (bytes done, bytes in all).
    ///
    /// Errors: those of the file, of the adapter and of the device.
    pub async fn open(path: &Path, options: &EngineOptions, progress: impl FnMut(u64, u64)) -> Result<Self> {
        let file = ModelFile::open(path).await?;
        let gpu = Gpu::open(options.adapter.as_deref()).await?;
        Self::load(file, gpu, options.weights, progress).await
    }

    /// Loads an opened file onto a device.
    ///
    /// Errors: as [`Engine::open`].
    pub async fn load(
        file: ModelFile,
        gpu: Gpu,
        weights: Option<WeightFormat>,
        mut progress: impl FnMut(u64, u64),
    ) -> Result<Self> {
        let held = held_format(&file, weights);
        let (placement, placed) = file.weights.place(file.config.tied, held, gpu.max_binding_bytes())?;
        let total = placement.bytes();
        let weights = Arc::new(gpu.load(&placement, |done| progress(done, total)).await?);
        let Text { tokenizer, template, end_ids } = Text::read(&file)?;
        Ok(Self { gpu, config: file.config, tokenizer, template, end_ids, weights, placed })
    }

    /// Bytes of weights on the device.
    pub fn weights_bytes(&self) -> u64 {
        self.weights.bytes
    }

    /// The tokenizer. Errors: [`Error::Text`] when the model came without one.
    pub fn tokenizer(&self) -> Result<&Tokenizer> {
        self.tokenizer.as_ref().ok_or(Error::Text {
            what: "the model has no tokenizer".into(),
            hint: "a folder needs tokenizer.json beside config.json; `pocketlm logits --ids` works without one",
        })
    }

    /// The chat template. Errors: [`Error::Text`] when the model came without one.
    pub fn template(&self) -> Result<&ChatTemplate> {
        self.template.as_ref().ok_or(Error::Text {
            what: "the model has no chat template".into(),
            hint: "give the prompt as it is, with --raw",
        })
    }

    /// The context that a session gets for this wish.
    pub fn context(&self, wanted: Option<usize>) -> usize {
        wanted.unwrap_or(self.config.context.min(DEFAULT_CONTEXT))
    }
}

/// What matrices are converted to, `None` where each keeps its own format.
pub fn held_format(file: &ModelFile, wanted: Option<WeightFormat>) -> Option<WeightFormat> {
    wanted.or(match file.text {
        TextSource::Folder(_) => Some(WeightFormat::Q4_0),
        _ => None,
    })
}

/// Plans of every phase that a session may run.
///
/// `all_logits` adds [`Phase::AllLogits`] and keeps batches so small that their logits fit 64 MiB.
pub fn plans(
    config: &Config,
    placed: &Weights<WeightSlot>,
    options: &RecordOptions,
    all_logits: bool,
) -> Vec<(Phase, Plan)> {
    let mut phases = vec![Phase::Decode, Phase::Prompt, Phase::LastLogits];
    phases.extend(all_logits.then_some(Phase::AllLogits));
    phases.into_iter().map(|phase| (phase, record(config, placed, options, phase))).collect()
}

/// The largest batch for a context, and for logits of every position where they are wanted.
pub fn batch_size(config: &Config, context: usize, all_logits: bool) -> usize {
    let fits = ALL_LOGITS_BYTES / (4 * config.n_vocab);
    MAX_BATCH.min(context).min(if all_logits { fits.max(1) } else { MAX_BATCH })
}

struct Text {
    tokenizer: Option<Tokenizer>,
    template: Option<ChatTemplate>,
    end_ids: BTreeSet<u32>,
}

impl Text {
    fn read(file: &ModelFile) -> Result<Self> {
        let (tokenizer, source) = match &file.text {
            TextSource::Gguf(metadata) => {
                (Tokenizer::from_gguf(metadata)?, ChatTemplate::source_in_gguf(metadata).map(str::to_string))
            }
            TextSource::Folder(folder) => (folder_tokenizer(folder)?, folder_template(folder)),
            TextSource::None => (None, None),
        };
        let mut end_ids = BTreeSet::new();
        let mut template = None;
        if let Some(tokenizer) = &tokenizer {
            end_ids.extend(tokenizer.end_of_generation_ids());
            let text_of = |id: Option<u32>| id.and_then(|id| tokenizer.token_text(id)).unwrap_or_default();
            let (bos, eos) = (text_of(tokenizer.bos()), text_of(tokenizer.eos()));
            template = source.map(|source| ChatTemplate::new(&source, &bos, &eos)).transpose()?;
        } else if let TextSource::Folder(folder) = &file.text {
            end_ids.extend(folder_end_ids(folder));
        }
        Ok(Self { tokenizer, template, end_ids })
    }
}

fn folder_tokenizer(folder: &Folder) -> Result<Option<Tokenizer>> {
    let Some(json) = &folder.tokenizer else { return Ok(None) };
    let mut tokenizer = Tokenizer::from_folder(json, folder.tokenizer_config.as_ref())?;
    tokenizer.add_end_of_generation(folder_end_ids(folder))?;
    Ok(Some(tokenizer))
}

fn folder_template(folder: &Folder) -> Option<String> {
    let in_config = || folder.tokenizer_config.as_ref().and_then(ChatTemplate::source_in_config);
    folder.chat_template.clone().or_else(|| in_config().map(str::to_string))
}

/// `eos_token_id` of both configurations: one id or a list.
fn folder_end_ids(folder: &Folder) -> Vec<u32> {
    let configs = [Some(&folder.config), folder.generation_config.as_ref()];
    let values = configs.into_iter().flatten().filter_map(|config| config.get("eos_token_id"));
    let one = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
    values.flat_map(|v| v.as_array().map_or_else(|| vec![v.clone()], Clone::clone)).filter_map(|v| one(&v)).collect()
}

/// A context: its tokens, their keys and values on the device, and the logits after the last.
#[derive(Debug)]
pub struct Session {
    engine: Arc<Engine>,
    memory: Memory,
    decode: Program,
    prompt: Program,
    last_logits: Program,
    all_logits: Option<Program>,
    through: ReadBack,
    tokens: Vec<u32>,
    step: Vec<u32>,
    context: usize,
    max_batch: usize,
}

impl Session {
    /// Allocates the cache and binds the plans: from here on nothing is created between tokens.
    ///
    /// Errors: [`Error::TooLarge`], [`Error::Device`], [`Error::Invalid`] for a context of 0.
    pub async fn new(engine: Arc<Engine>, options: &SessionOptions) -> Result<Self> {
        let (gpu, config) = (&engine.gpu, &engine.config);
        let context = engine.context(options.context);
        if context == 0 || context > 1 << 24 {
            return Err(Error::Invalid { what: format!("a context of {context} tokens") });
        }
        let max_tokens = batch_size(config, context, options.all_logits);
        let record = RecordOptions { capacity: context, max_tokens, cache: options.cache, tuning: gpu.tuning };
        let plans = plans(config, &engine.placed, &record, options.all_logits);
        let all: Vec<&Plan> = plans.iter().map(|(_, plan)| plan).collect();
        gpu.check_sizes(&all)?;
        let memory = gpu.allocate(&all, &engine.weights, &config.rope.angles(context)).await?;
        let mut programs = Vec::new();
        for (_, plan) in &plans {
            programs.push(gpu.program(plan, &memory, &engine.weights).await?);
        }
        let mut programs = programs.into_iter();
        let mut next = || programs.next().expect("one per phase");
        let (decode, prompt, last_logits) = (next(), next(), next());
        let rows = if options.all_logits { max_tokens } else { 1 };
        Ok(Self {
            memory,
            decode,
            prompt,
            last_logits,
            all_logits: programs.next(),
            through: gpu.read_back(4 * (rows * config.n_vocab) as u64),
            tokens: Vec::with_capacity(context),
            step: Vec::with_capacity(STEP_HEAD_WORDS + max_tokens),
            context,
            max_batch: max_tokens,
            engine,
        })
    }

    /// The engine it runs on.
    pub fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    /// Tokens in the cache.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// Most tokens that it can hold.
    pub fn context(&self) -> usize {
        self.context
    }

    /// Bytes of cache and activations on the device.
    pub fn bytes(&self) -> u64 {
        self.memory.bytes
    }

    /// Forgets every token after the first `n_tokens`.
    pub fn truncate(&mut self, n_tokens: usize) {
        self.tokens.truncate(n_tokens);
    }

    /// Appends tokens; afterwards [`Session::most_probable`] and [`Session::logits`] tell what follows the last.
    ///
    /// Errors: [`Error::ContextFull`], [`Error::TokenOutOfRange`], [`Error::Device`]; nothing is appended then.
    pub async fn feed(&mut self, ids: &[u32]) -> Result<()> {
        self.check(ids)?;
        let engine = self.engine.clone();
        match ids {
            [] => return Ok(()),
            [id] => {
                self.upload(&[*id], self.tokens.len());
                engine.gpu.run(&[&self.decode], 1)?;
            }
            _ => {
                let mut position = self.tokens.len();
                for batch in ids.chunks(self.max_batch) {
                    self.upload(batch, position);
                    engine.gpu.run(&[&self.prompt], batch.len())?;
                    position += batch.len();
                    if position == self.tokens.len() + ids.len() {
                        engine.gpu.run(&[&self.last_logits], 1)?;
                    }
                }
            }
        }
        self.tokens.extend_from_slice(ids);
        Ok(())
    }

    /// Appends tokens and hands the logits after each of them to `each`. Needs [`SessionOptions::all_logits`].
    ///
    /// Errors: as [`Session::feed`].
    pub async fn feed_all(&mut self, ids: &[u32], mut each: impl FnMut(&[f32])) -> Result<()> {
        self.check(ids)?;
        let engine = self.engine.clone();
        let n_vocab = engine.config.n_vocab;
        let mut logits = vec![0u32; self.max_batch.min(ids.len()) * n_vocab];
        for batch in ids.chunks(self.max_batch) {
            self.upload(batch, self.tokens.len());
            let all = self.all_logits.as_ref().expect("a session opened for all logits");
            engine.gpu.run(&[&self.prompt, all], batch.len())?;
            let logits = &mut logits[..batch.len() * n_vocab];
            engine.gpu.read(&self.memory, "all_logits", &self.through, logits).await?;
            self.tokens.extend_from_slice(batch);
            bytemuck::cast_slice(logits).chunks_exact(n_vocab).for_each(&mut each);
        }
        Ok(())
    }

    /// The most probable next token, chosen on the device.
    ///
    /// Errors: [`Error::Device`], also when a logit is no number.
    pub async fn most_probable(&mut self) -> Result<u32> {
        let mut token = [0];
        self.engine.gpu.read(&self.memory, "token", &self.through, &mut token).await?;
        if token[0] == NOT_A_NUMBER { Err(not_a_number()) } else { Ok(token[0]) }
    }

    /// The logits of the next token into `out`, (n_vocab).
    ///
    /// Errors: [`Error::Device`].
    pub async fn logits(&mut self, out: &mut Vec<f32>) -> Result<()> {
        out.resize(self.engine.config.n_vocab, 0.0);
        self.engine.gpu.read(&self.memory, "logits", &self.through, bytemuck::cast_slice_mut(out)).await
    }

    /// Begins an answer to `prompt`, which is appended first.
    ///
    /// Errors: as [`Session::feed`]; [`Error::Invalid`] for an empty prompt or sampling options without meaning.
    pub async fn generate(
        &mut self,
        prompt: &[u32],
        sampling: SamplingOptions,
        max_tokens: Option<usize>,
    ) -> Result<Generation<'_>> {
        let sampler = Sampler::new(sampling)?;
        if prompt.is_empty() {
            return Err(Error::Invalid { what: "the prompt is empty".into() });
        }
        let start_s = now_s();
        self.feed(prompt).await?;
        let stream = self.engine.tokenizer.as_ref().map(|tokenizer| tokenizer.stream(&self.tokens));
        Ok(Generation {
            session: self,
            sampler,
            stream,
            logits: Vec::new(),
            stop: None,
            pending: None,
            stats: Stats { n_prompt: prompt.len(), start_s, ..Stats::default() },
            max_tokens,
        })
    }

    fn check(&self, ids: &[u32]) -> Result<()> {
        let n_vocab = self.engine.config.n_vocab;
        if let Some(&id) = ids.iter().find(|&&id| id as usize >= n_vocab) {
            return Err(Error::TokenOutOfRange { id, n_vocab });
        }
        let n_tokens = self.tokens.len() + ids.len();
        match n_tokens > self.context {
            true => Err(Error::ContextFull { n_tokens, context: self.context }),
            false => Ok(()),
        }
    }

    /// Writes the step of the next run: 16 bytes and the ids.
    fn upload(&mut self, ids: &[u32], position: usize) {
        self.step.clear();
        self.step.extend([ids.len() as u32, position as u32, 0, 0]);
        self.step.extend_from_slice(ids);
        self.engine.gpu.write(&self.memory, "step", &self.step);
    }
}

/// Why an answer is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stop {
    /// The model said so.
    EndOfGeneration,
    /// As many tokens as were asked for.
    MaxTokens,
    /// No room for another token.
    ContextFull,
}

/// Counts and times of an answer.
#[derive(Debug, Clone, Copy, Default)]
pub struct Stats {
    pub n_prompt: usize,
    pub n_answer: usize,
    /// From the prompt's arrival to its first token.
    pub prompt_s: f64,
    /// From the first token to the last.
    pub answer_s: f64,
    start_s: f64,
}

/// An answer on its way.
#[derive(Debug)]
pub struct Generation<'a> {
    session: &'a mut Session,
    sampler: Sampler,
    stream: Option<TextStream>,
    logits: Vec<f32>,
    stop: Option<Stop>,
    /// Chosen, but not yet in the cache.
    pending: Option<u32>,
    stats: Stats,
    max_tokens: Option<usize>,
}

/// One token of an answer, and the text that it completed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    pub token: u32,
    pub text: String,
}

impl Generation<'_> {
    /// The next token, `None` when the answer is over.
    ///
    /// Errors: [`Error::Device`].
    pub async fn next(&mut self) -> Result<Option<Piece>> {
        if self.stop.is_some() {
            return Ok(None);
        }
        if self.max_tokens.is_some_and(|max| self.stats.n_answer >= max) {
            self.stop = Some(Stop::MaxTokens);
            return Ok(None);
        }
        if let Some(token) = self.pending.take() {
            if self.session.tokens.len() >= self.session.context {
                self.stop = Some(Stop::ContextFull);
                return Ok(None);
            }
            self.session.feed(&[token]).await?;
        }
        let token = self.choose().await?;
        let since_start = now_s() - self.stats.start_s;
        match self.stats.n_answer {
            0 => self.stats.prompt_s = since_start,
            _ => self.stats.answer_s = since_start - self.stats.prompt_s,
        }
        if self.session.engine.end_ids.contains(&token) {
            self.stop = Some(Stop::EndOfGeneration);
            return Ok(None);
        }
        self.stats.n_answer += 1;
        self.pending = Some(token);
        let text = self.stream.as_mut().map(|stream| stream.push(token)).transpose()?.unwrap_or_default();
        Ok(Some(Piece { token, text }))
    }

    /// The text that was waiting for the rest of a character.
    pub fn finish_text(&mut self) -> String {
        self.stream.take().map(TextStream::finish).unwrap_or_default()
    }

    /// Why it is over, once it is.
    pub fn stop(&self) -> Option<Stop> {
        self.stop
    }

    /// Counts and times so far.
    pub fn stats(&self) -> Stats {
        self.stats
    }

    async fn choose(&mut self) -> Result<u32> {
        if self.sampler.options().is_plain_greedy() {
            return self.session.most_probable().await;
        }
        self.session.logits(&mut self.logits).await?;
        self.sampler.pick(&mut self.logits, &self.session.tokens)
    }
}

/// Device memory that a model takes, in bytes, by what it is for.
#[derive(Debug, Clone, Copy, serde::Serialize)]
pub struct MemoryNeeds {
    pub weights: u64,
    pub cache: u64,
    pub activations: u64,
}

impl MemoryNeeds {
    /// What `placement` and the plans of a session allocate.
    pub fn of(placement: &Placement, plans: &[(Phase, Plan)]) -> Self {
        let mut all = Plan::default();
        for buffer in plans.iter().flat_map(|(_, plan)| &plan.buffers) {
            all.buffer(&buffer.name, buffer.bytes, buffer.content.clone());
        }
        Self {
            weights: placement.bytes(),
            cache: all.bytes(|content| *content == Content::Cache),
            activations: all.bytes(|c| !matches!(c, Content::Cache | Content::Vector(_))),
        }
    }
}
