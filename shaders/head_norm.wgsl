// qkv[t, h] = qkv[t, h] / rms(qkv[t, h]) * weight, for every head h of queries and keys, each kind with its own weight.
// One workgroup per head and token.
struct Params { n_heads: u32, n_kv_heads: u32, head_dim: u32, stride: u32, eps: f32 }

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> step: array<u32>;             // n_tokens, ...
@group(0) @binding(2) var<storage, read> q_weight: array<f32>;         // (head_dim)
@group(0) @binding(3) var<storage, read> k_weight: array<f32>;         // (head_dim)
@group(0) @binding(4) var<storage, read_write> qkv: array<f32>;        // (tokens, stride): heads of q, k, then v

@compute @workgroup_size(WIDTH)
fn main(@builtin(local_invocation_index) lane: u32, @builtin(workgroup_id) group: vec3<u32>) {
    let first = min(group.y, step[0] - 1u) * params.stride + group.x * params.head_dim;
    var sum = 0.0;
    for (var i = lane; i < params.head_dim; i += WIDTH) { sum += qkv[first + i] * qkv[first + i]; }
    let scale = inverseSqrt(reduce_sum(lane, sum) / f32(params.head_dim) + params.eps);
    for (var i = lane; i < params.head_dim; i += WIDTH) {
        let weight = select(k_weight[i], q_weight[i], group.x < params.n_heads);
        qkv[first + i] *= scale * weight;
    }
}
