// Four numbers of each of eight rows, a row loaded by each of eight lanes and handed round.
// Needs subgroups of exactly eight lanes in linear order, and a uniform call.
struct Eight { a: vec4<f32>, b: vec4<f32>, c: vec4<f32>, d: vec4<f32>, e: vec4<f32>, f: vec4<f32>, g: vec4<f32>, h: vec4<f32> }

// Quad `i` of rows 0 .. 7 of what the kernel calls `source`; `own` is where the row of the lane's number begins.
fn eight_quads(source: u32, own: u32, i: u32) -> Eight {
    let quad = shared_quad(source, own + i);
    return Eight(subgroupBroadcast(quad, 0u), subgroupBroadcast(quad, 1u), subgroupBroadcast(quad, 2u),
        subgroupBroadcast(quad, 3u), subgroupBroadcast(quad, 4u), subgroupBroadcast(quad, 5u),
        subgroupBroadcast(quad, 6u), subgroupBroadcast(quad, 7u));
}
