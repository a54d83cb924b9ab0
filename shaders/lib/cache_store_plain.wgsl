// Appends to a cache whose numbers are stored one by one. Every lane calls it with its quad, `used` where it has one.
fn cache_store(lane: u32, used: bool, place: CachePlace, value: vec4<f32>) {
    if !used { return; }
    let at = place.row + cache_head(place.head, place.head_dim) + cache_unit(place.quad);
    if place.keys { k_cache[at] = cache_encode(value); } else { v_cache[at] = cache_encode(value); }
}
