//! Sessions on an engine: a context's tokens, their keys and values on the device, and the logits after the last.

mod ahead;
mod engine;
mod generate;
mod needs;
pub mod pace;
mod room;
mod saved;
mod tuned;

pub use ahead::MAX_TOKENS_PER_SUBMIT;
pub use engine::{Engine, EngineOptions, TextNeed, held_format, place};
pub use generate::{Generation, Piece, Stats, Stop};
pub use needs::{MemoryNeeds, default_context, plans, record_options};
pub use saved::{SavedSession, is_saved_session};

use crate::{
    backend::gpu::{Program, ReadBack},
    error::{Error, Result},
    kernels::{CacheFormat, reference::STEP_HEAD_WORDS},
    model::{Phase, RecordOptions, cache_rows},
    plan::{Batch, Plan},
    platform::now_s,
};
use ahead::Picker;
use pace::Pace;
use room::Room;
use std::{
    borrow::Cow,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

/// How to open a session.
#[derive(Debug, Clone)]
pub struct SessionOptions {
    /// Most tokens; `None`: the model's context, at most 4096.
    pub context: Option<usize>,
    pub cache: CacheFormat,
    /// Also make ready for the logits of every position.
    pub all_logits: bool,
    /// Most tokens of a prompt that are processed at once; activations take memory for as many.
    pub batch: usize,
    /// Tokens of an answer that the device chooses between two looks of the CPU, at most [`MAX_TOKENS_PER_SUBMIT`].
    /// `None`: as many as take some 30 ms, and at least one.
    pub tokens_per_submit: Option<usize>,
}

impl Default for SessionOptions {
    fn default() -> Self {
        Self { context: None, cache: CacheFormat::F16, all_logits: false, batch: 512, tokens_per_submit: None }
    }
}

/// A context: its tokens, their keys and values on the device, and the logits after the last.
#[derive(Debug)]
pub struct Session {
    engine: Arc<Engine>,
    room: Room,
    through: ReadBack,
    picker: Picker,
    tokens: Vec<u32>,
    /// The first so many tokens have their keys and values in the cache; the others are processed with what comes next.
    n_cached: usize,
    /// One past the last position that was written since position 0 was: with a sliding window, the cache holds the
    /// positions before it.
    n_written: usize,
    /// The buffer of logits holds those after the first so many tokens.
    logits_of: usize,
    step: Vec<u32>,
    context: usize,
    /// Of tokens in a submit, from answer to answer.
    pace: Pace,
    /// Of the rope table that the keys in the cache were rotated by.
    first_angle_row: usize,
    stop: Option<Arc<AtomicBool>>,
}

impl Session {
    /// Allocates the first positions of the cache and binds the plans.
    ///
    /// Nothing is created between tokens, but when the cache is full: then it grows to twice its size.
    ///
    /// Errors: [`Error::TooLarge`], [`Error::Device`], [`Error::Invalid`] for a context of 0.
    pub async fn new(engine: Arc<Engine>, options: &SessionOptions) -> Result<Self> {
        let (gpu, config) = (&engine.gpu, &engine.config);
        let context = engine.context(options.context);
        if context == 0 || context > 1 << 24 {
            return Err(Error::Invalid { what: format!("a context of {context} tokens") });
        }
        let full = record_options(config, options, gpu.tuning, gpu.max_binding_bytes());
        let needs = MemoryNeeds::of_plans(&plans(config, &engine.placed, &full, options.all_logits));
        gpu.check_memory("the context", needs.cache + needs.activations, "lower --ctx")?;
        let rows = if options.all_logits { full.max_tokens } else { 1 };
        let n_used = config.experts.map_or(0, |experts| experts.n_used);
        Ok(Self {
            room: Room::new(&engine, full, options.all_logits).await?,
            through: gpu.read_back(4 * (rows * config.n_vocab).max(full.max_tokens * n_used) as u64),
            picker: Picker::new(|bytes| gpu.read_back(bytes)),
            tokens: Vec::new(),
            n_cached: 0,
            n_written: 0,
            logits_of: 0,
            step: Vec::with_capacity(STEP_HEAD_WORDS + full.max_tokens),
            context,
            pace: Pace::new(options.tokens_per_submit),
            first_angle_row: 0,
            stop: None,
            engine,
        })
    }

    /// The engine it runs on.
    pub fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    /// Tokens of the context so far.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// Most tokens that it can hold.
    pub fn context(&self) -> usize {
        self.context
    }

    /// Positions that there is room for before the cache grows.
    pub fn capacity(&self) -> usize {
        self.room.options.capacity
    }

    /// Bytes of cache and activations on the device.
    pub fn bytes(&self) -> u64 {
        self.room.memory.bytes
    }

    /// Bytes of cache and activations by plan; together they are [`Session::bytes`].
    pub fn needs(&self) -> MemoryNeeds {
        self.room.needs(&self.engine)
    }

    /// The plans that it runs, for the positions that there is room for now.
    pub fn plans(&self) -> Vec<(Phase, Plan)> {
        self.room.plans(&self.engine)
    }

    /// Most tokens of a prompt that are processed at once.
    pub fn max_batch(&self) -> usize {
        self.room.options.max_tokens
    }

    /// Stops the processing of a long prompt between two batches once `flag` is set: [`Session::feed`] then returns
    /// [`Error::Interrupted`]. Whoever sets the flag takes it back.
    pub fn stop_on(&mut self, flag: Arc<AtomicBool>) {
        self.stop = Some(flag);
    }

    /// Goes on with another device after its own was lost: the tokens stay, and the next call processes them anew.
    ///
    /// Errors: those of [`Engine::successor`] and of [`Session::new`]; the session is as it was then.
    pub async fn recover(&mut self) -> Result<()> {
        let engine = self.engine.successor().await?;
        let full = RecordOptions { capacity: self.context, tuning: engine.gpu.tuning, ..self.room.options };
        self.room = Room::new(&engine, full, self.room.all_logits()).await?;
        self.through = engine.gpu.read_back(self.through.bytes());
        self.picker = Picker::new(|bytes| engine.gpu.read_back(bytes));
        self.engine = engine;
        (self.n_cached, self.n_written, self.logits_of) = (0, 0, 0);
        Ok(())
    }

    /// Forgets every token after the first `n_tokens`.
    ///
    /// With a sliding window, the cache may hold too little of what came before them; then it is filled anew with the
    /// next tokens, which takes as long as their prompt did.
    pub fn truncate(&mut self, n_tokens: usize) {
        self.tokens.truncate(n_tokens);
        self.n_cached = self.n_cached.min(self.tokens.len());
        self.logits_of = if self.logits_of > n_tokens { 0 } else { self.logits_of };
        let seen = self.engine.config.sliding_window.map_or(0, |window| self.n_cached.saturating_sub(window - 1));
        if self.oldest_position() > seen || self.n_cached == 0 {
            (self.n_cached, self.n_written) = (0, 0);
        }
    }

    /// The first position that the cache still holds.
    fn oldest_position(&self) -> usize {
        self.n_written.saturating_sub(cache_rows(&self.engine.config, &self.room.options))
    }

    /// Makes `ids` the context, whatever it was: of what they share with it, only what the cache has lost is processed
    /// again, and the last token, for its logits. Returns how many tokens were reused.
    ///
    /// Errors: as [`Session::feed`].
    pub async fn set_prompt(&mut self, ids: &[u32]) -> Result<usize> {
        self.check(ids, 0)?;
        let common = ids.iter().zip(&self.tokens).take_while(|(a, b)| a == b).count();
        self.truncate(common.min(ids.len().saturating_sub(1)));
        self.continue_with(&ids[self.tokens.len()..]).await
    }

    /// Appends tokens; afterwards [`Session::most_probable`] and [`Session::logits`] tell what follows the last.
    ///
    /// Errors: [`Error::ContextFull`], [`Error::TokenOutOfRange`], [`Error::Device`]; nothing is appended then.
    /// [`Error::Interrupted`]: the batches before stay appended.
    pub async fn feed(&mut self, ids: &[u32]) -> Result<()> {
        self.check(ids, self.tokens.len())?;
        self.continue_with(ids).await.map(|_| ())
    }

    /// Processes what the cache lacks and `ids` after it; returns how many tokens it had.
    async fn continue_with(&mut self, ids: &[u32]) -> Result<usize> {
        if ids.is_empty() {
            return Ok(self.n_cached);
        }
        let again_s = self.change_angles(ids.len());
        let n_reused = self.n_cached;
        // Between two tokens of an answer nothing is lost, and nothing is copied.
        let all = match &self.tokens[n_reused..] {
            [] => Cow::Borrowed(ids),
            lost => Cow::Owned([lost, ids].concat()),
        };
        self.reserve(all.len()).await?;
        self.process(&all, true).await?;
        self.tell_of_change(again_s).await?;
        Ok(n_reused)
    }

    /// Chooses the rope angles for a text that `n_more` tokens join. Where the keys in the cache have others, LongRoPE's
    /// for shorter or for longer texts, they are of no use any more; then it returns the time.
    fn change_angles(&mut self, n_more: usize) -> Option<f64> {
        let first_row = self.engine.config.rope.first_angle_row(self.tokens.len() + n_more);
        let lost = first_row != self.first_angle_row && self.n_cached > 0;
        self.first_angle_row = first_row;
        lost.then(|| {
            (self.n_cached, self.n_written) = (0, 0);
            now_s()
        })
    }

    async fn tell_of_change(&self, again_s: Option<f64>) -> Result<()> {
        let Some(start_s) = again_s else { return Ok(()) };
        self.engine.gpu.finished("processing the text again").await?;
        let original = self.engine.config.rope.long.as_ref().map_or(0, |long| long.original);
        tracing::warn!(
            "the text crossed {original} tokens, where this model's position encoding changes: all {} tokens were \
             processed again in {:.1} s",
            self.tokens.len(),
            now_s() - start_s
        );
        Ok(())
    }

    /// Appends tokens and hands the logits after each of them to `each`. Needs [`SessionOptions::all_logits`].
    ///
    /// Errors: as [`Session::feed`].
    pub async fn feed_all(&mut self, ids: &[u32], mut each: impl FnMut(&[f32])) -> Result<()> {
        self.check(ids, self.tokens.len())?;
        let again_s = self.change_angles(ids.len());
        let lost = self.tokens[self.n_cached..].to_vec();
        // Rows of all logits come instead of the last one's.
        self.logits_of = 0;
        self.reserve(lost.len() + ids.len()).await?;
        self.process(&lost, false).await?;
        self.tell_of_change(again_s).await?;
        let n_vocab = self.engine.config.n_vocab;
        let mut logits = vec![0u32; self.room.options.max_tokens.min(ids.len()) * n_vocab];
        for batch in ids.chunks(self.room.options.max_tokens) {
            self.upload(batch);
            let (gpu, programs) = (&self.engine.gpu, self.room.programs()?);
            let all = programs.all_logits.as_ref().expect("a session opened for all logits");
            self.run(&[&programs.prompt, all], self.batch(batch.len())).await?;
            let logits = &mut logits[..batch.len() * n_vocab];
            gpu.read(&self.room.memory, "all_logits", &self.through, logits).await?;
            self.append(batch);
            bytemuck::cast_slice(logits).chunks_exact(n_vocab).for_each(&mut each);
        }
        Ok(())
    }

    /// The logits of the next token into `out`, (n_vocab).
    ///
    /// Errors: [`Error::Device`].
    pub async fn logits(&mut self, out: &mut Vec<f32>) -> Result<()> {
        self.refresh_logits().await?;
        out.resize(self.engine.config.n_vocab, 0.0);
        self.engine.gpu.read(&self.room.memory, "logits", &self.through, bytemuck::cast_slice_mut(out)).await
    }

    /// Computes the logits of the last token again where those of later ones took their place.
    async fn refresh_logits(&mut self) -> Result<()> {
        let n_tokens = self.tokens.len();
        let Some(&last) = self.tokens.last().filter(|_| self.n_cached == n_tokens && self.logits_of != n_tokens) else {
            return Ok(());
        };
        self.n_cached -= 1;
        self.process(&[last], true).await
    }

    /// Runs `ids` behind what is cached, batch by batch, with the logits of the last if `logits` says so.
    async fn process(&mut self, ids: &[u32], logits: bool) -> Result<()> {
        let n_batches = ids.len().div_ceil(self.room.options.max_tokens);
        let n_tokens = self.n_cached + ids.len();
        for (index, batch) in ids.chunks(self.room.options.max_tokens).enumerate() {
            if index > 0 {
                // Only a device that is done with the batch before can be stopped here.
                self.engine.gpu.finished("processing the prompt").await?;
                if self.stop.as_ref().is_some_and(|flag| flag.load(Ordering::Relaxed)) {
                    let what = format!("{} of {n_tokens} tokens of the prompt are processed", self.n_cached);
                    return Err(Error::Interrupted { what });
                }
            }
            self.upload(batch);
            let programs = self.room.programs()?;
            match (batch.len(), logits && index + 1 == n_batches) {
                (1, true) => self.run(&[&programs.decode], self.batch(1)).await?,
                (n, last) => {
                    self.run(&[&programs.prompt], self.batch(n)).await?;
                    if last {
                        self.run(&[&programs.last_logits], self.batch(1)).await?;
                    }
                }
            }
            self.append(batch);
        }
        if logits {
            self.logits_of = self.n_cached;
        }
        Ok(())
    }

    /// The next `n_tokens` behind what is cached.
    fn batch(&self, n_tokens: usize) -> Batch {
        Batch { n_tokens, position: self.n_cached }
    }

    /// Runs programs on a batch; where the device holds some experts only, the CPU fetches others between dispatches.
    async fn run(&self, programs: &[&Program], batch: Batch) -> Result<()> {
        let (gpu, weights) = (&self.engine.gpu, &self.engine.weights);
        match programs.iter().any(|program| program.has_stops()) {
            true => gpu.run_fetching(programs, batch, &self.room.memory, weights, &self.through).await,
            false => gpu.run(programs, batch),
        }
    }

    /// Notes that `batch` was processed. Tokens that the cache had lost are there already.
    fn append(&mut self, batch: &[u32]) {
        let known = batch.len().min(self.tokens.len() - self.n_cached);
        self.tokens.extend_from_slice(&batch[known..]);
        self.n_cached += batch.len();
        self.n_written = self.n_written.max(self.n_cached);
    }

    async fn reserve(&mut self, n_more: usize) -> Result<()> {
        let keep = self.n_cached > 0;
        self.room.reserve(&self.engine, self.n_cached + n_more, self.context, keep).await
    }

    fn check(&self, ids: &[u32], n_before: usize) -> Result<()> {
        let n_vocab = self.engine.config.n_vocab;
        if let Some(&id) = ids.iter().find(|&&id| id as usize >= n_vocab) {
            return Err(Error::TokenOutOfRange { id, n_vocab });
        }
        let n_tokens = n_before + ids.len();
        match n_tokens > self.context {
            true => Err(Error::ContextFull { n_tokens, context: self.context }),
            false => Ok(()),
        }
    }

    /// Writes the step of the next run, behind what is cached: 16 bytes and the ids.
    fn upload(&mut self, ids: &[u32]) {
        self.step.clear();
        self.step.extend([ids.len() as u32, self.n_cached as u32, self.first_angle_row as u32, 0]);
        self.step.extend_from_slice(ids);
        self.engine.gpu.write(&self.room.memory, "step", &self.step);
    }
}
