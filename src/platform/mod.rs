//! What differs between a native program and a web page; the only place that may ask for the target.

mod native;

pub use native::*;
