// y[t, y_first + r] (+)= sum_k weight[r, k] * x[t, k], for a batch of tokens. Weights and activations are rounded to f16,
// products are summed in f32 by cooperative matrices of SIDE x SIDE numbers, which a subgroup holds together.
// One workgroup per EDGE rows and EDGE tokens: blocks of 32 numbers are staged in workgroup memory one after the other,
// and each of four subgroups has a quarter of the sums, two matrices high and two wide.
struct Params { n_rows: u32, n_blocks: u32, y_first: u32, y_stride: u32, accumulate: u32 }

const EDGE = 4u * SIDE;
// Numbers from a staged row to the next: 32 and eight to spare, so that rows begin at different banks, yet at multiples
// of the 16 bytes that loads of matrices ask for.
const STRIDE = 40u;
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> step: array<u32>;         // n_tokens, ...
@group(0) @binding(2) var<storage, read> x: array<vec4<f32>>;      // (tokens, n_blocks * 32), padded with zeros
@group(0) @binding(3) var<storage, read_write> y: array<f32>;      // (tokens, y_stride)
var<workgroup> staged_w: array<f16, EDGE * STRIDE>;                // (EDGE rows, STRIDE)
var<workgroup> staged_x: array<f16, EDGE * STRIDE>;                // (EDGE tokens, STRIDE)
var<workgroup> results: array<f32, 4u * SIDE * SIDE>;              // (4 subgroups, SIDE tokens, SIDE rows)

// Numbers beyond f16 become its largest, since an infinity would spoil the whole sum.
fn rounded(v: vec4<f32>) -> vec4<f16> { return vec4<f16>(clamp(v, vec4<f32>(-65504.0), vec4<f32>(65504.0))); }

fn stage_w(lane: u32, first_tile: u32, block: u32) {
    let last_tile = (params.n_rows + 31u) / 32u - 1u;
    for (var i = lane; i < EDGE * 2u; i += LANES) {
        let row_quad = i % SIDE;
        let quad = i / SIDE;
        // Rows past the matrix's end are read as the last tile's and their results dropped.
        let tile = min(first_tile + row_quad / 8u, last_tile);
        let w = weight_load(tile * params.n_blocks + block, row_quad % 8u);
        var m = weight_numbers(w, quad, weight_scale(w), weight_min(w));
        for (var j = 0u; j < 4u; j++) {
            let numbers = rounded(m[j]);
            let at = (row_quad * 4u + j) * STRIDE + quad * 4u;
            for (var c = 0u; c < 4u; c++) { staged_w[at + c] = numbers[c]; }
        }
    }
}

fn stage_x(lane: u32, first_token: u32, block: u32) {
    for (var i = lane; i < EDGE * 8u; i += LANES) {
        // Tokens past the batch are read as the last and their results dropped.
        let token = min(first_token + i / 8u, step[0] - 1u);
        let numbers = rounded(x[(token * params.n_blocks + block) * 8u + i % 8u]);
        let at = i / 8u * STRIDE + i % 8u * 4u;
        for (var c = 0u; c < 4u; c++) { staged_x[at + c] = numbers[c]; }
    }
}

// Writes what each subgroup has left in `results`, of which the first number is for `token` and `row` of the first.
fn store(lane: u32, first_token: u32, first_row: u32) {
    for (var i = lane; i < 4u * SIDE * SIDE; i += LANES) {
        let quarter = i / (SIDE * SIDE);
        let token = first_token + quarter / 2u * 2u * SIDE + i / SIDE % SIDE;
        let row = first_row + quarter % 2u * 2u * SIDE + i % SIDE;
        if token < step[0] && row < params.n_rows {
            let at = token * params.y_stride + params.y_first + row;
            y[at] = select(0.0, y[at], params.accumulate == 1u) + results[i];
        }
    }
}

// A branch on the subgroup's number is uniform in every subgroup, which is what cooperative matrices ask for; naga
// knows only branches that are uniform in the workgroup, and is told so under the one name that it has for all of them.
@diagnostic(off, derivative_uniformity)
@compute @workgroup_size(LANES)
fn main(@builtin(local_invocation_index) lane: u32, @builtin(subgroup_id) subgroup: u32,
        @builtin(workgroup_id) group: vec3<u32>) {
    // LANES are four of the widest subgroups; where they are narrower, those past the fourth only stage.
    let sums = subgroup < 4u;
    let own = subgroup % 4u;
    let own_x = own / 2u * 2u * SIDE * STRIDE;
    let own_w = own % 2u * 2u * SIDE * STRIDE;
    let own_results = own * SIDE * SIDE;
    let token = group.y * EDGE;
    let row = group.x * EDGE;
    for (var i = lane; i < 4u * SIDE * SIDE; i += LANES) { results[i] = 0.0; }
    workgroupBarrier();
    var near_low = coopLoadT<Sums>(&results[own_results], SIDE);
    var near_high = near_low;
    var far_low = near_low;
    var far_high = near_low;
    for (var block = 0u; block < params.n_blocks; block++) {
        workgroupBarrier(); // the block before has been used
        stage_w(lane, row / 32u, block);
        stage_x(lane, token, block);
        workgroupBarrier();
        if sums {
            for (var k = 0u; k < 32u; k += SIDE) {
                let near = coopLoadT<Tokens>(&staged_x[own_x + k], STRIDE);
                let far = coopLoadT<Tokens>(&staged_x[own_x + SIDE * STRIDE + k], STRIDE);
                let low = coopLoad<Rows>(&staged_w[own_w + k], STRIDE);
                let high = coopLoad<Rows>(&staged_w[own_w + SIDE * STRIDE + k], STRIDE);
                near_low = coopMultiplyAdd(near, low, near_low);
                near_high = coopMultiplyAdd(near, high, near_high);
                far_low = coopMultiplyAdd(far, low, far_low);
                far_high = coopMultiplyAdd(far, high, far_high);
            }
        }
    }
    if sums { coopStoreT(near_low, &results[own_results], SIDE); }
    workgroupBarrier();
    store(lane, token, row);
    workgroupBarrier();
    if sums { coopStoreT(near_high, &results[own_results], SIDE); }
    workgroupBarrier();
    store(lane, token, row + SIDE);
    workgroupBarrier();
    if sums { coopStoreT(far_low, &results[own_results], SIDE); }
    workgroupBarrier();
    store(lane, token + SIDE, row);
    workgroupBarrier();
    if sums { coopStoreT(far_high, &results[own_results], SIDE); }
    workgroupBarrier();
    store(lane, token + SIDE, row + SIDE);
}
