// 1 / rms of the residual, from the sums of squares that whoever wrote it left. Each lane of the workgroup loads its
// share before the products, so that the loads are done when the products are, and adds it to the others' after them.
fn norm_begin(lane: u32) -> f32 {
    var own = 0.0;
    for (var i = lane; i < params.n_squares; i += WIDTH) { own += squares[i]; }
    return own;
}

fn norm_scale(lane: u32, own: f32) -> f32 {
    return inverseSqrt(reduce_sum(lane, own) / f32(params.dim) + params.eps);
}
