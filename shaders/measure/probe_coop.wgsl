// Products of cooperative matrices of f16, added up in f32, and nothing else: y = n_steps * 4 * sum_pq A[p] B[q], with A[0],
// A[1], B[0] and B[1] the first matrices in x, rounded to f16.
// One workgroup of LANES lanes, four of whose subgroups, all of them counted, each add four products a step to four
// matrices, two of A with two of B, as `matmul_coop` does.
struct Params { n_steps: u32, side: u32 } // side: SIDE

const NUMBERS = SIDE * SIDE;
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;  // (256), of which (4, SIDE, SIDE) numbers are used
@group(0) @binding(2) var<storage, read_write> y: array<f32>;  // (256) per workgroup: (SIDE, SIDE), over and over
var<workgroup> staged: array<f16, 4u * NUMBERS>;
var<workgroup> results: array<f32, 4u * NUMBERS>;              // (4 subgroups, SIDE, SIDE)

fn collect(lane: u32, group: u32, first: bool) {
    for (var i = lane; i < 256u; i += LANES) {
        let at = group * 256u + i;
        let n = i % NUMBERS;
        let sum = results[n] + results[n + NUMBERS] + results[n + 2u * NUMBERS] + results[n + 3u * NUMBERS];
        y[at] = select(y[at], 0.0, first) + sum;
    }
}

// As in `matmul_coop`: the branches are uniform in every subgroup.
@diagnostic(off, derivative_uniformity)
@compute @workgroup_size(LANES)
fn main(@builtin(local_invocation_index) lane: u32, @builtin(subgroup_id) subgroup: u32,
        @builtin(workgroup_id) group: vec3<u32>) {
    let sums = subgroup < 4u;
    let own = subgroup % 4u * NUMBERS;
    for (var i = lane; i < 4u * NUMBERS; i += LANES) {
        staged[i] = f16(x[i / 4u][i % 4u]);
        results[i] = 0.0;
    }
    workgroupBarrier();
    let near = coopLoadT<Tokens>(&staged[0], SIDE);
    let far = coopLoadT<Tokens>(&staged[NUMBERS], SIDE);
    let low = coopLoadT<Rows>(&staged[2u * NUMBERS], SIDE);
    let high = coopLoadT<Rows>(&staged[3u * NUMBERS], SIDE);
    var near_low = coopLoadT<Sums>(&results[own], SIDE);
    var near_high = near_low;
    var far_low = near_low;
    var far_high = near_low;
    workgroupBarrier(); // everybody has the zeros
    if sums {
        for (var step = 0u; step < params.n_steps; step++) {
            near_low = coopMultiplyAdd(near, low, near_low);
            near_high = coopMultiplyAdd(near, high, near_high);
            far_low = coopMultiplyAdd(far, low, far_low);
            far_high = coopMultiplyAdd(far, high, far_high);
        }
        coopStoreT(near_low, &results[own], SIDE);
    }
    workgroupBarrier();
    collect(lane, group.x, true);
    workgroupBarrier();
    if sums { coopStoreT(near_high, &results[own], SIDE); }
    workgroupBarrier();
    collect(lane, group.x, false);
    workgroupBarrier();
    if sums { coopStoreT(far_low, &results[own], SIDE); }
    workgroupBarrier();
    collect(lane, group.x, false);
    workgroupBarrier();
    if sums { coopStoreT(far_high, &results[own], SIDE); }
    workgroupBarrier();
    collect(lane, group.x, false);
}
