//! Root-mean-square normalisation (arXiv:1910.07467).

use super::{Call, Kernel, Needs};

pub static RMS_NORM: Kernel = Kernel {
    name: "rms_norm",
    shader: include_str!("../../shaders/rms_norm.wgsl"),
    params: &["dim", "stride", "eps", "last_only"],
    reads: &["step", "x", "weight"],
    writes: &["y"],
    needs: Needs { reduce: true, ..Needs::NOTHING },
    reference,
    tolerance: 1e-5,
};

fn reference(call: &mut Call<'_>) {
    let [dim, stride, _, last_only] = [0, 1, 2, 3].map(|i| call.count(i));
    let (eps, n_tokens) = (call.float(2), call.step().n_tokens);
    let (x, weight) = (call.read(1), call.read(2));
    let rows = if last_only == 1 { n_tokens - 1..n_tokens } else { 0..n_tokens };
    for (to, from) in rows.enumerate() {
        let x = &x[from * stride..][..dim];
        let mean = x.iter().map(|&v| (v as f64).powi(2)).sum::<f64>() / dim as f64;
        let scale = 1.0 / (mean + eps).sqrt();
        for ((y, x), w) in call.write(0)[to * stride..][..dim].iter_mut().zip(x).zip(weight) {
            *y = (*x as f64 * scale * *w as f64) as f32;
        }
    }
}
