// 1 / rms of the residual, from the sums of squares that whoever wrote it left: eight lanes load as many at a time and
// add up what they have. Right where a barrier costs more than some loads, and every lane's load is paid for. Needs
// subgroups of exactly eight lanes, and a uniform call.
fn norm_begin(lane: u32) -> f32 {
    var own = 0.0;
    for (var i = 0u; i < params.n_squares; i += 8u) {
        let at = i + lane % 8u;
        own += select(0.0, squares[min(at, params.n_squares - 1u)], at < params.n_squares);
    }
    return own;
}

fn norm_scale(lane: u32, own: f32) -> f32 {
    return inverseSqrt(subgroupAdd(own) / f32(params.dim) + params.eps);
}
