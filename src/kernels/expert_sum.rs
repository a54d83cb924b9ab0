//! What the experts of a token said, added by their weights.

use super::{Call, Kernel, Needs};

pub static EXPERT_SUM: Kernel = Kernel {
    name: "expert_sum",
    shader: include_str!("../../shaders/expert_sum.wgsl"),
    params: &["dim", "x_stride", "y_stride", "n_used"],
    reads: &["step", "shares", "y"],
    writes: &["x"],
    needs: Needs::NOTHING,
    reference,
    tolerance: 1e-5,
};

fn reference(call: &mut Call<'_>) {
    let [dim, x_stride, y_stride, n_used] = [0, 1, 2, 3].map(|i| call.count(i));
    let (n_tokens, shares, y) = (call.step().n_tokens, call.read(1), call.read(2));
    for t in 0..n_tokens {
        for i in 0..dim {
            let said = |a: usize| shares[a] as f64 * y[a * y_stride + i] as f64;
            let sum: f64 = (t * n_used..(t + 1) * n_used).map(said).sum();
            let x = &mut call.write(0)[t * x_stride + i];
            *x = (*x as f64 + sum) as f32;
        }
    }
}
