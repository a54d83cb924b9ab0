// Sum and maximum over a workgroup that is one subgroup: no memory, no barrier; every lane gets the result.
fn reduce_sum(lane: u32, value: f32) -> f32 { return subgroupAdd(value); }

fn reduce_max(lane: u32, value: f32) -> f32 { return subgroupMax(value); }
