// q4_1: w = scale * code + min. Planes: 16 bytes of codes per row and block, an f16 scale and an f16 min.
// A lane owns rows 4 * lane .. 4 * lane + 3 of a tile; `block` counts blocks of the whole matrix, tile by tile.
@group(1) @binding(0) var<storage, read> weight_quants: array<vec4<u32>>; // (tile, block, 32 slots)
@group(1) @binding(1) var<storage, read> weight_scales: array<vec4<u32>>; // (tile, block, 8 lanes), (scale, min) each

const WEIGHT_ZERO = 0.0; // of the codes, see lib/codes_4.wgsl
const WEIGHT_HAS_MIN = true;
struct WeightBlock { row0: vec4<u32>, row1: vec4<u32>, row2: vec4<u32>, row3: vec4<u32>, scales: vec4<u32> }

fn weight_load(block: u32, lane: u32) -> WeightBlock {
    let slot = block * 32u + lane;
    return WeightBlock(weight_quants[slot], weight_quants[slot + 8u], weight_quants[slot + 16u],
        weight_quants[slot + 24u], weight_scales[block * 8u + lane]);
}

fn weight_scale(w: WeightBlock) -> vec4<f32> {
    return vec4<f32>(halves(w.scales.x).x, halves(w.scales.y).x, halves(w.scales.z).x, halves(w.scales.w).x);
}

fn weight_min(w: WeightBlock) -> vec4<f32> {
    return vec4<f32>(halves(w.scales.x).y, halves(w.scales.y).y, halves(w.scales.z).y, halves(w.scales.w).y);
}
