//! `pocketlm synth`: a model of a published shape with random weights, as a GGUF file.

use super::{
    options::weight_format,
    quantize::{self, check_output},
};
use crate::{
    WeightFormat,
    convert::{Conversion, ConvertOptions, Keep},
    model::ModelFile,
};
use clap::Args;
use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

#[derive(Debug, Args)]
pub struct Synth {
    /// The shape, such as phi-3-mini; a wrong one lists them all
    shape: String,
    /// The GGUF file to write
    #[arg(value_name = "OUT")]
    output: PathBuf,
    /// Format of the matrices, as far as their rows fill its blocks
    #[arg(long, value_name = "FORMAT", default_value = "q4_0", value_parser = weight_format)]
    weights: WeightFormat,
    /// The same seed makes the same file
    #[arg(long, value_name = "S", default_value_t = 1)]
    seed: u64,
    /// Replace OUT if it exists
    #[arg(long)]
    force: bool,
}

impl Synth {
    pub fn execute(self) -> anyhow::Result<ExitCode> {
        // There is no file to read from that it could replace.
        check_output(Path::new(""), &self.output, self.force)?;
        let file = ModelFile::from_shape(&self.shape, self.weights, self.seed)?;
        // Every tensor as it is made: none is encoded again.
        let keep = vec![Keep::new("*", self.weights)?];
        let conversion = pollster::block_on(Conversion::plan(&file, &ConvertOptions { format: self.weights, keep }))?;
        match quantize::write(&conversion, &self.output, self.force, "writing")? {
            Some(_) => Ok(ExitCode::SUCCESS),
            None => Ok(ExitCode::from(quantize::INTERRUPTED)),
        }
    }
}
