//! Sampling: each filter keeps what it should, draws follow the probabilities, a seed fixes them.

use pocketlm::{
    Error, SamplingOptions,
    kernels::sampling::{NO_WEIGHT, SamplingWords, weight},
    random,
    sample::Sampler,
};
use std::collections::BTreeSet;

const LOGITS: [f32; 5] = [1.0, 3.0, 2.0, -1.0, 3.0];

/// Every token that 500 draws bring.
fn drawn(options: SamplingOptions, context: &[u32]) -> BTreeSet<u32> {
    let mut sampler = Sampler::new(options).expect("valid options");
    (0..500).map(|_| sampler.pick(&LOGITS, context).expect("a token")).collect()
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
    let hits = (0..n).filter(|_| sampler.pick(&[0.0, 3f32.ln()], &[]).expect("a token") == 1).count();
    assert!((hits as f64 / n as f64 - 0.75).abs() < 0.015, "{hits} of {n}");
}

#[test]
fn seeds() {
    let draw = |seed| {
        let options = SamplingOptions { temperature: 3.0, seed, ..Default::default() };
        let mut sampler = Sampler::new(options).expect("valid options");
        (0..40).map(|_| sampler.pick(&LOGITS, &[]).expect("a token")).collect::<Vec<_>>()
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
    assert!(matches!(sampler.pick(&[1.0, f32::NAN], &[]), Err(Error::Device { .. })));
}

/// A weight is 2^31 halved once an octave, whatever the fall.
#[test]
fn weights_are_powers_of_two() {
    for fall in (0..16 << 16).step_by(7).chain([0xffff, 0x10000, 0x1ffff]) {
        let want = 2f64.powf(31.0 - f64::from(fall) / 65536.0);
        let error = (weight(fall) as f64 / want - 1.0).abs();
        // From octave 15 on, a whole number holds less than that of it.
        assert!(error < 5e-5 + 1.0 / want, "fall {fall}: {error}");
    }
    assert_eq!([weight(0), weight(1 << 16), weight(31 << 16), weight(NO_WEIGHT)], [1 << 31, 1 << 30, 1, 0]);
}

/// Falls are octaves below the most probable, for any temperature and size of logits.
#[test]
fn falls_are_logarithms_of_probabilities() {
    for (temperature, logits) in [
        (0.7, [21.5f32, 20.25, 19.0, 9.5]),
        (1.0, [-3.0, -3.125, -4.0, -20.0]),
        (30.0, [0.0, -1.0, -100.0, -600.0]),
        (1e4, [5e4, 4.9e4, 0.0, -5e4]),
        (1e-3, [0.01, 0.0099, 0.0095, -0.005]),
        (1e30, [3e30, 1e30, -1e30, -3e30]),
    ] {
        let words = SamplingWords::GREEDY.with_temperature(temperature);
        let keys = logits.map(|logit| words.key(logit, false));
        assert!(keys.is_sorted_by(|a, b| a > b), "{logits:?}: {keys:x?}");
        for (logit, key) in logits.into_iter().zip(keys) {
            let octaves = f64::from(logits[0] - logit) / f64::from(temperature) * std::f64::consts::LOG2_E;
            let fall = f64::from(words.fall(key, keys[0])) / 65536.0;
            // A logit has 20 binary places, or all that an f32 has.
            let places = 3.0 / f64::from(temperature) / 1048576.0;
            let step = 2.0 / 65536.0 + places + octaves * 1e-6;
            assert!((fall - octaves.min(32.0)).abs() <= step, "{logit} at {temperature}: {fall} for {octaves}");
        }
    }
}

/// Keys order logits as numbers are ordered, and a penalty divides or multiplies.
#[test]
fn keys() {
    let words = SamplingWords::GREEDY.with_penalty(1.5);
    let ordered = [f32::NEG_INFINITY, -1e38, -3.0, -1e-30, -0.0, 1e-30, 0.5, 2.0, 3e38];
    assert!(ordered.windows(2).all(|pair| words.key(pair[0], false) < words.key(pair[1], false)));
    assert_eq!(words.key(-0.0, false), words.key(0.0, false));
    for broken in [f32::NAN, -f32::NAN, f32::INFINITY] {
        assert_eq!(words.key(broken, true), u32::MAX);
    }
    for logit in ordered.into_iter().chain([7.25, -19.75, 1e-38]) {
        let value = |key: u32| f64::from(f32::from_bits(if key >> 31 == 1 { key & 0x7fff_ffff } else { !key }));
        let want = if logit > 0.0 { f64::from(logit) / 1.5 } else { f64::from(logit) * 1.5 };
        let got = value(words.key(logit, true));
        // What is no normal number any more counts as zero.
        let want = if want.abs() < 1.2e-38 { 0.0 } else { want };
        assert!(got == want || ((got - want) / want).abs() < 3e-7, "{logit}: {got} for {want}");
    }
}

/// Any temperature above 0 is a temperature: the smallest is all but greedy.
#[test]
fn tiny_temperatures_do_not_overflow() {
    for temperature in [1e-39, f32::MIN_POSITIVE, 1e-3] {
        assert_eq!(drawn(SamplingOptions { temperature, top_k: 1, ..Default::default() }, &[]), [1].into());
        assert_eq!(drawn(SamplingOptions { temperature, ..Default::default() }, &[]), [1, 4].into());
    }
    let mut sampler = Sampler::new(SamplingOptions { temperature: 1.0, ..Default::default() }).expect("valid options");
    assert!(matches!(sampler.pick(&[1.0, f32::INFINITY], &[]), Err(Error::Device { .. })));
}
