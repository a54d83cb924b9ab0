//! Bytes on disk to described tensors. Knows nothing of devices or architectures.

pub mod block;
mod fit;
pub mod gguf;
pub mod gguf_writer;
mod gptq;
mod k_quants;
pub mod pack;
mod packed_layer;
mod random_blocks;
pub mod safetensors;
pub mod source;
pub mod tensor;

pub use self::safetensors::Folder;
pub use block::WeightFormat;
pub use gguf::{Gguf, Metadata, Value};
pub use source::ByteSource;
pub use tensor::TensorInfo;
