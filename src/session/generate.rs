//! Answers: tokens chosen one by one, as text.

use super::{Engine, Session, ahead::Ahead};
use crate::{
    error::{Error, Result},
    kernels::sampling::SamplingWords,
    platform::now_s,
    sample::SamplingOptions,
    text::TextStream,
};

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
    /// Tokens of the prompt that were processed.
    pub n_prompt: usize,
    /// Tokens before them whose keys and values were there already.
    pub n_reused: usize,
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
    ahead: Ahead,
    words: SamplingWords,
    stream: Option<TextStream>,
    stop: Option<Stop>,
    /// Chosen, but not yet in the context.
    pending: Option<u32>,
    stats: Stats,
    max_tokens: Option<usize>,
    /// A step failed, or nobody waited for its end: what was under way is not known any more.
    broken: bool,
}

impl Session {
    /// Begins an answer to `prompt`, which is appended first.
    ///
    /// Errors: as [`Session::feed`]; [`Error::Invalid`] for an empty prompt or sampling options without meaning.
    pub async fn generate(
        &mut self,
        prompt: &[u32],
        sampling: SamplingOptions,
        max_tokens: Option<usize>,
    ) -> Result<Generation<'_>> {
        let ids = [&self.tokens, prompt].concat();
        if prompt.is_empty() {
            return Err(Error::Invalid { what: "the prompt is empty".into() });
        }
        self.answer(&ids, sampling, max_tokens).await
    }

    /// Begins an answer to `ids` as the whole context, of which the cache keeps what it has, see
    /// [`Session::set_prompt`].
    ///
    /// Errors: as [`Session::generate`].
    pub async fn answer(
        &mut self,
        ids: &[u32],
        sampling: SamplingOptions,
        max_tokens: Option<usize>,
    ) -> Result<Generation<'_>> {
        sampling.check()?;
        let words = sampling.words();
        if ids.is_empty() {
            return Err(Error::Invalid { what: "the prompt is empty".into() });
        }
        let start_s = now_s();
        let n_reused = match self.set_prompt(ids).await {
            Err(_) if self.engine.gpu.is_lost() => {
                self.recover().await?;
                self.set_prompt(ids).await?
            }
            result => result?,
        };
        self.choose_by(words, 0);
        let stream = self.engine.tokenizer.as_ref().map(|tokenizer| tokenizer.stream(&self.tokens));
        Ok(Generation {
            ahead: Ahead::new(self, max_tokens),
            words,
            session: self,
            stream,
            stop: None,
            pending: None,
            stats: Stats { n_prompt: ids.len() - n_reused, n_reused, start_s, ..Stats::default() },
            max_tokens,
            broken: false,
        })
    }
}

/// One token of an answer, and the text that it completed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    pub token: u32,
    pub text: String,
}

impl Generation<'_> {
    /// The next token, `None` when the answer is over. Where the device was lost, the text so far is processed on a new
    /// one first.
    ///
    /// Errors: [`Error::Device`], also when the device is lost a second time before there is a token.
    pub async fn next(&mut self) -> Result<Option<Piece>> {
        if self.broken {
            return Err(Error::Interrupted { what: "the answer broke off".into() });
        }
        self.broken = true;
        let piece = self.step_or_recover().await;
        self.broken = piece.is_err();
        piece
    }

    async fn step_or_recover(&mut self) -> Result<Option<Piece>> {
        match self.step().await {
            Err(error) if self.session.engine.gpu.is_lost() => {
                tracing::warn!("{error}; going on with a new device");
                self.ahead.forget();
                self.session.recover().await?;
                let ids: Vec<u32> = self.session.tokens.iter().copied().chain(self.pending).collect();
                self.session.set_prompt(&ids).await?;
                self.pending = None;
                // Tokens that had come back but were not asked for are chosen anew, by the same draws.
                let n_answer = self.stats.n_answer;
                self.session.choose_by(self.words, n_answer);
                self.ahead = Ahead::new(self.session, self.max_tokens.map(|max| max - n_answer));
                self.step().await
            }
            result => result,
        }
    }

    async fn step(&mut self) -> Result<Option<Piece>> {
        if self.stop.is_some() {
            return Ok(None);
        }
        if self.max_tokens.is_some_and(|max| self.stats.n_answer >= max) {
            return Ok(self.end(Stop::MaxTokens));
        }
        if let Some(token) = self.pending {
            if self.session.tokens.len() >= self.session.context {
                return Ok(self.end(Stop::ContextFull));
            }
            self.ahead.append(self.session, token).await?;
            self.pending = None;
        }
        let token = self.ahead.next(self.session).await?;
        let since_start = now_s() - self.stats.start_s;
        match self.stats.n_answer {
            0 => self.stats.prompt_s = since_start,
            _ => self.stats.answer_s = since_start - self.stats.prompt_s,
        }
        if self.session.engine.end_ids.contains(&token) {
            return Ok(self.end(Stop::EndOfGeneration));
        }
        self.stats.n_answer += 1;
        self.pending = Some(token);
        let text = self.stream.as_mut().map(|stream| stream.push(token)).unwrap_or_default();
        Ok(Some(Piece { token, text }))
    }

    /// What ran ahead is forgotten at once: the session may go on as soon as it is told.
    fn end(&mut self, stop: Stop) -> Option<Piece> {
        self.stop = Some(stop);
        self.ahead.discard(self.session);
        None
    }

    /// The text that was waiting for the rest of a character.
    pub fn finish_text(&mut self) -> String {
        self.stream.take().map(TextStream::finish).unwrap_or_default()
    }

    /// The engine that it runs on.
    pub fn engine(&self) -> &Engine {
        &self.session.engine
    }

    /// Why it is over, once it is.
    pub fn stop(&self) -> Option<Stop> {
        self.stop
    }

    /// Counts and times so far.
    pub fn stats(&self) -> Stats {
        self.stats
    }
}

impl Drop for Generation<'_> {
    fn drop(&mut self) {
        self.ahead.discard(self.session);
    }
}
