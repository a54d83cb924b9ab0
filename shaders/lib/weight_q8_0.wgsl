// q8_0: w = scale * code, codes signed bytes. Planes: 32 bytes of codes per row and block, one f16 scale.
// A lane owns rows 4 * lane .. 4 * lane + 3 of a tile; `block` counts blocks of the whole matrix, tile by tile.
@group(1) @binding(0) var<storage, read> weight_quants: array<vec4<u32>>; // (tile, block, 2 units, 32 slots)
@group(1) @binding(1) var<storage, read> weight_scales: array<vec2<u32>>; // (tile, block, 8 lanes), four f16 each

const WEIGHT_HAS_MIN = false;
struct WeightBlock { slot: u32, scales: vec2<u32> }

// Codes are loaded quad by quad: eight registers of 16 bytes would be many for the rest of a kernel.
fn weight_load(block: u32, lane: u32) -> WeightBlock {
    return WeightBlock(block * 64u + lane, weight_scales[block * 8u + lane]);
}

fn weight_codes(slot: u32, quad: u32) -> vec4<f32> {
    return vec4<f32>(unpack4xI8(weight_quants[slot + (quad >> 2u) * 32u][quad & 3u]));
}

// The same codes as signed bytes, one word per row of the lane.
fn weight_bytes(w: WeightBlock, quad: u32) -> vec4<u32> {
    let slot = w.slot + (quad >> 2u) * 32u;
    let i = quad & 3u;
    return vec4<u32>(weight_quants[slot][i], weight_quants[slot + 8u][i], weight_quants[slot + 16u][i],
        weight_quants[slot + 24u][i]);
}

// Unscaled weights of columns 4 * quad .. 4 * quad + 3, one matrix column per row of the lane.
fn weight_quad(w: WeightBlock, quad: u32) -> mat4x4<f32> {
    return mat4x4<f32>(weight_codes(w.slot, quad), weight_codes(w.slot + 8u, quad), weight_codes(w.slot + 16u, quad),
        weight_codes(w.slot + 24u, quad));
}

fn weight_scale(w: WeightBlock) -> vec4<f32> {
    return vec4<f32>(halves(w.scales.x), halves(w.scales.y));
}

fn weight_min(w: WeightBlock) -> vec4<f32> { return vec4<f32>(0.0); }
