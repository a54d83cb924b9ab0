//! Puts the splits of one token's attention together.

use super::{Call, Kernel, Needs, Splits, attend::partial_stride};

pub static ATTEND_MERGE: Kernel = Kernel {
    name: "attend_merge",
    shader: include_str!("../../shaders/attend_merge.wgsl"),
    params: &["head_dim", "first_head", "n_heads", "window", "split_keys", "most_splits", "partials_at"],
    reads: &["step"],
    writes: &["out"],
    needs: Needs::NOTHING,
    reference,
    tolerance: 1e-5,
};

fn reference(call: &mut Call<'_>) {
    let [head_dim, first_head, n_heads, partials_at] = [0, 1, 2, 6].map(|i| call.count(i));
    let splits = Splits { window: call.params[3], keys: call.params[4], most: call.params[5] };
    let n_splits = splits.at(call.step().position) as usize;
    for head in first_head..first_head + n_heads {
        let stride = partial_stride(head_dim);
        let partials = call.write(0)[partials_at + head * n_splits * stride..][..n_splits * stride].to_vec();
        let partials: Vec<&[f32]> = partials.chunks(stride).collect();
        let largest = partials.iter().map(|partial| partial[head_dim] as f64).fold(f64::MIN, f64::max);
        let shares: Vec<f64> = partials.iter().map(|partial| (partial[head_dim] as f64 - largest).exp()).collect();
        let total: f64 =
            shares.iter().zip(&partials).map(|(share, partial)| share * partial[head_dim + 1] as f64).sum();
        for d in 0..head_dim {
            let sum: f64 = shares.iter().zip(&partials).map(|(share, partial)| share * partial[d] as f64).sum();
            call.write(0)[head * head_dim + d] = (sum / total) as f32;
        }
    }
}
