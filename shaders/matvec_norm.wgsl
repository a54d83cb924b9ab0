// y[y_first + r] = bias[r] + sum_k weight[r, k] * x[k] / rms, for one token: the product with a normalised residual.
// RMSNorm divides all of its input by one number, so the product of what is only weighted is divided afterwards: x is
// the residual times the norm's weight, and `squares` adds up to the sum of the residual's squares.
// One workgroup per TILES tiles of 32 rows; lanes as in lib/tile_dots.wgsl.
struct Params { n_rows: u32, n_blocks: u32, y_first: u32, has_bias: u32, n_squares: u32, dim: u32, eps: f32 }

const SIZE = 8u * K_SPLIT * TILES;
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;      // (n_blocks * 32), padded with zeros
@group(0) @binding(2) var<storage, read> squares: array<f32>;      // (n_squares)
@group(0) @binding(3) var<storage, read> bias: array<f32>;         // (y_first + n_rows or more), or one zero
@group(0) @binding(4) var<storage, read_write> y: array<f32>;      // (y_first + n_rows or more)

@compute @workgroup_size(SIZE)
fn main(@builtin(local_invocation_index) lane: u32, @builtin(workgroup_id) group: vec3<u32>) {
    let n_tiles = (params.n_rows + 31u) / 32u;
    let tile = group.x * TILES + lane / (8u * K_SPLIT);
    let own = norm_begin(lane);
    let share = tile_dots(lane, min(tile, n_tiles - 1u) * params.n_blocks, 0u, params.n_blocks);
    let sum = tile_total(lane, share) * norm_scale(lane, own);
    if (lane / 8u) % K_SPLIT == 0u && tile < n_tiles {
        let row = tile * 32u + lane % 8u * 4u;
        for (var j = 0u; j < 4u; j++) {
            if row + j < params.n_rows {
                let at = params.y_first + row + j;
                y[at] = sum[j] + bias[at * params.has_bias];
            }
        }
    }
}
