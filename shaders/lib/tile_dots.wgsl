// Products of one token's activations with a tile of 32 rows. Eight lanes own a tile, four rows each; K_SPLIT groups of
// eight lanes share a tile by taking every K_SPLIT-th block of 32 columns. A workgroup has SIZE lanes.
var<workgroup> split_sums: array<vec4<f32>, SIZE>;

// A lane's share of the sums of its four rows: blocks of weights from `first_block` on, quads of x from `first_x` on.
fn tile_dots(lane: u32, first_block: u32, first_x: u32, n_blocks: u32) -> vec4<f32> {
    let row_lane = lane % 8u;
    let split = (lane / 8u) % K_SPLIT;
    var sum = vec4<f32>(0.0);
    // The bounds are uniform, since x_load may hand activations from lane to lane; a lane past the end repeats the
    // last block and drops the result.
    for (var i = 0u; i < n_blocks; i += K_SPLIT) {
        let block = min(i + split, n_blocks - 1u);
        let a = x_load(first_x + block * 8u, row_lane);
        let w = weight_load(first_block + block, row_lane);
        let dots = products_one(w, a);
        sum += select(vec4<f32>(0.0), dots, i + split < n_blocks);
    }
    return sum;
}

// The whole sums, for the lanes of the first of a tile's K_SPLIT groups.
fn tile_total(lane: u32, share: vec4<f32>) -> vec4<f32> {
    var sum = share;
    if K_SPLIT > 1u {
        workgroupBarrier(); // the shares of the total before may still be read
        split_sums[lane] = share;
        workgroupBarrier();
        if (lane / 8u) % K_SPLIT == 0u {
            for (var i = 1u; i < K_SPLIT; i++) { sum += split_sums[lane + i * 8u]; }
        }
    }
    return sum;
}
