// y[t, y_first + r] (+)= sum_k weight[r, k] * x[t, k], for a batch of tokens.
// One workgroup per TILES tiles of 32 rows and four tokens. Eight lanes own a tile, four rows each; a lane decodes a
// block of weights once for its four tokens.
struct Params { n_rows: u32, n_blocks: u32, y_first: u32, y_stride: u32, accumulate: u32 }

const SIZE = 8u * TILES;
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> step: array<u32>;         // n_tokens, ...
@group(0) @binding(2) var<storage, read> x: array<vec4<f32>>;      // (tokens, n_blocks * 32), padded with zeros
@group(0) @binding(3) var<storage, read_write> y: array<f32>;      // (tokens, y_stride)

@compute @workgroup_size(SIZE)
fn main(@builtin(local_invocation_index) lane: u32, @builtin(workgroup_id) group: vec3<u32>) {
    let n_tiles = (params.n_rows + 31u) / 32u;
    let tile = group.x * TILES + lane / 8u;
    let row_lane = lane % 8u;
    let first_block = min(tile, n_tiles - 1u) * params.n_blocks;
    let token = group.y * 4u;
    // Rows of x past the batch are read as the last token's and their results dropped.
    let last = step[0] - 1u;
    let stride = params.n_blocks * 8u;
    let x0 = min(token, last) * stride;
    let x1 = min(token + 1u, last) * stride;
    let x2 = min(token + 2u, last) * stride;
    let x3 = min(token + 3u, last) * stride;
    var sums = mat4x4<f32>();
    for (var block = 0u; block < params.n_blocks; block++) {
        let w = weight_load(first_block + block, row_lane);
        let a = x_load(x0 + block * 8u, row_lane);
        let b = x_load(x1 + block * 8u, row_lane);
        let c = x_load(x2 + block * 8u, row_lane);
        let d = x_load(x3 + block * 8u, row_lane);
        sums += products_four(w, a, b, c, d);
    }
    let row = tile * 32u + row_lane * 4u;
    for (var t = 0u; t < 4u; t++) {
        for (var j = 0u; j < 4u; j++) {
            if token + t <= last && tile < n_tiles && row + j < params.n_rows {
                let at = (token + t) * params.y_stride + params.y_first + row + j;
                y[at] = select(0.0, y[at], params.accumulate == 1u) + sums[t][j];
            }
        }
    }
}
