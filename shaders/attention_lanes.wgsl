// out[t, h] = sum_j softmax_j(q[t, h] . k[j]) v[j] over the keys j that token t sees, as in `attention`, for a batch.
// One workgroup of eight lanes per head of the part and eight tokens. Keys are taken TILE at a time with a running
// maximum: scores with four keys per lane and all eight queries, softmax with a query per lane, outputs with four
// numbers per lane and all eight queries. What lanes share, they hand round; scores pass through workgroup memory.
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

const TILE = 480u;
const TILE_QUADS = TILE / 4u;
const LOWEST = -3.0e38;
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> step: array<u32>;              // n_tokens, position, ...
@group(0) @binding(2) var<storage, read> q: array<vec4<f32>>;           // (tokens, n_heads, head_dim)
@group(0) @binding(3) var<storage, read> k_cache: array<CacheUnit>;     // (capacity, part_kv_heads, head_dim)
@group(0) @binding(4) var<storage, read> v_cache: array<CacheUnit>;     // (capacity, part_kv_heads, head_dim)
@group(0) @binding(5) var<storage, read_write> out: array<vec4<f32>>;   // (tokens, out_stride)
var<workgroup> scores: array<vec4<f32>, 8u * TILE_QUADS>;               // (query, key)
// By query: what the outputs so far and those of this tile are multiplied by.
var<workgroup> factors: array<vec2<f32>, 8>;

const QUERIES = 0u;
const SCORES = 1u;
// Where the first of the eight queries is, the distance from one to the next, and which is the last.
var<private> place: vec3<u32>;

// What lanes hand round: quads of the eight queries, or of their scores, from where a row of them begins.
fn shared_row(source: u32, t: u32) -> u32 {
    if source == SCORES { return t * TILE_QUADS; }
    return place.x + min(t, place.z) * place.y;
}
fn shared_quad(source: u32, at: u32) -> vec4<f32> {
    if source == SCORES { return scores[at]; }
    return q[at];
}

// Units of the cache at which the rows of four keys begin. Keys past the tile's are the last one again.
fn rows_of(tile: u32, key: u32, n_keys: u32, row_units: u32) -> vec4<u32> {
    let keys = min(vec4<u32>(key, key + 1u, key + 2u, key + 3u), vec4<u32>(n_keys - 1u));
    let slots = keys + tile % params.capacity;
    return select(slots, slots - params.capacity, slots >= vec4<u32>(params.capacity)) * row_units;
}

fn keys_quad(rows: vec4<u32>, i: u32) -> mat4x4<f32> {
    return mat4x4<f32>(cache_decode(k_cache[rows.x], i), cache_decode(k_cache[rows.y], i),
        cache_decode(k_cache[rows.z], i), cache_decode(k_cache[rows.w], i));
}

fn values_quad(rows: vec4<u32>, i: u32) -> mat4x4<f32> {
    return mat4x4<f32>(cache_decode(v_cache[rows.x], i), cache_decode(v_cache[rows.y], i),
        cache_decode(v_cache[rows.z], i), cache_decode(v_cache[rows.w], i));
}

fn keys_scale(rows: vec4<u32>, i: u32) -> vec4<f32> {
    return vec4<f32>(cache_scale(k_cache[rows.x], i), cache_scale(k_cache[rows.y], i),
        cache_scale(k_cache[rows.z], i), cache_scale(k_cache[rows.w], i));
}

fn values_scale(rows: vec4<u32>, i: u32) -> vec4<f32> {
    return vec4<f32>(cache_scale(v_cache[rows.x], i), cache_scale(v_cache[rows.y], i),
        cache_scale(v_cache[rows.z], i), cache_scale(v_cache[rows.w], i));
}

@compute @workgroup_size(8)
fn main(@builtin(local_invocation_index) lane: u32, @builtin(workgroup_id) group: vec3<u32>) {
    let sharing = params.n_heads / params.n_kv_heads;
    let head = params.first_kv_head * sharing + group.x;
    let token = group.y * 8u;
    let last = min(step[0] - 1u - token, 7u); // of the eight
    let quads = params.head_dim / 4u;
    let position = step[1] + token;
    let end = position + last + 1u;
    let begin = select(0u, position + 1u - min(position + 1u, params.window), params.window > 0u);
    let own_end = position + min(lane, last) + 1u;
    let own_begin = select(0u, own_end - min(own_end, params.window), params.window > 0u);
    place = vec3<u32>((token * params.n_heads + head) * quads, params.n_heads * quads, last);
    let own_query = shared_row(QUERIES, lane);
    let own_scores = shared_row(SCORES, lane);
    // Within a row: the head's first unit of codes, the first unit of scales, and the head's first scale.
    let row_units = cache_row(params.part_kv_heads, params.head_dim);
    let codes = cache_head(group.x / sharing, params.head_dim);
    let scales = cache_head(params.part_kv_heads, params.head_dim);
    let first_scale = group.x / sharing * ((params.head_dim + 31u) / 32u);
    var running_max = LOWEST; // of the lane's query
    var running_sum = 0.0;
    for (var tile = begin; tile < end; tile += TILE) {
        let n_keys = min(TILE, end - tile);
        let n_quads = (n_keys + 3u) / 4u;
        workgroupBarrier(); // the scores of the tile before have been used
        for (var first = 0u; first < n_quads; first += 8u) {
            let rows = rows_of(tile, (first + lane) * 4u, n_keys, row_units);
            var s = Eight();
            for (var i = 0u; i < quads; i += 8u) {
                var scale = vec4<f32>(1.0);
                if CACHE_SCALED {
                    let index = first_scale + i / 8u;
                    scale = keys_scale(rows + scales + index / 2u, index);
                }
                for (var quad = i; quad < min(i + 8u, quads); quad++) {
                    var k = keys_quad(rows + codes + cache_unit(quad), quad);
                    if CACHE_SCALED { k = mat4x4<f32>(k[0] * scale.x, k[1] * scale.y, k[2] * scale.z, k[3] * scale.w); }
                    let x = eight_quads(QUERIES, own_query, quad);
                    s = Eight(s.a + x.a * k, s.b + x.b * k, s.c + x.c * k, s.d + x.d * k,
                        s.e + x.e * k, s.f + x.f * k, s.g + x.g * k, s.h + x.h * k);
                }
            }
            let at = first + lane;
            if at < n_quads {
                scores[at] = s.a;
                scores[TILE_QUADS + at] = s.b;
                scores[2u * TILE_QUADS + at] = s.c;
                scores[3u * TILE_QUADS + at] = s.d;
                scores[4u * TILE_QUADS + at] = s.e;
                scores[5u * TILE_QUADS + at] = s.f;
                scores[6u * TILE_QUADS + at] = s.g;
                scores[7u * TILE_QUADS + at] = s.h;
            }
        }
        workgroupBarrier();
        var new_max = vec4<f32>(running_max);
        for (var i = 0u; i < n_quads; i++) {
            let keys = vec4<u32>(0u, 1u, 2u, 3u) + (tile + i * 4u);
            let seen = (keys >= vec4<u32>(own_begin)) & (keys < vec4<u32>(own_end));
            new_max = max(new_max, select(vec4<f32>(LOWEST), scores[own_scores + i], seen));
        }
        let largest = max(max(new_max.x, new_max.y), max(new_max.z, new_max.w));
        var sums = vec4<f32>(0.0);
        for (var i = 0u; i < n_quads; i++) {
            let keys = vec4<u32>(0u, 1u, 2u, 3u) + (tile + i * 4u);
            let seen = (keys >= vec4<u32>(own_begin)) & (keys < vec4<u32>(own_end));
            let at = own_scores + i;
            let weights = select(vec4<f32>(0.0), exp(scores[at] - largest), seen);
            scores[at] = weights;
            sums += weights;
        }
        let shrink = exp(running_max - largest);
        running_max = largest;
        running_sum = running_sum * shrink + dot(sums, vec4<f32>(1.0));
        let finish = select(1.0, 1.0 / running_sum, tile + TILE >= end);
        factors[lane] = vec2<f32>(shrink * finish, finish);
        workgroupBarrier();
        for (var i = 0u; i < quads; i += 8u) {
            let quad = min(i + lane, quads - 1u);
            let index = first_scale + i / 8u;
            var o = Eight();
            for (var keys = 0u; keys < n_quads; keys++) {
                let rows = rows_of(tile, keys * 4u, n_keys, row_units);
                var v = values_quad(rows + codes + cache_unit(quad), quad);
                if CACHE_SCALED {
                    let scale = values_scale(rows + scales + index / 2u, index);
                    v = mat4x4<f32>(v[0] * scale.x, v[1] * scale.y, v[2] * scale.z, v[3] * scale.w);
                }
                let p = eight_quads(SCORES, own_scores, keys);
                o = Eight(o.a + v * p.a, o.b + v * p.b, o.c + v * p.c, o.d + v * p.d,
                    o.e + v * p.e, o.f + v * p.f, o.g + v * p.g, o.h + v * p.h);
            }
            if i + lane < quads {
                var outputs = array<vec4<f32>, 8>(o.a, o.b, o.c, o.d, o.e, o.f, o.g, o.h);
                for (var t = 0u; t <= last; t++) {
                    let at = ((token + t) * params.out_stride + head * params.head_dim) / 4u + quad;
                    let before = select(out[at] * factors[t].x, vec4<f32>(0.0), tile == begin);
                    out[at] = before + outputs[t] * factors[t].y;
                }
            }
        }
    }
}
