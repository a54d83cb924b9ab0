//! Runs plans through wgpu. The only module that names wgpu.

mod device;
mod memory;
mod pipelines;
mod submit;

pub use device::{AdapterReport, Gpu, adapters};
pub use memory::{GpuWeights, Memory};
pub use submit::{Program, ReadBack};
