//! Who runs a plan: the CPU through the kernels' references, or a GPU through wgpu. Knows plans, not models.

pub mod check;
pub mod cpu;
mod decode_cases;
mod expert_cases;
pub mod gpu;
pub mod load;
pub mod lockstep;
pub mod packed_cases;
mod probe_cases;
mod sample_cases;

pub use cpu::Cpu;
pub use gpu::Gpu;
