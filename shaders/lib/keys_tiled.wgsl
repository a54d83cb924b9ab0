// The keys of `attend`, TILE at a time with a running maximum (online softmax, arXiv:1805.02867): first KEY_LANES lanes per
// key for the scores, then a lane per four numbers of the outputs, PARTS of which share the keys.
var<workgroup> scores: array<f32, HEADS * TILE>;
var<workgroup> outputs: array<vec4<f32>, PARTS * HEADS * QUADS>;

fn attend_span(lane: u32, span: Span) {
    for (var i = lane; i < PARTS * HEADS * QUADS; i += WIDTH) { outputs[i] = vec4<f32>(0.0); }
    workgroupBarrier();
    var running_max: array<f32, HEADS>;
    var running_sum: array<f32, HEADS>;
    for (var h = 0u; h < HEADS; h++) { running_max[h] = LOWEST; running_sum[h] = 0.0; }
    for (var tile = span.first; tile < span.last; tile += TILE) {
        let n_keys = min(TILE, span.last - tile);
        let first_row = tile % params.capacity;
        var own_max: array<f32, HEADS>;
        for (var h = 0u; h < HEADS; h++) { own_max[h] = LOWEST; }
        // The bounds are uniform, since key_sum may add over lanes; a lane past the end repeats the last key.
        for (var base = 0u; base < n_keys; base += WIDTH / KEY_LANES) {
            let j = base + lane / KEY_LANES;
            let key = min(j, n_keys - 1u);
            let row = row_of(first_row + key) * span.row_units;
            let is_own = tile + key + 1u == span.end;
            var dots: array<f32, HEADS>;
            for (var h = 0u; h < HEADS; h++) { dots[h] = 0.0; }
            for (var g = 0u; g < GROUPS; g++) {
                var sums: array<f32, HEADS>;
                for (var h = 0u; h < HEADS; h++) { sums[h] = 0.0; }
                for (var q = lane % KEY_LANES; q < min(8u, QUADS - g * 8u); q += KEY_LANES) {
                    let quad = g * 8u + q;
                    let k = cache_decode(k_cache[row + span.codes + cache_unit(quad)], quad);
                    for (var h = 0u; h < HEADS; h++) { sums[h] += dot(query[h * QUADS + quad], k); }
                }
                var scale = 1.0;
                if CACHE_SCALED {
                    let at = span.first_scale + g;
                    scale = select(cache_scale(k_cache[row + span.scales + at / 2u], at), fresh_scale(0u, g), is_own);
                }
                for (var h = 0u; h < HEADS; h++) { dots[h] += sums[h] * scale; }
            }
            for (var h = 0u; h < HEADS; h++) {
                let score = key_sum(dots[h]);
                if j < n_keys && lane % KEY_LANES == 0u { scores[h * TILE + j] = score; }
                own_max[h] = max(own_max[h], score);
            }
        }
        var shrink: array<f32, HEADS>;
        for (var h = 0u; h < HEADS; h++) {
            let new_max = max(running_max[h], reduce_max(lane, own_max[h]));
            shrink[h] = exp(running_max[h] - new_max);
            running_max[h] = new_max;
        }
        workgroupBarrier(); // all lanes see all scores
        for (var h = 0u; h < HEADS; h++) {
            var own_sum = 0.0;
            for (var j = lane; j < n_keys; j += WIDTH) {
                let weight = exp(scores[h * TILE + j] - running_max[h]);
                scores[h * TILE + j] = weight;
                own_sum += weight;
            }
            running_sum[h] = running_sum[h] * shrink[h] + reduce_sum(lane, own_sum);
        }
        workgroupBarrier(); // and all weights
        for (var i = lane; i < PARTS * QUADS; i += WIDTH) {
            let quad = i % QUADS;
            var sums: array<vec4<f32>, HEADS>;
            for (var h = 0u; h < HEADS; h++) { sums[h] = outputs[h * PARTS * QUADS + i] * shrink[h]; }
            for (var j = i / QUADS; j < n_keys; j += PARTS) {
                let row = row_of(first_row + j) * span.row_units;
                var v = cache_decode(v_cache[row + span.codes + cache_unit(quad)], quad);
                if CACHE_SCALED {
                    let g = quad / 8u;
                    let at = span.first_scale + g;
                    let is_own = tile + j + 1u == span.end;
                    v *= select(cache_scale(v_cache[row + span.scales + at / 2u], at), fresh_scale(1u, g), is_own);
                }
                for (var h = 0u; h < HEADS; h++) { sums[h] += scores[h * TILE + j] * v; }
            }
            for (var h = 0u; h < HEADS; h++) { outputs[h * PARTS * QUADS + i] = sums[h]; }
        }
        workgroupBarrier(); // the weights have been used
    }
    for (var h = 0u; h < HEADS; h++) {
        let at = out_at(span, h);
        let divisor = select(1.0, running_sum[h], span.n_splits == 1u);
        for (var i = lane; i < QUADS; i += WIDTH) {
            var sum = vec4<f32>(0.0);
            for (var part = 0u; part < PARTS; part++) { sum += outputs[(h * PARTS + part) * QUADS + i]; }
            for (var j = 0u; j < 4u; j++) { out[at + i * 4u + j] = sum[j] / divisor; }
        }
        leave_totals(lane, span, h, running_max[h], running_sum[h]);
    }
}
