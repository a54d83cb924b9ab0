// x[t] += sum_i shares[t, i] * y[t * n_used + i]: what the experts of a token said, by their weights.
// One lane per number; one workgroup per 64 of them and token.
struct Params { dim: u32, x_stride: u32, y_stride: u32, n_used: u32 }

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> step: array<u32>;             // n_tokens, ...
@group(0) @binding(2) var<storage, read> shares: array<f32>;           // (tokens, n_used)
@group(0) @binding(3) var<storage, read> y: array<f32>;                // (tokens * n_used, y_stride)
@group(0) @binding(4) var<storage, read_write> x: array<f32>;          // (tokens, x_stride)

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x >= params.dim || id.y >= step[0] { return; }
    var sum = 0.0;
    for (var i = 0u; i < params.n_used; i++) {
        let assignment = id.y * params.n_used + i;
        sum += shares[assignment] * y[assignment * params.y_stride + id.x];
    }
    x[id.y * params.x_stride + id.x] += sum;
}
