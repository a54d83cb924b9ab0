// Products of one block of 32 columns of a lane's four rows with the activations of one token.

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
