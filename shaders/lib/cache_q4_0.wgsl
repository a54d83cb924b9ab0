// The cache in q4_0: number = scale * (code - 8), an f16 scale for each 32 numbers of a head. A unit holds the codes of
// eight numbers, lowest bits first, or two scales; a row has the codes of all heads first, then their scales.
alias CacheUnit = u32;
const CACHE_SCALED = true;

// Units of a row of `n_heads` heads, first unit of a head's codes, and the unit of a head's quad `i`.
fn cache_row(n_heads: u32, head_dim: u32) -> u32 {
    return n_heads * ((head_dim + 7u) / 8u) + (n_heads * ((head_dim + 31u) / 32u) + 1u) / 2u;
}
fn cache_head(head: u32, head_dim: u32) -> u32 { return head * ((head_dim + 7u) / 8u); }
fn cache_unit(i: u32) -> u32 { return i / 2u; }
// Quad `i` before its scale, from its unit; and the scale `index` of a row, from the unit that holds it.
fn cache_decode(unit: CacheUnit, i: u32) -> vec4<f32> {
    let codes = vec4<u32>(unit >> (i % 2u * 16u)) >> vec4<u32>(0u, 4u, 8u, 12u);
    return vec4<f32>(codes & vec4<u32>(15u)) - 8.0;
}
fn cache_scale(unit: CacheUnit, index: u32) -> f32 { return unpack2x16float(unit)[index % 2u]; }

// What a group's number of largest magnitude makes its scale: that number takes the code 0, since codes reach one step
// further down than up. Lanes with an even quad store the codes of it and of the quad after it.
fn cache_step(extreme: f32) -> f32 { return extreme / -8.0; }
fn cache_has_unit(i: u32) -> bool { return i % 2u == 0u; }
fn cache_codes(v: vec4<f32>, inverse: f32) -> u32 {
    let codes = min(vec4<u32>(max(v * inverse + 8.5, vec4<f32>(0.0))), vec4<u32>(15u)) << vec4<u32>(0u, 4u, 8u, 12u);
    return codes.x | codes.y | codes.z | codes.w;
}
fn cache_encode(a: vec4<f32>, b: vec4<f32>, inverse: f32) -> CacheUnit {
    return cache_codes(a, inverse) | (cache_codes(b, inverse) << 16u);
}
