//! Embedding rows of the tokens in a batch.

use super::{Call, Kernel, Needs};

pub static EMBED: Kernel = Kernel {
    name: "embed",
    shader: include_str!("../../shaders/embed.wgsl"),
    params: &["dim", "stride", "first_row", "n_rows"],
    reads: &["step"],
    writes: &["x"],
    needs: Needs { weights: true, ..Needs::NOTHING },
    reference,
    tolerance: 1e-6,
};

fn reference(call: &mut Call<'_>) {
    let [dim, stride, first_row, n_rows] = [0, 1, 2, 3].map(|i| call.count(i));
    let step = call.step();
    for (t, &token) in step.tokens[..step.n_tokens].iter().enumerate() {
        let token = token as usize;
        if (first_row..first_row + n_rows).contains(&token) {
            let row = call.weight_row(token - first_row, dim.div_ceil(32));
            for (out, value) in call.write(0)[t * stride..][..dim].iter_mut().zip(row) {
                *out = value as f32;
            }
        }
    }
}
