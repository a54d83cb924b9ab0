//! What each architecture is: its configuration, its tensors, and the dispatches that run it. Knows no device.

pub mod config;
pub mod decode;
mod gguf_config;
mod hugging_face;
mod mixture;
mod pick;
pub mod shapes;
pub mod synthetic;
mod transformer;
pub mod weights;

pub use config::{Architecture, Biases, Config, Experts, LongRope, NormKind, Rope, Routing};
pub use transformer::{Phase, RecordOptions, cache_buffers, cache_rows, record};
pub use weights::Weights;

use crate::{
    error::{Error, Result},
    format::{ByteSource, Folder, Gguf, Metadata, TensorInfo, WeightFormat},
};
use std::{path::Path, sync::Arc};

/// A model file or folder, read as far as its description goes: no weight is loaded.
#[derive(Debug)]
pub struct ModelFile {
    pub config: Config,
    pub weights: Weights<TensorInfo>,
    pub text: TextSource,
    /// Every tensor of the file, in its order.
    pub tensors: Vec<TensorInfo>,
}

/// Where the tokenizer, the chat template and the end-of-generation ids come from.
#[derive(Debug)]
pub enum TextSource {
    Gguf(Metadata),
    Folder(Box<Folder>),
    None,
}

impl ModelFile {
    /// Opens a GGUF file or a Hugging Face folder.
    ///
    /// Errors: [`Error::Io`], [`Error::Corrupt`], [`Error::Unsupported`], and those of [`Weights::locate`].
    pub async fn open(path: &Path) -> Result<Self> {
        if path.is_dir() {
            return Self::from_folder(Folder::read(path).await?).await;
        }
        if path.extension().is_some_and(|e| e == "safetensors") {
            return Err(Error::Unsupported {
                what: format!("a single shard ({})", path.display()),
                supported: "the folder that holds it together with config.json, or a GGUF file".into(),
            });
        }
        Self::from_gguf(Gguf::read(Arc::new(ByteSource::open(path)?)).await?).await
    }

    /// A synthetic model of a real one's shape, matrices in `format` where their rows fill its blocks.
    ///
    /// Errors: [`Error::Invalid`] for a shape that is not in [`shapes::names`].
    pub fn from_shape(name: &str, format: WeightFormat, seed: u64) -> Result<Self> {
        let config = shapes::config(name)?;
        let tensors = shapes::tensors(&config, format, seed);
        let weights = Weights::locate(&config, &tensors)?;
        Ok(Self { config, weights, text: TextSource::None, tensors })
    }

    /// From a GGUF header.
    pub async fn from_gguf(gguf: Gguf) -> Result<Self> {
        let config = Config::from_gguf(&gguf.metadata, &gguf.tensors).await?;
        let weights = Weights::locate(&config, &gguf.tensors)?;
        Ok(Self { config, weights, text: TextSource::Gguf(gguf.metadata), tensors: gguf.tensors })
    }

    /// From a Hugging Face folder.
    pub async fn from_folder(mut folder: Folder) -> Result<Self> {
        let config = Config::from_hugging_face(&folder.config)?;
        let mut tensors = std::mem::take(&mut folder.tensors);
        hugging_face::rename(&mut tensors);
        hugging_face::drop_zero_biases(&config, &mut tensors).await?;
        let weights = Weights::locate(&config, &tensors)?;
        Ok(Self { config, weights, text: TextSource::Folder(Box::new(folder)), tensors })
    }
}
