// bins[b] += tokens whose fall is in bin b, of 1/32 octave, and the sum of their weights as two words: what tells
// `sample_pick` near which fall a number of tokens or a share of the probability is reached. See lib/sampling.wgsl.
// One lane per group of 16 logits. Sums of whole numbers do not depend on their order.
struct Params { n_vocab: u32 }

const LANES = 64u;
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> sampling: array<u32>;              // how to choose
@group(0) @binding(2) var<storage, read> seen: array<u32>;                  // a bit for each of n_vocab tokens
@group(0) @binding(3) var<storage, read> logits: array<vec4<u32>>;          // (n_vocab), as bits
@group(0) @binding(4) var<storage, read> tops: array<u32>;                  // (workgroups, 2)
@group(0) @binding(5) var<storage, read_write> bins: array<atomic<u32>>;    // (1024, 3)

@compute @workgroup_size(LANES)
fn main(
    @builtin(local_invocation_index) lane: u32,
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) n_workgroups: vec3<u32>,
) {
    var key = 0u;
    for (var i = lane; i < n_workgroups.x; i += LANES) { key = max(key, tops[2u * i]); }
    set_top(reduce_top(lane, key, 0u).x);
    let group = workgroup.x * LANES + lane;
    for (var quad = group * QUADS; quad < (group + 1u) * QUADS; quad++) {
        if quad * 4u < params.n_vocab {
            var four = logits[quad];
            for (var j = 0u; j < 4u; j++) {
                let id = quad * 4u + j;
                let own = select(NO_WEIGHT, fall(key_of(four[j], id)), id < params.n_vocab);
                if own < NO_WEIGHT { count(own / BIN_FALLS, weight(own)); }
            }
        }
    }
}

fn count(bin: u32, weight: u32) {
    atomicAdd(&bins[3u * bin], 1u);
    let before = atomicAdd(&bins[3u * bin + 1u], weight);
    // However the others' turns fall, as many of them carry as the sum's high word says.
    if before + weight < before { atomicAdd(&bins[3u * bin + 2u], 1u); }
}
