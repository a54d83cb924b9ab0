//! The embedding row of one token, made ready for the first norm.

use super::{Call, Kernel, Needs};

pub static EMBED_NORM: Kernel = Kernel {
    name: "embed_norm",
    shader: include_str!("../../shaders/embed_norm.wgsl"),
    params: &["dim", "first_row", "n_rows"],
    reads: &["step", "norm"],
    writes: &["residual", "weighted", "squares"],
    needs: Needs { weights: true, ..Needs::NOTHING },
    reference,
    tolerance: 1e-5,
};

fn reference(call: &mut Call<'_>) {
    let [dim, first_row, n_rows] = [0, 1, 2].map(|i| call.count(i));
    let (token, norm) = (call.step().tokens[0] as usize, call.read(1));
    if !(first_row..first_row + n_rows).contains(&token) {
        return;
    }
    let row = call.weight_row(token - first_row, dim.div_ceil(32));
    for (d, &value) in row[..dim].iter().enumerate() {
        call.write(0)[d] = value as f32;
        call.write(1)[d] = (value * norm[d] as f64) as f32;
    }
    for (block, numbers) in row[..dim].chunks(32).enumerate() {
        call.write(2)[block] = numbers.iter().map(|v| v * v).sum::<f64>() as f32;
    }
}
