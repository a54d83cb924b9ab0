//! One token's activations times the packed matrices of the experts that it uses.

use super::{Call, Kernel, Needs};

pub static EXPERT_MATVEC: Kernel = Kernel {
    name: "expert_matvec",
    shader: include_str!("../../shaders/expert_matvec.wgsl"),
    params: &["n_rows", "n_blocks", "first_expert", "n_experts", "y_first", "y_stride", "n_used", "shared_x"],
    reads: &["ids", "x"],
    writes: &["y"],
    needs: Needs { weights: true, x: true, tile: true, ..Needs::NOTHING },
    reference,
    tolerance: 1e-5,
};

fn reference(call: &mut Call<'_>) {
    let [n_rows, n_blocks, first_expert, n_experts, y_first, y_stride, n_used, shared_x] =
        [0, 1, 2, 3, 4, 5, 6, 7].map(|i| call.count(i));
    let (ids, x) = (call.reads[0], call.read(1));
    for s in 0..n_used {
        let expert = (ids[s] as usize).wrapping_sub(first_expert);
        if expert >= n_experts {
            continue;
        }
        let x = &x[if shared_x == 1 { 0 } else { s * n_blocks * 32 }..];
        for r in 0..n_rows {
            let row = call.weight_row(expert * n_rows + r, n_blocks);
            let sum: f64 = row.iter().zip(x).map(|(w, &x)| w * x as f64).sum();
            call.write(0)[s * y_stride + y_first + r] = sum as f32;
        }
    }
}
