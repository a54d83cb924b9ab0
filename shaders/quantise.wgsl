// Blocks of 32 activations as signed bytes: code = round(x / scale), scale = max|x| / 127, and scale * (sum of codes).
// One lane per block; one workgroup per 64 of them and token.
struct Params { n_blocks: u32 }

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> step: array<u32>;                  // n_tokens, ...
@group(0) @binding(2) var<storage, read> x: array<vec4<f32>>;               // (tokens, n_blocks * 32)
@group(0) @binding(3) var<storage, read_write> packed: array<vec4<u32>>;    // (tokens, n_blocks, 12): codes, scale, sum, 0, 0

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x >= params.n_blocks || id.y >= step[0] { return; }
    let block = id.y * params.n_blocks + id.x;
    var largest = vec4<f32>(0.0);
    for (var i = 0u; i < 8u; i++) { largest = max(largest, abs(x[block * 8u + i])); }
    let scale = max(max(largest.x, largest.y), max(largest.z, largest.w)) / 127.0;
    let inverse = select(1.0 / scale, 0.0, scale == 0.0);
    var codes = array<u32, 8>();
    var sum = 0;
    for (var i = 0u; i < 8u; i++) {
        codes[i] = pack4xI8(vec4<i32>(round(x[block * 8u + i] * inverse)));
        sum += dot4I8Packed(codes[i], 0x01010101u);
    }
    packed[block * 3u] = vec4<u32>(codes[0], codes[1], codes[2], codes[3]);
    packed[block * 3u + 1u] = vec4<u32>(codes[4], codes[5], codes[6], codes[7]);
    packed[block * 3u + 2u] = vec4<u32>(bitcast<u32>(scale), bitcast<u32>(scale * f32(sum)), 0u, 0u);
}
