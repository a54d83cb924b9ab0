// Four neighbouring lanes per key, whose loads fall together: a key is read in pieces of four units, not one by one by
// lanes that are rows apart. Needs subgroups of four or more lanes in linear order, and uniform calls.
const KEY_LANES = 4u;
fn key_sum(value: f32) -> f32 {
    let pairs = value + subgroupShuffleXor(value, 1u);
    return pairs + subgroupShuffleXor(pairs, 2u);
}
