// Sums over eight neighbouring lanes, through workgroup memory. All SIZE lanes of a workgroup call it once.
var<workgroup> lane8_values: array<f32, SIZE>;

fn lane8_sum(lane: u32, value: f32) -> f32 {
    lane8_values[lane] = value;
    workgroupBarrier();
    var sum = 0.0;
    for (var i = 0u; i < 8u; i++) { sum += lane8_values[lane / 8u * 8u + i]; }
    return sum;
}
