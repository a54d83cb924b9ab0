//! Logits to a token: penalties, temperature, top-k, top-p, min-p, and a seeded draw.
//!
//! Devices choose tokens by themselves, see `kernels::sampling`; this is the same choice on the CPU, for whoever has
//! logits there.

use crate::{
    error::{Error, Result},
    kernels::sampling::{self, NO_WEIGHT, NOT_A_NUMBER, SamplingWords},
};

/// How the next token is chosen. The default is greedy.
#[derive(Debug, Clone, PartialEq)]
pub struct SamplingOptions {
    /// Divides the logits; 0 is greedy.
    pub temperature: f32,
    /// Only the k most probable tokens; 0 keeps all.
    pub top_k: usize,
    /// Only the most probable tokens that together reach this probability; 1 keeps all.
    pub top_p: f32,
    /// Only tokens at least this probable, relative to the most probable one; 0 keeps all.
    pub min_p: f32,
    /// Divides positive logits, and multiplies negative ones, of tokens that the context holds already
    /// (CTRL, arXiv:1909.05858); 1 changes nothing.
    pub repeat_penalty: f32,
    pub seed: u64,
}

impl Default for SamplingOptions {
    fn default() -> Self {
        Self { temperature: 0.0, top_k: 0, top_p: 1.0, min_p: 0.0, repeat_penalty: 1.0, seed: 0 }
    }
}

impl SamplingOptions {
    /// Refuses values without a meaning.
    ///
    /// Errors: [`Error::Invalid`].
    pub fn check(&self) -> Result<()> {
        let rules = [
            ("temperature", self.temperature >= 0.0 && self.temperature.is_finite(), "0 or more"),
            ("top-p", self.top_p > 0.0 && self.top_p <= 1.0, "above 0 and at most 1"),
            ("min-p", (0.0..=1.0).contains(&self.min_p), "between 0 and 1"),
            ("repeat penalty", self.repeat_penalty > 0.0 && self.repeat_penalty.is_finite(), "above 0"),
        ];
        match rules.iter().find(|rule| !rule.1) {
            Some((name, _, range)) => Err(Error::Invalid { what: format!("the {name} must be {range}") }),
            None => Ok(()),
        }
    }

    /// The words that a device gets, of options that are checked.
    pub fn words(&self) -> SamplingWords {
        let part = |p: f32| (f64::from(p) * 2f64.powi(32)).round();
        let words = SamplingWords {
            top_k: u32::try_from(self.top_k).unwrap_or(u32::MAX),
            // 0 is all: no part at all would keep the most probable, as the least part does.
            top_p: if self.top_p < 1.0 { (part(self.top_p) as u32).max(1) } else { 0 },
            // Casts saturate: the fall of no probability at all is infinite.
            max_fall: ((-f64::from(self.min_p).log2() * 65536.0) as u32).min(NO_WEIGHT),
            seed: [self.seed as u32, (self.seed >> 32) as u32],
            ..SamplingWords::GREEDY
        };
        let words = words.with_penalty(self.repeat_penalty);
        // The one most probable token is that of the largest logit, however flat a temperature makes them.
        if self.top_k == 1 { words } else { words.with_temperature(self.temperature) }
    }
}

/// Draws tokens: the same options, logits and number of draws give the same token.
#[derive(Debug, Clone)]
pub struct Sampler {
    options: SamplingOptions,
    words: SamplingWords,
    n_draws: u64,
}

impl Sampler {
    /// A sampler at its first draw. Errors: [`Error::Invalid`].
    pub fn new(options: SamplingOptions) -> Result<Self> {
        options.check()?;
        Ok(Self { words: options.words(), options, n_draws: 0 })
    }

    /// What it was made with.
    pub fn options(&self) -> &SamplingOptions {
        &self.options
    }

    /// Chooses a token. `context` are the ids so far, which the penalty is for.
    ///
    /// Errors: [`Error::Device`] when a logit is no number.
    pub fn pick(&mut self, logits: &[f32], context: &[u32]) -> Result<u32> {
        let seen = seen_tokens(context, logits.len());
        let token = sampling::pick(&self.words, logits, |id| sampling::contains(&seen, id), self.n_draws);
        self.n_draws += 1;
        checked(token)
    }
}

/// The ids of `context` below `n_vocab`, one bit each.
pub(crate) fn seen_tokens(context: &[u32], n_vocab: usize) -> Vec<u32> {
    let mut seen = vec![0; n_vocab.div_ceil(32)];
    for &id in context.iter().filter(|&&id| (id as usize) < n_vocab) {
        sampling::insert(&mut seen, id as usize);
    }
    seen
}

/// A token as a device reports it. Errors: [`Error::Device`] when a logit was no number.
pub(crate) fn checked(token: u32) -> Result<u32> {
    match token {
        NOT_A_NUMBER => Err(Error::Device {
            doing: "computing logits".into(),
            what: "a logit is not a number: either the file's weights are damaged, or the driver computes wrong".into(),
        }),
        token => Ok(token),
    }
}
