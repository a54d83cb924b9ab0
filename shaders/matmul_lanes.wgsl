// y[t, y_first + r] (+)= sum_k weight[r, k] * x[t, k], for a batch of tokens.
// One workgroup per TILES tiles of 32 rows and eight tokens. Eight lanes own a tile, four rows each; a lane decodes a
// block of weights once for its eight tokens, and no lane waits for another.
struct Params { n_rows: u32, n_blocks: u32, y_first: u32, y_stride: u32, accumulate: u32 }

const SIZE = 8u * TILES;
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> step: array<u32>;         // n_tokens, ...
@group(0) @binding(2) var<storage, read> x: array<vec4<f32>>;      // (tokens, n_blocks * 32), padded with zeros
@group(0) @binding(3) var<storage, read_write> y: array<f32>;      // (tokens, y_stride)
// The first of the eight tokens, and the batch's last: rows past it are read as that one's and their results dropped.
var<private> tokens: vec2<u32>;

fn shared_row(source: u32, t: u32) -> u32 { return min(tokens.x + t, tokens.y) * params.n_blocks * 8u; }
fn shared_quad(source: u32, at: u32) -> vec4<f32> { return x[at]; }

@compute @workgroup_size(SIZE)
fn main(@builtin(local_invocation_index) lane: u32, @builtin(workgroup_id) group: vec3<u32>) {
    let n_tiles = (params.n_rows + 31u) / 32u;
    let tile = group.x * TILES + lane / 8u;
    let row_lane = lane % 8u;
    let first_block = min(tile, n_tiles - 1u) * params.n_blocks;
    tokens = vec2<u32>(group.y * 8u, step[0] - 1u);
    let own = shared_row(0u, row_lane);
    var sums = Eight();
    for (var block = 0u; block < params.n_blocks; block++) {
        sums = products_eight(sums, weight_load(first_block + block, row_lane), own, block * 8u);
    }
    let row = tile * 32u + row_lane * 4u;
    var results = array<vec4<f32>, 8>(sums.a, sums.b, sums.c, sums.d, sums.e, sums.f, sums.g, sums.h);
    for (var t = 0u; t < 8u; t++) {
        for (var j = 0u; j < 4u; j++) {
            if tokens.x + t <= tokens.y && tile < n_tiles && row + j < params.n_rows {
                let at = (tokens.x + t) * params.y_stride + params.y_first + row + j;
                y[at] = select(0.0, y[at], params.accumulate == 1u) + results[t][j];
            }
        }
    }
}
