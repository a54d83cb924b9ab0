//! Root-mean-square norms on the heads of queries and keys, as Qwen 3 has them (arXiv:2505.09388).

use super::{Call, Kernel, Needs};

pub static HEAD_NORM: Kernel = Kernel {
    name: "head_norm",
    shader: include_str!("../../shaders/head_norm.wgsl"),
    params: &["n_heads", "n_kv_heads", "head_dim", "stride", "eps"],
    reads: &["step", "q_weight", "k_weight"],
    writes: &["qkv"],
    needs: Needs { reduce: true, ..Needs::NOTHING },
    reference,
    tolerance: 1e-5,
};

fn reference(call: &mut Call<'_>) {
    let [n_heads, n_kv_heads, head_dim, stride] = [0, 1, 2, 3].map(|i| call.count(i));
    let (eps, n_tokens) = (call.float(4), call.step().n_tokens);
    let (q_weight, k_weight) = (call.read(1), call.read(2));
    for t in 0..n_tokens {
        for head in 0..n_heads + n_kv_heads {
            let weight = if head < n_heads { q_weight } else { k_weight };
            let values = &mut call.write(0)[t * stride + head * head_dim..][..head_dim];
            let mean = values.iter().map(|&v| (v as f64).powi(2)).sum::<f64>() / head_dim as f64;
            let scale = 1.0 / (mean + eps).sqrt();
            for (value, &weight) in values.iter_mut().zip(weight) {
                *value = (*value as f64 * scale * weight as f64) as f32;
            }
        }
    }
}
