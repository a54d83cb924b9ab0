// words[l] += add: as little as a dispatch can do and still be seen to have run.
// One workgroup for up to 32 words.
struct Params { n: u32, add: u32 }

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> words: array<u32>; // (n)

@compute @workgroup_size(32)
fn main(@builtin(local_invocation_index) lane: u32) {
    if lane < params.n { words[lane] += params.add; }
}
