//! Sessions on an engine: a context's tokens, their keys and values on the device, and the logits after the last.

mod engine;
mod generate;
mod needs;

pub use engine::{Engine, EngineOptions, held_format};
pub use generate::{Generation, Piece, Stats, Stop};
pub use needs::{MemoryNeeds, batch_size, default_context, plans};

use crate::{
    backend::gpu::{Memory, Program, ReadBack},
    error::{Error, Result},
    kernels::{CacheFormat, NOT_A_NUMBER, reference::STEP_HEAD_WORDS},
    model::RecordOptions,
    plan::Plan,
    platform::now_s,
    sample::not_a_number,
};
use std::sync::Arc;

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
    /// Of the rope table that the keys in the cache were rotated by.
    first_angle_row: usize,
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
        let needs = MemoryNeeds::of_plans(&plans);
        gpu.check_memory("the context", needs.cache + needs.activations, "lower --ctx")?;
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
            first_angle_row: 0,
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
        if self.change_angles(ids.len()) {
            return self.feed_again(ids).await;
        }
        self.feed_checked(ids).await
    }

    /// Processes every token again, and `ids` after them: the text has become so long (or so short) that LongRoPE has
    /// other angles for all of its positions, and the keys in the cache are of no use.
    async fn feed_again(&mut self, ids: &[u32]) -> Result<()> {
        let start_s = now_s();
        let mut all = std::mem::take(&mut self.tokens);
        let n_before = all.len();
        all.extend_from_slice(ids);
        if let Err(error) = self.feed_checked(&all).await {
            // The cache now holds nothing of use: no tokens, rather than wrong ones.
            self.tokens.clear();
            return Err(error);
        }
        self.engine.gpu.finished("processing the text again").await?;
        if n_before > 0 {
            let original = self.engine.config.rope.long.as_ref().map_or(0, |long| long.original);
            tracing::warn!(
                "the text crossed {original} tokens, where this model's position encoding changes: all {} tokens were \
                 processed again in {:.1} s",
                all.len(),
                now_s() - start_s
            );
        }
        Ok(())
    }

    /// Chooses the rope angles for a text that `n_more` tokens join; true when keys in the cache have others.
    fn change_angles(&mut self, n_more: usize) -> bool {
        let first_row = self.engine.config.rope.first_angle_row(self.tokens.len() + n_more);
        let changed = first_row != self.first_angle_row;
        self.first_angle_row = first_row;
        changed && !self.tokens.is_empty()
    }

    async fn feed_checked(&mut self, ids: &[u32]) -> Result<()> {
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
        if self.change_angles(ids.len()) {
            self.feed_again(&[]).await?;
        }
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

    /// Writes the step of the next run: 16 bytes and the ids (see `shaders/embed.wgsl`).
    fn upload(&mut self, ids: &[u32], position: usize) {
        self.step.clear();
        self.step.extend([ids.len() as u32, position as u32, self.first_angle_row as u32, 0]);
        self.step.extend_from_slice(ids);
        self.engine.gpu.write(&self.memory, "step", &self.step);
    }
}
