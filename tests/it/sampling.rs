//! Sampling: each filter keeps what it should, draws follow the probabilities, a seed fixes them.

use pocketlm::{Error, SamplingOptions, random, sample::Sampler};
use std::collections::BTreeSet;

const LOGITS: [f32; 5] = [1.0, 3.0, 2.0, -1.0, 3.0];

/// Every token that 500 draws bring.
fn drawn(options: SamplingOptions, context: &[u32]) -> BTreeSet<u32> {
    let mut sampler = Sampler::new(options).expect("valid options");
    (0..500).map(|_| sampler.pick(&mut LOGITS.to_vec(), context).expect("a token")).collect()
}

#[test]
fn greedy_takes_the_first_of_the_largest() {
    assert_eq!(drawn(SamplingOptions::default(), &[]), [1].into());
}

#[test]
fn filters() {
    let hot = SamplingOptions { temperature: 2.0, ..Default::default() };
    assert_eq!(drawn(hot.clone(), &[]), [0, 1, 2, 3, 4].into());
    assert_eq!(drawn(SamplingOptions { top_k: 1, ..hot.clone() }, &[]), [1].into());
    assert_eq!(drawn(SamplingOptions { top_k: 3, ..hot.clone() }, &[]), [1, 2, 4].into());
    assert_eq!(drawn(SamplingOptions { top_p: 0.5, ..hot.clone() }, &[]), [1, 4].into());
    assert_eq!(drawn(SamplingOptions { min_p: 0.5, ..hot.clone() }, &[]), [1, 2, 4].into());
    assert_eq!(drawn(SamplingOptions { min_p: 1.0, ..hot.clone() }, &[]), [1, 4].into());
}

#[test]
fn penalty_counts_a_token_once() {
    let options = SamplingOptions { repeat_penalty: 1.4, ..Default::default() };
    assert_eq!(drawn(options.clone(), &[1, 1, 1]), [4].into());
    assert_eq!(drawn(options, &[1, 4, 4]), [1].into(), "3 / 1.4 is still above 2");
    let strong = SamplingOptions { repeat_penalty: 2.0, ..Default::default() };
    assert_eq!(drawn(strong, &[1, 4, 99]), [2].into(), "an id outside the logits is passed over");
}

#[test]
fn draws_follow_the_probabilities() {
    let options = SamplingOptions { temperature: 1.0, seed: 5, ..Default::default() };
    let mut sampler = Sampler::new(options).expect("valid options");
    let n = 20_000;
    let hits = (0..n).filter(|_| sampler.pick(&mut [0.0, 3f32.ln()], &[]).expect("a token") == 1).count();
    assert!((hits as f64 / n as f64 - 0.75).abs() < 0.015, "{hits} of {n}");
}

#[test]
fn seeds() {
    let draw = |seed| {
        let options = SamplingOptions { temperature: 3.0, seed, ..Default::default() };
        let mut sampler = Sampler::new(options).expect("valid options");
        (0..40).map(|_| sampler.pick(&mut LOGITS.to_vec(), &[]).expect("a token")).collect::<Vec<_>>()
    };
    assert_eq!(draw(1), draw(1));
    assert_ne!(draw(1), draw(2));
    // Pinned: the numbers of a seed are a promise.
    assert_eq!([random::bits(1, 0), random::bits(1, 1), random::bits(2, 0)], PINNED);
}

const PINNED: [u32; 3] = [188542915, 3541482852, 662646621];

#[test]
fn nonsense_is_refused() {
    let bad = [
        SamplingOptions { temperature: -1.0, ..Default::default() },
        SamplingOptions { temperature: f32::NAN, ..Default::default() },
        SamplingOptions { top_p: 0.0, ..Default::default() },
        SamplingOptions { min_p: 2.0, ..Default::default() },
        SamplingOptions { repeat_penalty: 0.0, ..Default::default() },
    ];
    for options in bad {
        assert!(matches!(Sampler::new(options.clone()), Err(Error::Invalid { .. })), "{options:?}");
    }
    let mut sampler = Sampler::new(SamplingOptions::default()).expect("valid options");
    assert!(matches!(sampler.pick(&mut [1.0, f32::NAN], &[]), Err(Error::Device { .. })));
}

/// Any temperature above 0 is a temperature: the smallest is all but greedy.
#[test]
fn tiny_temperatures_do_not_overflow() {
    for temperature in [1e-39, f32::MIN_POSITIVE, 1e-3] {
        assert_eq!(drawn(SamplingOptions { temperature, top_k: 1, ..Default::default() }, &[]), [1].into());
        assert_eq!(drawn(SamplingOptions { temperature, ..Default::default() }, &[]), [1, 4].into());
    }
    let mut sampler = Sampler::new(SamplingOptions { temperature: 1.0, ..Default::default() }).expect("valid options");
    assert!(matches!(sampler.pick(&mut [1.0, f32::INFINITY], &[]), Err(Error::Device { .. })));
}
