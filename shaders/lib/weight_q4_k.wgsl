// q4_k: w = d * scale * code - dmin * min. Planes: 16 bytes of codes per row and block; per row and eight blocks the
// f16 d and dmin and 6-bit scales and minima (lib/k_scales.wgsl).
// A lane owns rows 4 * lane .. 4 * lane + 3 of a tile; `block` counts blocks of the whole matrix, tile by tile.
@group(1) @binding(0) var<storage, read> weight_quants: array<vec4<u32>>; // (tile, block, 32 slots)

const WEIGHT_ZERO = 0.0; // of the codes, see lib/codes_4.wgsl
const WEIGHT_HAS_MIN = true;
struct WeightBlock { row0: vec4<u32>, row1: vec4<u32>, row2: vec4<u32>, row3: vec4<u32>, scales: KScales }

fn weight_load(block: u32, lane: u32) -> WeightBlock {
    let slot = block * 32u + lane;
    return WeightBlock(weight_quants[slot], weight_quants[slot + 8u], weight_quants[slot + 16u],
        weight_quants[slot + 24u], k_scales_load(block, lane));
}

fn weight_scale(w: WeightBlock) -> vec4<f32> { return k_scale(w.scales); }

fn weight_min(w: WeightBlock) -> vec4<f32> { return k_min(w.scales); }
