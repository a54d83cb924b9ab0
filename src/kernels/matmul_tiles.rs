//! A packed matrix times the activations of a batch of tokens, for GPUs: tiles of both in workgroup memory.

use super::{Kernel, MATMUL_LANES, Needs};

pub static MATMUL_TILES: Kernel = Kernel {
    name: "matmul_tiles",
    shader: include_str!("../../shaders/matmul_tiles.wgsl"),
    needs: Needs { weights: true, staged: true, ..Needs::NOTHING },
    ..MATMUL_LANES
};
