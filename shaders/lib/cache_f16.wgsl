// The cache in f16 pairs, with core WGSL alone: a unit holds four numbers of a head.
alias CacheUnit = vec2<u32>;
const CACHE_SCALED = false;

// Units of a row of `n_heads` heads, first unit of a head's codes, and the unit of a head's quad `i`.
fn cache_row(n_heads: u32, head_dim: u32) -> u32 { return n_heads * (head_dim / 4u); }
fn cache_head(head: u32, head_dim: u32) -> u32 { return head * (head_dim / 4u); }
fn cache_unit(i: u32) -> u32 { return i; }
fn cache_encode(v: vec4<f32>) -> CacheUnit { return vec2<u32>(pack2x16float(v.xy), pack2x16float(v.zw)); }
// Quad `i`, from its unit; and the scale `index` of a row, from the unit that holds it: here there is none.
fn cache_decode(unit: CacheUnit, i: u32) -> vec4<f32> {
    return vec4<f32>(unpack2x16float(unit.x), unpack2x16float(unit.y));
}
fn cache_scale(unit: CacheUnit, index: u32) -> f32 { return 1.0; }
