// q4_g128: w = scale * (code - 8). Planes: 16 bytes of codes per row and block, one f16 scale per row and four blocks.
// A lane owns rows 4 * lane .. 4 * lane + 3 of a tile; `block` counts blocks of the whole matrix, tile by tile.
@group(1) @binding(0) var<storage, read> weight_quants: array<vec4<u32>>; // (tile, block, 32 slots)
@group(1) @binding(1) var<storage, read> weight_scales: array<vec2<u32>>; // (tile, four blocks, 8 lanes), four f16 each

const WEIGHT_ZERO = 8.0; // of the codes, see lib/codes_4.wgsl
const WEIGHT_HAS_MIN = false;
struct WeightBlock { row0: vec4<u32>, row1: vec4<u32>, row2: vec4<u32>, row3: vec4<u32>, scales: vec2<u32> }

fn weight_load(block: u32, lane: u32) -> WeightBlock {
    let slot = block * 32u + lane;
    return WeightBlock(weight_quants[slot], weight_quants[slot + 8u], weight_quants[slot + 16u],
        weight_quants[slot + 24u], weight_scales[block / 4u * 8u + lane]);
}

fn weight_scale(w: WeightBlock) -> vec4<f32> { return vec4<f32>(halves(w.scales.x), halves(w.scales.y)); }

fn weight_min(w: WeightBlock) -> vec4<f32> { return vec4<f32>(0.0); }
