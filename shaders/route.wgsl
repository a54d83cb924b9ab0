// Chooses the experts of each token from its router logits, and their weights.
// sparse = 0: the n_used largest logits, weighted by the softmax over them (arXiv:2401.04088). sparse = 1: one pick
// after another, each weighted by a softmax over the logits l not yet picked for which (pick - l) / max(|l|, pick) is
// at most 2 * jitter (arXiv:2409.12136). Of equal logits the first wins.
// One lane per token: a few hundred comparisons.
struct Params { n_experts: u32, n_used: u32, sparse: u32, jitter: f32 }

const LOWEST = -3.4028234e38;
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> step: array<u32>;             // n_tokens, ...
@group(0) @binding(2) var<storage, read> logits: array<f32>;           // (tokens, n_experts)
@group(0) @binding(3) var<storage, read_write> ids: array<u32>;        // (tokens, n_used)
@group(0) @binding(4) var<storage, read_write> shares: array<f32>;     // (tokens, n_used)

// Whether expert `e` is among the first `n` picks of the token whose picks begin at `first`.
fn picked(first: u32, n: u32, e: u32) -> bool {
    for (var i = 0u; i < n; i++) {
        if ids[first + i] == e { return true; }
    }
    return false;
}

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x >= step[0] { return; }
    let row = id.x * params.n_experts;
    let first = id.x * params.n_used;
    var total = 0.0;
    var largest = 0.0;
    for (var pick = 0u; pick < params.n_used; pick++) {
        var best = LOWEST;
        var expert = 0u;
        for (var e = params.n_experts; e > 0u; e--) {
            if logits[row + e - 1u] >= best && !picked(first, pick, e - 1u) {
                best = logits[row + e - 1u];
                expert = e - 1u;
            }
        }
        if params.sparse == 1u {
            var sum = 0.0;
            for (var e = 0u; e < params.n_experts; e++) {
                let l = logits[row + e];
                if (best - l) / max(abs(l), best) <= 2.0 * params.jitter && !picked(first, pick, e) { sum += exp(l - best); }
            }
            shares[first + pick] = 1.0 / sum;
        } else {
            if pick == 0u { largest = best; }
            shares[first + pick] = exp(best - largest);
            total += shares[first + pick];
        }
        ids[first + pick] = expert;
    }
    if params.sparse == 0u {
        for (var pick = 0u; pick < params.n_used; pick++) { shares[first + pick] /= total; }
    }
}
