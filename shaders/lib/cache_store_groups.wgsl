// Appends to a cache in which 32 numbers share a scale. Every lane calls it with its quad, `used` where it has one and a
// zero where not; eight lanes in a row have a group's, and 16 those of the two groups whose scales share a unit.
var<workgroup> cache_quads: array<vec4<f32>, 64>;

// The scale of the group whose first quad is in lane `first`, from its first number of largest magnitude.
fn cache_group_scale(first: u32) -> f32 {
    var extreme = 0.0;
    for (var i = first; i < first + 8u; i++) {
        let quad = cache_quads[i];
        for (var j = 0u; j < 4u; j++) { extreme = select(extreme, quad[j], abs(quad[j]) > abs(extreme)); }
    }
    return cache_step(extreme);
}

fn cache_store(lane: u32, used: bool, place: CachePlace, value: vec4<f32>) {
    cache_quads[lane] = value;
    workgroupBarrier();
    let scale = cache_group_scale(lane / 8u * 8u);
    if used && cache_has_unit(place.quad) {
        let inverse = select(1.0 / scale, 0.0, scale == 0.0);
        // A unit of two quads is stored by the lane of the first; where the head has no second, that lane's is a zero.
        let codes = cache_encode(value, cache_quads[lane | 1u], inverse);
        let at = place.row + cache_head(place.head, place.head_dim) + cache_unit(place.quad);
        if place.keys { k_cache[at] = codes; } else { v_cache[at] = codes; }
    }
    // The first lane of an even group is used wherever the group after it is.
    let index = place.head * ((place.head_dim + 31u) / 32u) + place.quad / 8u;
    if used && lane % 16u == 0u {
        let scales = pack2x16float(vec2<f32>(scale, cache_group_scale(lane + 8u)));
        let at = place.row + cache_head(place.n_heads, place.head_dim) + index / 2u;
        if place.keys { k_cache[at] = scales; } else { v_cache[at] = scales; }
    }
}
