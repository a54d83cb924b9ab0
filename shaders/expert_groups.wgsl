// Lists the assignments of a batch's tokens to experts in groups that share an expert: (expert, assignments ...),
// where a missing assignment, and the expert of a group that is not needed, is NOBODY. Assignment t * n_used + i is the
// i-th expert of token t.
// One workgroup: a lane counts and lists the assignments of every 64th expert.
struct Params { n_experts: u32, n_used: u32, n_groups: u32, group_size: u32 }

const NOBODY = 0xffffffffu;
const MAX_EXPERTS = 256u;
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> step: array<u32>;             // n_tokens, ...
@group(0) @binding(2) var<storage, read> ids: array<u32>;              // (tokens, n_used), NOBODY for none
@group(0) @binding(3) var<storage, read_write> groups: array<u32>;     // (n_groups, 1 + group_size)
var<workgroup> needed: array<u32, MAX_EXPERTS>;

@compute @workgroup_size(64)
fn main(@builtin(local_invocation_index) lane: u32) {
    let size = params.group_size;
    let n_assignments = step[0] * params.n_used;
    for (var e = lane; e < params.n_experts; e += 64u) {
        var n = 0u;
        for (var a = 0u; a < n_assignments; a++) { n += select(0u, 1u, ids[a] == e); }
        needed[e] = (n + size - 1u) / size;
    }
    workgroupBarrier();
    var total = 0u;
    for (var e = 0u; e < params.n_experts; e++) { total += needed[e]; }
    for (var e = lane; e < params.n_experts; e += 64u) {
        var first = 0u;
        for (var before = 0u; before < e; before++) { first += needed[before]; }
        var n = 0u;
        for (var a = 0u; a < n_assignments; a++) {
            if ids[a] == e {
                let entry = (first + n / size) * (size + 1u);
                groups[entry] = e;
                groups[entry + 1u + n % size] = a;
                n++;
            }
        }
        for (; n % size != 0u; n++) { groups[(first + n / size) * (size + 1u) + 1u + n % size] = NOBODY; }
    }
    for (var g = total + lane; g < params.n_groups; g += 64u) { groups[g * (size + 1u)] = NOBODY; }
}
