//! How many tokens, and how much weight, lie how far below the most probable token: a histogram.

use super::{
    Call, Kernel, Needs,
    sample_peaks::{keys, words},
    sampling::{BIN_FALLS, BIN_WORDS, NO_WEIGHT, weight},
};

pub static SAMPLE_BINS: Kernel = Kernel {
    name: "sample_bins",
    shader: include_str!("../../shaders/sample_bins.wgsl"),
    params: &["n_vocab"],
    reads: &["sampling", "seen", "logits", "tops"],
    writes: &["bins"],
    needs: Needs { sampling: true, ..Needs::NOTHING },
    reference,
    tolerance: 0.0,
};

fn reference(call: &mut Call<'_>) {
    let (words, keys) = (words(call.reads[0]), keys(call, [0, 1, 2]));
    let top_key = keys.iter().copied().max().expect("a vocabulary has a token");
    for fall in keys.iter().map(|&key| words.fall(key, top_key)).filter(|&fall| fall < NO_WEIGHT) {
        let bin = &mut call.writes[0][(fall / BIN_FALLS) as usize * BIN_WORDS..][..BIN_WORDS];
        let sum = (u64::from(bin[2]) << 32 | u64::from(bin[1])) + weight(fall);
        (bin[0], bin[1], bin[2]) = (bin[0] + 1, sum as u32, (sum >> 32) as u32);
    }
}
