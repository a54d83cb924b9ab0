// h = silu(gate) * up, silu(g) = g / (1 + exp(-g)) (arXiv:2002.05202); gate and up are halves of one row.
// One lane per number; one workgroup per 64 of them and row: a token, or a token's expert.
struct Params { dim: u32, gate_up_stride: u32, h_stride: u32, rows_per_token: u32 }

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> step: array<u32>;              // n_tokens, ...
@group(0) @binding(2) var<storage, read> gate_up: array<f32>;           // (rows, gate_up_stride): gate, then up
@group(0) @binding(3) var<storage, read_write> h: array<f32>;           // (rows, h_stride)

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x >= params.dim || id.y >= step[0] * params.rows_per_token { return; }
    let row = id.y * params.gate_up_stride;
    let gate = gate_up[row + id.x];
    h[id.y * params.h_stride + id.x] = gate / (1.0 + exp(-gate)) * gate_up[row + params.dim + id.x];
}
