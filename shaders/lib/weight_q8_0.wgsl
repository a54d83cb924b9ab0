// q8_0: w = scale * code, codes signed bytes. Planes: 32 bytes of codes per row and block, one f16 scale.
// A lane owns rows 4 * lane .. 4 * lane + 3 of a tile; `block` counts blocks of the whole matrix, tile by tile.
@group(1) @binding(0) var<storage, read> weight_quants: array<vec4<u32>>; // (tile, block, 2 units, 32 slots)
@group(1) @binding(1) var<storage, read> weight_scales: array<vec2<u32>>; // (tile, block, 8 lanes), four f16 each

const WEIGHT_HAS_MIN = false;
// Columns 0 .. 15 and 16 .. 31 of each row. Loaded whole: drivers need not join loads of single words, and those for
// CPUs, which load lane by lane, take twice as long then.
struct WeightBlock { low0: vec4<u32>, low1: vec4<u32>, low2: vec4<u32>, low3: vec4<u32>, high0: vec4<u32>, high1: vec4<u32>, high2: vec4<u32>, high3: vec4<u32>, scales: vec2<u32> }

fn weight_load(block: u32, lane: u32) -> WeightBlock {
    let slot = block * 64u + lane;
    return WeightBlock(weight_quants[slot], weight_quants[slot + 8u], weight_quants[slot + 16u],
        weight_quants[slot + 24u], weight_quants[slot + 32u], weight_quants[slot + 40u], weight_quants[slot + 48u],
        weight_quants[slot + 56u], weight_scales[block * 8u + lane]);
}

// The codes as signed bytes, one word of four columns per row of the lane.
fn weight_bytes(w: WeightBlock, quad: u32) -> vec4<u32> {
    let i = quad & 3u;
    return select(vec4<u32>(w.low0[i], w.low1[i], w.low2[i], w.low3[i]),
        vec4<u32>(w.high0[i], w.high1[i], w.high2[i], w.high3[i]), quad >= 4u);
}

// Unscaled weights of columns 4 * quad .. 4 * quad + 3, one matrix column per row of the lane.
fn weight_quad(w: WeightBlock, quad: u32) -> mat4x4<f32> {
    let codes = weight_bytes(w, quad);
    return mat4x4<f32>(vec4<f32>(unpack4xI8(codes.x)), vec4<f32>(unpack4xI8(codes.y)), vec4<f32>(unpack4xI8(codes.z)),
        vec4<f32>(unpack4xI8(codes.w)));
}

fn weight_scale(w: WeightBlock) -> vec4<f32> {
    return vec4<f32>(halves(w.scales.x), halves(w.scales.y));
}

fn weight_min(w: WeightBlock) -> vec4<f32> { return vec4<f32>(0.0); }
