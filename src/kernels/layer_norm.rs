//! Normalisation by mean and variance (arXiv:1607.06450).

use super::{Call, Kernel, Needs};

pub static LAYER_NORM: Kernel = Kernel {
    name: "layer_norm",
    shader: include_str!("../../shaders/layer_norm.wgsl"),
    params: &["dim", "stride", "eps", "last_only"],
    reads: &["step", "x", "weight", "bias"],
    writes: &["y"],
    needs: Needs { reduce: true, ..Needs::NOTHING },
    reference,
    tolerance: 1e-5,
};

fn reference(call: &mut Call<'_>) {
    let [dim, stride, _, last_only] = [0, 1, 2, 3].map(|i| call.count(i));
    let (eps, n_tokens) = (call.float(2), call.step().n_tokens);
    let (x, weight, bias) = (call.read(1), call.read(2), call.read(3));
    let rows = if last_only == 1 { n_tokens - 1..n_tokens } else { 0..n_tokens };
    for (to, from) in rows.enumerate() {
        let x = &x[from * stride..][..dim];
        let mean = x.iter().map(|&v| v as f64).sum::<f64>() / dim as f64;
        let variance = x.iter().map(|&v| (v as f64 - mean).powi(2)).sum::<f64>() / dim as f64;
        let scale = 1.0 / (variance + eps).sqrt();
        for (i, &x) in x.iter().enumerate() {
            call.write(0)[to * stride + i] = ((x as f64 - mean) * scale * weight[i] as f64 + bias[i] as f64) as f32;
        }
    }
}
