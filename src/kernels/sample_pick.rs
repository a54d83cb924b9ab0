//! The next token, handed on: it becomes the step, is marked as seen, and joins the ring that the CPU reads.

use super::{
    Call, Kernel, Needs,
    reference::STEP_HEAD_WORDS,
    sample_peaks::words,
    sampling::{DRAWN_TOKENS, NOT_A_NUMBER, contains, insert, pick},
};

pub static SAMPLE_PICK: Kernel = Kernel {
    name: "sample_pick",
    shader: include_str!("../../shaders/sample_pick.wgsl"),
    params: &["n_vocab"],
    reads: &["sampling", "logits", "peaks", "tops", "bins"],
    writes: &["seen", "step", "drawn"],
    needs: Needs { sampling: true, ..Needs::NOTHING },
    reference,
    tolerance: 0.0,
};

/// Sorts, where the shader searches, and looks at logits alone.
fn reference(call: &mut Call<'_>) {
    let (words, logits) = (words(call.reads[0]), &call.read(1)[..call.count(0)]);
    let [seen, step, drawn] = call.writes else { unreachable!("three writes") };
    let n_draws = drawn[0];
    let token = pick(words, logits, |id| contains(seen, id), n_draws.into());
    // A token that is none must not become an index.
    let next = if token == NOT_A_NUMBER { 0 } else { token };
    insert(seen, next as usize);
    step[1] += step[0];
    step[0] = 1;
    step[STEP_HEAD_WORDS] = next;
    drawn[0] += 1;
    drawn[1 + n_draws as usize % DRAWN_TOKENS] = token;
}
