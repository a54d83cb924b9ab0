// The cache in f16 as lib/cache_f16.wgsl has it, for heads of whole eights: a unit holds eight numbers, which costs a lane
// that pays for each load a third less than two units of four.
alias CacheUnit = vec4<u32>;
const CACHE_SCALED = false;

// Units of a row of `n_heads` heads, and first unit of a head's codes.
fn cache_row(n_heads: u32, head_dim: u32) -> u32 { return n_heads * (head_dim / 8u); }
fn cache_head(head: u32, head_dim: u32) -> u32 { return head * (head_dim / 8u); }
fn cache_scale(unit: CacheUnit, index: u32) -> f32 { return 1.0; }
fn fresh_scale(kind: u32, g: u32) -> f32 { return 1.0; }

fn unit_eight(unit: CacheUnit) -> Eight {
    return Eight(vec4<f32>(unpack2x16float(unit.x), unpack2x16float(unit.y)),
        vec4<f32>(unpack2x16float(unit.z), unpack2x16float(unit.w)));
}
// Eight `i` of the head whose codes begin at `codes`: of a key zeros behind the head's last, of a value the last again.
fn key_eight(codes: u32, i: u32) -> Eight {
    let k = unit_eight(k_cache[codes + min(i, EIGHTS - 1u)]);
    let inside = i < EIGHTS;
    return Eight(select(vec4<f32>(0.0), k.a, inside), select(vec4<f32>(0.0), k.b, inside));
}
fn value_eight(codes: u32, i: u32) -> Eight { return unit_eight(v_cache[codes + min(i, EIGHTS - 1u)]); }

fn fresh_unit(first: u32) -> CacheUnit {
    return vec4<u32>(pack2x16float(vec2<f32>(fresh[first], fresh[first + 1u])),
        pack2x16float(vec2<f32>(fresh[first + 2u], fresh[first + 3u])),
        pack2x16float(vec2<f32>(fresh[first + 4u], fresh[first + 5u])),
        pack2x16float(vec2<f32>(fresh[first + 6u], fresh[first + 7u])));
}
// `attend` appends its own token; every lane calls it.
fn cache_append(lane: u32, head: u32, codes: u32, scales: u32) {
    for (var i = lane; i < EIGHTS; i += WIDTH) {
        k_cache[codes + i] = fresh_unit(8u * i);
        v_cache[codes + i] = fresh_unit(FRESH + 8u * i);
    }
}
