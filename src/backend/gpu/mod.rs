//! Runs plans through wgpu. The only module that names wgpu.

mod device;
mod experts;
mod memory;
mod pipeline_cache;
mod pipelines;
mod random_fill;
mod submit;

pub use device::{AdapterReport, Gpu, adapters};
pub use experts::{ExpertStats, Residents, Round};
pub use memory::{GpuWeights, Memory};
pub use submit::{Program, ReadBack};
