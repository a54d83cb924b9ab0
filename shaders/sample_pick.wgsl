// The next token, by `sampling`: the largest logit's, or one drawn among those that top-k, top-p and min-p leave, with
// probabilities in proportion to their weights (lib/sampling.wgsl). It becomes the step, is marked as seen, and joins the
// ring of drawn tokens; where a logit is no number, the ring gets 0xffffffff.
// One workgroup in all. Lanes share the groups of 16 logits in runs, and pass over groups whose peaks are too low.
struct Params { n_vocab: u32 }

const LANES = 256u;
const LANE_BINS = 4u;
const LANE_FALLS = 8u;
const RING = 64u;
const ALL = 0xffffffffu;
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> sampling: array<u32>;         // how to choose
@group(0) @binding(2) var<storage, read> logits: array<vec4<u32>>;     // (n_vocab), as bits
@group(0) @binding(3) var<storage, read> peaks: array<u32>;            // (groups)
@group(0) @binding(4) var<storage, read> tops: array<u32>;             // (workgroups, 2)
@group(0) @binding(5) var<storage, read> bins: array<u32>;             // (1024, 3)
@group(0) @binding(6) var<storage, read_write> seen: array<u32>;       // a bit for each of n_vocab tokens
@group(0) @binding(7) var<storage, read_write> step: array<u32>;       // n_tokens, position, ..., then token ids
@group(0) @binding(8) var<storage, read_write> drawn: array<u32>;      // draws, then the ring

// Tokens and the sum of their weights, two words.
alias Sum = vec3<u32>;
// Tokens are kept up to this fall, and of those that have it the first `ties`; `sum` is of all that are kept.
struct Cut { fall: u32, ties: u32, sum: Sum }

var<workgroup> sums: array<Sum, LANES>;
var<workgroup> fine: array<atomic<u32>, BIN_FALLS>;
var<workgroup> bin: u32;
var<workgroup> before_bin: Sum;
var<workgroup> cut: Cut;
var<workgroup> token: u32;

@compute @workgroup_size(LANES)
fn main(@builtin(local_invocation_index) lane: u32) {
    var key = 0u;
    var id = ALL;
    for (var i = lane; i < (params.n_vocab + 1023u) / 1024u; i += LANES) {
        if tops[2u * i] > key || id == ALL {
            key = tops[2u * i];
            id = tops[2u * i + 1u];
        }
    }
    let top = reduce_top(lane, key, id);
    if lane == 0u { token = top.y; }
    if sampling[SCALE] != 0u {
        set_top(top.x);
        if lane == 0u { cut = Cut(NO_WEIGHT - 1u, ALL, Sum()); }
        if sampling[TOP_K] != 0u { cut_at(lane, Sum(sampling[TOP_K], ALL, ALL)); }
        if sampling[TOP_P] != 0u {
            if sampling[TOP_K] == 0u { cut_at(lane, Sum(ALL)); }
            let goal = part_of(cut.sum.yz, sampling[TOP_P]);
            cut_at(lane, Sum(ALL, goal.x + u32(all(goal == vec2<u32>())), goal.y));
        }
        workgroupBarrier();
        draw(lane);
    }
    workgroupBarrier();
    if lane == 0u { hand_on(select(token, BROKEN, top.x == BROKEN)); }
}

fn hand_on(chosen: u32) {
    let next = select(chosen, 0u, chosen == BROKEN);
    step[1] += step[0];
    step[0] = 1u;
    step[4] = next;
    seen[next / 32u] |= 1u << (next % 32u);
    drawn[1u + drawn[0] % RING] = chosen;
    drawn[0] += 1u;
}

// Cuts where a sum over tokens, in order of their falls and then ids, reaches the goal's tokens or the goal's weight; or
// nowhere.
fn cut_at(lane: u32, goal: Sum) {
    var own = Sum();
    for (var i = 0u; i < LANE_BINS; i++) { own = plus(own, bin_sum(lane * LANE_BINS + i)); }
    var sum = scan(lane, own);
    if lane == 0u {
        bin = ALL;
        cut = Cut(NO_WEIGHT - 1u, ALL, sums[LANES - 1u]);
    }
    for (var i = lane; i < BIN_FALLS; i += LANES) { atomicStore(&fine[i], 0u); }
    workgroupBarrier();
    if is_reached(plus(sum, own), goal) && !is_reached(sum, goal) {
        for (var i = lane * LANE_BINS; !is_reached(sum, goal); i++) {
            bin = i;
            before_bin = sum;
            sum = plus(sum, bin_sum(i));
        }
    }
    workgroupBarrier();
    count_falls(lane);
    workgroupBarrier();
    own = Sum();
    for (var i = lane * LANE_FALLS; i < (lane + 1u) * LANE_FALLS; i++) { own = plus(own, fall_sum(i)); }
    sum = plus(before_bin, scan(lane, own));
    if bin != ALL && is_reached(plus(sum, own), goal) && !is_reached(sum, goal) { cut_among(lane, sum, goal); }
    workgroupBarrier();
}

// Counts the tokens of each fall of the bin, if there is one.
fn count_falls(lane: u32) {
    if bin == ALL { return; }
    let run = run_of(lane);
    for (var group = run.x; group < run.y; group++) {
        if fall(peaks[group]) / BIN_FALLS > bin { continue; }
        for (var i = 0u; i < 16u; i++) {
            let own = fall_of(group * 16u + i);
            if own / BIN_FALLS == bin { atomicAdd(&fine[own % BIN_FALLS], 1u); }
        }
    }
}

// Cuts among the falls of this lane, where it is known that the goal is reached behind `sum`.
fn cut_among(lane: u32, sum: Sum, goal: Sum) {
    var before = sum;
    var i = lane * LANE_FALLS;
    while !is_reached(plus(before, fall_sum(i)), goal) {
        before = plus(before, fall_sum(i));
        i++;
    }
    // The least number of ties that reaches it, bit by bit: one more than the most that do not.
    let each = weight(bin * BIN_FALLS + i);
    var ties = 0u;
    for (var bit = 0x80000000u; bit > 0u; bit >>= 1u) {
        let more = ties | bit;
        if more < atomicLoad(&fine[i]) && !is_reached(plus(before, Sum(more, product64(more, each))), goal) { ties = more; }
    }
    ties += 1u;
    cut = Cut(bin * BIN_FALLS + i, ties, plus(before, Sum(ties, product64(ties, each))));
}

// Draws among the tokens that the cut and min-p leave.
fn draw(lane: u32) {
    let last = min(cut.fall, sampling[MAX_FALL]);
    let ties = select(cut.ties, ALL, last < cut.fall);
    let run = run_of(lane);
    // Tokens here count ties alone; weights are of what is above them.
    var own = Sum();
    for (var group = run.x; group < run.y; group++) {
        if fall(peaks[group]) > last { continue; }
        for (var i = 0u; i < 16u; i++) {
            let one = fall_of(group * 16u + i);
            if one < last { own = plus(own, Sum(0u, weight(one), 0u)); }
            if one == last { own.x += 1u; }
        }
    }
    let before = scan(lane, own);
    let each = weight(last);
    let total = kept_weight(sums[LANES - 1u], ties, each);
    let at = part_of(total, random());
    if less64(at, kept_weight(before, ties, each)) || !less64(at, kept_weight(plus(before, own), ties, each)) { return; }
    var sum = before;
    for (var group = run.x; group < run.y; group++) {
        if fall(peaks[group]) > last { continue; }
        for (var i = 0u; i < 16u; i++) {
            let one = fall_of(group * 16u + i);
            if one < last { sum = plus(sum, Sum(0u, weight(one), 0u)); }
            if one == last { sum.x += 1u; }
            if less64(at, kept_weight(sum, ties, each)) {
                token = group * 16u + i;
                return;
            }
        }
    }
}

fn kept_weight(sum: Sum, ties: u32, each: u32) -> vec2<u32> { return sum64(sum.yz, product64(min(sum.x, ties), each)); }

// First group of a lane, and the one after its last.
fn run_of(lane: u32) -> vec2<u32> {
    let n_groups = (params.n_vocab + 15u) / 16u;
    let length = (n_groups + LANES - 1u) / LANES;
    return min(vec2<u32>(lane, lane + 1u) * length, vec2<u32>(n_groups));
}

fn fall_of(id: u32) -> u32 {
    if id >= params.n_vocab { return NO_WEIGHT; }
    return fall(key_of(logits[id / 4u][id % 4u], id));
}

fn plus(a: Sum, b: Sum) -> Sum { return Sum(a.x + b.x, sum64(a.yz, b.yz)); }
fn is_reached(sum: Sum, goal: Sum) -> bool { return sum.x >= goal.x || !less64(sum.yz, goal.yz); }
fn bin_sum(i: u32) -> Sum { return Sum(bins[3u * i], bins[3u * i + 1u], bins[3u * i + 2u]); }

fn fall_sum(i: u32) -> Sum {
    let n = atomicLoad(&fine[i]);
    return Sum(n, product64(n, weight(bin * BIN_FALLS + i)));
}

// part / 2^32 of `whole`, rounded down.
fn part_of(whole: vec2<u32>, part: u32) -> vec2<u32> {
    return sum64(vec2<u32>(product64(whole.x, part).y, 0u), product64(whole.y, part));
}

// The sum over the lanes before; `sums[LANES - 1]` is that of all.
fn scan(lane: u32, own: Sum) -> Sum {
    workgroupBarrier();
    sums[lane] = own;
    workgroupBarrier();
    for (var distance = 1u; distance < LANES; distance *= 2u) {
        var sum = sums[lane];
        if lane >= distance { sum = plus(sum, sums[lane - distance]); }
        workgroupBarrier();
        sums[lane] = sum;
        workgroupBarrier();
    }
    return select(sums[max(lane, 1u) - 1u], Sum(), lane == 0u);
}

// 32 random bits: number `drawn[0]` of the seed, as `src/random.rs` has it.
fn random() -> u32 {
    var v = vec4<u32>(sampling[SEED], sampling[SEED + 1u], drawn[0], 0u) * 1664525u + 1013904223u;
    for (var round = 0u; round < 2u; round++) {
        v.x += v.y * v.w;
        v.y += v.z * v.x;
        v.z += v.x * v.y;
        v.w += v.y * v.z;
        if round == 0u { v ^= v >> vec4<u32>(16u); }
    }
    return v.x;
}
