// y[t, y_first + r] (+)= sum_k weight[r, k] * x[t, k], for a batch of tokens whose activations `quantise` has packed.
// Products of bytes add up exactly; only blocks' sums are floats. One workgroup per 64 rows and 64 tokens: codes of two
// blocks at a time are staged in workgroup memory, and each lane sums eight rows for 4 * TOKEN_QUADS tokens from there.
struct Params { n_rows: u32, n_blocks: u32, y_first: u32, y_stride: u32, accumulate: u32 }

const LANES = 128u / TOKEN_QUADS;
// Lanes with the same rows, or tokens, to stage, and the quads of two blocks that each of them stages.
const PARTS = LANES / 16u;
const PART_QUADS = 16u / PARTS;
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> step: array<u32>;              // n_tokens, ...
@group(0) @binding(2) var<storage, read> packed: array<vec4<u32>>;      // (tokens, n_blocks, 12): codes, scale, sum, 0, 0
@group(0) @binding(3) var<storage, read_write> y: array<f32>;           // (tokens, y_stride)
var<workgroup> staged_w: array<vec4<u32>, 256>;         // (16 quads of columns, 16 quads of rows)
var<workgroup> staged_x: array<vec4<u32>, 256>;         // (16 quads of columns, 16 quads of tokens)
var<workgroup> staged_scales: array<vec4<f32>, 64>;     // (2 blocks, (scale, minimum), 16 quads of rows)
var<workgroup> staged_sums: array<vec4<f32>, 64>;       // (2 blocks, (scale, sum), 16 quads of tokens)

// Sums of a lane's four tokens with four rows of one block.
struct Whole { a: vec4<i32>, b: vec4<i32>, c: vec4<i32>, d: vec4<i32> }

fn dots(w: vec4<u32>, x: u32) -> vec4<i32> {
    return vec4<i32>(dot4I8Packed(w.x, x), dot4I8Packed(w.y, x), dot4I8Packed(w.z, x), dot4I8Packed(w.w, x));
}

fn add_dots(s: Whole, w: vec4<u32>, x: vec4<u32>) -> Whole {
    return Whole(s.a + dots(w, x.x), s.b + dots(w, x.y), s.c + dots(w, x.z), s.d + dots(w, x.w));
}

// The products of `block` with four rows and four tokens, one matrix column per token.
fn block_products(block: u32, rows: u32, tokens: u32) -> mat4x4<f32> {
    var s = Whole();
    for (var quad = block * 8u; quad < block * 8u + 8u; quad++) {
        s = add_dots(s, staged_w[quad * 16u + rows], staged_x[quad * 16u + tokens]);
    }
    let scale = staged_scales[block * 32u + rows];
    let x_scale = staged_sums[block * 32u + tokens];
    var sums = mat4x4<f32>(vec4<f32>(s.a) * scale * x_scale.x, vec4<f32>(s.b) * scale * x_scale.y,
        vec4<f32>(s.c) * scale * x_scale.z, vec4<f32>(s.d) * scale * x_scale.w);
    if WEIGHT_HAS_MIN {
        let low = staged_scales[block * 32u + 16u + rows];
        let x_sum = staged_sums[block * 32u + 16u + tokens];
        sums += mat4x4<f32>(low * x_sum.x, low * x_sum.y, low * x_sum.z, low * x_sum.w);
    }
    return sums;
}

// Stages the lane's share of block `block` as the tile's block `b`. One past the matrix's end counts for nothing.
fn stage(lane: u32, b: u32, block: u32, first_block: u32, places: vec4<u32>) {
    let own = lane % 16u;
    let inside = block < params.n_blocks;
    let at = min(block, params.n_blocks - 1u);
    let w = weight_load(first_block + at, own % 8u);
    let rows = (places + at) * 3u;
    for (var i = 0u; i < PART_QUADS / 2u; i++) {
        let quad = lane / 16u * (PART_QUADS / 2u) + i;
        staged_w[(b * 8u + quad) * 16u + own] = weight_bytes(w, quad);
        let unit = quad / 4u;
        staged_x[(b * 8u + quad) * 16u + own] = vec4<u32>(packed[rows.x + unit][quad % 4u],
            packed[rows.y + unit][quad % 4u], packed[rows.z + unit][quad % 4u], packed[rows.w + unit][quad % 4u]);
    }
    if lane < 16u {
        staged_scales[b * 32u + own] = select(vec4<f32>(0.0), weight_scale(w), inside);
        if WEIGHT_HAS_MIN { staged_scales[b * 32u + 16u + own] = select(vec4<f32>(0.0), weight_min(w), inside); }
        let x = mat4x4<f32>(bitcast<vec4<f32>>(packed[rows.x + 2u]), bitcast<vec4<f32>>(packed[rows.y + 2u]),
            bitcast<vec4<f32>>(packed[rows.z + 2u]), bitcast<vec4<f32>>(packed[rows.w + 2u]));
        let by_token = transpose(x);
        staged_sums[b * 32u + own] = by_token[0];
        staged_sums[b * 32u + 16u + own] = by_token[1];
    }
}

// Four rows of four tokens.
fn store(row: u32, token: u32, sums: mat4x4<f32>) {
    var results = sums;
    for (var t = 0u; t < 4u; t++) {
        for (var j = 0u; j < 4u; j++) {
            if token + t < step[0] && row + j < params.n_rows {
                let at = (token + t) * params.y_stride + params.y_first + row + j;
                y[at] = select(0.0, y[at], params.accumulate == 1u) + results[t][j];
            }
        }
    }
}

@compute @workgroup_size(LANES)
fn main(@builtin(local_invocation_index) lane: u32, @builtin(workgroup_id) group: vec3<u32>) {
    let n_tiles = (params.n_rows + 31u) / 32u;
    let first_block = min(group.x * 2u + lane % 16u / 8u, n_tiles - 1u) * params.n_blocks;
    // Tokens past the batch are read as the last and their results dropped.
    let staged = vec4<u32>(0u, 1u, 2u, 3u) + (group.y * 64u + lane % 16u * 4u);
    let places = min(staged, vec4<u32>(step[0] - 1u)) * params.n_blocks;
    let rows = lane % 8u;
    let tokens = lane / 8u;
    var near_low = mat4x4<f32>();
    var near_high = mat4x4<f32>();
    var far_low = mat4x4<f32>();
    var far_high = mat4x4<f32>();
    for (var block = 0u; block < params.n_blocks; block += 2u) {
        workgroupBarrier(); // the blocks before have been used
        stage(lane, 0u, block, first_block, places);
        stage(lane, 1u, block + 1u, first_block, places);
        workgroupBarrier();
        for (var b = 0u; b < 2u; b++) {
            near_low += block_products(b, rows, tokens);
            near_high += block_products(b, rows + 8u, tokens);
            if TOKEN_QUADS == 2u {
                far_low += block_products(b, rows, tokens + 8u);
                far_high += block_products(b, rows + 8u, tokens + 8u);
            }
        }
    }
    let row = group.x * 64u + rows * 4u;
    let token = group.y * 64u + tokens * 4u;
    store(row, token, near_low);
    store(row + 32u, token, near_high);
    if TOKEN_QUADS == 2u {
        store(row, token + 32u, far_low);
        store(row + 32u, token + 32u, far_high);
    }
}
