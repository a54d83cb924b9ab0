// Five-bit codes less the format's WEIGHT_ZERO, of a block that its `weight_load` has put into registers.

// Codes of four columns: byte j of a row holds column j below and column j + 16 above; a byte of the high bits, one
// bit of every fourth column.
fn weight_codes(row: vec4<u32>, high: u32, quad: u32) -> vec4<f32> {
    let low = (row[quad & 3u] >> ((quad >> 2u) * 4u)) & 0x0f0f0f0fu;
    return vec4<f32>(unpack4xU8(low | (((high >> quad) & 0x01010101u) << 4u))) - WEIGHT_ZERO;
}

// The same codes as signed bytes, one word per row of the lane.
fn weight_bytes(w: WeightBlock, quad: u32) -> vec4<u32> {
    let i = quad & 3u;
    let rows = vec4<u32>(w.row0[i], w.row1[i], w.row2[i], w.row3[i]);
    let low = (rows >> vec4<u32>((quad >> 2u) * 4u)) & vec4<u32>(0x0f0f0f0fu);
    let codes = low | (((w.high >> vec4<u32>(quad)) & vec4<u32>(0x01010101u)) << vec4<u32>(4u));
    // Byte by byte: the upper bit is lent, so that none borrows from its neighbour, and then turned round.
    return ((codes | vec4<u32>(0x80808080u)) - u32(WEIGHT_ZERO) * 0x01010101u) ^ vec4<u32>(0x80808080u);
}

// Unscaled weights of columns 4 * quad .. 4 * quad + 3, one matrix column per row of the lane.
fn weight_quad(w: WeightBlock, quad: u32) -> mat4x4<f32> {
    return mat4x4<f32>(weight_codes(w.row0, w.high.x, quad), weight_codes(w.row1, w.high.y, quad),
        weight_codes(w.row2, w.high.z, quad), weight_codes(w.row3, w.high.w, quad));
}
