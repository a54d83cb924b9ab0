// y[s, y_first + r] = sum_k weight[ids[s], r, k] * x[s, k] for the experts s that one token uses; with `shared_x` all
// of them read row 0 of x. A part holds experts first_expert .. first_expert + n_experts, and leaves others' rows alone.
// One workgroup per TILES tiles of 32 rows and used expert; lanes as in lib/tile_dots.wgsl.
struct Params {
    n_rows: u32, // of one expert, a multiple of 32
    n_blocks: u32,
    first_expert: u32,
    n_experts: u32,
    y_first: u32,
    y_stride: u32,
    n_used: u32, // what the grid's y counts
    shared_x: u32,
}

const SIZE = 8u * K_SPLIT * TILES;
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> ids: array<u32>;          // (experts used by the token)
@group(0) @binding(2) var<storage, read> x: array<vec4<f32>>;      // (1 or experts used, n_blocks * 32)
@group(0) @binding(3) var<storage, read_write> y: array<f32>;      // (experts used, y_stride)
var<workgroup> chosen: u32;

@compute @workgroup_size(SIZE)
fn main(@builtin(local_invocation_index) lane: u32, @builtin(workgroup_id) group: vec3<u32>) {
    if lane == 0u { chosen = ids[group.y] - params.first_expert; } // wraps round below first_expert
    let expert = workgroupUniformLoad(&chosen);
    if expert >= params.n_experts { return; } // the same for all lanes
    let n_tiles = params.n_rows / 32u;
    let tile = group.x * TILES + lane / (8u * K_SPLIT);
    let first_block = (expert * n_tiles + min(tile, n_tiles - 1u)) * params.n_blocks;
    let first_x = select(group.y, 0u, params.shared_x == 1u) * params.n_blocks * 8u;
    let sum = tile_total(lane, tile_dots(lane, first_block, first_x, params.n_blocks));
    if (lane / 8u) % K_SPLIT == 0u && tile < n_tiles {
        let at = group.y * params.y_stride + params.y_first + tile * 32u + lane % 8u * 4u;
        for (var j = 0u; j < 4u; j++) { y[at + j] = sum[j]; }
    }
}
