// Two f16 to f32, subnormals included: `unpack2x16float` may take them for zero, and the scales of q6_k often are.
fn halves(word: u32) -> vec2<f32> {
    let bits = vec2<u32>(word & 0xffffu, word >> 16u);
    let tiny = vec2<f32>(bits & vec2<u32>(0x3ffu)) * select(vec2<f32>(0x1p-24f), vec2<f32>(-0x1p-24f), bits >= vec2<u32>(0x8000u));
    return select(unpack2x16float(word), tiny, (bits & vec2<u32>(0x7c00u)) == vec2<u32>(0u));
}
