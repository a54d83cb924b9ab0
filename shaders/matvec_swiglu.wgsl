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
    let gate_block = min(tile, n_tiles - 1u) * params.n_blocks;
    let own = norm_begin(lane);
    let dots = pair_dots(lane, gate_block, gate_block + n_tiles * params.n_blocks, params.n_blocks);
    let scale = norm_scale(lane, own);
    let gate = tile_total(lane, dots[0]) * scale;
    let up = tile_total(lane, dots[1]) * scale;
    if (lane / 8u) % K_SPLIT == 0u && tile < n_tiles {
        let value = gate / (1.0 + exp(-gate)) * up;
        for (var j = 0u; j < 4u; j++) { h[tile * 32u + lane % 8u * 4u + j] = value[j]; }
    }
}
