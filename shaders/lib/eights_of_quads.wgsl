// Eight numbers of a key or a value as two quads of a cache whose units hold four or fewer. `i` counts eights of the head
// whose codes begin at `codes`: of a key zeros behind the head's last quad, of a value the last again.
fn key_quad(codes: u32, quad: u32) -> vec4<f32> {
    let k = cache_decode(k_cache[codes + cache_unit(min(quad, QUADS - 1u))], quad);
    return select(vec4<f32>(0.0), k, quad < QUADS);
}
fn value_quad(codes: u32, quad: u32) -> vec4<f32> {
    let q = min(quad, QUADS - 1u);
    return cache_decode(v_cache[codes + cache_unit(q)], q);
}
fn key_eight(codes: u32, i: u32) -> Eight { return Eight(key_quad(codes, 2u * i), key_quad(codes, 2u * i + 1u)); }
fn value_eight(codes: u32, i: u32) -> Eight { return Eight(value_quad(codes, 2u * i), value_quad(codes, 2u * i + 1u)); }
