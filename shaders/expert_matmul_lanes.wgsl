// y[a, y_first + r] = sum_k weight[e, r, k] * x[a / per_x, k] for the assignments a of tokens to experts e, eight of one
// expert at a time as `expert_groups` lists them. A part holds experts first_expert .. first_expert + n_experts, and
// leaves others' rows alone.
// One workgroup per TILES tiles of 32 rows and group of eight assignments; lanes as in `matmul_lanes`.
struct Params {
    n_rows: u32, // of one expert, a multiple of 32
    n_blocks: u32,
    first_expert: u32,
    n_experts: u32,
    y_first: u32,
    y_stride: u32,
    per_x: u32, // assignments that share a row of x
}

const SIZE = 8u * TILES;
const NOBODY = 0xffffffffu;
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> groups: array<u32>;       // (groups, 9): expert, eight assignments
@group(0) @binding(2) var<storage, read> x: array<vec4<f32>>;      // (assignments / per_x, n_blocks * 32)
@group(0) @binding(3) var<storage, read_write> y: array<f32>;      // (assignments, y_stride)
var<workgroup> chosen: u32;
// The place of the first assignment in `groups`.
var<private> first: u32;

// The first of eight is always somebody; where another is missing, its row is read in its place and dropped.
fn shared_row(source: u32, t: u32) -> u32 {
    let own = groups[first + t];
    return select(own, groups[first], own == NOBODY) / params.per_x * params.n_blocks * 8u;
}
fn shared_quad(source: u32, at: u32) -> vec4<f32> { return x[at]; }

@compute @workgroup_size(SIZE)
fn main(@builtin(local_invocation_index) lane: u32, @builtin(workgroup_id) group: vec3<u32>) {
    let entry = group.y * 9u;
    if lane == 0u { chosen = groups[entry] - params.first_expert; } // wraps round below first_expert
    let expert = workgroupUniformLoad(&chosen);
    if expert >= params.n_experts { return; } // the same for all lanes
    first = entry + 1u;
    let n_tiles = params.n_rows / 32u;
    let tile = group.x * TILES + lane / 8u;
    let row_lane = lane % 8u;
    let first_block = (expert * n_tiles + min(tile, n_tiles - 1u)) * params.n_blocks;
    let own = shared_row(0u, row_lane);
    var sums = Eight();
    for (var block = 0u; block < params.n_blocks; block++) {
        sums = products_eight(sums, weight_load(first_block + block, row_lane), own, block * 8u);
    }
    let row = params.y_first + tile * 32u + row_lane * 4u;
    var results = array<vec4<f32>, 8>(sums.a, sums.b, sums.c, sums.d, sums.e, sums.f, sums.g, sums.h);
    for (var t = 0u; t < 8u; t++) {
        let assignment = groups[first + t];
        if assignment != NOBODY && tile < n_tiles {
            for (var j = 0u; j < 4u; j++) { y[assignment * params.y_stride + row + j] = results[t][j]; }
        }
    }
}
