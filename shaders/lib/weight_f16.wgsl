// f16: eight weights of a row in 16 bytes, no scales.
// A lane owns rows 4 * lane .. 4 * lane + 3 of a tile; `block` counts blocks of the whole matrix, tile by tile.
@group(1) @binding(0) var<storage, read> weight_quants: array<vec4<u32>>; // (tile, block, 4 units, 32 slots)

const WEIGHT_HAS_MIN = false;
struct WeightBlock { slot: u32 }

fn weight_load(block: u32, lane: u32) -> WeightBlock { return WeightBlock(block * 128u + lane); }

fn weight_floats(slot: u32, quad: u32) -> vec4<f32> {
    let unit = weight_quants[slot + (quad >> 1u) * 32u];
    let pair = select(unit.xy, unit.zw, (quad & 1u) == 1u);
    return vec4<f32>(unpack2x16float(pair.x), unpack2x16float(pair.y));
}

// Weights of columns 4 * quad .. 4 * quad + 3, one matrix column per row of the lane.
fn weight_quad(w: WeightBlock, quad: u32) -> mat4x4<f32> {
    return mat4x4<f32>(weight_floats(w.slot, quad), weight_floats(w.slot + 8u, quad),
        weight_floats(w.slot + 16u, quad), weight_floats(w.slot + 24u, quad));
}

fn weight_scale(w: WeightBlock) -> vec4<f32> { return vec4<f32>(1.0); }

fn weight_min(w: WeightBlock) -> vec4<f32> { return vec4<f32>(0.0); }
