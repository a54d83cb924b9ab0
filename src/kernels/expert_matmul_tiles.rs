//! A batch's activations times the packed matrices of the experts that its tokens are assigned to, for GPUs.

use super::{BatchMapping, EXPERT_MATMUL_LANES, Kernel, Needs, expert_matmul_lanes::expert_products};

pub static EXPERT_MATMUL_TILES: Kernel = Kernel {
    name: "expert_matmul_tiles",
    shader: include_str!("../../shaders/expert_matmul_tiles.wgsl"),
    needs: Needs { weights: true, staged: true, ..Needs::NOTHING },
    reference: |call| expert_products(call, BatchMapping::Tiles),
    ..EXPERT_MATMUL_LANES
};
