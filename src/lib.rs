//! pocketlm runs language models on any GPU through wgpu.

pub mod backend;
pub mod error;
pub mod format;
pub mod kernels;
pub mod model;
pub mod placement;
pub mod plan;
pub mod platform;
pub mod random;

pub use error::{Error, Result};
