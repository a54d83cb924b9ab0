//! A packed matrix times the packed activations of a batch: products of bytes, where the device has an instruction.

use super::{Call, Kernel, MATMUL_LANES, Needs, PACKED_WORDS, packed_codes, packed_scale};

pub static MATMUL_PACKED: Kernel = Kernel {
    name: "matmul_packed",
    shader: include_str!("../../shaders/matmul_packed.wgsl"),
    reads: &["step", "packed"],
    needs: Needs { weights: true, bytes: true, ..Needs::NOTHING },
    reference,
    ..MATMUL_LANES
};

/// The exact product with the activations as they are packed: how much packing itself changes is no kernel's error.
fn reference(call: &mut Call<'_>) {
    let [n_rows, n_blocks, y_first, y_stride, accumulate] = [0, 1, 2, 3, 4].map(|i| call.count(i));
    let (n_tokens, packed) = (call.step().n_tokens, call.reads[1]);
    let block = |index: usize| {
        let block = &packed[index * PACKED_WORDS..][..PACKED_WORDS];
        let [scale, _] = packed_scale(block);
        packed_codes(block).map(move |code| code as f64 * scale as f64)
    };
    let x: Vec<f64> = (0..n_tokens * n_blocks).flat_map(block).collect();
    for r in 0..n_rows {
        let row = call.weight_row(r, n_blocks);
        for t in 0..n_tokens {
            let sum: f64 = row.iter().zip(&x[t * n_blocks * 32..]).map(|(w, x)| w * x).sum();
            let y = &mut call.write(0)[t * y_stride + y_first + r];
            *y = (sum + if accumulate == 1 { *y as f64 } else { 0.0 }) as f32;
        }
    }
}
