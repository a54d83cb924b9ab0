//! A batch's activations times the packed matrices of the experts that its tokens are assigned to, for a CPU that plays GPU.

use super::{BatchMapping, Call, Kernel, NOBODY, Needs};

pub static EXPERT_MATMUL_LANES: Kernel = Kernel {
    name: "expert_matmul_lanes",
    shader: include_str!("../../shaders/expert_matmul_lanes.wgsl"),
    params: &["n_rows", "n_blocks", "first_expert", "n_experts", "y_first", "y_stride", "per_x"],
    reads: &["groups", "x"],
    writes: &["y"],
    needs: Needs { weights: true, eight: true, ..Needs::NOTHING },
    reference: |call| expert_products(call, BatchMapping::Lanes),
    tolerance: 1e-5,
};

/// The reference, for groups as large as those of the kernel for `mapping`.
pub(super) fn expert_products(call: &mut Call<'_>, mapping: BatchMapping) {
    let [n_rows, n_blocks, first_expert, n_experts, y_first, y_stride, per_x] =
        [0, 1, 2, 3, 4, 5, 6].map(|i| call.count(i));
    let (groups, x) = (call.reads[0], call.read(1));
    for group in groups.chunks_exact(1 + mapping.expert_group()) {
        let expert = (group[0] as usize).wrapping_sub(first_expert);
        if expert >= n_experts {
            continue;
        }
        for r in 0..n_rows {
            let row = call.weight_row(expert * n_rows + r, n_blocks);
            for assignment in group[1..].iter().filter(|a| **a != NOBODY).map(|a| *a as usize) {
                let x = &x[assignment / per_x * n_blocks * 32..];
                let sum: f64 = row.iter().zip(x).map(|(w, &x)| w * x as f64).sum();
                call.write(0)[assignment * y_stride + y_first + r] = sum as f32;
            }
        }
    }
}
