// x[t] = weight[token[t]]: the embedding row of each token, decoded.
// One workgroup per token. A matrix split into parts takes one dispatch each; a token outside the part is left alone.
struct Params { dim: u32, stride: u32, first_row: u32, n_rows: u32 }

@group(0) @binding(0) var<uniform> params: Params;
// n_tokens, position of the first token, row of the rope table for position 0, a spare word, then the token ids.
@group(0) @binding(1) var<storage, read> step: array<u32>;
@group(0) @binding(2) var<storage, read_write> x: array<f32>; // (tokens, stride)

@compute @workgroup_size(64)
fn main(@builtin(local_invocation_index) lane: u32, @builtin(workgroup_id) group: vec3<u32>) {
    let token = group.x;
    let row = step[4u + token] - params.first_row; // wraps round below first_row, and is then too large
    let n_quads = select(0u, (params.dim + 3u) / 4u, token < step[0] && row < params.n_rows);
    let n_blocks = (params.dim + 31u) / 32u;
    for (var i = lane; i < n_quads; i += 64u) {
        let w = weight_load((row / 32u) * n_blocks + i / 8u, (row % 32u) / 4u);
        var rows = weight_quad(w, i % 8u);
        var scale = weight_scale(w);
        var low = weight_min(w);
        let quad = rows[row % 4u] * scale[row % 4u] + low[row % 4u];
        for (var j = 0u; j < min(4u, params.dim - i * 4u); j++) { x[token * params.stride + i * 4u + j] = quad[j]; }
    }
}
