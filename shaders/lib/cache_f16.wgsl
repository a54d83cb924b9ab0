// Keys and values stored as f16 pairs, with core WGSL alone; a cache element holds four consecutive numbers.
alias CacheQuad = vec2<u32>;

fn cache_pack(v: vec4<f32>) -> CacheQuad { return vec2<u32>(pack2x16float(v.xy), pack2x16float(v.zw)); }
fn cache_unpack(c: CacheQuad) -> vec4<f32> { return vec4<f32>(unpack2x16float(c.x), unpack2x16float(c.y)); }
