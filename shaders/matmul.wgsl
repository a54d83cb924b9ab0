// y[t, y_first + r] (+)= sum_k weight[r, k] * x[t, k], for a batch of tokens.
// One workgroup per TILES tiles of 32 rows and four tokens. Eight lanes own a tile, four rows each; a lane decodes a
// block of weights once for its four tokens.
struct Params { n_rows: u32, n_blocks: u32, y_first: u32, y_stride: u32, accumulate: u32 }

const SIZE = 8u * TILES;
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> step: array<u32>;         // n_tokens, ...
@group(0) @binding(2) var<storage, read> x: array<vec4<f32>>;      // (tokens, n_blocks * 32), padded with zeros
@group(0) @binding(3) var<storage, read_write> y: array<f32>;      // (tokens, y_stride)

// Four tokens' products with four columns of four rows.
fn products(w: mat4x4<f32>, a: vec4<f32>, b: vec4<f32>, c: vec4<f32>, d: vec4<f32>) -> mat4x4<f32> {
    return mat4x4<f32>(a * w, b * w, c * w, d * w);
}

fn sum_of(a: XBlock) -> f32 {
    return dot(a.q0 + a.q1 + a.q2 + a.q3 + a.q4 + a.q5 + a.q6 + a.q7, vec4<f32>(1.0));
}

@compute @workgroup_size(SIZE)
fn main(@builtin(local_invocation_index) lane: u32, @builtin(workgroup_id) group: vec3<u32>) {
    let n_tiles = (params.n_rows + 31u) / 32u;
    let tile = group.x * TILES + lane / 8u;
    let row_lane = lane % 8u;
    let first_block = min(tile, n_tiles - 1u) * params.n_blocks;
    let token = group.y * 4u;
    // Rows of x past the batch are read as the last token's and their results dropped.
    let last = step[0] - 1u;
    let stride = params.n_blocks * 8u;
    let x0 = min(token, last) * stride;
    let x1 = min(token + 1u, last) * stride;
    let x2 = min(token + 2u, last) * stride;
    let x3 = min(token + 3u, last) * stride;
    var sums = mat4x4<f32>();
    for (var block = 0u; block < params.n_blocks; block++) {
        let w = weight_load(first_block + block, row_lane);
        let a = x_load(x0 + block * 8u, row_lane);
        let b = x_load(x1 + block * 8u, row_lane);
        let c = x_load(x2 + block * 8u, row_lane);
        let d = x_load(x3 + block * 8u, row_lane);
        var dots = products(weight_quad(w, 0u), a.q0, b.q0, c.q0, d.q0);
        dots += products(weight_quad(w, 1u), a.q1, b.q1, c.q1, d.q1);
        dots += products(weight_quad(w, 2u), a.q2, b.q2, c.q2, d.q2);
        dots += products(weight_quad(w, 3u), a.q3, b.q3, c.q3, d.q3);
        dots += products(weight_quad(w, 4u), a.q4, b.q4, c.q4, d.q4);
        dots += products(weight_quad(w, 5u), a.q5, b.q5, c.q5, d.q5);
        dots += products(weight_quad(w, 6u), a.q6, b.q6, c.q6, d.q6);
        dots += products(weight_quad(w, 7u), a.q7, b.q7, c.q7, d.q7);
        let scale = weight_scale(w);
        sums += mat4x4<f32>(dots[0] * scale, dots[1] * scale, dots[2] * scale, dots[3] * scale);
        if WEIGHT_HAS_MIN {
            let low = weight_min(w);
            sums += mat4x4<f32>(low * sum_of(a), low * sum_of(b), low * sum_of(c), low * sum_of(d));
        }
    }
    let row = tile * 32u + row_lane * 4u;
    for (var t = 0u; t < 4u; t++) {
        for (var j = 0u; j < 4u; j++) {
            if token + t <= last && tile < n_tiles && row + j < params.n_rows {
                let at = (token + t) * params.y_stride + params.y_first + row + j;
                y[at] = select(0.0, y[at], params.accumulate == 1u) + sums[t][j];
            }
        }
    }
}
