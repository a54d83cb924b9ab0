//! How times are measured, so that they can be believed: the method, and the dispatches that it is used on.

mod dispatches;
mod method;

pub use dispatches::{Item, Timer};
pub use method::{MARGIN, Method, Rotation, Timing, measure, plausible_rate, quantile};
