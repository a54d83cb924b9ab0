// `attend` appends its own token to a cache in which 32 numbers share a scale; every lane calls it. A word of two
// scales is written by the head of the first, which works out the second even where it is the next head's.
// Of the keys' groups and the next head's first, then of the values': as computed, not yet rounded.
var<workgroup> fresh_scales: array<f32, 2u * (GROUPS + 1u)>;

// The scale of a group, from its first number of largest magnitude.
fn group_scale(kind: u32, g: u32) -> f32 {
    let next = g == GROUPS;
    let first = kind * FRESH + select(g * 32u, HEAD_DIM, next);
    let n = min(32u, select(HEAD_DIM - g * 32u, HEAD_DIM, next));
    var extreme = 0.0;
    for (var d = first; d < first + n; d++) { extreme = select(extreme, fresh[d], abs(fresh[d]) > abs(extreme)); }
    return cache_step(extreme);
}

// A quad of the token's own key or value; zeros behind the head's last.
fn fresh_quad(kind: u32, quad: u32) -> vec4<f32> {
    let d = kind * FRESH + min(quad, QUADS - 1u) * 4u;
    return select(vec4<f32>(0.0), vec4<f32>(fresh[d], fresh[d + 1u], fresh[d + 2u], fresh[d + 3u]), quad < QUADS);
}

fn fresh_codes(kind: u32, quad: u32) -> CacheUnit {
    let scale = fresh_scales[kind * (GROUPS + 1u) + quad / 8u];
    let inverse = select(1.0 / scale, 0.0, scale == 0.0);
    return cache_encode(fresh_quad(kind, quad), fresh_quad(kind, quad + 1u), inverse);
}

fn cache_append(lane: u32, head: u32, codes: u32, scales: u32) {
    for (var i = lane; i < 2u * (GROUPS + 1u); i += WIDTH) {
        fresh_scales[i] = group_scale(i / (GROUPS + 1u), i % (GROUPS + 1u));
    }
    workgroupBarrier();
    for (var quad = lane; quad < QUADS; quad += WIDTH) {
        if cache_has_unit(quad) {
            k_cache[codes + cache_unit(quad)] = fresh_codes(0u, quad);
            v_cache[codes + cache_unit(quad)] = fresh_codes(1u, quad);
        }
    }
    for (var g = lane; g < GROUPS; g += WIDTH) {
        let index = head * GROUPS + g;
        if index % 2u == 0u {
            let k = vec2<f32>(fresh_scales[g], fresh_scales[g + 1u]);
            let v = vec2<f32>(fresh_scales[GROUPS + 1u + g], fresh_scales[GROUPS + 2u + g]);
            k_cache[scales + index / 2u] = pack2x16float(k);
            v_cache[scales + index / 2u] = pack2x16float(v);
        }
    }
}

// The scale of one of the token's own groups, as the cache has it: the word in the cache may be another head's to write.
fn fresh_scale(kind: u32, g: u32) -> f32 {
    return unpack2x16float(pack2x16float(vec2<f32>(fresh_scales[kind * (GROUPS + 1u) + g], 0.0))).x;
}
