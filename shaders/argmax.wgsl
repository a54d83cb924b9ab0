// token[0] = the index of the largest logit, the lowest index among equals; 0xffffffff when a logit is NaN or infinite.
// One workgroup in all: lanes take every WIDTH-th logit, then lane 0 compares their winners.
struct Params { n_vocab: u32 }

const LANES = 256u;
const BROKEN = 0xffffffffu;
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> logits: array<f32>;            // (n_vocab)
@group(0) @binding(2) var<storage, read_write> token: array<u32>;       // (1)
var<workgroup> best_logit: array<f32, LANES>;
var<workgroup> best_index: array<u32, LANES>;

@compute @workgroup_size(LANES)
fn main(@builtin(local_invocation_index) lane: u32) {
    var logit = -3.4e38;
    var index = lane;
    for (var i = lane; i < params.n_vocab; i += LANES) {
        // By its bits: a shader compiler may assume that neither NaN nor infinity exists. Minus infinity may be.
        let bits = bitcast<u32>(logits[i]);
        let broken = (bits & 0x7fffffffu) >= 0x7f800000u && bits != 0xff800000u;
        if broken || (index != BROKEN && logits[i] > logit) {
            logit = logits[i];
            index = select(i, BROKEN, broken);
        }
    }
    best_logit[lane] = logit;
    best_index[lane] = index;
    workgroupBarrier();
    if lane == 0u {
        for (var i = 1u; i < LANES; i++) {
            let better = best_logit[i] > logit || (best_logit[i] == logit && best_index[i] < index);
            if index != BROKEN && (better || best_index[i] == BROKEN) {
                logit = best_logit[i];
                index = best_index[i];
            }
        }
        token[0] = index;
    }
}
