// words[w] = the sum of the words that lane w reads, 16 bytes at a time: what reading costs when next to nothing is
// written. More lanes than x has units for begin again at its first: a size that fits a cache is read from that cache.
// One workgroup per 256 * per_lane consecutive units; neighbouring lanes take neighbouring units.
struct Params {
    n_lanes: u32,
    n: u32,        // units of x, a power of two
    per_lane: u32, // a multiple of 4
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<u32>>;      // (n)
@group(0) @binding(2) var<storage, read_write> words: array<u32>;  // (n_lanes)

@compute @workgroup_size(256)
fn main(@builtin(local_invocation_index) lane: u32, @builtin(workgroup_id) group: vec3<u32>) {
    let mask = params.n - 1u;
    let first = group.x * 256u * params.per_lane + lane;
    var sum = vec4<u32>(0u);
    for (var i = 0u; i < params.per_lane; i += 4u) {
        let at = first + i * 256u;
        // Four loads that wait for nothing of each other.
        let a = x[at & mask];
        let b = x[(at + 256u) & mask];
        let c = x[(at + 512u) & mask];
        let d = x[(at + 768u) & mask];
        sum += (a + b) + (c + d);
    }
    let own = group.x * 256u + lane;
    if own < params.n_lanes { words[own] = sum.x + sum.y + sum.z + sum.w; }
}
