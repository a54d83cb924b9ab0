// The points of `probe_f32`, turned in f16: u += a v and then v -= a u, multiply-adds and nothing else.
// One workgroup per 256 lanes; a lane turns two points of four numbers, 32 operations a step.
struct Params { n_steps: u32, a: f32 } // n_steps is a multiple of 8

struct Points { u0: vec4<f16>, u1: vec4<f16>, v0: vec4<f16>, v1: vec4<f16> }

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;  // (256)
@group(0) @binding(2) var<storage, read_write> y: array<f32>;  // a number per lane

fn turn(p: Points, a: vec4<f16>) -> Points {
    let u0 = fma(a, p.v0, p.u0);
    let u1 = fma(a, p.v1, p.u1);
    return Points(u0, u1, fma(-a, u0, p.v0), fma(-a, u1, p.v1));
}

@compute @workgroup_size(256)
fn main(@builtin(local_invocation_index) lane: u32, @builtin(workgroup_id) group: vec3<u32>) {
    let a = vec4<f16>(f16(params.a));
    let start = vec4<f16>(x[lane]);
    var p = Points(start, start * 2.0h, vec4<f16>(0.0h), vec4<f16>(0.0h));
    for (var step = 0u; step < params.n_steps; step += 8u) {
        p = turn(turn(turn(turn(p, a), a), a), a);
        p = turn(turn(turn(turn(p, a), a), a), a);
    }
    let sum = vec4<f32>((p.u0 + p.u1) + (p.v0 + p.v1));
    y[group.x * 256u + lane] = sum.x + sum.y + sum.z + sum.w;
}
