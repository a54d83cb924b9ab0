// The cache in f32: a unit holds four numbers of a head.
alias CacheUnit = vec4<f32>;
const CACHE_SCALED = false;

// Units of a row of `n_heads` heads, first unit of a head's codes, and the unit of a head's quad `i`.
fn cache_row(n_heads: u32, head_dim: u32) -> u32 { return n_heads * (head_dim / 4u); }
fn cache_head(head: u32, head_dim: u32) -> u32 { return head * (head_dim / 4u); }
fn cache_unit(i: u32) -> u32 { return i; }
fn cache_encode(v: vec4<f32>) -> CacheUnit { return v; }
// Quad `i`, from its unit; and the scale `index` of a row, from the unit that holds it: here there is none.
fn cache_decode(unit: CacheUnit, i: u32) -> vec4<f32> { return unit; }
fn cache_scale(unit: CacheUnit, index: u32) -> f32 { return 1.0; }
