// Scales of q4_k and q5_k: per row and superblock of eight blocks the f16 d and dmin, and 6-bit scales and minima.
// Words a, b and c belong to a pair of blocks, their bytes to the lane's four rows: a and b hold the even and the odd
// block's scale below, c the even block's minimum; the upper two bits of each are the odd block's minimum.
@group(1) @binding(1) var<storage, read> weight_scales: array<vec4<u32>>; // (tile, superblock, (d, a, b, c), 8 lanes)

struct KScales { d: vec4<u32>, a: u32, b: u32, c: u32, odd: bool }

fn k_scales_load(block: u32, lane: u32) -> KScales {
    let at = block / 8u * 32u + lane;
    let pair = (block / 2u) & 3u;
    return KScales(weight_scales[at], weight_scales[at + 8u][pair], weight_scales[at + 16u][pair],
        weight_scales[at + 24u][pair], (block & 1u) == 1u);
}

fn k_scale(s: KScales) -> vec4<f32> {
    let d = vec4<f32>(halves(s.d.x).x, halves(s.d.y).x, halves(s.d.z).x, halves(s.d.w).x);
    return d * vec4<f32>(unpack4xU8(select(s.a, s.b, s.odd) & 0x3f3f3f3fu));
}

fn k_min(s: KScales) -> vec4<f32> {
    let dmin = vec4<f32>(halves(s.d.x).y, halves(s.d.y).y, halves(s.d.z).y, halves(s.d.w).y);
    let odd = ((s.a >> 6u) & 0x03030303u) | ((s.b >> 4u) & 0x0c0c0c0cu) | ((s.c >> 2u) & 0x30303030u);
    return -dmin * vec4<f32>(unpack4xU8(select(s.c & 0x3f3f3f3fu, odd, s.odd)));
}
