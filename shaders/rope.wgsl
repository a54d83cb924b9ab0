// Splits qkv into heads, rotates queries and keys by their position (RoPE, arXiv:2104.09864), scales queries by
// 1 / sqrt(head_dim), and writes keys and values to the row `position mod capacity` of the cache.
// One lane per four consecutive numbers of a head, eight lanes per 32 of them, one workgroup per eight such groups and
// token: the part's keys first, then its values, each filled up to an even number of groups, then its queries.
struct Params {
    n_heads: u32,
    n_kv_heads: u32,
    head_dim: u32,
    rope_dim: u32,      // the first rope_dim numbers of a head are rotated
    interleaved: u32,   // 1: pairs (2i, 2i + 1), as in Llama's GGUF files; 0: pairs (i, i + rope_dim / 2)
    capacity: u32,      // rows of the cache
    first_kv_head: u32, // the part of the heads that this cache is for, and the queries that see them
    part_kv_heads: u32,
    qkv_stride: u32,
    q_scale: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> step: array<u32>;                  // n_tokens, position, first row of angles, ...
@group(0) @binding(2) var<storage, read> qkv: array<f32>;                   // (tokens, qkv_stride)
@group(0) @binding(3) var<storage, read> angles: array<vec2<f32>>;          // (row, rope_dim / 2): cos, sin
@group(0) @binding(4) var<storage, read_write> q: array<vec4<f32>>;         // (tokens, n_heads, head_dim)
@group(0) @binding(5) var<storage, read_write> k_cache: array<CacheUnit>;   // (capacity, part_kv_heads, head_dim)
@group(0) @binding(6) var<storage, read_write> v_cache: array<CacheUnit>;   // (capacity, part_kv_heads, head_dim)

// Where a lane's quad belongs: in the keys or the values, the first unit of the row, the head within it.
struct CachePlace { keys: bool, row: u32, n_heads: u32, head: u32, head_dim: u32, quad: u32 }

// Number `d` of the head that begins at `head`, rotated.
fn rotated(head: u32, d: u32, position: u32) -> f32 {
    let half = params.rope_dim / 2u;
    let own = qkv[head + d];
    if d >= params.rope_dim { return own; }
    let interleaved = params.interleaved == 1u;
    let second = select(d >= half, d % 2u == 1u, interleaved);
    let pair = select(d % half, d / 2u, interleaved);
    let distance = select(half, 1u, interleaved);
    let other = qkv[head + select(d + distance, d - distance, second)];
    let angle = angles[(step[2] + position) * half + pair];
    return own * angle.x + select(-other, other, second) * angle.y;
}

@compute @workgroup_size(64)
fn main(@builtin(local_invocation_index) lane: u32, @builtin(workgroup_id) workgroup: vec3<u32>) {
    let head_groups = (params.head_dim + 31u) / 32u;
    let cached_groups = (params.part_kv_heads * head_groups + 1u) / 2u * 2u;
    let group = workgroup.x * 8u + lane / 8u;
    let keys = group < cached_groups;
    let queries = group >= 2u * cached_groups;
    let own_group = group - select(select(cached_groups, 0u, keys), 2u * cached_groups, queries);
    let head = own_group / head_groups;
    let quad = own_group % head_groups * 8u + lane % 8u;
    let sharing = params.n_heads / params.n_kv_heads;
    let n_heads = params.part_kv_heads * select(1u, sharing, queries);
    let token = workgroup.y;
    let position = step[1] + token;
    let used = head < n_heads && quad < params.head_dim / 4u && token < step[0];
    var value = vec4<f32>(0.0);
    if used {
        let first = select(params.n_heads + select(params.n_kv_heads, 0u, keys) + params.first_kv_head,
            params.first_kv_head * sharing, queries);
        let at = token * params.qkv_stride + (first + head) * params.head_dim;
        let d = quad * 4u;
        if keys || queries {
            value = vec4<f32>(rotated(at, d, position), rotated(at, d + 1u, position),
                rotated(at, d + 2u, position), rotated(at, d + 3u, position));
        } else {
            value = vec4<f32>(qkv[at + d], qkv[at + d + 1u], qkv[at + d + 2u], qkv[at + d + 3u]);
        }
        if queries {
            q[(token * params.n_heads + first + head) * (params.head_dim / 4u) + quad] = value * params.q_scale;
        }
    }
    let row = position % params.capacity * cache_row(params.part_kv_heads, params.head_dim);
    let place = CachePlace(keys, row, params.part_kv_heads, head, params.head_dim, quad);
    cache_store(lane, used && !queries, place, value);
}
