//! One token's attention in one dispatch: norms of heads, rotary embedding, append to the cache, softmax attention.

use super::{CacheLayout, Call, Kernel, Needs};

pub static ATTEND: Kernel = Kernel {
    name: "attend",
    shader: include_str!("../../shaders/attend.wgsl"),
    params: &[
        "n_heads",
        "n_kv_heads",
        "head_dim",
        "rope_dim",
        "interleaved",
        "capacity",
        "window",
        "first_kv_head",
        "part_kv_heads",
        "split_keys",
        "most_splits",
        "partials_at",
        "q_scale",
        "norm_eps",
    ],
    reads: &["step", "qkv", "angles", "q_norm", "k_norm"],
    writes: &["k_cache", "v_cache", "out"],
    needs: Needs { reduce: true, cache: true, heads: true, ..Needs::NOTHING },
    reference,
    tolerance: 1e-5,
};

/// How the keys that one token sees are shared out among workgroups. The shader computes the same number of them from
/// the position alone, and so does the reference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Splits {
    /// Keys that are not worth a second workgroup.
    pub keys: u32,
    pub most: u32,
    /// Of a sliding window; 0: none.
    pub window: u32,
}

impl Splits {
    /// Workgroups for the token at `position`.
    pub fn at(self, position: usize) -> u32 {
        let seen = position as u32 + 1;
        let n_keys = if self.window > 0 { seen.min(self.window) } else { seen };
        n_keys.div_ceil(self.keys).min(self.most)
    }
}

/// The shape of heads that `attend` is built for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct HeadShape {
    pub head_dim: u32,
    /// Heads of queries that share a head of keys and values.
    pub sharing: u32,
}

impl HeadShape {
    /// Shapes that tests build `attend` for: those of published models, and awkward ones.
    pub const TESTED: [Self; 6] = [
        Self { head_dim: 96, sharing: 1 },
        Self { head_dim: 64, sharing: 3 },
        Self { head_dim: 128, sharing: 8 },
        Self { head_dim: 256, sharing: 2 },
        Self { head_dim: 100, sharing: 2 },
        Self { head_dim: 4, sharing: 1 },
    ];

    /// Whether its state fits the workgroup memory that WebGPU guarantees.
    pub fn fits(self) -> bool {
        self.sharing <= 8 && self.sharing * self.head_dim <= 1024 && self.head_dim <= 256
    }

    /// Keys that a workgroup takes at a time.
    pub(super) fn tile(self) -> u32 {
        768 / self.sharing
    }

    /// Lanes that share the keys of one quad of outputs, in a workgroup of `width` lanes.
    pub(super) fn parts(self, width: u32) -> u32 {
        let quads = self.head_dim / 4;
        (width / quads).min(384 / (quads * self.sharing)).max(1)
    }
}

/// Numbers that a split leaves for a head: its sum, its maximum, its sum of weights.
pub(super) fn partial_stride(head_dim: usize) -> usize {
    head_dim + 2
}

fn reference(call: &mut Call<'_>) {
    let [n_heads, n_kv_heads, head_dim, _, _, capacity, window, first, part] =
        [0, 1, 2, 3, 4, 5, 6, 7, 8].map(|i| call.count(i));
    let splits = Splits { window: window as u32, keys: call.params[9], most: call.params[10] };
    let (partials_at, q_scale) = (call.count(11), call.float(12));
    let position = call.step().position;
    let layout = CacheLayout { format: call.cache, n_heads: part, head_dim };
    let sharing = n_heads / n_kv_heads;
    let end = position + 1;
    let begin = if window > 0 { end.saturating_sub(window) } else { 0 };
    let n_splits = splits.at(position) as usize;
    let chunk = (end - begin).div_ceil(n_splits);
    for kv_head in 0..part {
        let key_head = n_heads + first + kv_head;
        let (key, value) = (head(call, key_head, Some(4)), head(call, key_head + n_kv_heads, None));
        call.write_cache(0, layout, position % capacity, kv_head, &key);
        call.write_cache(1, layout, position % capacity, kv_head, &value);
        let rows = |call: &Call<'_>, binding: usize, j: usize| {
            layout.head(&call.writes[binding][j % capacity * layout.row_words()..][..layout.row_words()], kv_head)
        };
        for q_head in (first + kv_head) * sharing..(first + kv_head + 1) * sharing {
            let query = head(call, q_head, Some(3));
            for split in 0..n_splits {
                let keys = end.min(begin + split * chunk)..end.min(begin + (split + 1) * chunk);
                let score = |j| rows(call, 0, j).iter().zip(&query).map(|(k, q)| k * q * q_scale).sum::<f64>();
                let scores: Vec<f64> = keys.clone().map(score).collect();
                let largest = scores.iter().copied().fold(-3.0e38, f64::max);
                let weights: Vec<f64> = scores.iter().map(|s| (s - largest).exp()).collect();
                let total: f64 = weights.iter().sum();
                let mut sums = vec![0.0; head_dim];
                for (weight, j) in weights.iter().zip(keys) {
                    sums.iter_mut().zip(rows(call, 1, j)).for_each(|(sum, v)| *sum += weight * v);
                }
                let (at, divisor, left) = match n_splits {
                    1 => (q_head * head_dim, total, None),
                    n => (partials_at + (q_head * n + split) * partial_stride(head_dim), 1.0, Some([largest, total])),
                };
                let numbers = sums.iter().map(|sum| sum / divisor).chain(left.into_iter().flatten());
                call.write(2)[at..].iter_mut().zip(numbers).for_each(|(out, number)| *out = number as f32);
            }
        }
    }
}

/// A head of qkv; with the read binding of a norm's weight, normed and rotated.
fn head(call: &Call<'_>, index: usize, norm: Option<usize>) -> Vec<f64> {
    let [head_dim, rope_dim, interleaved] = [2, 3, 4].map(|i| call.count(i));
    let (step, norm_eps) = (call.step(), call.float(13));
    let mut values: Vec<f64> = call.read(1)[index * head_dim..][..head_dim].iter().map(|&value| value as f64).collect();
    let Some(norm) = norm else { return values };
    if norm_eps > 0.0 {
        let mean = values.iter().map(|v| v * v).sum::<f64>() / head_dim as f64;
        let scale = 1.0 / (mean + norm_eps).sqrt();
        values.iter_mut().zip(call.read(norm)).for_each(|(value, &weight)| *value *= scale * weight as f64);
    }
    let (half, angles) = (rope_dim / 2, call.read(2));
    for i in 0..half {
        let (a, b) = if interleaved == 1 { (2 * i, 2 * i + 1) } else { (i, i + half) };
        let at = ((step.first_angle_row + step.position) * half + i) * 2;
        let (cos, sin) = (angles[at] as f64, angles[at + 1] as f64);
        (values[a], values[b]) = (values[a] * cos - values[b] * sin, values[b] * cos + values[a] * sin);
    }
    values
}
