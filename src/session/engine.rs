//! The engine: a model on a device, with its tokenizer and chat template.

use super::needs::{default_context, plans};
use crate::{
    backend::{Gpu, check, gpu::GpuWeights},
    error::{Error, Result},
    format::WeightFormat,
    kernels::CacheFormat,
    model::{Config, ModelFile, RecordOptions, TextSource, Weights},
    plan::WeightSlot,
    text::{self, ChatTemplate, Tokenizer},
};
use std::{collections::BTreeSet, path::Path, sync::Arc};

/// How to load a model.
#[derive(Debug, Clone, Default)]
pub struct EngineOptions {
    /// Index or part of the name of an adapter.
    pub adapter: Option<String>,
    /// How matrices are held on the device. `None`: as a GGUF file has them; q4_0 for a Hugging Face folder.
    pub weights: Option<WeightFormat>,
}

/// A model on a device.
#[derive(Debug)]
pub struct Engine {
    pub gpu: Gpu,
    pub config: Config,
    pub tokenizer: Option<Tokenizer>,
    pub template: Option<ChatTemplate>,
    /// Why there is no tokenizer, or no template, although the file holds one.
    text_problem: Option<String>,
    /// Ids after which an answer is over.
    pub end_ids: BTreeSet<u32>,
    pub(super) weights: Arc<GpuWeights>,
    pub(super) placed: Weights<WeightSlot>,
}

impl Engine {
    /// Opens a GGUF file or a Hugging Face folder and loads it; `progress` hears (bytes done, bytes in all).
    ///
    /// Errors: those of the file, of the adapter and of the device.
    pub async fn open(path: &Path, options: &EngineOptions, progress: impl FnMut(u64, u64)) -> Result<Self> {
        let file = ModelFile::open(path).await?;
        let gpu = Gpu::open(options.adapter.as_deref()).await?;
        Self::load(file, gpu, options.weights, progress).await
    }

    /// Loads an opened file onto a device.
    ///
    /// Errors: as [`Engine::open`].
    pub async fn load(
        file: ModelFile,
        mut gpu: Gpu,
        weights: Option<WeightFormat>,
        mut progress: impl FnMut(u64, u64),
    ) -> Result<Self> {
        let text = Text::read(&file);
        let held = held_format(&file, weights);
        let (placement, placed) = file.weights.place(file.config.tied, held, gpu.max_binding_bytes())?;
        let (cache, part_kv_heads) = (CacheFormat::F16, file.config.n_kv_heads);
        let small = RecordOptions { capacity: 1, max_tokens: 1, cache, part_kv_heads, tuning: gpu.tuning };
        let plans = plans(&file.config, &placed, &small, false);
        check::settle(&mut gpu, &check::needed(plans.iter().map(|(_, plan)| plan))).await?;
        let total = placement.bytes();
        gpu.check_memory("the weights", total, "a smaller model or --weights q4_0 may fit")?;
        let weights = Arc::new(gpu.load(&placement, |done| progress(done, total)).await?);
        let Text { tokenizer, template, end_ids, problem } = text;
        Ok(Self { gpu, config: file.config, tokenizer, template, text_problem: problem, end_ids, weights, placed })
    }

    /// Bytes of weights on the device.
    pub fn weights_bytes(&self) -> u64 {
        self.weights.bytes
    }

    /// The tokenizer. Errors: [`Error::Text`] when the model came without one.
    pub fn tokenizer(&self) -> Result<&Tokenizer> {
        self.tokenizer.as_ref().ok_or(Error::Text {
            what: self.text_problem.clone().unwrap_or("the model has no tokenizer".into()),
            hint: "a folder needs tokenizer.json beside config.json; `pocketlm logits --ids` works without one",
        })
    }

    /// The chat template. Errors: [`Error::Text`] when the model came without one.
    pub fn template(&self) -> Result<&ChatTemplate> {
        self.template.as_ref().ok_or(Error::Text {
            what: self.text_problem.clone().unwrap_or("the model has no chat template".into()),
            hint: "give the prompt as it is, with --raw",
        })
    }

    /// The context that a session gets for this wish.
    pub fn context(&self, wanted: Option<usize>) -> usize {
        wanted.unwrap_or_else(|| default_context(&self.config))
    }
}

/// What matrices are converted to, `None` where each keeps its own format.
pub fn held_format(file: &ModelFile, wanted: Option<WeightFormat>) -> Option<WeightFormat> {
    wanted.or(match file.text {
        TextSource::Folder(_) => Some(WeightFormat::Q4_0),
        _ => None,
    })
}

struct Text {
    tokenizer: Option<Tokenizer>,
    template: Option<ChatTemplate>,
    end_ids: BTreeSet<u32>,
    problem: Option<String>,
}

impl Text {
    /// A tokenizer or template that cannot be used is no error yet: logits of ids need neither.
    fn read(file: &ModelFile) -> Self {
        let mut problem = None;
        let mut note = |error: Error| problem = Some(error.to_string());
        let (tokenizer, source) = match &file.text {
            TextSource::Gguf(metadata) => {
                (Tokenizer::from_gguf(metadata), ChatTemplate::source_in_gguf(metadata).map(str::to_string))
            }
            TextSource::Folder(folder) => (Tokenizer::in_folder(folder), ChatTemplate::source_in_folder(folder)),
            TextSource::None => (Ok(None), None),
        };
        let tokenizer = tokenizer.map_err(&mut note).unwrap_or_default();
        let mut end_ids = BTreeSet::new();
        let mut template = None;
        if let Some(tokenizer) = &tokenizer {
            end_ids.extend(tokenizer.end_of_generation_ids());
            let text_of = |id: Option<u32>| id.and_then(|id| tokenizer.token_text(id)).unwrap_or_default();
            let (bos, eos) = (text_of(tokenizer.bos()), text_of(tokenizer.eos()));
            let made = source.map(|source| ChatTemplate::new(&source, &bos, &eos));
            template = made.and_then(|made| made.map_err(&mut note).ok());
        } else if let TextSource::Folder(folder) = &file.text {
            end_ids.extend(text::end_ids(folder));
        }
        Self { tokenizer, template, end_ids, problem }
    }
}
