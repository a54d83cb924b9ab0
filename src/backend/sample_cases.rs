//! The choices at which the kernels of sampling are tried: every option, ties, infinities, and what is no number.

use super::check::{Builder, Case};
use crate::{
    kernels::{
        CacheFormat, Call, Kernel, SAMPLE_BINS, SAMPLE_PEAKS, Variant,
        reference::STEP_HEAD_WORDS,
        sampling::{BIN_WORDS, DRAWN_TOKENS, GROUP_LOGITS, N_BINS, NO_WEIGHT, SamplingWords, WORKGROUP_LOGITS, insert},
    },
    plan::{Extent::*, Slot},
    random,
};

/// A choice to make.
#[derive(Debug, Clone, Copy)]
struct Choice {
    what: &'static str,
    n_vocab: usize,
    words: SamplingWords,
    /// Changes random logits.
    logits: fn(&mut [f32]),
}

const fn hot(top_k: u32, top_p: u32, max_fall: u32) -> SamplingWords {
    // A temperature of 1: log2(e) is this of 2^31.
    SamplingWords { scale: 0xb8aa_3b29, shift: 31, top_k, top_p, max_fall, seed: [7, 9], ..SamplingWords::GREEDY }
}

/// `words` with a penalty of 1.5, as two factors.
const fn strict(words: SamplingWords) -> SamplingWords {
    SamplingWords { penalty: 0x3fc0_0000, inverse_penalty: 0x3f2a_aaab, ..words }
}

const fn at(words: SamplingWords, shift: i32) -> SamplingWords {
    SamplingWords { shift, ..words }
}

const HALF: u32 = 1 << 31;
const MOST: u32 = 0xf333_3333;

const CHOICES: [Choice; 22] = [
    choice("all filters", 300, strict(hot(40, MOST, 9 << 16)), |l| l[200..].iter_mut().for_each(|v| *v += 9.0)),
    choice("the first of two largest", 257, SamplingWords::GREEDY, |l| (l[100], l[256]) = (99.0, 99.0)),
    choice("the only one", 1, hot(0, 0, NO_WEIGHT), |_| ()),
    choice("a penalty alone", 2049, strict(SamplingWords::GREEDY), |_| ()),
    choice("a temperature alone", 1000, hot(0, 0, NO_WEIGHT), |_| ()),
    choice("top-k", 32064, hot(40, 0, NO_WEIGHT), |_| ()),
    choice("top-k of more than there are", 70, hot(1000, 0, NO_WEIGHT), |_| ()),
    choice("top-p", 49152, hot(0, MOST, NO_WEIGHT), |_| ()),
    choice("the least top-p", 500, hot(0, 1, NO_WEIGHT), |_| ()),
    choice("min-p", 5000, hot(0, 0, 4 << 16), |_| ()),
    choice("all filters of a large vocabulary", 262_144, strict(hot(50_000, MOST, 12 << 16)), |_| ()),
    choice("ties cut by top-k", 3000, hot(1700, 0, NO_WEIGHT), |l| l.fill(-2.5)),
    choice("ties cut by top-p", 40_000, hot(0, HALF, NO_WEIGHT), |l| l.fill(0.0)),
    choice("few distinct logits", 20_000, hot(6000, HALF, NO_WEIGHT), |l| l.iter_mut().for_each(|v| *v = v.round())),
    choice("much minus infinity", 900, hot(0, MOST, NO_WEIGHT), |l| l[..880].fill(f32::NEG_INFINITY)),
    choice("minus infinity alone", 40, hot(7, 0, NO_WEIGHT), |l| l.fill(f32::NEG_INFINITY)),
    choice("next to no temperature", 700, at(hot(0, MOST, NO_WEIGHT), -90), |_| ()),
    choice("a boundless temperature", 700, at(hot(300, MOST, NO_WEIGHT), 90), |_| ()),
    choice("huge logits", 600, strict(at(hot(90, 0, NO_WEIGHT), 128)), |l| l.iter_mut().for_each(|v| *v *= 1e30)),
    choice("logits of next to nothing", 600, strict(hot(90, 0, NO_WEIGHT)), |l| {
        l.iter_mut().for_each(|v| *v *= 1e-38);
    }),
    choice("NaN and infinity", 1400, hot(40, MOST, NO_WEIGHT), |l| (l[1100], l[9]) = (f32::NAN, f32::INFINITY)),
    choice("a negative NaN", 300, SamplingWords::GREEDY, |l| l[299] = f32::from_bits(0xffc0_0000)),
];

const fn choice(what: &'static str, n_vocab: usize, words: SamplingWords, logits: fn(&mut [f32])) -> Choice {
    Choice { what, n_vocab, words, logits }
}

/// The cases of `kernel`, `None` where others have them.
pub(super) fn cases(kernel: &'static Kernel, variant: Variant) -> Option<Box<dyn Iterator<Item = Case>>> {
    if !kernel.needs.sampling {
        return None;
    }
    // Different draws of one seed, the last of them after the ring has gone round.
    let each = move |(i, choice): (usize, &Choice)| {
        build(Builder::new(kernel, variant, format!("{} of {}", choice.what, choice.n_vocab)), kernel, choice, 5 * i)
    };
    Some(Box::new(CHOICES.iter().enumerate().map(each)))
}

fn build(mut b: Builder, kernel: &'static Kernel, choice: &Choice, n_draws: usize) -> Case {
    let Choice { n_vocab, words, logits: change, .. } = *choice;
    let mut logits = random::with_outliers(b.next_seed(), n_vocab, 2.0);
    change(&mut logits);
    let logits: Vec<u32> = bytemuck::cast_vec(logits);
    let mut seen = vec![0; n_vocab.div_ceil(32)];
    (0..n_vocab).step_by(3).for_each(|id| insert(&mut seen, id));
    let sampling: Vec<u32> = bytemuck::cast_slice(&[words]).to_vec();
    // What the dispatches before leave, by their references.
    let n_workgroups = n_vocab.div_ceil(WORKGROUP_LOGITS);
    let mut found = vec![vec![0; n_vocab.div_ceil(GROUP_LOGITS)], vec![0; 2 * n_workgroups]];
    found.push(vec![0; N_BINS * BIN_WORDS]);
    let params = [n_vocab as u32];
    reference(&SAMPLE_PEAKS, &params, &[&sampling, &seen, &logits], &mut found);
    let mut bins = vec![found.pop().expect("three writes")];
    let [peaks, tops] = &found[..] else { unreachable!("two are left") };
    let grid = [Fixed(n_workgroups as u32), Fixed(1)];
    match kernel.name {
        "sample_peaks" => {
            let reads = [("sampling", sampling), ("seen", seen), ("logits", logits)].map(|(n, w)| b.buffer(n, w));
            let (peaks, tops) = (b.poisoned("peaks", peaks.len()), b.poisoned("tops", tops.len()));
            let bins = b.poisoned("bins", bins[0].len());
            b.case(params.to_vec(), &reads, &[peaks, tops, bins], None, grid, 1)
        }
        "sample_bins" => {
            let reads = [("sampling", sampling), ("seen", seen), ("logits", logits), ("tops", tops.clone())];
            let reads: Vec<Slot> = reads.into_iter().map(|(name, words)| b.buffer(name, words)).collect();
            let bins = b.buffer("bins", vec![0; bins[0].len()]);
            b.case(params.to_vec(), &reads, &[bins], None, grid, 1)
        }
        "sample_pick" => {
            reference(&SAMPLE_BINS, &params, &[&sampling, &seen, &logits, tops], &mut bins);
            let [peaks, tops] = [peaks.clone(), tops.clone()];
            let bins = bins.pop().expect("the bins");
            let reads = [("sampling", sampling), ("logits", logits), ("peaks", peaks), ("tops", tops), ("bins", bins)];
            let reads: Vec<Slot> = reads.into_iter().map(|(name, words)| b.buffer(name, words)).collect();
            let mut step = vec![3, 11, 0, 0, 0];
            step.truncate(STEP_HEAD_WORDS + 1);
            let mut drawn = vec![0; 1 + DRAWN_TOKENS];
            drawn[0] = n_draws as u32;
            let writes = [("seen", seen), ("step", step), ("drawn", drawn)].map(|(n, w)| b.buffer(n, w));
            b.case(params.to_vec(), &reads, &writes, None, [Fixed(1), Fixed(1)], 1)
        }
        other => unreachable!("no cases of `{other}`"),
    }
}

fn reference(kernel: &Kernel, params: &[u32], reads: &[&[u32]], writes: &mut [Vec<u32>]) {
    (kernel.reference)(&mut Call { params, reads, writes, planes: None, cache: CacheFormat::F32 });
}
