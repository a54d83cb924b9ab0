// Sum and maximum over a workgroup of WIDTH lanes: within subgroups first, then over their results in workgroup
// memory; every lane gets the result. Needs lanes in linear order; any subgroup size from 4 on, and a WIDTH that is a
// power of two.
var<workgroup> reduce_scratch: array<f32, WIDTH>;

fn reduce_sum(lane: u32, value: f32) -> f32 {
    let size = subgroupAdd(1u);
    let own = subgroupAdd(value);
    workgroupBarrier(); // the scratch may still be read by the reduction before
    if lane % size == 0u { reduce_scratch[lane / size] = own; }
    workgroupBarrier();
    var total = reduce_scratch[0];
    for (var i = 1u; i < WIDTH / size; i++) { total += reduce_scratch[i]; }
    return total;
}

fn reduce_max(lane: u32, value: f32) -> f32 {
    let size = subgroupAdd(1u);
    let own = subgroupMax(value);
    workgroupBarrier();
    if lane % size == 0u { reduce_scratch[lane / size] = own; }
    workgroupBarrier();
    var total = reduce_scratch[0];
    for (var i = 1u; i < WIDTH / size; i++) { total = max(total, reduce_scratch[i]); }
    return total;
}
