// As tile_dots, for the tiles of two matrices that share their activations: gate and up.
fn pair_dots(lane: u32, first_block: u32, second_block: u32, n_blocks: u32) -> array<vec4<f32>, 2> {
    let row_lane = lane % 8u;
    let split = (lane / 8u) % K_SPLIT;
    var first = vec4<f32>(0.0);
    var second = vec4<f32>(0.0);
    // Uniform bounds, as in tile_dots.
    for (var i = 0u; i < n_blocks; i += K_SPLIT) {
        let block = min(i + split, n_blocks - 1u);
        let a = x_load(block * 8u, row_lane);
        let first_dots = products_one(weight_load(first_block + block, row_lane), a);
        let second_dots = products_one(weight_load(second_block + block, row_lane), a);
        let inside = i + split < n_blocks;
        first += select(vec4<f32>(0.0), first_dots, inside);
        second += select(vec4<f32>(0.0), second_dots, inside);
    }
    return array<vec4<f32>, 2>(first, second);
}
