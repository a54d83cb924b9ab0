//! The down matrices of the experts that one token uses, added to the residual, made ready for the next
//! norm.

use super::{Call, Kernel, Needs};

pub static EXPERT_RESIDUAL: Kernel = Kernel {
    name: "expert_residual",
    shader: include_str!("../../shaders/expert_residual.wgsl"),
    params: &["n_rows", "n_blocks", "first_expert", "n_experts", "n_used"],
    reads: &["ids", "x", "norm"],
    writes: &["residual", "weighted", "squares"],
    needs: Needs { weights: true, x: true, tile: true, lane8: true, ..Needs::NOTHING },
    reference,
    tolerance: 1e-5,
};

fn reference(call: &mut Call<'_>) {
    let [n_rows, n_blocks, first_expert, n_experts, n_used] = [0, 1, 2, 3, 4].map(|i| call.count(i));
    let (ids, x, norm) = (call.reads[0], call.read(1), call.read(2));
    for tile in 0..n_rows / 32 {
        let mut square = 0.0;
        for (r, &norm) in norm[..n_rows].iter().enumerate().skip(tile * 32).take(32) {
            let mut value = call.write(0)[r] as f64;
            for (s, &id) in ids[..n_used].iter().enumerate() {
                let expert = (id as usize).wrapping_sub(first_expert);
                if expert < n_experts {
                    value += call.weight_dot(expert * n_rows + r, n_blocks, &x[s * n_blocks * 32..]);
                }
            }
            call.write(0)[r] = value as f32;
            call.write(1)[r] = (value * norm as f64) as f32;
            square += value * value;
        }
        call.write(2)[tile] = square as f32;
    }
}
