//! Softmax attention over the cache, with grouped queries and an optional sliding window.

use super::{Call, Kernel, Needs, reference::read_cache};

pub static ATTENTION: Kernel = Kernel {
    name: "attention",
    shader: include_str!("../../shaders/attention.wgsl"),
    params: &["n_heads", "n_kv_heads", "head_dim", "capacity", "window", "out_stride"],
    reads: &["step", "q", "k_cache", "v_cache"],
    writes: &["out"],
    needs: Needs { reduce: true, cache: true, ..Needs::NOTHING },
    reference,
    tolerance: 1e-5,
};

fn reference(call: &mut Call<'_>) {
    let [n_heads, n_kv_heads, head_dim, capacity, window, out_stride] = [0, 1, 2, 3, 4, 5].map(|i| call.count(i));
    let (step, q, format) = (call.step(), call.read(1), call.cache);
    let (k, v) = (call.reads[2], call.reads[3]);
    for t in 0..step.n_tokens {
        let end = step.position + t + 1;
        let begin = if window > 0 { end.saturating_sub(window) } else { 0 };
        for head in 0..n_heads {
            let cache = head / (n_heads / n_kv_heads) * capacity;
            let query = &q[(t * n_heads + head) * head_dim..][..head_dim];
            let at = |words, j: usize, d: usize| read_cache(format, words, (cache + j) * head_dim + d);
            let score = |j| query.iter().enumerate().map(|(d, &q)| q as f64 * at(k, j, d)).sum::<f64>();
            let scores: Vec<f64> = (begin..end).map(score).collect();
            let largest = scores.iter().copied().fold(f64::MIN, f64::max);
            let weights: Vec<f64> = scores.iter().map(|s| (s - largest).exp()).collect();
            let total: f64 = weights.iter().sum();
            for d in 0..head_dim {
                let sum: f64 = weights.iter().zip(begin..end).map(|(w, j)| w * at(v, j, d)).sum();
                call.write(0)[t * out_stride + head * head_dim + d] = (sum / total) as f32;
            }
        }
    }
}
