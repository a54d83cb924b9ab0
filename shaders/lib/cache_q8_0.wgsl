// The cache in q8_0: number = scale * code, codes signed bytes, an f16 scale for each 32 numbers of a head. A unit
// holds the codes of four numbers, or two scales; a row has the codes of all heads first, then their scales.
alias CacheUnit = u32;
const CACHE_SCALED = true;

// Units of a row of `n_heads` heads, first unit of a head's codes, and the unit of a head's quad `i`.
fn cache_row(n_heads: u32, head_dim: u32) -> u32 {
    return n_heads * (head_dim / 4u) + (n_heads * ((head_dim + 31u) / 32u) + 1u) / 2u;
}
fn cache_head(head: u32, head_dim: u32) -> u32 { return head * (head_dim / 4u); }
fn cache_unit(i: u32) -> u32 { return i; }
// Quad `i` before its scale, from its unit; and the scale `index` of a row, from the unit that holds it.
fn cache_decode(unit: CacheUnit, i: u32) -> vec4<f32> { return vec4<f32>(unpack4xI8(unit)); }
fn cache_scale(unit: CacheUnit, index: u32) -> f32 { return unpack2x16float(unit)[index % 2u]; }

// What a group's number of largest magnitude makes its scale, the units of codes that a lane with an even quad or an
// odd one stores, and the codes themselves: of `a`, or of `a` and the quad after it.
fn cache_step(extreme: f32) -> f32 { return abs(extreme) / 127.0; }
fn cache_has_unit(i: u32) -> bool { return true; }
fn cache_encode(a: vec4<f32>, b: vec4<f32>, inverse: f32) -> CacheUnit {
    return pack4xI8(vec4<i32>(round(a * inverse)));
}
