// y[a, y_first + r] = sum_k weight[e, r, k] * x[a / per_x, k] for the assignments a of tokens to experts e, four of one
// expert at a time as `expert_groups` lists them. A part holds experts first_expert .. first_expert + n_experts, and
// leaves others' rows alone.
// One workgroup per TILES tiles of 32 rows and group of four assignments; lanes as in `matmul`.
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
@group(0) @binding(1) var<storage, read> groups: array<u32>;       // (groups, 5): expert, four assignments
@group(0) @binding(2) var<storage, read> x: array<vec4<f32>>;      // (assignments / per_x, n_blocks * 32)
@group(0) @binding(3) var<storage, read_write> y: array<f32>;      // (assignments, y_stride)
var<workgroup> chosen: u32;

@compute @workgroup_size(SIZE)
fn main(@builtin(local_invocation_index) lane: u32, @builtin(workgroup_id) group: vec3<u32>) {
    let entry = group.y * 5u;
    if lane == 0u { chosen = groups[entry] - params.first_expert; } // wraps round below first_expert
    let expert = workgroupUniformLoad(&chosen);
    if expert >= params.n_experts { return; } // the same for all lanes
    let n_tiles = params.n_rows / 32u;
    let tile = group.x * TILES + lane / 8u;
    let row_lane = lane % 8u;
    let first_block = (expert * n_tiles + min(tile, n_tiles - 1u)) * params.n_blocks;
    let rows = vec4<u32>(groups[entry + 1u], groups[entry + 2u], groups[entry + 3u], groups[entry + 4u]);
    // The first of four is always somebody; where another is missing, its row is read in its place and dropped.
    let first_x = select(rows, rows.xxxx, rows == vec4<u32>(NOBODY)) / params.per_x * (params.n_blocks * 8u);
    var sums = mat4x4<f32>();
    for (var block = 0u; block < params.n_blocks; block++) {
        let w = weight_load(first_block + block, row_lane);
        let a = x_load(first_x.x + block * 8u, row_lane);
        let b = x_load(first_x.y + block * 8u, row_lane);
        let c = x_load(first_x.z + block * 8u, row_lane);
        let d = x_load(first_x.w + block * 8u, row_lane);
        sums += products_four(w, a, b, c, d);
    }
    let row = params.y_first + tile * 32u + row_lane * 4u;
    for (var t = 0u; t < 4u; t++) {
        if rows[t] != NOBODY && tile < n_tiles {
            for (var j = 0u; j < 4u; j++) { y[rows[t] * params.y_stride + row + j] = sums[t][j]; }
        }
    }
}
