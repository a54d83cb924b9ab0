//! Softmax attention over the cache, with grouped queries and an optional sliding window.

use super::{CacheLayout, Call, Kernel, Needs};

pub static ATTENTION: Kernel = Kernel {
    name: "attention",
    shader: include_str!("../../shaders/attention.wgsl"),
    params: &[
        "n_heads",
        "n_kv_heads",
        "head_dim",
        "capacity",
        "window",
        "first_kv_head",
        "part_kv_heads",
        "out_stride",
    ],
    reads: &["step", "q", "k_cache", "v_cache"],
    writes: &["out"],
    needs: Needs { reduce: true, cache: true, ..Needs::NOTHING },
    reference,
    tolerance: 1e-5,
};

fn reference(call: &mut Call<'_>) {
    let [n_heads, n_kv_heads, head_dim, capacity, window, first, part, out_stride] =
        [0, 1, 2, 3, 4, 5, 6, 7].map(|i| call.count(i));
    let (step, q) = (call.step(), call.read(1));
    let layout = CacheLayout { format: call.cache, n_heads: part, head_dim };
    let sharing = n_heads / n_kv_heads;
    for t in 0..step.n_tokens {
        let end = step.position + t + 1;
        let begin = if window > 0 { end.saturating_sub(window) } else { 0 };
        for kv_head in 0..part {
            let rows = |binding: usize| -> Vec<Vec<f64>> {
                let row = |j: usize| &call.reads[binding][j % capacity * layout.row_words()..][..layout.row_words()];
                (begin..end).map(|j| layout.head(row(j), kv_head)).collect()
            };
            let (keys, values) = (rows(2), rows(3));
            for head in (first + kv_head) * sharing..(first + kv_head + 1) * sharing {
                let query = &q[(t * n_heads + head) * head_dim..][..head_dim];
                let score = |key: &Vec<f64>| query.iter().zip(key).map(|(&q, k)| q as f64 * k).sum::<f64>();
                let scores: Vec<f64> = keys.iter().map(score).collect();
                let largest = scores.iter().copied().fold(f64::MIN, f64::max);
                let weights: Vec<f64> = scores.iter().map(|s| (s - largest).exp()).collect();
                let total: f64 = weights.iter().sum();
                for d in 0..head_dim {
                    let sum: f64 = weights.iter().zip(&values).map(|(w, value)| w * value[d]).sum();
                    call.write(0)[t * out_stride + head * head_dim + d] = (sum / total) as f32;
                }
            }
        }
    }
}
