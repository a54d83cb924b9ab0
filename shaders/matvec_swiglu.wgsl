// h[r] = silu(gate) * up, gate = sum_k weight[r, k] * x[k] / rms, up the same of row n_rows + r, for one token; the
// division by rms as in `matvec_norm`.
// One workgroup per TILES tiles of 32 rows of the gate and as many of up, which share every x; lanes as in
// lib/tile_dots.wgsl.
struct Params { n_rows: u32, n_blocks: u32, n_squares: u32, dim: u32, eps: f32 } // n_rows: a multiple of 32

const SIZE = 8u * K_SPLIT * TILES;
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;      // (n_blocks * 32), padded with zeros
@group(0) @binding(2) var<storage, read> squares: array<f32>;      // (n_squares)
@group(0) @binding(3) var<storage, read_write> h: array<f32>;      // (n_rows)

@compute @workgroup_size(SIZE)
fn main(@builtin(local_invocation_index) lane: u32, @builtin(workgroup_id) group: vec3<u32>) {
    let n_tiles = params.n_rows / 32u;
    let tile = group.x * TILES + lane / (8u * K_SPLIT);
    let row_lane = lane % 8u;
    let split = (lane / 8u) % K_SPLIT;
    let gate_block = min(tile, n_tiles - 1u) * params.n_blocks;
    let up_block = gate_block + n_tiles * params.n_blocks;
    let own = norm_begin(lane);
    var gate_share = vec4<f32>(0.0);
    var up_share = vec4<f32>(0.0);
    // Uniform bounds, as in tile_dots.
    for (var i = 0u; i < params.n_blocks; i += K_SPLIT) {
        let block = min(i + split, params.n_blocks - 1u);
        let a = x_load(block * 8u, row_lane);
        let gate_dots = products_one(weight_load(gate_block + block, row_lane), a);
        let up_dots = products_one(weight_load(up_block + block, row_lane), a);
        let inside = i + split < params.n_blocks;
        gate_share += select(vec4<f32>(0.0), gate_dots, inside);
        up_share += select(vec4<f32>(0.0), up_dots, inside);
    }
    let scale = norm_scale(lane, own);
    let gate = tile_total(lane, gate_share) * scale;
    let up = tile_total(lane, up_share) * scale;
    if split == 0u && tile < n_tiles {
        let value = gate / (1.0 + exp(-gate)) * up;
        for (var j = 0u; j < 4u; j++) { h[tile * 32u + row_lane * 4u + j] = value[j]; }
    }
}
