// y[i] = x[i], 16 bytes at a time: what moving memory costs a device at best.
// One workgroup per 256 * per_lane consecutive units; neighbouring lanes take neighbouring units.
struct Params { n: u32, per_lane: u32 }

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<u32>>;            // (n)
@group(0) @binding(2) var<storage, read_write> words: array<vec4<u32>>;  // (n)

@compute @workgroup_size(256)
fn main(@builtin(local_invocation_index) lane: u32, @builtin(workgroup_id) group: vec3<u32>) {
    let first = group.x * 256u * params.per_lane + lane;
    for (var i = 0u; i < params.per_lane; i++) {
        let at = first + i * 256u;
        if at < params.n { words[at] = x[at]; }
    }
}
