//! Attention of a batch for a CPU that plays GPU: eight tokens' queries share what eight lanes load.

use super::{ATTENTION, Kernel, Needs};

pub static ATTENTION_LANES: Kernel = Kernel {
    name: "attention_lanes",
    shader: include_str!("../../shaders/attention_lanes.wgsl"),
    needs: Needs { eight: true, cache: true, ..Needs::NOTHING },
    ..ATTENTION
};
