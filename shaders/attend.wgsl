// One token's attention, from the product with q, k and v to the heads' outputs:
//   q, k = RoPE(norm(q)), RoPE(norm(k)) (arXiv:2104.09864; the norm of heads where norm_eps > 0), q *= q_scale,
//   row `position mod capacity` of the cache = k, v,
//   out[h] = sum_j softmax_j(q[h] . k[j]) v[j] over the keys j up to the token's own, or the last `window` of them.
// One workgroup per head of keys and split of them: its HEADS heads of queries share every key that is loaded, in
// lib/keys_tiled.wgsl or lib/keys_eight.wgsl.
// A token with few keys has one split, which writes the output. More of them leave in `out`, from partials_at on and
// for each head and split, the unscaled sum, its maximum and its sum of weights, for `attend_merge`.
struct Params {
    n_heads: u32,
    n_kv_heads: u32,
    head_dim: u32,      // HEAD_DIM
    rope_dim: u32,      // the first rope_dim numbers of a head are rotated
    interleaved: u32,   // 1: pairs (2i, 2i + 1), as in Llama's GGUF files; 0: pairs (i, i + rope_dim / 2)
    capacity: u32,      // rows of the cache
    window: u32,        // 0: none
    first_kv_head: u32, // the part of the heads that this cache is for
    part_kv_heads: u32,
    split_keys: u32,    // keys that are not worth a second split
    most_splits: u32,
    partials_at: u32,
    q_scale: f32,
    norm_eps: f32,
}

const QUADS = HEAD_DIM / 4u;
const GROUPS = (HEAD_DIM + 31u) / 32u;
const FRESH = HEAD_DIM + 32u;
const LOWEST = -3.0e38;
// The keys of a workgroup, [first, last) of those before `end`, and where a row of the cache has the head's numbers:
// first unit of codes, first unit of all heads' scales, and the head's first scale; and whose results these are.
struct Span { first: u32, last: u32, end: u32, row_units: u32, codes: u32, scales: u32, first_scale: u32, first_head: u32, n_splits: u32, split: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> step: array<u32>;                  // n_tokens, position, first row of angles, ...
@group(0) @binding(2) var<storage, read> qkv: array<f32>;                   // heads of q, k, then v
@group(0) @binding(3) var<storage, read> angles: array<vec2<f32>>;          // (row, rope_dim / 2): cos, sin
@group(0) @binding(4) var<storage, read> q_norm: array<f32>;                // (head_dim), or anything
@group(0) @binding(5) var<storage, read> k_norm: array<f32>;                // (head_dim), or anything
@group(0) @binding(6) var<storage, read_write> k_cache: array<CacheUnit>;   // (capacity, part_kv_heads, head_dim)
@group(0) @binding(7) var<storage, read_write> v_cache: array<CacheUnit>;   // (capacity, part_kv_heads, head_dim)
@group(0) @binding(8) var<storage, read_write> out: array<f32>;             // (n_heads, head_dim), partials behind it
var<workgroup> query: array<vec4<f32>, HEADS * QUADS>;
// The token's own key and value, and behind each the first 32 numbers of the next head's: with an odd number of groups
// to a head, two heads' scales share a word of a quantised cache.
var<workgroup> fresh: array<f32, 2u * FRESH>;

// The row that lies `slot` rows from the cache's first. Fewer rows are gone over than there are, so that it goes round once
// at most; a remainder for each key would take as long as its loads.
fn row_of(slot: u32) -> u32 { return select(slot, slot - params.capacity, slot >= params.capacity); }

// Where head `h` of a span leaves its HEAD_DIM results, or its sum if there are more splits.
fn out_at(span: Span, h: u32) -> u32 {
    let head = span.first_head + h;
    if span.n_splits == 1u { return head * HEAD_DIM; }
    return params.partials_at + (head * span.n_splits + span.split) * (HEAD_DIM + 2u);
}

// Where there are more splits, a head's maximum and sum of weights lie behind its sum.
fn leave_totals(lane: u32, span: Span, h: u32, largest: f32, total: f32) {
    if lane > 0u || span.n_splits == 1u { return; }
    let at = out_at(span, h) + HEAD_DIM;
    out[at] = largest;
    out[at + 1u] = total;
}

// What the numbers of the head that begins at `head` are multiplied by before the norm's weight.
fn head_scale(head: u32) -> f32 {
    if params.norm_eps == 0.0 { return 1.0; }
    var sum = 0.0;
    for (var d = 0u; d < HEAD_DIM; d++) { sum += qkv[head + d] * qkv[head + d]; }
    return inverseSqrt(sum / f32(HEAD_DIM) + params.norm_eps);
}

fn normed(head: u32, d: u32, scale: f32, is_query: bool) -> f32 {
    let value = qkv[head + d];
    if params.norm_eps == 0.0 { return value; }
    return value * scale * select(k_norm[d], q_norm[d], is_query);
}

// Number `d` of the head that begins at `head`, normed and rotated.
fn rotated(head: u32, d: u32, scale: f32, is_query: bool) -> f32 {
    let own = normed(head, d, scale, is_query);
    if d >= params.rope_dim { return own; }
    let half = params.rope_dim / 2u;
    let interleaved = params.interleaved == 1u;
    let second = select(d >= half, d % 2u == 1u, interleaved);
    let pair = select(d % half, d / 2u, interleaved);
    let distance = select(half, 1u, interleaved);
    let other = normed(head, select(d + distance, d - distance, second), scale, is_query);
    let angle = angles[(step[2] + step[1]) * half + pair];
    return own * angle.x + select(-other, other, second) * angle.y;
}

@compute @workgroup_size(WIDTH)
fn main(@builtin(local_invocation_index) lane: u32, @builtin(workgroup_id) group: vec3<u32>) {
    let kv_head = group.x;
    let first_head = (params.first_kv_head + kv_head) * HEADS;
    let end = step[1] + 1u;
    let begin = select(0u, end - min(end, params.window), params.window > 0u);
    let n_splits = min((end - begin + params.split_keys - 1u) / params.split_keys, params.most_splits);
    let chunk = (end - begin + n_splits - 1u) / n_splits;
    let first_key = min(end, begin + group.y * chunk);
    let last_key = min(end, first_key + chunk); // the one after the last
    let span = Span(first_key, last_key, end, cache_row(params.part_kv_heads, HEAD_DIM), cache_head(kv_head, HEAD_DIM),
        cache_head(params.part_kv_heads, HEAD_DIM), kv_head * GROUPS, first_head, n_splits, group.y);

    for (var i = lane; i < HEADS * QUADS; i += WIDTH) {
        let head = (first_head + i / QUADS) * HEAD_DIM;
        let d = i % QUADS * 4u;
        let scale = head_scale(head);
        query[i] = params.q_scale * vec4<f32>(rotated(head, d, scale, true), rotated(head, d + 1u, scale, true),
            rotated(head, d + 2u, scale, true), rotated(head, d + 3u, scale, true));
    }
    // The split of the last key appends the token's own.
    let appends = first_key < end && last_key == end;
    if appends {
        let n_fresh = select(HEAD_DIM, min(FRESH, 2u * HEAD_DIM), kv_head + 1u < params.part_kv_heads);
        let key = (params.n_heads + params.first_kv_head + kv_head) * HEAD_DIM;
        for (var i = lane; i < FRESH; i += WIDTH) {
            let head = key + i / HEAD_DIM * HEAD_DIM;
            let d = i % HEAD_DIM;
            if i < n_fresh {
                fresh[i] = rotated(head, d, head_scale(head), false);
                fresh[FRESH + i] = qkv[head + params.n_kv_heads * HEAD_DIM + d];
            } else {
                fresh[i] = 0.0;
                fresh[FRESH + i] = 0.0;
            }
        }
    }
    workgroupBarrier();
    if appends {
        let row = step[1] % params.capacity * span.row_units;
        cache_append(lane, kv_head, row + span.codes, row + span.scales);
    }
    storageBarrier();
    workgroupBarrier();
    attend_span(lane, span);
}
