// residual[r] += sum_s sum_k weight[ids[s], r, k] * x[s, k] over the experts s that one token uses, their shares in x
// already; and what the next norm's product needs of it, as in `matvec_residual`. A part holds experts first_expert .. first_expert +
// n_experts and adds theirs; the last part leaves the whole.
// One workgroup per TILES tiles of 32 rows; lanes as in lib/tile_dots.wgsl.
struct Params {
    n_rows: u32, // of one expert, a multiple of 32
    n_blocks: u32,
    first_expert: u32,
    n_experts: u32,
    n_used: u32,
}

const SIZE = 8u * K_SPLIT * TILES;
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> ids: array<u32>;                   // (experts used by the token)
@group(0) @binding(2) var<storage, read> x: array<vec4<f32>>;               // (experts used, n_blocks * 32)
@group(0) @binding(3) var<storage, read> norm: array<f32>;                  // (n_rows)
@group(0) @binding(4) var<storage, read_write> residual: array<f32>;        // (n_rows)
@group(0) @binding(5) var<storage, read_write> weighted: array<f32>;        // (n_rows)
@group(0) @binding(6) var<storage, read_write> squares: array<f32>;         // (n_rows / 32)

@compute @workgroup_size(SIZE)
fn main(@builtin(local_invocation_index) lane: u32, @builtin(workgroup_id) group: vec3<u32>) {
    let n_tiles = params.n_rows / 32u;
    let tile = group.x * TILES + lane / (8u * K_SPLIT);
    var share = vec4<f32>(0.0);
    for (var s = 0u; s < params.n_used; s++) {
        let expert = ids[s] - params.first_expert; // wraps round below first_expert
        if expert < params.n_experts { // the same for all lanes
            let first_block = (expert * n_tiles + min(tile, n_tiles - 1u)) * params.n_blocks;
            share += tile_dots(lane, first_block, s * params.n_blocks * 8u, params.n_blocks);
        }
    }
    let sum = tile_total(lane, share);
    let owner = (lane / 8u) % K_SPLIT == 0u && tile < n_tiles;
    var square = 0.0;
    if owner {
        for (var j = 0u; j < 4u; j++) {
            let at = tile * 32u + lane % 8u * 4u + j;
            let value = residual[at] + sum[j];
            residual[at] = value;
            weighted[at] = value * norm[at];
            square += value * value;
        }
    }
    let tile_square = lane8_sum(lane, square);
    if owner && lane % 8u == 0u { squares[tile] = tile_square; }
}
