//! How many tokens one submit is for: as many as take some time on a fast device, and more where the CPU hears late that a
//! submit is done.

use super::ahead::{FLIGHTS, MAX_TOKENS_PER_SUBMIT};

/// What a submit should take of the device's time: long enough for its costs not to count, short enough to stream.
const SUBMIT_S: f64 = 0.03;
/// Text that comes less often than this does not stream.
const LATE_S: f64 = 0.25;
/// Submits of a measurement: each of those under way twice, since where results are looked for at intervals, two may come
/// at once.
const WINDOW: usize = 2 * FLIGHTS;
/// A rate that is to be compared is one over so many seconds: twice as long as the slowest browser takes to look.
const RATE_S: f64 = 0.2;
/// Twice as many tokens a submit have to be so much faster: less may be chance.
const WORTH_IT: f64 = 1.3;

/// Tokens of a submit, adapted to how fast they come back.
#[derive(Debug)]
pub struct Pace {
    n_tokens: usize,
    adapts: bool,
    /// Since when tokens are counted, how many came since, in how many submits; `None` before the first.
    since: Option<(f64, usize, usize)>,
    /// Tokens a second with half as many, while this many are on trial.
    half_per_s: Option<f64>,
    /// They are so many because a trial said so, not because they take so little time.
    is_by_trial: bool,
    /// More were tried in this answer and did not pay.
    is_settled: bool,
}

impl Pace {
    /// `fixed`, or one for a beginning.
    pub fn new(fixed: Option<usize>) -> Self {
        let n_tokens = fixed.unwrap_or(1).clamp(1, MAX_TOKENS_PER_SUBMIT);
        let adapts = fixed.is_none();
        Self { n_tokens, adapts, since: None, half_per_s: None, is_by_trial: false, is_settled: false }
    }

    /// Tokens of the next submit.
    pub fn n_tokens(&self) -> usize {
        self.n_tokens
    }

    /// An answer begins: what came before, maybe deep in another conversation, is no measure of it. The last doubling that a
    /// trial has brought is tried anew, so that one that chance has brought does not last.
    pub fn begin(&mut self) {
        (self.since, self.is_settled) = (None, false);
        if self.half_per_s.take().is_some() || self.is_by_trial {
            self.n_tokens = (self.n_tokens / 2).max(1);
        }
    }

    /// A submit of `n_tokens` came back at `now_s`, by any clock that does not go back.
    pub fn landed(&mut self, n_tokens: usize, now_s: f64) {
        if !self.adapts {
            return;
        }
        // Submitted before the number changed, or cut short by the end of the context: others are counted from here on.
        let counts = n_tokens == self.n_tokens;
        let Some((since_s, n, n_landed)) = self.since.filter(|_| counts) else {
            self.since = Some((now_s, 0, 0));
            return;
        };
        let (n, n_landed) = (n + n_tokens, n_landed + 1);
        self.since = Some((since_s, n, n_landed));
        if n_landed < WINDOW {
            return;
        }
        let taken_s = (now_s - since_s).max(1e-6);
        let per_s = n as f64 / taken_s;
        let in_time = ((SUBMIT_S * per_s) as usize).clamp(1, MAX_TOKENS_PER_SUBMIT);
        if self.half_per_s.is_none() && in_time >= 2 * self.n_tokens {
            (self.n_tokens, self.is_by_trial) = (in_time.min(4 * self.n_tokens), false);
        } else if taken_s >= RATE_S {
            self.try_more(per_s);
        } else {
            return;
        }
        self.since = Some((now_s, 0, 0));
    }

    fn try_more(&mut self, per_s: f64) {
        let n = self.n_tokens;
        if let Some(half_per_s) = self.half_per_s.take() {
            if per_s < WORTH_IT * half_per_s {
                (self.n_tokens, self.is_settled) = (n / 2, true);
                return;
            }
            self.is_by_trial = true;
        }
        if n > 1 && n as f64 / per_s > LATE_S {
            self.n_tokens = n / 2;
        } else if !self.is_settled && 2 * n <= MAX_TOKENS_PER_SUBMIT && 2.0 * n as f64 / per_s <= LATE_S {
            (self.n_tokens, self.half_per_s) = (2 * n, Some(per_s));
        }
    }
}
