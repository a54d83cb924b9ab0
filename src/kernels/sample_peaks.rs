//! The largest logits: of every 16 of them, for later passes to look where large ones are, and of every 1024.

use super::{
    Call, Kernel, Needs,
    sampling::{BIN_WORDS, GROUP_LOGITS, N_BINS, SamplingWords, WORKGROUP_LOGITS, contains},
};

pub static SAMPLE_PEAKS: Kernel = Kernel {
    name: "sample_peaks",
    shader: include_str!("../../shaders/sample_peaks.wgsl"),
    params: &["n_vocab"],
    reads: &["sampling", "seen", "logits"],
    writes: &["peaks", "tops", "bins"],
    needs: Needs { sampling: true, ..Needs::NOTHING },
    reference,
    tolerance: 0.0,
};

fn reference(call: &mut Call<'_>) {
    let keys = keys(call, [0, 1, 2]);
    for (peak, group) in call.writes[0].iter_mut().zip(keys.chunks(GROUP_LOGITS)) {
        *peak = group.iter().copied().max().expect("a group has a logit");
    }
    for (index, workgroup) in keys.chunks(WORKGROUP_LOGITS).enumerate() {
        let key = workgroup.iter().copied().max().expect("a workgroup has a logit");
        let first = workgroup.iter().position(|&other| other == key).expect("the largest is there");
        call.writes[1][2 * index..][..2].copy_from_slice(&[key, (index * WORKGROUP_LOGITS + first) as u32]);
    }
    call.writes[2][..N_BINS * BIN_WORDS].fill(0);
}

/// The keys of all logits; `sampling`, `seen` and `logits` are the reads of those indices.
pub(super) fn keys(call: &Call<'_>, [sampling, seen, logits]: [usize; 3]) -> Vec<u32> {
    let words: &SamplingWords = words(call.reads[sampling]);
    let (seen, logits) = (call.reads[seen], &call.read(logits)[..call.count(0)]);
    logits.iter().enumerate().map(|(id, &logit)| words.key(logit, contains(seen, id))).collect()
}

/// What the buffer `sampling` holds.
pub(super) fn words(sampling: &[u32]) -> &SamplingWords {
    bytemuck::from_bytes(bytemuck::cast_slice(&sampling[..size_of::<SamplingWords>() / 4]))
}
