// The keys of `attend`, eight at a time with a running maximum (online softmax, arXiv:1805.02867): first a lane per key for
// the scores, then a lane per eight numbers of the outputs. Queries, weights and sums stay in registers and are handed
// round, since every lane's load is paid for one by one where this pays. Needs workgroups of one subgroup of exactly
// eight lanes.
const EIGHTS = (QUADS + 1u) / 2u;
// Eights of the outputs that a lane sums.
const OWN = (EIGHTS + 7u) / 8u;
struct Eight { a: vec4<f32>, b: vec4<f32> }

// Whether the span's key `slot` is the token's own, whose scales the cache may not have yet.
fn is_own(span: Span, slot: u32) -> bool { return span.first + slot + 1u == span.end; }

// Four numbers of a query times four of a lane's key; those are in lane `2 * i` of `q`, and the next in the one behind it.
fn key_dot(q: vec4<f32>, k0: Eight, k1: Eight, k2: Eight, k3: Eight) -> f32 {
    return dot(subgroupBroadcast(q, 0u), k0.a) + dot(subgroupBroadcast(q, 1u), k0.b)
        + dot(subgroupBroadcast(q, 2u), k1.a) + dot(subgroupBroadcast(q, 3u), k1.b)
        + dot(subgroupBroadcast(q, 4u), k2.a) + dot(subgroupBroadcast(q, 5u), k2.b)
        + dot(subgroupBroadcast(q, 6u), k3.a) + dot(subgroupBroadcast(q, 7u), k3.b);
}

// `sums` and what a value adds to them, weighted by `weights`; its key is number `slot` of the span, or the last one.
fn add_value(sums: array<Eight, HEADS * OWN>, weights: array<f32, HEADS>, slot: u32, lane: u32, span: Span, first_row: u32) -> array<Eight, HEADS * OWN> {
    var all = sums;
    // Past the end the last one again, with no weight.
    let nth = min(slot, span.last - span.first - 1u);
    let row = row_of(first_row + nth) * span.row_units;
    for (var o = 0u; o < OWN; o++) {
        let i = min(o * 8u + lane, EIGHTS - 1u);
        let v = value_eight(row + span.codes, i);
        var scale = 1.0;
        if CACHE_SCALED {
            let at = span.first_scale + i / 4u;
            scale = select(cache_scale(v_cache[row + span.scales + at / 2u], at), fresh_scale(1u, i / 4u), is_own(span, nth));
        }
        for (var h = 0u; h < HEADS; h++) {
            let weight = weights[h] * scale;
            all[h * OWN + o].a += weight * v.a;
            all[h * OWN + o].b += weight * v.b;
        }
    }
    return all;
}

fn attend_span(lane: u32, span: Span) {
    var queries: array<vec4<f32>, HEADS * GROUPS>;
    var sums: array<Eight, HEADS * OWN>;
    var running_max: array<f32, HEADS>;
    var running_sum: array<f32, HEADS>;
    for (var h = 0u; h < HEADS; h++) {
        for (var g = 0u; g < GROUPS; g++) {
            let quad = g * 8u + lane;
            queries[h * GROUPS + g] = query[h * QUADS + min(quad, QUADS - 1u)];
        }
        for (var o = 0u; o < OWN; o++) { sums[h * OWN + o] = Eight(vec4<f32>(0.0), vec4<f32>(0.0)); }
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
            touched += value_eight(head_row, g * 4u).a.x;
            let k0 = key_eight(head_row, g * 4u);
            let k1 = key_eight(head_row, g * 4u + 1u);
            let k2 = key_eight(head_row, g * 4u + 2u);
            let k3 = key_eight(head_row, g * 4u + 3u);
            var scale = 1.0;
            if CACHE_SCALED {
                let at = span.first_scale + g;
                scale = select(cache_scale(k_cache[row + span.scales + at / 2u], at), fresh_scale(0u, g), is_own(span, slot));
            }
            for (var h = 0u; h < HEADS; h++) { scores[h] += scale * key_dot(queries[h * GROUPS + g], k0, k1, k2, k3); }
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
            for (var o = 0u; o < OWN; o++) {
                sums[h * OWN + o].a *= shrink;
                sums[h * OWN + o].b *= shrink;
            }
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
        for (var o = 0u; o < OWN; o++) {
            let first = (o * 8u + lane) * 8u;
            let sum = sums[h * OWN + o];
            if first < HEAD_DIM {
                for (var j = 0u; j < 4u; j++) { out[at + first + j] = sum.a[j] / divisor; }
            }
            if first + 4u < HEAD_DIM {
                for (var j = 0u; j < 4u; j++) { out[at + first + 4u + j] = sum.b[j] / divisor; }
            }
        }
        leave_totals(lane, span, h, running_max[h], running_sum[h]);
    }
}
