// Weights as numbers: codes with their scale and minimum.

// Columns 4 * quad .. 4 * quad + 3 of a lane's rows, one matrix column per row.
fn weight_numbers(w: WeightBlock, quad: u32, scale: vec4<f32>, low: vec4<f32>) -> mat4x4<f32> {
    let q = weight_quad(w, quad);
    if WEIGHT_HAS_MIN {
        return mat4x4<f32>(q[0] * scale.x + low.x, q[1] * scale.y + low.y, q[2] * scale.z + low.z, q[3] * scale.w + low.w);
    }
    return mat4x4<f32>(q[0] * scale.x, q[1] * scale.y, q[2] * scale.z, q[3] * scale.w);
}
