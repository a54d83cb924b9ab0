// Sums over eight neighbouring lanes, within a subgroup of eight or more lanes in linear order.
fn lane8_sum(lane: u32, value: f32) -> f32 {
    let pairs = value + subgroupShuffleXor(value, 1u);
    let fours = pairs + subgroupShuffleXor(pairs, 2u);
    return fours + subgroupShuffleXor(fours, 4u);
}
