//! How many tokens a submit is for, on devices on paper: fast and slow ones, and some that tell late that they are done.

use pocketlm::session::{MAX_TOKENS_PER_SUBMIT, pace::Pace};
use std::collections::VecDeque;

/// What became of `n_tokens` tokens: tokens a second of the last half of them, and the tokens of the last submit.
fn answer(pace: &mut Pace, n_tokens: usize, token_s: f64, submit_s: f64, looks_every_s: f64) -> (f64, usize) {
    let (mut now_s, mut device_s) = (0.0f64, 0.0f64);
    let mut flights = VecDeque::new();
    let (mut n, mut half_s) = (0, 0.0);
    pace.begin();
    while n < n_tokens {
        while flights.len() < 2 {
            let n_tokens = pace.n_tokens();
            device_s = device_s.max(now_s + submit_s) + n_tokens as f64 * token_s;
            flights.push_back((n_tokens, device_s));
        }
        let (landed, done_s) = flights.pop_front().expect("two are under way");
        now_s = now_s.max(done_s);
        if looks_every_s > 0.0 {
            now_s = (now_s / looks_every_s).ceil() * looks_every_s;
        }
        pace.landed(landed, now_s);
        n += landed;
        if n < n_tokens / 2 {
            half_s = now_s;
        }
    }
    ((n_tokens - n_tokens / 2) as f64 / (now_s - half_s), pace.n_tokens())
}

#[test]
fn a_device_that_tells_late_gets_more_at_once() {
    // Firefox looks every tenth of a second.
    for token_s in [0.002, 0.005, 0.02, 0.03] {
        let (per_s, n) = answer(&mut Pace::new(None), 1000, token_s, 1e-4, 0.1);
        let (one_per_s, _) = answer(&mut Pace::new(Some(1)), 1000, token_s, 1e-4, 0.1);
        let possible = (1.0 / token_s).min(MAX_TOKENS_PER_SUBMIT as f64 * 2.0 / 0.1);
        assert!(per_s > 0.7 * possible, "{token_s}: {per_s} of {possible}, {n} at once");
        assert!(per_s > 1.3 * one_per_s, "{token_s}: {per_s} and {one_per_s}");
        assert!(n as f64 * token_s <= 0.25, "{token_s}: {n} at once");
    }
}

/// One session serves all conversations: what did not pay deep in one of them may pay in the next.
#[test]
fn a_new_answer_is_measured_anew() {
    let mut pace = Pace::new(None);
    let (_, deep) = answer(&mut pace, 100, 0.12, 1e-4, 0.1);
    assert_eq!(deep, 1);
    let (per_s, n) = answer(&mut pace, 1000, 0.005, 1e-4, 0.1);
    assert!(per_s > 140.0, "{per_s}, {n} at once");
    // An answer that ends while more are on trial leaves no measure for one that is deeper.
    let mut pace = Pace::new(None);
    answer(&mut pace, 7, 0.02, 1e-4, 0.0);
    let (_, n) = answer(&mut pace, 1000, 0.1, 1e-4, 0.0);
    assert_eq!(n, 1);
}

/// A machine that is busy now and then: what chance has brought does not last.
#[test]
fn chance_does_not_last() {
    let mut pace = Pace::new(None);
    for _ in 0..3 {
        // So slow at first that anything is faster.
        answer(&mut pace, 12, 0.1, 1e-4, 0.0);
        answer(&mut pace, 100, 0.03, 1e-4, 0.0);
    }
    for _ in 0..4 {
        answer(&mut pace, 100, 0.03, 1e-4, 0.0);
    }
    assert_eq!(pace.n_tokens(), 1);
}

#[test]
fn a_slow_device_gets_one_at_a_time() {
    for token_s in [0.03, 0.1, 1.0] {
        let (_, n) = answer(&mut Pace::new(None), 200, token_s, 1e-4, 0.0);
        assert_eq!(n, 1, "{token_s}");
    }
}

#[test]
fn a_fast_device_gets_as_many_as_take_a_while() {
    let mut pace = Pace::new(None);
    let (per_s, n) = answer(&mut pace, 1000, 0.001, 1e-3, 0.0);
    assert!((16..=MAX_TOKENS_PER_SUBMIT).contains(&n) && per_s > 900.0, "{n} at once, {per_s}");
    // What one answer has found, the next begins with; and it makes way where tokens take longer.
    assert_eq!(answer(&mut pace, 2, 0.001, 1e-3, 0.0).1, n);
    let (_, n) = answer(&mut pace, 1000, 0.05, 1e-3, 0.0);
    assert!(n <= 5, "{n} at once");
    assert_eq!(answer(&mut Pace::new(Some(3)), 1000, 0.001, 1e-3, 0.0).1, 3, "as was asked for");
}
