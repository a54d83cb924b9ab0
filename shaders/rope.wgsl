// Splits qkv into heads, rotates queries and keys by their position (RoPE, arXiv:2104.09864), scales queries by
// 1 / sqrt(head_dim), and appends keys and values to the cache.
// One lane per four consecutive numbers of a head; one workgroup per 64 of them and token.
struct Params {
    n_heads: u32,
    n_kv_heads: u32,
    head_dim: u32,
    rope_dim: u32,    // the first rope_dim numbers of a head are rotated
    interleaved: u32, // 1: pairs (2i, 2i + 1), as in Llama's GGUF files; 0: pairs (i, i + rope_dim / 2)
    capacity: u32,    // slots of the cache
    qkv_stride: u32,
    q_scale: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> step: array<u32>;                  // n_tokens, position, first row of angles, ...
@group(0) @binding(2) var<storage, read> qkv: array<f32>;                   // (tokens, qkv_stride)
@group(0) @binding(3) var<storage, read> angles: array<vec2<f32>>;          // (row, rope_dim / 2): cos, sin
@group(0) @binding(4) var<storage, read_write> q: array<vec4<f32>>;         // (tokens, n_heads, head_dim)
@group(0) @binding(5) var<storage, read_write> k_cache: array<CacheQuad>;   // (n_kv_heads, capacity, head_dim)
@group(0) @binding(6) var<storage, read_write> v_cache: array<CacheQuad>;   // (n_kv_heads, capacity, head_dim)

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
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let quads = params.head_dim / 4u;
    let head = id.x / quads;
    let token = id.y;
    if head >= params.n_heads + 2u * params.n_kv_heads || token >= step[0] { return; }
    let d = (id.x % quads) * 4u;
    let position = step[1] + token;
    let from_head = token * params.qkv_stride + head * params.head_dim;
    if head >= params.n_heads + params.n_kv_heads {
        let slot = (head - params.n_heads - params.n_kv_heads) * params.capacity + position;
        let at = from_head + d;
        v_cache[slot * quads + d / 4u] = cache_pack(vec4<f32>(qkv[at], qkv[at + 1u], qkv[at + 2u], qkv[at + 3u]));
        return;
    }
    let value = vec4<f32>(rotated(from_head, d, position), rotated(from_head, d + 1u, position),
        rotated(from_head, d + 2u, position), rotated(from_head, d + 3u, position));
    if head >= params.n_heads {
        let slot = (head - params.n_heads) * params.capacity + position;
        k_cache[slot * quads + d / 4u] = cache_pack(value);
    } else {
        q[(token * params.n_heads + head) * quads + d / 4u] = value * params.q_scale;
    }
}
