// Products of one block of 32 columns of a lane's four rows with the activations of one token, or of four.

fn sum_of(a: XBlock) -> f32 {
    return dot(a.q0 + a.q1 + a.q2 + a.q3 + a.q4 + a.q5 + a.q6 + a.q7, vec4<f32>(1.0));
}

fn products_one(w: WeightBlock, a: XBlock) -> vec4<f32> {
    var dots = a.q0 * weight_quad(w, 0u);
    dots += a.q1 * weight_quad(w, 1u);
    dots += a.q2 * weight_quad(w, 2u);
    dots += a.q3 * weight_quad(w, 3u);
    dots += a.q4 * weight_quad(w, 4u);
    dots += a.q5 * weight_quad(w, 5u);
    dots += a.q6 * weight_quad(w, 6u);
    dots += a.q7 * weight_quad(w, 7u);
    dots *= weight_scale(w);
    if WEIGHT_HAS_MIN { dots += weight_min(w) * sum_of(a); }
    return dots;
}

// Four columns of the four rows with four tokens.
fn products_quad(w: mat4x4<f32>, a: vec4<f32>, b: vec4<f32>, c: vec4<f32>, d: vec4<f32>) -> mat4x4<f32> {
    return mat4x4<f32>(a * w, b * w, c * w, d * w);
}

// One matrix column per token.
fn products_four(w: WeightBlock, a: XBlock, b: XBlock, c: XBlock, d: XBlock) -> mat4x4<f32> {
    var dots = products_quad(weight_quad(w, 0u), a.q0, b.q0, c.q0, d.q0);
    dots += products_quad(weight_quad(w, 1u), a.q1, b.q1, c.q1, d.q1);
    dots += products_quad(weight_quad(w, 2u), a.q2, b.q2, c.q2, d.q2);
    dots += products_quad(weight_quad(w, 3u), a.q3, b.q3, c.q3, d.q3);
    dots += products_quad(weight_quad(w, 4u), a.q4, b.q4, c.q4, d.q4);
    dots += products_quad(weight_quad(w, 5u), a.q5, b.q5, c.q5, d.q5);
    dots += products_quad(weight_quad(w, 6u), a.q6, b.q6, c.q6, d.q6);
    dots += products_quad(weight_quad(w, 7u), a.q7, b.q7, c.q7, d.q7);
    let scale = weight_scale(w);
    var sums = mat4x4<f32>(dots[0] * scale, dots[1] * scale, dots[2] * scale, dots[3] * scale);
    if WEIGHT_HAS_MIN {
        let low = weight_min(w);
        sums += mat4x4<f32>(low * sum_of(a), low * sum_of(b), low * sum_of(c), low * sum_of(d));
    }
    return sums;
}
