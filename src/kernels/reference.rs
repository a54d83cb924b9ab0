//! What a reference receives: the same words as the GPU, with the packed weights decoded row by row.

use super::{CacheFormat, CacheLayout};
use crate::format::{WeightFormat, pack};

/// One dispatch as a reference sees it: parameter words, buffers in binding order, the number of tokens in the batch.
#[derive(Debug)]
pub struct Call<'a> {
    pub params: &'a [u32],
    pub reads: &'a [&'a [u32]],
    pub writes: &'a mut [Vec<u32>],
    pub planes: Option<Planes<'a>>,
    pub cache: CacheFormat,
}

/// The planes of one packed matrix.
#[derive(Debug, Clone, Copy)]
pub struct Planes<'a> {
    pub format: WeightFormat,
    pub quants: &'a [u32],
    pub scales: &'a [u32],
}

/// What the CPU writes before each step: see `shaders/embed.wgsl` for the layout.
#[derive(Debug, Clone, Copy)]
pub struct Step<'a> {
    pub n_tokens: usize,
    pub position: usize,
    /// Where in the rope table position 0 is: see `model::Rope::angles`.
    pub first_angle_row: usize,
    pub tokens: &'a [u32],
}

/// Words of the step buffer before the token ids.
pub const STEP_HEAD_WORDS: usize = 4;

impl<'a> Call<'a> {
    /// Parameter `index` as a count.
    pub fn count(&self, index: usize) -> usize {
        self.params[index] as usize
    }

    /// Parameter `index` as a float.
    pub fn float(&self, index: usize) -> f64 {
        f32::from_bits(self.params[index]) as f64
    }

    /// Read binding `index` as floats.
    pub fn read(&self, index: usize) -> &'a [f32] {
        bytemuck::cast_slice(self.reads[index])
    }

    /// Read binding 0 as the step.
    pub fn step(&self) -> Step<'a> {
        let words = self.reads[0];
        let [n_tokens, position, first_angle_row] = [0, 1, 2].map(|i| words[i] as usize);
        Step { n_tokens, position, first_angle_row, tokens: &words[STEP_HEAD_WORDS..] }
    }

    /// Write binding `index` as floats.
    pub fn write(&mut self, index: usize) -> &mut [f32] {
        bytemuck::cast_slice_mut(&mut self.writes[index])
    }

    /// Row `row` of the weights, `n_blocks * 32` wide, in f64.
    pub fn weight_row(&self, row: usize, n_blocks: usize) -> Vec<f64> {
        let Planes { format, quants, scales } = self.planes.expect("a kernel with weights");
        pack::unpack_row(format, quants, scales, n_blocks, row).into_iter().map(f64::from).collect()
    }

    /// The product of row `row` of the weights, `n_blocks * 32` wide, with as many numbers of `x`.
    pub fn weight_dot(&self, row: usize, n_blocks: usize, x: &[f32]) -> f64 {
        self.weight_row(row, n_blocks).iter().zip(x).map(|(w, &x)| w * x as f64).sum()
    }

    /// Rounds `values` to the cache's format and stores them as head `head` of row `slot` in write binding `binding`.
    pub fn write_cache(&mut self, binding: usize, layout: CacheLayout, slot: usize, head: usize, values: &[f64]) {
        let row = &mut self.writes[binding][slot * layout.row_words()..][..layout.row_words()];
        layout.set_head(row, head, values);
    }
}
