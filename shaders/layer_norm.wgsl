// y[t] = (x[t] - mean(x[t])) / sqrt(variance(x[t]) + eps) * weight + bias
// One workgroup per token; with `last_only`, one for the batch's last token, which becomes row 0 of y.
struct Params { dim: u32, stride: u32, eps: f32, last_only: u32 }

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> step: array<u32>;          // n_tokens, ...
@group(0) @binding(2) var<storage, read> x: array<f32>;             // (tokens, stride)
@group(0) @binding(3) var<storage, read> weight: array<f32>;        // (dim)
@group(0) @binding(4) var<storage, read> bias: array<f32>;          // (dim)
@group(0) @binding(5) var<storage, read_write> y: array<f32>;       // (tokens, stride)

@compute @workgroup_size(WIDTH)
fn main(@builtin(local_invocation_index) lane: u32, @builtin(workgroup_id) group: vec3<u32>) {
    let from_row = select(group.x, step[0] - 1u, params.last_only == 1u) * params.stride;
    let to_row = group.x * params.stride;
    var sum = 0.0;
    for (var i = lane; i < params.dim; i += WIDTH) { sum += x[from_row + i]; }
    let mean = reduce_sum(lane, sum) / f32(params.dim);
    // A second pass over the differences: a sum of squares would lose a small variance beside a large mean.
    var squares = 0.0;
    for (var i = lane; i < params.dim; i += WIDTH) {
        let difference = x[from_row + i] - mean;
        squares += difference * difference;
    }
    let scale = inverseSqrt(reduce_sum(lane, squares) / f32(params.dim) + params.eps);
    for (var i = lane; i < params.dim; i += WIDTH) {
        y[to_row + i] = (x[from_row + i] - mean) * scale * weight[i] + bias[i];
    }
}
