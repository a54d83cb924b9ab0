// out[t, h] = sum_j softmax_j(q[t, h] . k[j]) v[j] over the keys j that token t sees, as in `attention`, for a batch.
// One workgroup of 128 lanes per head of the part and 32 tokens. Keys are taken 64 at a time with a running maximum,
// from the first that a token sees to the last, so that tiles outside the window or the future cost nothing. A lane has
// four queries and four keys of the scores, a quarter of a query's softmax, and four queries and numbers of the outputs.
struct Params {
    n_heads: u32,
    n_kv_heads: u32,
    head_dim: u32,
    capacity: u32,      // rows of the cache
    window: u32,        // 0: none
    first_kv_head: u32, // the part of the heads that this cache is for
    part_kv_heads: u32,
    out_stride: u32,
}

const QUERIES = 32u;
const KEYS = 64u;
const LOWEST = -3.0e38;
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> step: array<u32>;              // n_tokens, position, ...
@group(0) @binding(2) var<storage, read> q: array<vec4<f32>>;           // (tokens, n_heads, head_dim)
@group(0) @binding(3) var<storage, read> k_cache: array<CacheUnit>;     // (capacity, part_kv_heads, head_dim)
@group(0) @binding(4) var<storage, read> v_cache: array<CacheUnit>;     // (capacity, part_kv_heads, head_dim)
@group(0) @binding(5) var<storage, read_write> out: array<vec4<f32>>;   // (tokens, out_stride)
var<workgroup> staged_q: array<vec4<f32>, 4u * QUERIES>;    // (quad, query)
var<workgroup> staged_k: array<vec4<f32>, 4u * KEYS>;       // (quad, key)
// (query, column): a column holds the keys that are 16 apart, so that neighbouring lanes stage and read neighbours.
var<workgroup> scores: array<vec4<f32>, QUERIES * KEYS / 4u>;
var<workgroup> partial: array<f32, 128>;                    // (query, quarter)
// By query: what the outputs so far and those of this tile are multiplied by.
var<workgroup> factors: array<vec2<f32>, QUERIES>;

// The first unit of the row of the tile's key `key`; one past the tile's is the last one again.
fn row_of(tile: u32, key: u32, n_keys: u32, row_units: u32) -> u32 {
    let slot = min(key, n_keys - 1u) + tile % params.capacity;
    return select(slot, slot - params.capacity, slot >= params.capacity) * row_units;
}

fn key_quad(row: u32, codes: u32, scales: u32, first_scale: u32, quad: u32) -> vec4<f32> {
    let k = cache_decode(k_cache[row + codes + cache_unit(quad)], quad);
    if !CACHE_SCALED { return k; }
    let scale = first_scale + quad / 8u;
    return k * cache_scale(k_cache[row + scales + scale / 2u], scale);
}

fn value_quad(row: u32, codes: u32, scales: u32, first_scale: u32, quad: u32) -> vec4<f32> {
    let v = cache_decode(v_cache[row + codes + cache_unit(quad)], quad);
    if !CACHE_SCALED { return v; }
    let scale = first_scale + quad / 8u;
    return v * cache_scale(v_cache[row + scales + scale / 2u], scale);
}

// Products of the lane's four queries (4 * four, ...) with its four keys (key + 16 j), four numbers of each.
fn products(quad: u32, four: u32, key: u32) -> mat4x4<f32> {
    let k = mat4x4<f32>(staged_k[quad * KEYS + key], staged_k[quad * KEYS + key + 16u],
        staged_k[quad * KEYS + key + 32u], staged_k[quad * KEYS + key + 48u]);
    let first = quad * QUERIES + four * 4u;
    return mat4x4<f32>(staged_q[first] * k, staged_q[first + 1u] * k, staged_q[first + 2u] * k, staged_q[first + 3u] * k);
}

// Which of a column's keys a query sees that sees those from `begin` to `end`, both counted from the tile's first.
fn seen(column: u32, begin: u32, end: u32) -> vec4<bool> {
    let keys = vec4<u32>(0u, 16u, 32u, 48u) + column;
    return (keys >= vec4<u32>(begin)) & (keys < vec4<u32>(end));
}

@compute @workgroup_size(128)
fn main(@builtin(local_invocation_index) lane: u32, @builtin(workgroup_id) group: vec3<u32>) {
    let sharing = params.n_heads / params.n_kv_heads;
    let head = params.first_kv_head * sharing + group.x;
    let token = group.y * QUERIES;
    let last = min(step[0] - 1u - token, QUERIES - 1u); // of the workgroup's tokens
    let quads = params.head_dim / 4u;
    let end = step[1] + token + last + 1u;
    let begin = select(0u, step[1] + token + 1u - min(step[1] + token + 1u, params.window), params.window > 0u);
    // Within a row: the head's first unit of codes, the first unit of scales, and the head's first scale.
    let row_units = cache_row(params.part_kv_heads, params.head_dim);
    let codes = cache_head(group.x / sharing, params.head_dim);
    let scales = cache_head(params.part_kv_heads, params.head_dim);
    let first_scale = group.x / sharing * ((params.head_dim + 31u) / 32u);
    // For scores: key `column` and those 16 apart, queries 4 * four ..; for outputs: quad `column`. For softmax: a query
    // and a quarter of its columns.
    let four = lane / 16u;
    let column = lane % 16u;
    let query = lane / 4u;
    let quarter = lane % 4u;
    let own_end = step[1] + token + min(query, last) + 1u;
    let own_begin = select(0u, own_end - min(own_end, params.window), params.window > 0u);
    var running_max = LOWEST;
    var running_sum = 0.0;
    for (var tile = begin; tile < end; tile += KEYS) {
        let n_keys = min(KEYS, end - tile);
        var s = mat4x4<f32>();
        for (var first = 0u; first < quads; first += 4u) {
            workgroupBarrier(); // what was staged before has been used, and so have the scores
            {
                let quad = min(first + lane % 4u, quads - 1u);
                let inside = first + lane % 4u < quads;
                let at = ((token + min(lane / 4u, last)) * params.n_heads + head) * quads + quad;
                staged_q[lane % 4u * QUERIES + lane / 4u] = select(vec4<f32>(0.0), q[at], inside);
                for (var key = lane / 4u; key < KEYS; key += 32u) {
                    let row = row_of(tile, key, n_keys, row_units);
                    let k = key_quad(row, codes, scales, first_scale, quad);
                    staged_k[lane % 4u * KEYS + key] = select(vec4<f32>(0.0), k, inside);
                }
            }
            workgroupBarrier();
            s += products(0u, four, column);
            s += products(1u, four, column);
            s += products(2u, four, column);
            s += products(3u, four, column);
        }
        for (var j = 0u; j < 4u; j++) { scores[(four * 4u + j) * 16u + column] = s[j]; }
        workgroupBarrier();
        let tile_begin = max(own_begin, tile) - tile;
        let tile_end = max(own_end, tile) - tile;
        let at = query * 16u + quarter;
        var largest = vec4<f32>(LOWEST);
        for (var i = 0u; i < 16u; i += 4u) {
            largest = max(largest, select(vec4<f32>(LOWEST), scores[at + i], seen(quarter + i, tile_begin, tile_end)));
        }
        partial[lane] = max(max(largest.x, largest.y), max(largest.z, largest.w));
        workgroupBarrier();
        let first = query * 4u;
        let new_max = max(running_max,
            max(max(partial[first], partial[first + 1u]), max(partial[first + 2u], partial[first + 3u])));
        var sums = vec4<f32>(0.0);
        for (var i = 0u; i < 16u; i += 4u) {
            let weights = select(vec4<f32>(0.0), exp(scores[at + i] - new_max), seen(quarter + i, tile_begin, tile_end));
            scores[at + i] = weights;
            sums += weights;
        }
        workgroupBarrier(); // the maxima have been read
        partial[lane] = dot(sums, vec4<f32>(1.0));
        workgroupBarrier();
        let shrink = exp(running_max - new_max);
        running_max = new_max;
        running_sum = running_sum * shrink + partial[first] + partial[first + 1u] + partial[first + 2u] + partial[first + 3u];
        let finish = select(1.0, 1.0 / running_sum, tile + KEYS >= end);
        if quarter == 0u { factors[query] = vec2<f32>(shrink * finish, finish); }
        workgroupBarrier();
        // A value that is no number or infinite spoils all queries of its tile, also those that came before it and weight
        // it with 0: the prompt that it is in fails either way.
        for (var chunk = 0u; chunk < quads; chunk += 16u) {
            let quad = min(chunk + column, quads - 1u);
            var o = mat4x4<f32>();
            for (var i = 0u; i < min(n_keys, 16u); i++) {
                let v = mat4x4<f32>(
                    value_quad(row_of(tile, i, n_keys, row_units), codes, scales, first_scale, quad),
                    value_quad(row_of(tile, i + 16u, n_keys, row_units), codes, scales, first_scale, quad),
                    value_quad(row_of(tile, i + 32u, n_keys, row_units), codes, scales, first_scale, quad),
                    value_quad(row_of(tile, i + 48u, n_keys, row_units), codes, scales, first_scale, quad));
                let at = four * 64u + i;
                o += mat4x4<f32>(v * scores[at], v * scores[at + 16u], v * scores[at + 32u], v * scores[at + 48u]);
            }
            for (var j = 0u; j < 4u; j++) {
                let own = four * 4u + j;
                if own <= last && chunk + column < quads {
                    let at = ((token + own) * params.out_stride + head * params.head_dim) / 4u + quad;
                    let before = select(out[at] * factors[own].x, vec4<f32>(0.0), tile == begin);
                    out[at] = before + o[j] * factors[own].y;
                }
            }
        }
    }
}
