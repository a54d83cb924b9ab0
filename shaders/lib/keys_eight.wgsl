// The keys of `attend`, eight at a time with a running maximum (online softmax, arXiv:1805.02867): first a lane per key for
// the scores, then a lane per four numbers of the outputs. Queries, weights and sums stay in registers and are handed
// round, since every lane's load is paid for one by one where this pays. Needs workgroups of one subgroup of exactly
// eight lanes.
struct Keys { k0: vec4<f32>, k1: vec4<f32>, k2: vec4<f32>, k3: vec4<f32>, k4: vec4<f32>, k5: vec4<f32>, k6: vec4<f32>, k7: vec4<f32> }

// Whether the span's key `slot` is the token's own, whose scales the cache may not have yet.
fn is_own(span: Span, slot: u32) -> bool { return span.first + slot + 1u == span.end; }

// Quad `quad` of the head in the row at `row`, and zeros behind the head's last.
fn key_quad(row: u32, quad: u32) -> vec4<f32> {
    let k = cache_decode(k_cache[row + cache_unit(min(quad, QUADS - 1u))], quad);
    return select(vec4<f32>(0.0), k, quad < QUADS);
}

fn key_dot(q: vec4<f32>, k: Keys) -> f32 {
    return dot(subgroupBroadcast(q, 0u), k.k0) + dot(subgroupBroadcast(q, 1u), k.k1)
        + dot(subgroupBroadcast(q, 2u), k.k2) + dot(subgroupBroadcast(q, 3u), k.k3)
        + dot(subgroupBroadcast(q, 4u), k.k4) + dot(subgroupBroadcast(q, 5u), k.k5)
        + dot(subgroupBroadcast(q, 6u), k.k6) + dot(subgroupBroadcast(q, 7u), k.k7);
}

// `sums` and what a value adds to them, weighted by `weights`; its key is number `slot` of the span, or the last one.
fn add_value(sums: array<vec4<f32>, HEADS * GROUPS>, weights: array<f32, HEADS>, slot: u32, lane: u32, span: Span, first_row: u32) -> array<vec4<f32>, HEADS * GROUPS> {
    var all = sums;
    // Past the end the last one again, with no weight.
    let nth = min(slot, span.last - span.first - 1u);
    let row = row_of(first_row + nth) * span.row_units;
    for (var g = 0u; g < GROUPS; g++) {
        let quad = min(g * 8u + lane, QUADS - 1u);
        var v = cache_decode(v_cache[row + span.codes + cache_unit(quad)], quad);
        if CACHE_SCALED {
            let at = span.first_scale + g;
            v *= select(cache_scale(v_cache[row + span.scales + at / 2u], at), fresh_scale(1u, g), is_own(span, nth));
        }
        for (var h = 0u; h < HEADS; h++) { all[h * GROUPS + g] += weights[h] * v; }
    }
    return all;
}

fn attend_span(lane: u32, span: Span) {
    var queries: array<vec4<f32>, HEADS * GROUPS>;
    var sums: array<vec4<f32>, HEADS * GROUPS>;
    var running_max: array<f32, HEADS>;
    var running_sum: array<f32, HEADS>;
    for (var h = 0u; h < HEADS; h++) {
        for (var g = 0u; g < GROUPS; g++) {
            let quad = g * 8u + lane;
            queries[h * GROUPS + g] = query[h * QUADS + min(quad, QUADS - 1u)];
            sums[h * GROUPS + g] = vec4<f32>(0.0);
        }
        running_max[h] = LOWEST;
        running_sum[h] = 0.0;
    }
    let n_keys = span.last - span.first;
    let first_row = span.first % params.capacity;
    for (var base = 0u; base < n_keys; base += 8u) {
        // A lane past the end repeats the last key, which then counts nothing.
        let counts = base + lane < n_keys;
        let slot = min(base + lane, n_keys - 1u);
        let row = row_of(first_row + slot) * span.row_units;
        var scores: array<f32, HEADS>;
        for (var h = 0u; h < HEADS; h++) { scores[h] = 0.0; }
        var touched = 0.0;
        for (var g = 0u; g < GROUPS; g++) {
            let head_row = row + span.codes;
            // Values lie in memory, a key's in other lines than the next one's. Touching eight keys' at once waits for one
            // line where taking them key by key would wait for eight.
            touched += cache_decode(v_cache[head_row + cache_unit(g * 8u)], g * 8u).x;
            let k = Keys(key_quad(head_row, g * 8u), key_quad(head_row, g * 8u + 1u), key_quad(head_row, g * 8u + 2u),
                key_quad(head_row, g * 8u + 3u), key_quad(head_row, g * 8u + 4u), key_quad(head_row, g * 8u + 5u),
                key_quad(head_row, g * 8u + 6u), key_quad(head_row, g * 8u + 7u));
            var scale = 1.0;
            if CACHE_SCALED {
                let at = span.first_scale + g;
                scale = select(cache_scale(k_cache[row + span.scales + at / 2u], at), fresh_scale(0u, g), is_own(span, slot));
            }
            for (var h = 0u; h < HEADS; h++) { scores[h] += scale * key_dot(queries[h * GROUPS + g], k); }
        }
        // No row is empty; a compiler that does not know that keeps the loads.
        scores[0] = select(scores[0], touched, span.row_units == 0u);
        var weights: array<f32, HEADS>;
        for (var h = 0u; h < HEADS; h++) {
            let score = select(LOWEST, scores[h], counts);
            let new_max = max(running_max[h], subgroupMax(score));
            let shrink = exp(running_max[h] - new_max);
            weights[h] = select(0.0, exp(score - new_max), counts);
            running_max[h] = new_max;
            running_sum[h] = running_sum[h] * shrink + subgroupAdd(weights[h]);
            for (var g = 0u; g < GROUPS; g++) { sums[h * GROUPS + g] *= shrink; }
        }
        // Each by itself: WGSL wants a constant for the lane that a broadcast is of.
        var one: array<f32, HEADS>;
        for (var h = 0u; h < HEADS; h++) { one[h] = subgroupBroadcast(weights[h], 0u); }
        sums = add_value(sums, one, base, lane, span, first_row);
        for (var h = 0u; h < HEADS; h++) { one[h] = subgroupBroadcast(weights[h], 1u); }
        sums = add_value(sums, one, base + 1u, lane, span, first_row);
        for (var h = 0u; h < HEADS; h++) { one[h] = subgroupBroadcast(weights[h], 2u); }
        sums = add_value(sums, one, base + 2u, lane, span, first_row);
        for (var h = 0u; h < HEADS; h++) { one[h] = subgroupBroadcast(weights[h], 3u); }
        sums = add_value(sums, one, base + 3u, lane, span, first_row);
        for (var h = 0u; h < HEADS; h++) { one[h] = subgroupBroadcast(weights[h], 4u); }
        sums = add_value(sums, one, base + 4u, lane, span, first_row);
        for (var h = 0u; h < HEADS; h++) { one[h] = subgroupBroadcast(weights[h], 5u); }
        sums = add_value(sums, one, base + 5u, lane, span, first_row);
        for (var h = 0u; h < HEADS; h++) { one[h] = subgroupBroadcast(weights[h], 6u); }
        sums = add_value(sums, one, base + 6u, lane, span, first_row);
        for (var h = 0u; h < HEADS; h++) { one[h] = subgroupBroadcast(weights[h], 7u); }
        sums = add_value(sums, one, base + 7u, lane, span, first_row);
    }
    for (var h = 0u; h < HEADS; h++) {
        let at = out_at(span, h);
        let divisor = select(1.0, running_sum[h], span.n_splits == 1u);
        for (var g = 0u; g < GROUPS; g++) {
            let quad = g * 8u + lane;
            let sum = sums[h * GROUPS + g];
            if quad < QUADS {
                for (var j = 0u; j < 4u; j++) { out[at + quad * 4u + j] = sum[j] / divisor; }
            }
        }
        leave_totals(lane, span, h, running_max[h], running_sum[h]);
    }
}
