// residual[r] += bias[r] + sum_k weight[r, k] * x[k], for one token; and what the next norm's product needs of it, see
// `matvec_norm`: weighted[r] = residual[r] * norm[r], squares[tile] = the sum of residual[r]^2 over 32 rows.
// One workgroup per TILES tiles of 32 rows; lanes as in lib/tile_dots.wgsl.
struct Params { n_rows: u32, n_blocks: u32, first_row: u32, has_bias: u32 }

const SIZE = 8u * K_SPLIT * TILES;
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;               // (n_blocks * 32), padded with zeros
@group(0) @binding(2) var<storage, read> bias: array<f32>;                  // (first_row + n_rows or more), or one zero
@group(0) @binding(3) var<storage, read> norm: array<f32>;                  // (first_row + n_rows or more)
@group(0) @binding(4) var<storage, read_write> residual: array<f32>;        // (first_row + n_rows or more)
@group(0) @binding(5) var<storage, read_write> weighted: array<f32>;        // (first_row + n_rows or more)
@group(0) @binding(6) var<storage, read_write> squares: array<f32>;         // (tiles of all rows)

@compute @workgroup_size(SIZE)
fn main(@builtin(local_invocation_index) lane: u32, @builtin(workgroup_id) group: vec3<u32>) {
    let n_tiles = (params.n_rows + 31u) / 32u;
    let tile = group.x * TILES + lane / (8u * K_SPLIT);
    let share = tile_dots(lane, min(tile, n_tiles - 1u) * params.n_blocks, 0u, params.n_blocks);
    let sum = tile_total(lane, share);
    let owner = (lane / 8u) % K_SPLIT == 0u && tile < n_tiles;
    var square = 0.0;
    if owner {
        let row = tile * 32u + lane % 8u * 4u;
        for (var j = 0u; j < 4u; j++) {
            if row + j < params.n_rows {
                let at = params.first_row + row + j;
                let value = residual[at] + (sum[j] + bias[at * params.has_bias]);
                residual[at] = value;
                weighted[at] = value * norm[at];
                square += value * value;
            }
        }
    }
    let tile_square = lane8_sum(lane, square);
    if owner && lane % 8u == 0u { squares[params.first_row / 32u + tile] = tile_square; }
}
