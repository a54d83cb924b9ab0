// y[t] += bias, for every token of the batch or, with `rows` above 0, for that many rows.
// One lane per number; one workgroup per 64 of them and row.
struct Params { dim: u32, stride: u32, rows: u32 }

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> step: array<u32>;             // n_tokens, ...
@group(0) @binding(2) var<storage, read> bias: array<f32>;             // (dim)
@group(0) @binding(3) var<storage, read_write> y: array<f32>;          // (rows, stride)

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let rows = select(step[0], params.rows, params.rows > 0u);
    if id.x >= params.dim || id.y >= rows { return; }
    y[id.y * params.stride + id.x] += bias[id.x];
}
