// q5_1: w = scale * code + min. Planes: 16 bytes of low nibbles and 4 of high bits per row and block, an f16 scale and
// an f16 min.
// A lane owns rows 4 * lane .. 4 * lane + 3 of a tile; `block` counts blocks of the whole matrix, tile by tile.
@group(1) @binding(0) var<storage, read> weight_quants: array<vec4<u32>>; // (tile, block, 32 slots + 8 lanes)
@group(1) @binding(1) var<storage, read> weight_scales: array<vec4<u32>>; // (tile, block, 8 lanes), (scale, min) each

const WEIGHT_HAS_MIN = true;
struct WeightBlock { row0: vec4<u32>, row1: vec4<u32>, row2: vec4<u32>, row3: vec4<u32>, high: vec4<u32>, scales: vec4<u32> }

fn weight_load(block: u32, lane: u32) -> WeightBlock {
    let slot = block * 40u + lane;
    return WeightBlock(weight_quants[slot], weight_quants[slot + 8u], weight_quants[slot + 16u],
        weight_quants[slot + 24u], weight_quants[slot + 32u], weight_scales[block * 8u + lane]);
}

// Codes of four columns: byte j of a row holds column j below and column j + 16 above; a byte of the high bits, one
// bit of every fourth column.
fn weight_codes(row: vec4<u32>, high: u32, quad: u32) -> vec4<f32> {
    let low = (row[quad & 3u] >> ((quad >> 2u) * 4u)) & 0x0f0f0f0fu;
    return vec4<f32>(unpack4xU8(low | (((high >> quad) & 0x01010101u) << 4u)));
}

// Unscaled weights of columns 4 * quad .. 4 * quad + 3, one matrix column per row of the lane.
fn weight_quad(w: WeightBlock, quad: u32) -> mat4x4<f32> {
    return mat4x4<f32>(weight_codes(w.row0, w.high.x, quad), weight_codes(w.row1, w.high.y, quad),
        weight_codes(w.row2, w.high.z, quad), weight_codes(w.row3, w.high.w, quad));
}

fn weight_scale(w: WeightBlock) -> vec4<f32> {
    return vec4<f32>(halves(w.scales.x).x, halves(w.scales.y).x, halves(w.scales.z).x, halves(w.scales.w).x);
}

fn weight_min(w: WeightBlock) -> vec4<f32> {
    return vec4<f32>(halves(w.scales.x).y, halves(w.scales.y).y, halves(w.scales.z).y, halves(w.scales.w).y);
}
