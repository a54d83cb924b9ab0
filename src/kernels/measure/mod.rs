//! Kernels that no model runs: what the ceilings of a device are measured with. They have contracts, references and
//! tests as the others do, since a probe that computes something else measures something else.

mod probe_coop;
mod probe_copy;
mod probe_dot8;
mod probe_f16;
mod probe_f32;
mod probe_read;
mod probe_shared;
mod probe_touch;

pub use probe_coop::{PROBE_COOP, operations as coop_operations};
pub use probe_copy::PROBE_COPY;
pub use probe_dot8::{OPERATIONS as DOT8_OPERATIONS, PROBE_DOT8};
pub use probe_f16::PROBE_F16;
pub use probe_f32::{OPERATIONS as FLOAT_OPERATIONS, PROBE_F32};
pub use probe_read::PROBE_READ;
pub use probe_shared::{BYTES as SHARED_BYTES, PROBE_SHARED};
pub use probe_touch::PROBE_TOUCH;

use super::{CoopShape, Kernel, Tuning, Variant};

/// Invocations of a probe's workgroup.
pub const PROBE_WIDTH: usize = 256;

/// Every probe.
pub static PROBES: [&Kernel; 8] =
    [&PROBE_COPY, &PROBE_READ, &PROBE_F32, &PROBE_F16, &PROBE_DOT8, &PROBE_COOP, &PROBE_SHARED, &PROBE_TOUCH];

/// What a probe is built with where matrices have `coop`: beside these, a probe has one variant.
pub fn probe_variant(probe: &Kernel, coop: Option<CoopShape>) -> Variant {
    let mut tuning = Tuning::BASELINE;
    tuning.prompt.coop = coop;
    probe.variant(Variant { format: None, cache: None, heads: None, tuning })
}
