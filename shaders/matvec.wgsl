// y[y_first + r] (+)= sum_k weight[r, k] * x[k], for one token.
// One workgroup per TILES tiles of 32 rows. Eight lanes own a tile, four rows each; K_SPLIT groups of eight lanes
// share a tile by taking every K_SPLIT-th block of 32 columns.
struct Params { n_rows: u32, n_blocks: u32, y_first: u32, accumulate: u32 }

const SIZE = 8u * K_SPLIT * TILES;
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;      // (n_blocks * 32), padded with zeros
@group(0) @binding(2) var<storage, read_write> y: array<f32>;      // (y_first + n_rows or more)
var<workgroup> partial: array<vec4<f32>, SIZE>;

@compute @workgroup_size(SIZE)
fn main(@builtin(local_invocation_index) lane: u32, @builtin(workgroup_id) group: vec3<u32>) {
    let n_tiles = (params.n_rows + 31u) / 32u;
    let tile = group.x * TILES + lane / (8u * K_SPLIT);
    let row_lane = lane % 8u;
    let split = (lane / 8u) % K_SPLIT;
    let first_block = min(tile, n_tiles - 1u) * params.n_blocks;
    var sum = vec4<f32>(0.0);
    // The bounds are uniform, since x_load may hand activations from lane to lane; a lane past the end repeats the
    // last block and drops the result.
    for (var i = 0u; i < params.n_blocks; i += K_SPLIT) {
        let block = min(i + split, params.n_blocks - 1u);
        let a = x_load(block * 8u, row_lane);
        let w = weight_load(first_block + block, row_lane);
        let dots = products_one(w, a);
        sum += select(vec4<f32>(0.0), dots, i + split < params.n_blocks);
    }
    if K_SPLIT > 1u {
        partial[lane] = sum;
        workgroupBarrier();
        if split == 0u {
            for (var i = 1u; i < K_SPLIT; i++) { sum += partial[lane + i * 8u]; }
        }
    }
    if split == 0u && tile < n_tiles {
        let row = tile * 32u + row_lane * 4u;
        for (var j = 0u; j < 4u; j++) {
            if row + j < params.n_rows {
                let at = params.y_first + row + j;
                y[at] = select(0.0, y[at], params.accumulate == 1u) + sum[j];
            }
        }
    }
}
