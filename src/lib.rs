//! pocketlm runs language models on any GPU through wgpu.
//!
//! ```no_run
//! # fn main() -> pocketlm::Result<()> {
//! # pollster::block_on(async {
//! use pocketlm::{Engine, EngineOptions, SamplingOptions, Session, SessionOptions};
//! let path = std::path::Path::new("models/SmolLM2-135M-Instruct.Q4_1.gguf");
//! let engine = std::sync::Arc::new(Engine::open(path, &EngineOptions::default(), |_, _| ()).await?);
//! let prompt = engine.tokenizer()?.encode_prompt("The capital of France is")?;
//! let mut session = Session::new(engine, &SessionOptions::default()).await?;
//! let mut answer = session.generate(&prompt, SamplingOptions::default(), Some(32)).await?;
//! while let Some(piece) = answer.next().await? {
//!     print!("{}", piece.text);
//! }
//! # Ok(()) }) }
//! ```

pub mod backend;
#[cfg(feature = "cli")]
pub mod cli;
pub mod convert;
pub mod doctor;
pub mod error;
pub mod format;
#[cfg(feature = "cli")]
pub mod hub;
pub mod kernels;
pub mod measure;
pub mod model;
pub mod placement;
pub mod plan;
pub mod platform;
pub mod random;
pub mod sample;
pub mod session;
mod small_file;
pub mod text;
pub mod timing;
pub mod tune;

pub use error::{Error, Result};
pub use format::WeightFormat;
pub use kernels::CacheFormat;
pub use sample::SamplingOptions;
pub use session::{Engine, EngineOptions, Session, SessionOptions, TextNeed};
