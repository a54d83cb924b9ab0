// y[a, y_first + r] = sum_k weight[e, r, k] * x[a / per_x, k] for the assignments a of tokens to experts e, 64 of one
// expert at a time as `expert_groups` lists them. A part holds experts first_expert .. first_expert + n_experts, and
// leaves others' rows alone.
// One workgroup per 64 rows and group of 64 assignments; what its lanes do is in lib/staged_product.wgsl.
struct Params {
    n_rows: u32, // of one expert, a multiple of 32
    n_blocks: u32,
    first_expert: u32,
    n_experts: u32,
    y_first: u32,
    y_stride: u32,
    per_x: u32, // assignments that share a row of x
}

const NOBODY = 0xffffffffu;
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> groups: array<u32>;       // (groups, 65): expert, 64 assignments
@group(0) @binding(2) var<storage, read> x: array<vec4<f32>>;      // (assignments / per_x, n_blocks * 32)
@group(0) @binding(3) var<storage, read_write> y: array<f32>;      // (assignments, y_stride)

// The first of a group is always somebody; where another is missing, its row is read in its place and dropped.
fn rows_of(first: u32, assignments: vec4<u32>) -> vec4<u32> {
    let somebody = select(assignments, vec4<u32>(first), assignments == vec4<u32>(NOBODY));
    return somebody / params.per_x * params.n_blocks * 8u;
}

fn assignments_at(at: vec4<u32>) -> vec4<u32> {
    return vec4<u32>(groups[at.x], groups[at.y], groups[at.z], groups[at.w]);
}

// Four rows of four assignments.
fn store(row: u32, assignments: vec4<u32>, sums: mat4x4<f32>) {
    var results = sums;
    for (var t = 0u; t < 4u; t++) {
        if assignments[t] != NOBODY && row < params.n_rows {
            let at = assignments[t] * params.y_stride + params.y_first + row;
            for (var j = 0u; j < 4u; j++) { y[at + j] = results[t][j]; }
        }
    }
}

@compute @workgroup_size(LANES)
fn main(@builtin(local_invocation_index) lane: u32, @builtin(workgroup_id) group: vec3<u32>) {
    let entry = group.y * 65u;
    let expert = groups[entry] - params.first_expert; // wraps round below first_expert
    if expert >= params.n_experts { return; } // the same for all lanes
    let n_tiles = params.n_rows / 32u;
    let tile = expert * n_tiles + min(group.x * 2u + lane % 16u / 8u, n_tiles - 1u);
    let first = groups[entry + 1u];
    let near = assignments_at(entry + 1u + tile_columns(lane, 0u));
    let far = assignments_at(entry + 1u + tile_columns(lane, 1u % TOKEN_QUADS));
    let t = tile_product(lane, tile * params.n_blocks, params.n_blocks, rows_of(first, near), rows_of(first, far));
    let row = group.x * 64u + lane % 8u * 4u;
    store(row, near, t.near_low);
    store(row + 32u, near, t.near_high);
    if TOKEN_QUADS == 2u {
        store(row, far, t.far_low);
        store(row + 32u, far, t.far_high);
    }
}
