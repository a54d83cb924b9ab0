// q6_k: w = d * scale * (code - 32). Planes: 16 bytes of low nibbles and 8 of high pairs per row and block; per row and
// eight blocks a signed byte of scale for each 16 weights, and an f16 d.
// A lane owns rows 4 * lane .. 4 * lane + 3 of a tile; `block` counts blocks of the whole matrix, tile by tile.
@group(1) @binding(0) var<storage, read> weight_quants: array<vec4<u32>>; // (tile, block, 32 slots + 2 x 8 lanes)
@group(1) @binding(1) var<storage, read> weight_scales: array<vec2<u32>>; // (tile, superblock, 8 blocks + d, 8 lanes)

const WEIGHT_HAS_MIN = false;
struct WeightBlock { row0: vec4<u32>, row1: vec4<u32>, row2: vec4<u32>, row3: vec4<u32>, high: array<vec4<u32>, 2>, scales: vec2<u32>, d: vec2<u32> }

fn weight_load(block: u32, lane: u32) -> WeightBlock {
    let slot = block * 48u + lane;
    let scales = block / 8u * 72u + lane;
    return WeightBlock(weight_quants[slot], weight_quants[slot + 8u], weight_quants[slot + 16u],
        weight_quants[slot + 24u], array<vec4<u32>, 2>(weight_quants[slot + 32u], weight_quants[slot + 40u]),
        weight_scales[scales + (block & 7u) * 8u], weight_scales[scales + 64u]);
}

// Codes of four columns: byte j of a row holds column j below and column j + 16 above; a byte of the high bits, two
// bits of every fourth column.
fn weight_codes(row: vec4<u32>, high: u32, quad: u32) -> vec4<f32> {
    let low = (row[quad & 3u] >> ((quad >> 2u) * 4u)) & 0x0f0f0f0fu;
    return vec4<f32>(unpack4xU8(low | (((high >> ((quad & 3u) * 2u)) & 0x03030303u) << 4u))) - 32.0;
}

// Weights of columns 4 * quad .. 4 * quad + 3 as multiples of d, one matrix column per row of the lane.
fn weight_quad(w: WeightBlock, quad: u32) -> mat4x4<f32> {
    let half = quad >> 2u;
    var highs = w.high;
    let high = highs[half];
    let scale = vec4<f32>(unpack4xI8(w.scales[half]));
    return mat4x4<f32>(weight_codes(w.row0, high.x, quad) * scale.x, weight_codes(w.row1, high.y, quad) * scale.y,
        weight_codes(w.row2, high.z, quad) * scale.z, weight_codes(w.row3, high.w, quad) * scale.w);
}

fn weight_scale(w: WeightBlock) -> vec4<f32> { return vec4<f32>(halves(w.d.x), halves(w.d.y)); }

fn weight_min(w: WeightBlock) -> vec4<f32> { return vec4<f32>(0.0); }
