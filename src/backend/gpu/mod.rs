//! Runs plans through wgpu. The only module that names wgpu.

mod counters;
mod device;
mod experts;
mod memory;
mod pipeline_cache;
mod pipelines;
mod random_fill;
mod stopwatch;
mod submit;

pub use counters::Counters;
pub use device::{AdapterReport, Gpu, adapters};
pub use experts::{ExpertStats, Residents, Round};
pub use memory::{GpuWeights, Memory};
pub use stopwatch::Stopwatch;
pub use submit::{Flight, Program, ReadBack};
