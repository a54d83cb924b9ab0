// peaks[g] = the largest key of the 16 logits from 16 * g on; tops[w] = the largest key of a workgroup's 1024 logits, and
// the least id that has it; bins = 0, for `sample_bins` to count in. Keys order logits: see lib/sampling.wgsl.
// One lane per group of 16 logits, and the bins handed round to all lanes.
struct Params { n_vocab: u32 }

const LANES = 64u;
const BIN_WORDS = 3072u;
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> sampling: array<u32>;        // how to choose
@group(0) @binding(2) var<storage, read> seen: array<u32>;            // a bit for each of n_vocab tokens
@group(0) @binding(3) var<storage, read> logits: array<vec4<u32>>;    // (n_vocab), as bits
@group(0) @binding(4) var<storage, read_write> peaks: array<u32>;     // (groups)
@group(0) @binding(5) var<storage, read_write> tops: array<u32>;      // (workgroups, 2)
@group(0) @binding(6) var<storage, read_write> bins: array<u32>;      // (1024, 3)

@compute @workgroup_size(LANES)
fn main(
    @builtin(local_invocation_index) lane: u32,
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) n_workgroups: vec3<u32>,
) {
    let group = workgroup.x * LANES + lane;
    for (var i = group; i < BIN_WORDS; i += n_workgroups.x * LANES) { bins[i] = 0u; }
    var key = 0u;
    var id = BROKEN;
    for (var quad = group * QUADS; quad < (group + 1u) * QUADS; quad++) {
        if quad * 4u < params.n_vocab {
            var four = logits[quad];
            for (var j = 0u; j < 4u; j++) {
                let own = quad * 4u + j;
                if own < params.n_vocab {
                    let other = key_of(four[j], own);
                    if other > key || id == BROKEN {
                        key = other;
                        id = own;
                    }
                }
            }
        }
    }
    if group * 16u < params.n_vocab { peaks[group] = key; }
    let top = reduce_top(lane, key, id);
    if lane == 0u {
        tops[2u * workgroup.x] = top.x;
        tops[2u * workgroup.x + 1u] = top.y;
    }
}
