//! Logits to a token: penalties, temperature, top-k, top-p, min-p, and a seeded draw.

use crate::{
    error::{Error, Result},
    random,
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

    /// The most probable token is always taken, and nothing changes the logits first.
    pub fn is_plain_greedy(&self) -> bool {
        self.temperature == 0.0 && self.repeat_penalty == 1.0
    }
}

/// Draws tokens: the same options, logits and number of draws give the same token.
#[derive(Debug, Clone)]
pub struct Sampler {
    options: SamplingOptions,
    n_draws: u64,
    /// (probability or logit, token), reused from draw to draw.
    candidates: Vec<(f32, u32)>,
}

impl Sampler {
    /// A sampler at its first draw. Errors: [`Error::Invalid`].
    pub fn new(options: SamplingOptions) -> Result<Self> {
        options.check()?;
        Ok(Self { options, n_draws: 0, candidates: Vec::new() })
    }

    /// What it was made with.
    pub fn options(&self) -> &SamplingOptions {
        &self.options
    }

    /// Chooses a token. `logits` are changed by the penalty; `context` are the ids so far.
    ///
    /// Errors: [`Error::Device`] when a logit is no number.
    pub fn pick(&mut self, logits: &mut [f32], context: &[u32]) -> Result<u32> {
        if logits.iter().any(|&logit| logit.is_nan() || logit == f32::INFINITY) {
            return Err(not_a_number());
        }
        self.penalise(logits, context);
        if self.options.temperature == 0.0 {
            let best = (0..logits.len()).fold(0, |best, i| if logits[i] > logits[best] { i } else { best });
            return Ok(best as u32);
        }
        self.keep_probable(logits);
        let total: f32 = self.candidates.iter().map(|c| c.0).sum();
        let mut left = random::uniform(self.options.seed, self.n_draws) * total;
        self.n_draws += 1;
        for &(probability, token) in &self.candidates {
            left -= probability;
            if left < 0.0 {
                return Ok(token);
            }
        }
        // Rounding can leave a sliver after the last.
        Ok(self.candidates.last().map_or(0, |c| c.1))
    }

    fn penalise(&self, logits: &mut [f32], context: &[u32]) {
        let penalty = self.options.repeat_penalty;
        if penalty == 1.0 {
            return;
        }
        let mut seen: Vec<u32> = context.to_vec();
        seen.sort_unstable();
        seen.dedup();
        for id in seen {
            let Some(logit) = logits.get_mut(id as usize) else { continue };
            *logit = if *logit > 0.0 { *logit / penalty } else { *logit * penalty };
        }
    }

    /// Fills `candidates` with the probabilities that top-k, top-p and min-p leave, most probable first.
    fn keep_probable(&mut self, logits: &[f32]) {
        let SamplingOptions { temperature, top_k, top_p, min_p, .. } = self.options;
        let candidates = &mut self.candidates;
        candidates.clear();
        // The largest is taken off first: divided by a tiny temperature, logits would overflow.
        let largest = logits.iter().fold(f32::MIN, |a, &b| a.max(b));
        candidates.extend(logits.iter().zip(0..).map(|(&logit, token)| ((logit - largest) / temperature, token)));
        // Equal logits are ordered by id, so that no sort's whim decides.
        let order = |a: &(f32, u32), b: &(f32, u32)| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1));
        if top_k > 0 && top_k < candidates.len() {
            candidates.select_nth_unstable_by(top_k - 1, order);
            candidates.truncate(top_k);
        }
        candidates.sort_unstable_by(order);
        candidates.iter_mut().for_each(|c| c.0 = c.0.exp());
        let total: f32 = candidates.iter().map(|c| c.0).sum();
        let mut reached = 0.0;
        let enough = candidates.iter().position(|c| {
            reached += c.0 / total;
            reached >= top_p
        });
        candidates.truncate(enough.map_or(candidates.len(), |i| i + 1));
        // The most probable has 1 here, so the threshold is min_p itself.
        let kept = candidates.iter().take_while(|c| c.0 >= min_p).count();
        candidates.truncate(kept.max(1));
    }
}

pub(crate) fn not_a_number() -> Error {
    Error::Device {
        doing: "computing logits".into(),
        what: "a logit is not a number: either the file's weights are damaged, or the driver computes wrong".into(),
    }
}
