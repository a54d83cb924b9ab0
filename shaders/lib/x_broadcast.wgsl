// 32 activations of one token, a quad loaded by each of eight lanes and handed round.
// Needs subgroups of exactly eight lanes in linear order, and a uniform call.
struct XBlock { q0: vec4<f32>, q1: vec4<f32>, q2: vec4<f32>, q3: vec4<f32>, q4: vec4<f32>, q5: vec4<f32>, q6: vec4<f32>, q7: vec4<f32> }

// `first` is the index in `x` of the block's first quad.
fn x_load(first: u32, lane: u32) -> XBlock {
    let own = x[first + lane];
    return XBlock(subgroupBroadcast(own, 0u), subgroupBroadcast(own, 1u), subgroupBroadcast(own, 2u),
        subgroupBroadcast(own, 3u), subgroupBroadcast(own, 4u), subgroupBroadcast(own, 5u),
        subgroupBroadcast(own, 6u), subgroupBroadcast(own, 7u));
}
