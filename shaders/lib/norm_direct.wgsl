// 1 / rms of the residual, from the sums of squares that whoever wrote it left. Each lane adds up all of them: right
// where a barrier costs more than some dozens of loads.
fn norm_begin(lane: u32) -> f32 { return 0.0; }

fn norm_scale(lane: u32, own: f32) -> f32 {
    var sum = 0.0;
    for (var i = 0u; i < params.n_squares; i++) { sum += squares[i]; }
    return inverseSqrt(sum / f32(params.dim) + params.eps);
}
