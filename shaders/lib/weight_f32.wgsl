// f32: four weights of a row in 16 bytes, no scales.
// A lane owns rows 4 * lane .. 4 * lane + 3 of a tile; `block` counts blocks of the whole matrix, tile by tile.
@group(1) @binding(0) var<storage, read> weight_quants: array<vec4<u32>>; // (tile, block, 8 units, 32 slots)

const WEIGHT_HAS_MIN = false;
struct WeightBlock { slot: u32 }

fn weight_load(block: u32, lane: u32) -> WeightBlock { return WeightBlock(block * 256u + lane); }

// Weights of columns 4 * quad .. 4 * quad + 3, one matrix column per row of the lane.
fn weight_quad(w: WeightBlock, quad: u32) -> mat4x4<f32> {
    let slot = w.slot + quad * 32u;
    return mat4x4<f32>(bitcast<vec4<f32>>(weight_quants[slot]), bitcast<vec4<f32>>(weight_quants[slot + 8u]),
        bitcast<vec4<f32>>(weight_quants[slot + 16u]), bitcast<vec4<f32>>(weight_quants[slot + 24u]));
}

fn weight_scale(w: WeightBlock) -> vec4<f32> { return vec4<f32>(1.0); }

fn weight_min(w: WeightBlock) -> vec4<f32> { return vec4<f32>(0.0); }
