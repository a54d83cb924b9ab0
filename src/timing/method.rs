//! The method: the difference of two counts, so that what is constant cancels; items in changing orders, so that no place
//! in the order is better than another; a median and quartiles over rounds; no figure above a physical ceiling.
//!
//! It knows no device and no clock: whoever measures says how long so many runs of an item took.

use crate::{error::Result, random};

/// How long and how often.
#[derive(Debug, Clone, Copy)]
pub struct Method {
    /// Times that every item is measured.
    pub rounds: usize,
    /// The larger count of runs takes at least so much longer than the smaller one.
    pub target_s: f64,
    /// Most that all rounds of one item may take: items of long runs get fewer rounds, but not fewer than two.
    pub budget_s: f64,
    /// Most runs at a time.
    pub max_runs: u64,
    /// Of the orders.
    pub seed: u64,
}

impl Default for Method {
    fn default() -> Self {
        Self { rounds: 7, target_s: 0.01, budget_s: 4.0, max_runs: 1 << 14, seed: 1 }
    }
}

impl Method {
    /// For a first look, and for tests: seconds in all.
    pub const QUICK: Self = Self { rounds: 3, target_s: 0.001, budget_s: 0.1, max_runs: 1 << 10, seed: 1 };
}

/// What one run of an item takes.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Timing {
    /// The middle of all rounds.
    pub median_s: f64,
    /// The quartiles around it: half of all rounds are between them.
    pub low_s: f64,
    pub high_s: f64,
    pub rounds: usize,
    /// Runs of the smaller count.
    pub runs: u64,
}

impl Timing {
    /// From the seconds that each round gave.
    pub fn of(samples: &[f64], runs: u64) -> Self {
        let at = |q| quantile(samples, q);
        Self { median_s: at(0.5), low_s: at(0.25), high_s: at(0.75), rounds: samples.len(), runs }
    }

    /// Half the distance between the quartiles, as a share of the median.
    pub fn noise(&self) -> f64 {
        (self.high_s - self.low_s) / 2.0 / self.median_s
    }

    /// A time that is none: shorter than what it varies by.
    pub fn is_lost_in_noise(&self) -> bool {
        // Not-a-number is lost, too.
        !(self.low_s > 0.0 && self.median_s > 0.0 && self.noise() < 0.5)
    }
}

/// Times `n_items` items. `run_s` runs an item so many times and says how many seconds that took, from when it was asked
/// to when the last run was over.
///
/// Errors: those of `run_s`.
pub async fn measure(
    n_items: usize,
    method: &Method,
    run_s: &mut impl AsyncFnMut(usize, u64) -> Result<f64>,
) -> Result<Vec<Timing>> {
    let mut counts = Vec::with_capacity(n_items);
    for item in 0..n_items {
        counts.push(calibrate(item, method, run_s).await?);
    }
    let mut samples = vec![Vec::new(); n_items];
    for round in 0..method.rounds {
        for item in order(n_items, round, method.seed) {
            let Count { runs, rounds } = counts[item];
            if round < rounds {
                samples[item].push(sample(item, runs, run_s).await?);
            }
        }
    }
    Ok(samples.iter().zip(counts).map(|(samples, count)| Timing::of(samples, count.runs)).collect())
}

/// Runs of the smaller count, and rounds that fit the budget.
#[derive(Debug, Clone, Copy)]
struct Count {
    runs: u64,
    rounds: usize,
}

async fn calibrate(
    item: usize,
    method: &Method,
    run_s: &mut impl AsyncFnMut(usize, u64) -> Result<f64>,
) -> Result<Count> {
    // The first run of all finds caches cold and clocks low.
    run_s(item, 1).await?;
    let mut runs = 1;
    loop {
        let (once, twice) = (run_s(item, runs).await?, run_s(item, 2 * runs).await?);
        let more = twice - once;
        if more >= method.target_s || 2 * runs >= method.max_runs {
            let round_s = 3.0 * (once + twice).max(0.0);
            let rounds = if round_s > 0.0 { (method.budget_s / round_s) as usize } else { method.rounds };
            return Ok(Count { runs, rounds: rounds.clamp(2, method.rounds.max(2)) });
        }
        // A difference that noise has made too small, or negative, must not make the next count huge.
        let growth = (1.2 * method.target_s / more.max(1e-12)).clamp(2.0, 8.0);
        runs = ((runs as f64 * growth) as u64).min(method.max_runs / 2).max(runs + 1);
    }
}

/// Seconds of one run by the difference of two counts, each measured twice in the order A B B A: what changes steadily
/// meanwhile cancels too.
async fn sample(item: usize, runs: u64, run_s: &mut impl AsyncFnMut(usize, u64) -> Result<f64>) -> Result<f64> {
    // The first run after another item's pays for the change.
    run_s(item, 1).await?;
    let (a, b) = (run_s(item, runs).await?, run_s(item, 2 * runs).await?);
    let (c, d) = (run_s(item, 2 * runs).await?, run_s(item, runs).await?);
    Ok((b + c - a - d) / (2 * runs) as f64)
}

/// The order of items in a round: a shuffled one in even rounds, and its reverse in the next.
fn order(n_items: usize, round: usize, seed: u64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..n_items).collect();
    for i in (1..n_items).rev() {
        let draw = random::bits(seed, (round as u64 / 2) << 32 | i as u64);
        order.swap(i, draw as usize % (i + 1));
    }
    if round % 2 == 1 {
        order.reverse();
    }
    order
}

/// Whose turn it is among equals. A count of runs goes on where the last one ended: were it to begin with the same few
/// each time, these would be found in a cache.
#[derive(Debug)]
pub struct Rotation {
    n: usize,
    next: usize,
}

impl Rotation {
    /// Turns of `n` equals.
    pub fn new(n: usize) -> Self {
        Self { n, next: 0 }
    }

    /// The next `n_turns` of them.
    pub fn take(&mut self, n_turns: usize) -> impl Iterator<Item = usize> + use<> {
        let (first, n) = (self.next, self.n.max(1));
        self.next = (first + n_turns) % n;
        (first..first + n_turns).map(move |turn| turn % n)
    }
}

/// The value below which a share `q` of `samples` lies, between two of them if need be; NaN for none.
pub fn quantile(samples: &[f64], q: f64) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let Some(last) = sorted.len().checked_sub(1) else { return f64::NAN };
    let at = q * last as f64;
    let (below, above) = (sorted[at.floor() as usize], sorted[at.ceil() as usize]);
    below + (above - below) * at.fract()
}

/// How far a figure may be above a measured ceiling: the ceiling is a measurement, too.
pub const MARGIN: f64 = 1.10;

/// `amount` in `timing` as a rate per second, or why that cannot be: a time lost in noise, or a rate above `ceiling`.
pub fn plausible_rate(amount: f64, timing: &Timing, ceiling: Option<f64>) -> Result<f64, String> {
    if timing.is_lost_in_noise() {
        return Err("lost in noise".into());
    }
    let rate = amount / timing.median_s;
    match ceiling {
        Some(ceiling) if rate > MARGIN * ceiling => Err(format!(
            "implausible: {rate:.3e} a second, where the device reaches {ceiling:.3e}; something was not done, or came \
             from a cache"
        )),
        _ => Ok(rate),
    }
}
