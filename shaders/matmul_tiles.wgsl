// y[t, y_first + r] (+)= sum_k weight[r, k] * x[t, k], for a batch of tokens.
// One workgroup per 64 rows and 64 tokens; what its lanes do is in lib/staged_product.wgsl.
struct Params { n_rows: u32, n_blocks: u32, y_first: u32, y_stride: u32, accumulate: u32 }

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> step: array<u32>;         // n_tokens, ...
@group(0) @binding(2) var<storage, read> x: array<vec4<f32>>;      // (tokens, n_blocks * 32), padded with zeros
@group(0) @binding(3) var<storage, read_write> y: array<f32>;      // (tokens, y_stride)

// Where tokens' activations begin. Rows of x past the batch are read as the last token's and their results dropped.
fn rows_of(tokens: vec4<u32>) -> vec4<u32> {
    return min(tokens, vec4<u32>(step[0] - 1u)) * params.n_blocks * 8u;
}

// Four rows of four tokens.
fn store(row: u32, tokens: vec4<u32>, sums: mat4x4<f32>) {
    var results = sums;
    for (var t = 0u; t < 4u; t++) {
        for (var j = 0u; j < 4u; j++) {
            if tokens[t] < step[0] && row + j < params.n_rows {
                let at = tokens[t] * params.y_stride + params.y_first + row + j;
                y[at] = select(0.0, y[at], params.accumulate == 1u) + results[t][j];
            }
        }
    }
}

@compute @workgroup_size(LANES)
fn main(@builtin(local_invocation_index) lane: u32, @builtin(workgroup_id) group: vec3<u32>) {
    let n_tiles = (params.n_rows + 31u) / 32u;
    let tile = min(group.x * 2u + lane % 16u / 8u, n_tiles - 1u);
    let near = group.y * 64u + tile_columns(lane, 0u);
    let far = group.y * 64u + tile_columns(lane, 1u);
    let t = tile_product(lane, tile * params.n_blocks, params.n_blocks, rows_of(near), rows_of(far));
    let row = group.x * 64u + lane % 8u * 4u;
    store(row, near, t.near_low);
    store(row + 32u, near, t.near_high);
    if TOKEN_QUADS == 2u {
        store(row, far, t.far_low);
        store(row + 32u, far, t.far_high);
    }
}
