// A tile of 64 rows and 64 columns of a product: weights are decoded and activations transposed into workgroup memory a
// block of 32 numbers at a time, and each lane sums eight rows for 4 * TOKEN_QUADS columns from there.
const LANES = 128u / TOKEN_QUADS;
// Lanes with the same rows of weights to stage, and the quads of a block that each of them stages.
const PARTS = LANES / 16u;
const PART_QUADS = 8u / PARTS;
var<workgroup> staged_w: array<vec4<f32>, 512>; // (32 numbers, 16 quads of rows)
// (32 numbers, 16 quads of columns); quad c of columns is at c ^ (number / 4), so that lanes write to different banks.
var<workgroup> staged_x: array<vec4<f32>, 512>;

// Sums by column: columns 4 * c .. of the tile, and those 32 later where a lane has two quads of them; rows 4 * r .., and
// those 32 later; c = lane / 8, r = lane % 8.
struct Tile { near_low: mat4x4<f32>, near_high: mat4x4<f32>, far_low: mat4x4<f32>, far_high: mat4x4<f32> }

// Adds four columns' products with four rows of one number.
fn tile_outer(x: vec4<f32>, w: vec4<f32>) -> mat4x4<f32> { return mat4x4<f32>(w * x.x, w * x.y, w * x.z, w * x.w); }

fn tile_number(before: Tile, number: u32, quad: u32, lane: u32) -> Tile {
    let low = staged_w[number * 16u + lane % 8u];
    let high = staged_w[number * 16u + lane % 8u + 8u];
    let near = staged_x[number * 16u + ((lane / 8u) ^ quad)];
    var t = before;
    t.near_low += tile_outer(near, low);
    t.near_high += tile_outer(near, high);
    if TOKEN_QUADS == 2u {
        let far = staged_x[number * 16u + ((lane / 8u + 8u) ^ quad)];
        t.far_low += tile_outer(far, low);
        t.far_high += tile_outer(far, high);
    }
    return t;
}

fn tile_stage_x(columns: u32, quad: u32, rows: vec4<u32>) {
    let m = transpose(mat4x4<f32>(x[rows.x + quad], x[rows.y + quad], x[rows.z + quad], x[rows.w + quad]));
    let q = quad % 8u;
    let at = q * 64u + (columns ^ q);
    staged_x[at] = m[0];
    staged_x[at + 16u] = m[1];
    staged_x[at + 32u] = m[2];
    staged_x[at + 48u] = m[3];
}

// The tile whose rows 32 * (row_quad / 8) begin at `first_block` for the lane's row quad `lane % 16`. `near` and `far`
// are where the columns' activations begin that the lane stages: tile_columns(lane, 0) and tile_columns(lane, 1) say which.
fn tile_product(lane: u32, first_block: u32, n_blocks: u32, near: vec4<u32>, far: vec4<u32>) -> Tile {
    let row_quad = lane % 16u;
    var t = Tile();
    for (var block = 0u; block < n_blocks; block++) {
        workgroupBarrier(); // the block before has been used
        let w = weight_load(first_block + block, row_quad % 8u);
        let scale = weight_scale(w);
        let least = weight_min(w);
        for (var i = 0u; i < PART_QUADS; i++) {
            let quad = lane / 16u * PART_QUADS + i;
            let m = transpose(weight_numbers(w, quad, scale, least));
            for (var j = 0u; j < 4u; j++) { staged_w[(quad * 4u + j) * 16u + row_quad] = m[j]; }
        }
        tile_stage_x(lane / 8u, block * 8u + lane % 8u, near);
        if TOKEN_QUADS == 2u { tile_stage_x(lane / 8u + 8u, block * 8u + lane % 8u, far); }
        workgroupBarrier();
        for (var quad = 0u; quad < 8u; quad++) {
            t = tile_number(t, quad * 4u, quad, lane);
            t = tile_number(t, quad * 4u + 1u, quad, lane);
            t = tile_number(t, quad * 4u + 2u, quad, lane);
            t = tile_number(t, quad * 4u + 3u, quad, lane);
        }
    }
    return t;
}

// The four columns whose activations a lane stages, and whose sums it has: the nearer ones, or the farther.
fn tile_columns(lane: u32, far: u32) -> vec4<u32> { return vec4<u32>(0u, 1u, 2u, 3u) + (lane / 8u + far * 8u) * 4u; }
