//! Rotary position embedding (arXiv:2104.09864) of queries and keys; keys and values go to the cache.

use super::{CacheLayout, Call, Kernel, Needs};

pub static ROPE: Kernel = Kernel {
    name: "rope",
    shader: include_str!("../../shaders/rope.wgsl"),
    params: &[
        "n_heads",
        "n_kv_heads",
        "head_dim",
        "rope_dim",
        "interleaved",
        "capacity",
        "first_kv_head",
        "part_kv_heads",
        "qkv_stride",
        "q_scale",
    ],
    reads: &["step", "qkv", "angles"],
    writes: &["q", "k_cache", "v_cache"],
    needs: Needs { cache: true, cache_store: true, ..Needs::NOTHING },
    reference,
    tolerance: 1e-6,
};

/// Workgroups per token for a part of the heads, of which each serves `sharing` heads of queries.
pub fn rope_workgroups(layout: CacheLayout, sharing: usize) -> usize {
    let cached = (layout.n_heads * layout.n_groups()).next_multiple_of(2);
    (2 * cached + layout.n_heads * sharing * layout.n_groups()).div_ceil(8)
}

fn reference(call: &mut Call<'_>) {
    let [n_heads, n_kv_heads, head_dim, rope_dim, interleaved, capacity, first, part, qkv_stride] =
        [0, 1, 2, 3, 4, 5, 6, 7, 8].map(|i| call.count(i));
    let (q_scale, step) = (call.float(9), call.step());
    let (qkv, angles) = (call.read(1), call.read(2));
    let layout = CacheLayout { format: call.cache, n_heads: part, head_dim };
    let (half, sharing) = (rope_dim / 2, n_heads / n_kv_heads);
    for t in 0..step.n_tokens {
        let position = step.position + t;
        let head_of = |head: usize, rotate: bool| {
            let row = &qkv[t * qkv_stride + head * head_dim..][..head_dim];
            let mut values: Vec<f64> = row.iter().map(|&v| v as f64).collect();
            for i in 0..if rotate { half } else { 0 } {
                let (a, b) = if interleaved == 1 { (2 * i, 2 * i + 1) } else { (i, i + half) };
                let at = ((step.first_angle_row + position) * half + i) * 2;
                let (cos, sin) = (angles[at] as f64, angles[at + 1] as f64);
                (values[a], values[b]) = (values[a] * cos - values[b] * sin, values[b] * cos + values[a] * sin);
            }
            values
        };
        for head in first * sharing..(first + part) * sharing {
            let to = &mut call.write(0)[(t * n_heads + head) * head_dim..][..head_dim];
            for (q, value) in to.iter_mut().zip(head_of(head, true)) {
                *q = (value * q_scale) as f32;
            }
        }
        for head in 0..part {
            let (key, value) = (n_heads + first + head, n_heads + n_kv_heads + first + head);
            call.write_cache(1, layout, position % capacity, head, &head_of(key, true));
            call.write_cache(2, layout, position % capacity, head, &head_of(value, false));
        }
    }
}
