//! A model file or folder to one GGUF file: which tensors in which format, the metadata, and the streamed writing.

mod encode;
mod metadata;
mod rules;

pub use encode::Deviation;
pub use rules::{ConvertOptions, Keep};

use crate::{
    error::{Error, Result},
    format::{
        TensorInfo, WeightFormat,
        gguf_writer::{GgufHeader, padding},
    },
    model::ModelFile,
    platform::PartialFile,
};
use std::{io::Write, path::Path};

/// Everything about the file to write but the weights themselves.
#[derive(Debug)]
pub struct Conversion {
    header: GgufHeader,
    pub tensors: Vec<Output>,
}

/// One tensor of the file to write.
#[derive(Debug)]
pub struct Output {
    pub name: String,
    /// Slowest dimension first.
    pub shape: Vec<usize>,
    pub format: WeightFormat,
    /// Where the rows come from, in order: one tensor, or one for each expert.
    pub sources: Vec<TensorInfo>,
    /// Heads of this many rows are stored with their halves interleaved: row i and row i + head_dim / 2 of a head become
    /// rows 2i and 2i + 1, as llama.cpp rotates them in its architecture `llama`.
    pub interleaved_head: Option<usize>,
}

impl Output {
    /// The format that the first of its rows have so far.
    pub fn source_format(&self) -> WeightFormat {
        self.sources[0].format
    }

    /// Whether rules choose its format; everything else is exact.
    pub fn is_matrix(&self) -> bool {
        rules::is_matrix(&self.name, &self.shape)
    }

    /// Bytes of the tensor in the file.
    pub fn n_bytes(&self) -> u64 {
        let n_weights = self.shape.iter().product::<usize>();
        n_weights as u64 / self.format.block_len() as u64 * self.format.block_bytes() as u64
    }
}

impl Conversion {
    /// Decides what the file will hold. Reads no weight.
    ///
    /// Errors: [`Error::Invalid`] for a rule that fits no tensor; those of reading the metadata, and of a tokenizer that
    /// GGUF cannot express.
    pub async fn plan(file: &ModelFile, options: &ConvertOptions) -> Result<Self> {
        let mut tensors = rules::outputs(file, options)?;
        let mut header = GgufHeader::default();
        metadata::write(file, options.format, &mut header).await?;
        tensors.extend(metadata::tensors(file));
        tensors.sort_by_key(|tensor| rules::place(&tensor.name));
        for tensor in &tensors {
            header.tensor(&tensor.name, &tensor.shape, tensor.format.ggml_kind(), tensor.n_bytes());
        }
        Ok(Self { header, tensors })
    }

    /// Bytes of weights that will be read.
    pub fn source_bytes(&self) -> u64 {
        self.tensors.iter().flat_map(|tensor| &tensor.sources).map(TensorInfo::n_bytes).sum()
    }

    /// Bytes of the whole file.
    pub fn n_bytes(&self) -> u64 {
        self.header.bytes().len() as u64 + self.header.data_bytes()
    }

    /// Writes the file, a few megabytes at a time, and tells how far each tensor is from its source. Under its name it
    /// appears only when it is complete; `replace` says whether a file of that name may go. `progress` hears of each
    /// piece of the source, in bytes, and an error of its ends the work.
    ///
    /// Errors: [`Error::Write`], those of reading, those of `progress`, [`Error::Config`] for weights that are no
    /// numbers. Whichever it is, nothing half-written is left behind.
    pub async fn write(
        &self,
        path: &Path,
        replace: bool,
        mut progress: impl FnMut(u64) -> Result<()>,
    ) -> Result<Vec<Deviation>> {
        let failed = |source| Error::Write { path: path.into(), source };
        if !replace && path.exists() {
            return Err(failed(std::io::ErrorKind::AlreadyExists.into()));
        }
        let mut file = PartialFile::create(path).map_err(failed)?;
        file.write_all(&self.header.bytes()).map_err(failed)?;
        let mut deviations = Vec::with_capacity(self.tensors.len());
        for tensor in &self.tensors {
            let mut written = 0;
            let deviation = encode::stream(tensor, |read, bytes| {
                file.write_all(bytes).map_err(failed)?;
                written += bytes.len() as u64;
                progress(read)
            });
            deviations.push(deviation.await?);
            assert_eq!(written, tensor.n_bytes(), "`{}` has the size that its header says", tensor.name);
            file.write_all(&[0; 32][..padding(written)]).map_err(failed)?;
        }
        file.finish(replace).map_err(failed)?;
        Ok(deviations)
    }
}
