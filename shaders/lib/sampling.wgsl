// What choosing a token means, in whole numbers alone, as `src/kernels/sampling.rs` says it: keys order logits, a fall is
// how much less probable a logit is than the largest in 65,536ths of an octave, and a weight is 2^31 halved once an
// octave. For kernels with the bindings `sampling`, `seen` and `logits`, and a workgroup of LANES.
const SCALE = 0u; // words of `sampling`
const SHIFT = 1u;
const TOP_K = 2u;
const TOP_P = 3u;
const MAX_FALL = 4u;
const PENALTY = 5u;
const INVERSE_PENALTY = 6u;
const SEED = 7u;

const QUADS = 4u; // of logits in a group
const NO_WEIGHT = 0x200000u; // the least fall with no weight
const BIN_FALLS = 2048u;
const BROKEN = 0xffffffffu; // the key of what is no number, and the token it leads to
const MINUS_INFINITY = 0x007fffffu; // its key
const ONE = 0x3f800000u;

var<workgroup> top_keys: array<u32, LANES>;
var<workgroup> top_ids: array<u32, LANES>;
// Of the largest logit, once `fall` is to be used: its key, its size, and the binary places of sizes.
var<private> top_key: u32;
var<private> top_size: i32;
var<private> unit: i32;

// a * b, low word first.
fn product64(a: u32, b: u32) -> vec2<u32> {
    let low = (a & 0xffffu) * (b & 0xffffu);
    let cross = (a & 0xffffu) * (b >> 16u);
    let other = (a >> 16u) * (b & 0xffffu);
    let middle = (low >> 16u) + (cross & 0xffffu) + (other & 0xffffu);
    let high = (a >> 16u) * (b >> 16u) + (cross >> 16u) + (other >> 16u) + (middle >> 16u);
    return vec2<u32>((low & 0xffffu) | (middle << 16u), high);
}

fn sum64(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> {
    let low = a.x + b.x;
    return vec2<u32>(low, a.y + b.y + u32(low < a.x));
}

fn less64(a: vec2<u32>, b: vec2<u32>) -> bool { return a.y < b.y || (a.y == b.y && a.x < b.x); }

// A logit's bits times a positive factor's, rounded towards zero.
fn penalised(bits: u32) -> u32 {
    let factor = sampling[select(PENALTY, INVERSE_PENALTY, bits < 0x80000000u)];
    let magnitude = bits & 0x7fffffffu;
    let sign = bits & 0x80000000u;
    let wide = product64((magnitude & 0x7fffffu) | 0x800000u, (factor & 0x7fffffu) | 0x800000u);
    var digits = (wide.y << 9u) | (wide.x >> 23u);
    let carry = digits >> 24u;
    digits >>= carry;
    let exponent = i32(magnitude >> 23u) + i32(factor >> 23u) - 127 + i32(carry);
    if magnitude < 0x800000u || (exponent < 1 && magnitude != 0x7f800000u) { return sign; }
    if magnitude == 0x7f800000u { return bits; }
    return sign | select((u32(exponent) << 23u) | (digits & 0x7fffffu), 0x7f7fffffu, exponent > 254);
}

// Larger for larger logits. By their bits: a shader compiler may assume that neither NaN nor infinity exists.
fn key_of(logit: u32, id: u32) -> u32 {
    if (logit & 0x7fffffffu) >= 0x7f800000u && logit != 0xff800000u { return BROKEN; }
    var bits = logit;
    if sampling[PENALTY] != ONE && ((seen[id / 32u] >> (id % 32u)) & 1u) == 1u { bits = penalised(bits); }
    if (bits & 0x7fffffffu) == 0u { return 0x80000000u; }
    return select(bits | 0x80000000u, ~bits, bits >= 0x80000000u);
}

// The largest key of the workgroup's lanes and the least id that has it, for every lane.
fn reduce_top(lane: u32, key: u32, id: u32) -> vec2<u32> {
    top_keys[lane] = key;
    top_ids[lane] = id;
    workgroupBarrier();
    for (var stride = LANES / 2u; stride > 0u; stride /= 2u) {
        if lane < stride {
            let other = top_keys[lane + stride];
            let other_id = top_ids[lane + stride];
            if other > top_keys[lane] || (other == top_keys[lane] && other_id < top_ids[lane]) {
                top_keys[lane] = other;
                top_ids[lane] = other_id;
            }
        }
        workgroupBarrier();
    }
    return vec2<u32>(top_keys[0], top_ids[0]);
}

fn size_of(key: u32) -> i32 {
    let magnitude = select(~key, key, key >= 0x80000000u) & 0x7fffffffu;
    let digits = select((magnitude & 0x7fffffu) | 0x800000u, 0u, magnitude < 0x800000u);
    let left = i32(magnitude >> 23u) - 150 + unit;
    var size = digits << u32(clamp(left, 0, 6));
    size >>= u32(clamp(-left, 0, 31));
    if left > 6 { size = 0x40000000u; }
    return select(-i32(size), i32(size), key >= 0x80000000u);
}

// Prepares `fall`.
fn set_top(key: u32) {
    let magnitude = select(~key, key, key >= 0x80000000u) & 0x7fffffffu;
    unit = min(156 - i32(magnitude >> 23u), 20);
    top_key = key;
    top_size = size_of(key);
}

fn fall(key: u32) -> u32 {
    if key == MINUS_INFINITY && key != top_key { return NO_WEIGHT; }
    let distance = u32(top_size - size_of(key));
    let shift = bitcast<i32>(sampling[SHIFT]) + unit - 16;
    if distance == 0u || shift > 63 { return 0u; }
    // Below 10 even the least distance is worth 32 octaves, and below 32 a distance of 2^22 is.
    if shift < 10 || (shift < 32 && distance >= 0x400000u) { return NO_WEIGHT; }
    let wide = product64(distance, sampling[SCALE]);
    let right = u32(shift) & 31u;
    if shift >= 32 { return min(wide.y >> right, NO_WEIGHT); }
    if (wide.y >> right) != 0u { return NO_WEIGHT; }
    return min((wide.y << (32u - right)) | (wide.x >> right), NO_WEIGHT);
}

fn weight(fall: u32) -> u32 {
    if fall >= NO_WEIGHT { return 0u; }
    let part = fall & 0xffffu;
    var slope = 478u;
    slope = 3548u - ((slope * part + 0x8000u) >> 16u);
    slope = 15726u - ((slope * part + 0x8000u) >> 16u);
    slope = 45424u - ((slope * part + 0x8000u) >> 16u);
    return (0x80000000u - ((slope * part) >> 1u)) >> (fall >> 16u);
}
