//! The method of measuring, on devices that exist on paper only: each has a fault that others were deceived by.

use pocketlm::timing::{Method, Rotation, Timing, measure, plausible_rate, quantile};

/// A device whose every run takes what `run_s` says, of the time since the start, the item, and how many runs of that
/// item came before without another's between them.
struct Paper<F> {
    now_s: f64,
    /// What a submit and the wait for it cost, however many runs it holds.
    fixed_s: f64,
    last: Option<usize>,
    in_a_row: u64,
    n_runs: u64,
    run_s: F,
}

impl<F: FnMut(f64, usize, u64) -> f64> Paper<F> {
    fn new(fixed_s: f64, run_s: F) -> Self {
        Self { now_s: 0.0, fixed_s, last: None, in_a_row: 0, n_runs: 0, run_s }
    }

    fn run(&mut self, item: usize, n: u64) -> f64 {
        if self.last != Some(item) {
            (self.last, self.in_a_row) = (Some(item), 0);
        }
        let mut seconds = self.fixed_s;
        for _ in 0..n {
            seconds += (self.run_s)(self.now_s + seconds, item, self.in_a_row);
            self.in_a_row += 1;
        }
        self.n_runs += n;
        self.now_s += seconds;
        seconds
    }

    fn measure(&mut self, n_items: usize, method: Method) -> Vec<Timing> {
        pollster::block_on(measure(n_items, &method, &mut async |item, n| Ok(self.run(item, n))))
            .expect("paper is patient")
    }
}

fn is_near(found: f64, expected: f64, share: f64) -> bool {
    (found / expected - 1.0).abs() < share
}

/// A blocking submit of 1.16 ms, divided by the runs it holds and never subtracted, once made one kernel 46, 64 and
/// 79 GB/s fast with 50, 200 and 1000 runs.
#[test]
fn constant_costs_cancel() {
    let run_s = 3.1e-6;
    for max_runs in [100, 400, 2000, 1 << 14] {
        let mut paper = Paper::new(1.16e-3, |_, _, _| run_s);
        let naive = (1.16e-3 + max_runs as f64 / 2.0 * run_s) / (max_runs as f64 / 2.0);
        let found = paper.measure(1, Method { max_runs, ..Method::default() })[0];
        assert!(is_near(found.median_s, run_s, 1e-6), "{max_runs}: {found:?}");
        assert!(naive > 1.04 * run_s, "dividing alone is off by that much");
    }
}

/// Timing each dispatch by a submit of its own overestimates what it costs some twenty times.
#[test]
fn a_dispatch_costs_no_submit() {
    let found = Paper::new(60e-6, |_, _, _| 2.5e-6).measure(1, Method::default())[0];
    assert!(is_near(found.median_s, 2.5e-6, 1e-6), "{found:?}");
}

/// The first kernel of a table once took three times as long as further down, while clocks were still low.
#[test]
fn a_place_in_the_table_does_not_matter() {
    // Clocks that take 0.75 s to rise, and clocks that are slow for longer than all calibration takes.
    for slow_s in [0.75, 1.5] {
        let slow = |now_s: f64, _, _| if now_s < slow_s { 0.0952e-3 } else { 0.0305e-3 };
        let found = Paper::new(1e-3, slow).measure(8, Method::default());
        for (i, timing) in found.iter().enumerate() {
            assert!(is_near(timing.median_s, 0.0305e-3, 0.01), "{slow_s} s slow, item {i}: {timing:?}");
        }
    }
}

/// What comes after another kernel pays for the change: caches and instructions are not there.
#[test]
fn a_change_of_kernels_is_not_counted() {
    let found = Paper::new(1e-4, |_, _, before| if before < 1 { 9e-4 } else { 3e-4 }).measure(4, Method::default());
    assert!(found.iter().all(|timing| is_near(timing.median_s, 3e-4, 1e-6)), "{found:?}");
}

/// A device that gets hotter and slower all the time: equal kernels stay equal.
#[test]
fn drift_is_nobodys_in_particular() {
    let found = Paper::new(1e-4, |now_s, _, _| 2e-4 * (1.0 + 0.02 * now_s)).measure(6, Method::default());
    let medians: Vec<f64> = found.iter().map(|timing| timing.median_s).collect();
    let (least, most) = (quantile(&medians, 0.0), quantile(&medians, 1.0));
    assert!(most / least < 1.02, "{medians:?}");
}

#[test]
fn interruptions_move_the_spread_and_not_the_median() {
    let mut n = 0u64;
    // Every now and then somebody else takes the machine for 20 ms.
    let interrupted = |_, _, _| {
        n += 1;
        if n.is_multiple_of(2003) { 20e-3 } else { 1e-4 }
    };
    let found = Paper::new(1e-4, interrupted).measure(3, Method { rounds: 15, ..Method::default() });
    let calm = Paper::new(1e-4, |_, _, _| 1e-4).measure(3, Method::default());
    assert!(calm.iter().all(|timing| timing.noise() < 1e-6));
    assert!(found.iter().all(|timing| is_near(timing.median_s, 1e-4, 0.25)), "{found:?}");
    assert!(found.iter().any(|timing| timing.noise() > 0.01), "{found:?}");
}

/// Weights that were just read are in a cache; with so many of them that all cannot be, each is read from memory, also
/// when a run is of a single dispatch.
#[test]
fn weights_take_turns() {
    let mut cached: Vec<usize> = Vec::new();
    let mut turns = Rotation::new(30);
    let mut seen = [0; 30];
    for n in [1, 1, 2, 1, 1, 2, 4, 8, 1, 16, 32, 1] {
        for matrix in turns.take(n) {
            assert!(!cached.contains(&matrix), "{matrix} was used a moment ago");
            seen[matrix] += 1;
            cached.push(matrix);
            // It holds eight.
            if cached.len() > 8 {
                cached.remove(0);
            }
        }
    }
    assert!(seen.iter().all(|&n| n >= 2), "{seen:?}");
    assert_eq!(Rotation::new(1).take(3).collect::<Vec<_>>(), [0, 0, 0]);
}

#[test]
fn what_is_lost_in_noise_is_no_figure() {
    let mut n = 0u64;
    // Nothing is done, and what is measured is the clock's own trembling.
    let mut paper = Paper::new(0.0, |_, _, _| {
        n += 1;
        if n.is_multiple_of(2) { 1e-5 } else { -1e-5 }
    });
    let found = paper.measure(1, Method { max_runs: 3, ..Method::default() })[0];
    assert!(found.is_lost_in_noise(), "{found:?}");
    assert!(plausible_rate(1e6, &found, None).expect_err("no figure").contains("noise"));
    let no_time = Timing { median_s: f64::NAN, low_s: f64::NAN, high_s: f64::NAN, rounds: 0, runs: 1 };
    assert!(no_time.is_lost_in_noise());
}

#[test]
fn nothing_is_faster_than_its_ceiling() {
    let timing = Timing { median_s: 1e-3, low_s: 0.99e-3, high_s: 1.01e-3, rounds: 7, runs: 10 };
    // 200 MB in a millisecond, of a device that moves 100 GB/s.
    let refused = plausible_rate(200e6, &timing, Some(100e9)).expect_err("nobody moves that much");
    assert!(refused.contains("implausible") && refused.contains("1.000e11"), "{refused}");
    assert_eq!(plausible_rate(95e6, &timing, Some(100e9)), Ok(95e9));
    assert_eq!(plausible_rate(200e6, &timing, None), Ok(200e9));
}

/// Long runs get fewer rounds, short ones as many as were asked for; no count exceeds its limit.
#[test]
fn the_budget_holds() {
    let mut paper = Paper::new(1e-3, |_, item, _| if item == 0 { 2.0 } else { 1e-5 });
    let found = paper.measure(2, Method { rounds: 9, budget_s: 10.0, ..Method::default() });
    assert_eq!((found[0].rounds, found[0].runs), (2, 1));
    assert_eq!(found[1].rounds, 9);
    assert!(found[1].runs >= 500 && found[1].runs <= 1 << 13, "{found:?}");
    assert!(paper.now_s < 60.0, "{} s", paper.now_s);
}

#[test]
fn quantiles() {
    assert_eq!(quantile(&[3.0, 1.0, 2.0], 0.5), 2.0);
    assert_eq!(quantile(&[4.0, 1.0], 0.5), 2.5);
    assert_eq!(quantile(&[5.0, 1.0, 2.0, 3.0, 4.0], 0.25), 2.0);
    assert!(quantile(&[], 0.5).is_nan());
}
