// y[l] = the sum of what lane l reads from a table in workgroup memory, 16 bytes at a time.
// One workgroup per 256 lanes; in each step a lane reads four entries, and neighbours read neighbours.
struct Params { n_steps: u32, stride: u32 }

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;  // (256)
@group(0) @binding(2) var<storage, read_write> y: array<f32>;  // a number per lane
var<workgroup> table: array<vec4<f32>, 256>;

@compute @workgroup_size(256)
fn main(@builtin(local_invocation_index) lane: u32, @builtin(workgroup_id) group: vec3<u32>) {
    table[lane] = x[lane];
    workgroupBarrier();
    var at = lane;
    var sum = vec4<f32>(0.0);
    for (var step = 0u; step < params.n_steps; step++) {
        sum += (table[at & 255u] + table[(at + 8u) & 255u]) + (table[(at + 16u) & 255u] + table[(at + 24u) & 255u]);
        at += params.stride;
    }
    y[group.x * 256u + lane] = sum.x + sum.y + sum.z + sum.w;
}
