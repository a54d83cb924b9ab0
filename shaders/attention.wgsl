// out[t, h] = sum_j softmax_j(q[t, h] . k[j]) v[j] over the keys j that token t sees: those up to its own position,
// and with a window only the last `window` of them. Key j is in row `j mod capacity`. Queries come scaled.
// One workgroup per head of the part and token. Keys are taken TILE at a time with a running maximum (online softmax,
// arXiv:1805.02867): first a lane per key for the scores, then a lane per four numbers of the output.
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

const TILE = 1024u;
const MAX_QUADS = 64u; // head_dim <= 256
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> step: array<u32>;              // n_tokens, position, ...
@group(0) @binding(2) var<storage, read> q: array<vec4<f32>>;           // (tokens, n_heads, head_dim)
@group(0) @binding(3) var<storage, read> k_cache: array<CacheUnit>;     // (capacity, part_kv_heads, head_dim)
@group(0) @binding(4) var<storage, read> v_cache: array<CacheUnit>;     // (capacity, part_kv_heads, head_dim)
@group(0) @binding(5) var<storage, read_write> out: array<f32>;         // (tokens, out_stride)
var<workgroup> query: array<vec4<f32>, MAX_QUADS>;
var<workgroup> scores: array<f32, TILE>;
var<workgroup> outputs: array<vec4<f32>, MAX_QUADS>;

// The row that lies `slot` rows from the first; a tile holds fewer keys than the cache has rows.
fn row_of(slot: u32) -> u32 { return select(slot, slot - params.capacity, slot >= params.capacity); }

@compute @workgroup_size(WIDTH)
fn main(@builtin(local_invocation_index) lane: u32, @builtin(workgroup_id) group: vec3<u32>) {
    let sharing = params.n_heads / params.n_kv_heads;
    let head = params.first_kv_head * sharing + group.x;
    let token = group.y;
    let quads = params.head_dim / 4u;
    let end = step[1] + token + 1u;
    let begin = select(0u, end - min(end, params.window), params.window > 0u);
    let row_units = cache_row(params.part_kv_heads, params.head_dim);
    // Within a row: the head's first unit of codes, the first unit of scales, and the head's first scale.
    let codes = cache_head(group.x / sharing, params.head_dim);
    let scales = cache_head(params.part_kv_heads, params.head_dim);
    let first_scale = group.x / sharing * ((params.head_dim + 31u) / 32u);
    for (var i = lane; i < quads; i += WIDTH) {
        query[i] = q[(token * params.n_heads + head) * quads + i];
        outputs[i] = vec4<f32>(0.0);
    }
    var running_max = -3.0e38;
    var running_sum = 0.0;
    for (var tile = begin; tile < end; tile += TILE) {
        let n_keys = min(TILE, end - tile);
        let first_row = tile % params.capacity;
        workgroupBarrier(); // the query is there, and the scores of the tile before have been used
        var own_max = -3.0e38;
        for (var j = lane; j < n_keys; j += WIDTH) {
            let row = row_of(first_row + j) * row_units;
            var score = 0.0;
            for (var i = 0u; i < quads; i += 8u) {
                var sum = 0.0;
                for (var quad = i; quad < min(i + 8u, quads); quad++) {
                    sum += dot(query[quad], cache_decode(k_cache[row + codes + cache_unit(quad)], quad));
                }
                if CACHE_SCALED {
                    let scale = first_scale + i / 8u;
                    sum *= cache_scale(k_cache[row + scales + scale / 2u], scale);
                }
                score += sum;
            }
            scores[j] = score;
            own_max = max(own_max, score);
        }
        let new_max = max(running_max, reduce_max(lane, own_max));
        var own_sum = 0.0;
        for (var j = lane; j < n_keys; j += WIDTH) {
            let weight = exp(scores[j] - new_max);
            scores[j] = weight;
            own_sum += weight;
        }
        let shrink = exp(running_max - new_max);
        running_max = new_max;
        running_sum = running_sum * shrink + reduce_sum(lane, own_sum); // its barriers show all scores to all lanes
        for (var i = lane; i < quads; i += WIDTH) {
            var sum = outputs[i] * shrink;
            let scale = first_scale + i / 8u;
            for (var j = 0u; j < n_keys; j++) {
                let row = row_of(first_row + j) * row_units;
                var weight = scores[j];
                if CACHE_SCALED { weight *= cache_scale(v_cache[row + scales + scale / 2u], scale); }
                sum += weight * cache_decode(v_cache[row + codes + cache_unit(i)], i);
            }
            outputs[i] = sum;
        }
    }
    for (var i = lane; i < quads; i += WIDTH) {
        let value = outputs[i] / running_sum;
        let at = token * params.out_stride + head * params.head_dim + i * 4u;
        for (var j = 0u; j < 4u; j++) { out[at + j] = value[j]; }
    }
}
