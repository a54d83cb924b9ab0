// `attend` appends its own token to a cache whose numbers are stored one by one; every lane calls it.
fn cache_append(lane: u32, head: u32, codes: u32, scales: u32) {
    for (var quad = lane; quad < QUADS; quad += WIDTH) {
        let d = quad * 4u;
        let v = FRESH + d;
        k_cache[codes + cache_unit(quad)] = cache_encode(vec4<f32>(fresh[d], fresh[d + 1u], fresh[d + 2u], fresh[d + 3u]));
        v_cache[codes + cache_unit(quad)] = cache_encode(vec4<f32>(fresh[v], fresh[v + 1u], fresh[v + 2u], fresh[v + 3u]));
    }
}
fn fresh_scale(kind: u32, g: u32) -> f32 { return 1.0; }
