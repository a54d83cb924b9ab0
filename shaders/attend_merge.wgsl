// out[h] = the outputs of one head's splits, each weighted by its share of the softmax, where `attend` left partials.
// One workgroup per head of the part; a lane per number.
struct Params {
    head_dim: u32,
    first_head: u32,
    n_heads: u32,      // of the part: what the grid counts
    window: u32,
    split_keys: u32,
    most_splits: u32,
    partials_at: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> step: array<u32>;          // n_tokens, position, ...
@group(0) @binding(2) var<storage, read_write> out: array<f32>;     // (n_heads, head_dim), partials behind it

@compute @workgroup_size(64)
fn main(@builtin(local_invocation_index) lane: u32, @builtin(workgroup_id) group: vec3<u32>) {
    let end = step[1] + 1u;
    let n_keys = select(end, min(end, params.window), params.window > 0u);
    let n_splits = min((n_keys + params.split_keys - 1u) / params.split_keys, params.most_splits);
    let head = params.first_head + group.x;
    let first = params.partials_at + head * n_splits * (params.head_dim + 2u);
    var largest = -3.0e38;
    for (var s = 0u; s < n_splits; s++) {
        largest = max(largest, out[first + s * (params.head_dim + 2u) + params.head_dim]);
    }
    for (var d = lane; d < params.head_dim; d += 64u) {
        var sum = 0.0;
        var total = 0.0;
        for (var s = 0u; s < n_splits; s++) {
            let partial = first + s * (params.head_dim + 2u);
            let share = exp(out[partial + params.head_dim] - largest);
            sum += share * out[partial + d];
            total += share * out[partial + params.head_dim + 1u];
        }
        out[head * params.head_dim + d] = sum / total;
    }
}
