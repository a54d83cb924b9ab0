//! The bias of a product.

use super::{Call, Kernel, Needs};

pub static ADD_BIAS: Kernel = Kernel {
    name: "add_bias",
    shader: include_str!("../../shaders/add_bias.wgsl"),
    params: &["dim", "stride", "rows"],
    reads: &["step", "bias"],
    writes: &["y"],
    needs: Needs::NOTHING,
    reference,
    tolerance: 1e-6,
};

fn reference(call: &mut Call<'_>) {
    let [dim, stride, rows] = [0, 1, 2].map(|i| call.count(i));
    let (n_tokens, bias) = (call.step().n_tokens, call.read(1));
    for t in 0..if rows > 0 { rows } else { n_tokens } {
        for (y, b) in call.write(0)[t * stride..][..dim].iter_mut().zip(bias) {
            *y = (*y as f64 + *b as f64) as f32;
        }
    }
}
