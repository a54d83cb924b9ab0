// s += dot(s, b), s and b as four signed bytes: products of packed 8-bit numbers and nothing else. Each product needs the
// one before, so none can be left out.
// One workgroup per 256 lanes; a lane has eight such sums, 64 operations a step.
struct Params { n_steps: u32, b: u32 }

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<u32>>;      // (256)
@group(0) @binding(2) var<storage, read_write> words: array<u32>;  // a word per lane

fn next(s: vec4<u32>, b: u32) -> vec4<u32> {
    return s + bitcast<vec4<u32>>(vec4<i32>(
        dot4I8Packed(s.x, b), dot4I8Packed(s.y, b), dot4I8Packed(s.z, b), dot4I8Packed(s.w, b)));
}

@compute @workgroup_size(256)
fn main(@builtin(local_invocation_index) lane: u32, @builtin(workgroup_id) group: vec3<u32>) {
    var s = x[lane];
    var t = s ^ vec4<u32>(0x5a5a5a5au);
    for (var step = 0u; step < params.n_steps; step++) {
        s = next(s, params.b);
        t = next(t, params.b);
    }
    let sum = s ^ t;
    words[group.x * 256u + lane] = sum.x ^ sum.y ^ sum.z ^ sum.w;
}
