// Sum and maximum over a workgroup of WIDTH lanes, a power of two, through workgroup memory; every lane gets the result.
var<workgroup> reduce_scratch: array<f32, WIDTH>;

fn reduce_sum(lane: u32, value: f32) -> f32 {
    workgroupBarrier(); // the scratch may still be read by the reduction before
    reduce_scratch[lane] = value;
    workgroupBarrier();
    for (var stride = WIDTH / 2u; stride > 0u; stride /= 2u) {
        if lane < stride { reduce_scratch[lane] += reduce_scratch[lane + stride]; }
        workgroupBarrier();
    }
    return reduce_scratch[0];
}

fn reduce_max(lane: u32, value: f32) -> f32 {
    workgroupBarrier();
    reduce_scratch[lane] = value;
    workgroupBarrier();
    for (var stride = WIDTH / 2u; stride > 0u; stride /= 2u) {
        if lane < stride { reduce_scratch[lane] = max(reduce_scratch[lane], reduce_scratch[lane + stride]); }
        workgroupBarrier();
    }
    return reduce_scratch[0];
}
