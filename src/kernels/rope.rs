//! Rotary position embedding (arXiv:2104.09864) of queries and keys; keys and values go to the cache.

use super::{Call, Kernel, Needs};

pub static ROPE: Kernel = Kernel {
    name: "rope",
    shader: include_str!("../../shaders/rope.wgsl"),
    params: &["n_heads", "n_kv_heads", "head_dim", "rope_dim", "interleaved", "capacity", "qkv_stride", "q_scale"],
    reads: &["step", "qkv", "angles"],
    writes: &["q", "k_cache", "v_cache"],
    needs: Needs { cache: true, ..Needs::NOTHING },
    reference,
    tolerance: 1e-6,
};

fn reference(call: &mut Call<'_>) {
    let [n_heads, n_kv_heads, head_dim, rope_dim, interleaved, capacity, qkv_stride] =
        [0, 1, 2, 3, 4, 5, 6].map(|i| call.count(i));
    let (q_scale, step) = (call.float(7), call.step());
    let (qkv, angles) = (call.read(1), call.read(2));
    let half = rope_dim / 2;
    for t in 0..step.n_tokens {
        let position = step.position + t;
        for head in 0..n_heads + 2 * n_kv_heads {
            let mut values: Vec<f64> =
                qkv[t * qkv_stride + head * head_dim..][..head_dim].iter().map(|&v| v as f64).collect();
            if head < n_heads + n_kv_heads {
                for i in 0..half {
                    let (a, b) = if interleaved == 1 { (2 * i, 2 * i + 1) } else { (i, i + half) };
                    let at = ((step.first_angle_row + position) * half + i) * 2;
                    let (cos, sin) = (angles[at] as f64, angles[at + 1] as f64);
                    (values[a], values[b]) = (values[a] * cos - values[b] * sin, values[b] * cos + values[a] * sin);
                }
            }
            for (d, value) in values.into_iter().enumerate() {
                if head < n_heads {
                    call.write(0)[(t * n_heads + head) * head_dim + d] = (value * q_scale) as f32;
                } else {
                    let (binding, kv) = ((head - n_heads) / n_kv_heads, (head - n_heads) % n_kv_heads);
                    call.write_cache(1 + binding, (kv * capacity + position) * head_dim + d, value);
                }
            }
        }
    }
}
