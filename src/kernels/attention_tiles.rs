//! Attention of a batch for GPUs: tiles of queries and keys in workgroup memory.

use super::{ATTENTION, Kernel, Needs};

pub static ATTENTION_TILES: Kernel = Kernel {
    name: "attention_tiles",
    shader: include_str!("../../shaders/attention_tiles.wgsl"),
    needs: Needs { cache: true, ..Needs::NOTHING },
    ..ATTENTION
};
