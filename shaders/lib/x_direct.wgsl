// 32 activations of one token, each lane loading all of them: GPUs serve one address to many lanes at once.
struct XBlock { q0: vec4<f32>, q1: vec4<f32>, q2: vec4<f32>, q3: vec4<f32>, q4: vec4<f32>, q5: vec4<f32>, q6: vec4<f32>, q7: vec4<f32> }

// `first` is the index in `x` of the block's first quad.
fn x_load(first: u32, lane: u32) -> XBlock {
    return XBlock(x[first], x[first + 1u], x[first + 2u], x[first + 3u], x[first + 4u], x[first + 5u], x[first + 6u],
        x[first + 7u]);
}
