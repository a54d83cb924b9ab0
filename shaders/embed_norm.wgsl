// residual = weight[token]: the embedding row of one token, decoded; and what the first norm's product needs of it, see
// `matvec_norm`: weighted[d] = residual[d] * norm[d], squares[block] = the sum of residual[d]^2 over 32 numbers.
// One lane per 32 numbers. A matrix split into parts takes one dispatch each; a token outside the part is left alone.
struct Params { dim: u32, first_row: u32, n_rows: u32 }

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> step: array<u32>;                  // n_tokens, position, ..., token
@group(0) @binding(2) var<storage, read> norm: array<f32>;                  // (dim)
@group(0) @binding(3) var<storage, read_write> residual: array<f32>;        // (dim)
@group(0) @binding(4) var<storage, read_write> weighted: array<f32>;        // (dim)
@group(0) @binding(5) var<storage, read_write> squares: array<f32>;         // (dim / 32)

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let n_blocks = (params.dim + 31u) / 32u;
    let row = step[4] - params.first_row; // wraps round below first_row, and is then too large
    if id.x >= n_blocks || row >= params.n_rows { return; }
    let w = weight_load((row / 32u) * n_blocks + id.x, (row % 32u) / 4u);
    var scale = weight_scale(w);
    var low = weight_min(w);
    var square = 0.0;
    for (var i = 0u; i < 8u; i++) {
        var rows = weight_quad(w, i);
        let quad = rows[row % 4u] * scale[row % 4u] + low[row % 4u];
        for (var j = 0u; j < 4u; j++) {
            let d = id.x * 32u + i * 4u + j;
            if d < params.dim {
                residual[d] = quad[j];
                weighted[d] = quad[j] * norm[d];
                square += quad[j] * quad[j];
            }
        }
    }
    squares[id.x] = square;
}
