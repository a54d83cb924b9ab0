// h[s, r] = shares[s] * silu(gate) * up for the experts s that one token uses, gate and up the products of rows r and n_rows + r of
// expert ids[s] with the normalised residual, as in `matvec_swiglu`. A part holds experts first_expert ..
// first_expert + n_experts, and leaves others' rows alone.
// One workgroup per TILES tiles of 32 rows of the gate and as many of up, and used expert; lanes as in
// lib/tile_dots.wgsl.
struct Params {
    n_rows: u32, // of the gate, a multiple of 32
    n_blocks: u32,
    first_expert: u32,
    n_experts: u32,
    h_stride: u32,
    n_used: u32, // what the grid's y counts
    n_squares: u32,
    dim: u32,
    eps: f32,
}

const SIZE = 8u * K_SPLIT * TILES;
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> ids: array<u32>;          // (experts used by the token)
@group(0) @binding(2) var<storage, read> shares: array<f32>;       // (experts used by the token)
@group(0) @binding(3) var<storage, read> x: array<vec4<f32>>;      // (n_blocks * 32), padded with zeros
@group(0) @binding(4) var<storage, read> squares: array<f32>;      // (n_squares)
@group(0) @binding(5) var<storage, read_write> h: array<f32>;      // (experts used, h_stride)

@compute @workgroup_size(SIZE)
fn main(@builtin(local_invocation_index) lane: u32, @builtin(workgroup_id) group: vec3<u32>) {
    let expert = ids[group.y] - params.first_expert; // wraps round below first_expert
    if expert >= params.n_experts { return; } // the same for all lanes
    let n_tiles = params.n_rows / 32u;
    let tile = group.x * TILES + lane / (8u * K_SPLIT);
    let gate_block = (expert * 2u * n_tiles + min(tile, n_tiles - 1u)) * params.n_blocks;
    let own = norm_begin(lane);
    let dots = pair_dots(lane, gate_block, gate_block + n_tiles * params.n_blocks, params.n_blocks);
    let scale = norm_scale(lane, own);
    let gate = tile_total(lane, dots[0]) * scale;
    let up = tile_total(lane, dots[1]) * scale;
    if (lane / 8u) % K_SPLIT == 0u && tile < n_tiles {
        let value = shares[group.y] * gate / (1.0 + exp(-gate)) * up;
        let at = group.y * params.h_stride + tile * 32u + lane % 8u * 4u;
        for (var j = 0u; j < 4u; j++) { h[at + j] = value[j]; }
    }
}
