// Keys and values stored as f32; a cache element holds four consecutive numbers.
alias CacheQuad = vec4<f32>;

fn cache_pack(v: vec4<f32>) -> CacheQuad { return v; }
fn cache_unpack(c: CacheQuad) -> vec4<f32> { return c; }
