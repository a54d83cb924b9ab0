//! The shapes at which the kernels for packed activations are tried, and how packed activations are compared.

use super::check::{Builder, Case, whole_blocks};
use crate::{
    format::pack::n_blocks,
    kernels::{Kernel, PACKED_WORDS, PromptTuning, Variant, pack_activations, packed_codes, packed_scale},
    plan::Extent::*,
};

/// The cases of `kernel`, `None` where another list has them.
pub(super) fn cases(kernel: &'static Kernel, variant: Variant) -> Option<Box<dyn Iterator<Item = Case>>> {
    let build = move |name: String| Builder::new(kernel, variant, name);
    Some(match kernel.name {
        "quantise" => Box::new(
            [(96, 3), (32, 1), (2080, 5), (576, 70)]
                .into_iter()
                .map(move |(columns, t)| build(format!("{t}x{columns}")).quantise(columns, t)),
        ),
        "matmul_packed" => {
            Box::new([(33, 32, 1, 0, 1), (1, 96, 5, 5, 0), (260, 576, 70, 0, 0), (70, 1536, 17, 9, 1)].into_iter().map(
                move |(rows, columns, t, first, add)| {
                    let columns = whole_blocks(variant, columns);
                    build(format!("{rows}x{columns}x{t}")).packed_product([rows, columns, t], first, add)
                },
            ))
        }
        _ => return None,
    })
}

impl Builder {
    fn quantise(mut self, columns: usize, n_tokens: usize) -> Case {
        let (step, n_blocks) = (self.step(n_tokens, 0, &[]), n_blocks(columns));
        let x = self.random("x", n_tokens * n_blocks * 32, 1.0);
        // A block of zeros has no scale to divide by.
        self.contents[x.0][..32].fill(if n_tokens > 1 { 0 } else { 1f32.to_bits() });
        let packed = self.poisoned("packed", n_tokens * n_blocks * PACKED_WORDS);
        let grid = [Fixed(n_blocks.div_ceil(64) as u32), PerTokens(1)];
        self.case(vec![n_blocks as u32], &[step, x], &[packed], None, grid, n_tokens)
    }

    fn packed_product(mut self, [rows, columns, n_tokens]: [usize; 3], y_first: usize, accumulate: usize) -> Case {
        let (step, n_blocks, y_stride) = (self.step(n_tokens, 0, &[]), n_blocks(columns), y_first + rows + 3);
        let x = crate::random::with_outliers(self.next_seed(), n_tokens * n_blocks * 32, 1.0);
        let blocks = x.chunks_exact(32).flat_map(|x| pack_activations(x.try_into().expect("32 numbers")));
        let packed = self.buffer("packed", blocks.collect());
        let weight = self.matrix(rows, columns);
        let y = match accumulate {
            1 => self.random("y", n_tokens * y_stride, 1.0),
            _ => self.poisoned("y", n_tokens * y_stride),
        };
        let params = [rows, n_blocks, y_first, y_stride, accumulate].map(|p| p as u32).to_vec();
        let batched = PromptTuning::TILES.packed_matmul();
        let grid = [Fixed((rows.div_ceil(32) as u32).div_ceil(batched.tiles)), PerTokens(batched.tokens)];
        self.case(params, &[step, packed], &[y], Some(weight), grid, n_tokens)
    }
}

/// The largest difference of packed activations, in codes. Infinite when more than one code in a hundred is off, when
/// a scale is, when a sum is not that of the codes beside it, when a block that should have been left alone was
/// written, and when the reference is all zeros and so proves nothing.
pub fn difference_in_codes(want: &[u32], got: &[u32]) -> f64 {
    assert_eq!(want.len(), got.len(), "outputs of one length");
    let (mut worst, mut n_off, mut n_codes) = (0, 0, 0);
    for (want, got) in want.chunks(PACKED_WORDS).zip(got.chunks(PACKED_WORDS)) {
        // One word again and again is poison, or a block of zeros.
        if want.iter().all(|word| *word == want[0]) || want.len() < PACKED_WORDS {
            if want != got {
                return f64::INFINITY;
            }
            continue;
        }
        let ([scale, _], [got_scale, got_sum]) = (packed_scale(want), packed_scale(got));
        let sum: i32 = packed_codes(got).map(i32::from).sum();
        let near = |a: f32, b: f32, of: f32| ((a - b).abs() as f64) <= 1e-5 * of as f64;
        let whole = near(scale, got_scale, scale) && near(got_sum, got_scale * sum as f32, 127.0 * scale);
        if !whole || want[10..] != got[10..] {
            return f64::INFINITY;
        }
        for (w, g) in packed_codes(want).zip(packed_codes(got)) {
            worst = worst.max((w as i32 - g as i32).abs());
            n_off += (w != g) as usize;
            n_codes += 1;
        }
    }
    if n_codes == 0 || n_off * 100 > n_codes + 100 { f64::INFINITY } else { worst as f64 }
}
