// y[y_first + r] (+)= sum_k weight[r, k] * x[k], for one token.
// One workgroup per TILES tiles of 32 rows; lanes as in lib/tile_dots.wgsl.
struct Params { n_rows: u32, n_blocks: u32, y_first: u32, accumulate: u32 }

const SIZE = 8u * K_SPLIT * TILES;
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;      // (n_blocks * 32), padded with zeros
@group(0) @binding(2) var<storage, read_write> y: array<f32>;      // (y_first + n_rows or more)

@compute @workgroup_size(SIZE)
fn main(@builtin(local_invocation_index) lane: u32, @builtin(workgroup_id) group: vec3<u32>) {
    let n_tiles = (params.n_rows + 31u) / 32u;
    let tile = group.x * TILES + lane / (8u * K_SPLIT);
    let share = tile_dots(lane, min(tile, n_tiles - 1u) * params.n_blocks, 0u, params.n_blocks);
    let sum = tile_total(lane, share);
    if (lane / 8u) % K_SPLIT == 0u && tile < n_tiles {
        let row = tile * 32u + lane % 8u * 4u;
        for (var j = 0u; j < 4u; j++) {
            if row + j < params.n_rows {
                let at = params.y_first + row + j;
                y[at] = select(0.0, y[at], params.accumulate == 1u) + sum[j];
            }
        }
    }
}
