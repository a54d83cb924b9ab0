//! The gated activation of Llama's feed-forward block (arXiv:2002.05202).

use super::{Call, Kernel, Needs};

pub static SWIGLU: Kernel = Kernel {
    name: "swiglu",
    shader: include_str!("../../shaders/swiglu.wgsl"),
    params: &["dim", "gate_up_stride", "h_stride", "rows_per_token"],
    reads: &["step", "gate_up"],
    writes: &["h"],
    needs: Needs::NOTHING,
    reference,
    tolerance: 1e-5,
};

fn reference(call: &mut Call<'_>) {
    let [dim, gate_up_stride, h_stride, rows_per_token] = [0, 1, 2, 3].map(|i| call.count(i));
    let (n_rows, gate_up) = (call.step().n_tokens * rows_per_token, call.read(1));
    for t in 0..n_rows {
        for i in 0..dim {
            let gate = gate_up[t * gate_up_stride + i] as f64;
            let up = gate_up[t * gate_up_stride + dim + i] as f64;
            call.write(0)[t * h_stride + i] = (gate / (1.0 + (-gate).exp()) * up) as f32;
        }
    }
}
