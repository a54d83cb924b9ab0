//! `pocketlm quantize`: a model file or folder to one GGUF file, with the error that each tensor suffers.

use super::{
    human_bytes,
    options::{ModelOptions, weight_format},
    perplexity,
    pull::resolve,
};
use crate::{
    CacheFormat, Error, TextNeed, WeightFormat,
    convert::{Conversion, ConvertOptions, Deviation, Keep, Output},
    model::ModelFile,
};
use anyhow::Context;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use std::{
    io::Write,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

#[derive(Debug, Args)]
pub struct Quantize {
    /// A GGUF file, a Hugging Face folder with config.json and *.safetensors, or hf:OWNER/REPO[:FILE] of the hub
    #[arg(value_name = "IN")]
    input: PathBuf,
    /// The GGUF file to write
    #[arg(value_name = "OUT")]
    output: PathBuf,
    /// Format of the matrices; the one that makes the logits gets 8 bits unless --keep says otherwise
    #[arg(long, value_name = "FORMAT", default_value = "q4_0", value_parser = weight_format)]
    format: WeightFormat,
    /// Format of the matrices whose names fit PATTERN (`*` any text, `?` any character); the first that fits counts
    #[arg(long, value_name = "PATTERN=FORMAT", value_parser = keep)]
    keep: Vec<Keep>,
    /// Also measure the perplexity of a text with IN and with OUT
    #[arg(long, value_name = "FILE")]
    text: Option<PathBuf>,
    /// Adapter for --text: a part of its name, or its index in `pocketlm devices`
    #[arg(long, value_name = "NAME|INDEX")]
    adapter: Option<String>,
    /// Replace OUT if it exists
    #[arg(long)]
    force: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Perplexities of the text, and how many of its tokens they are over.
struct Measured {
    before: f64,
    after: f64,
    n_scored: usize,
}

impl Quantize {
    pub fn execute(mut self) -> anyhow::Result<ExitCode> {
        refuse_same(&self.input, &self.output)?;
        if !self.force && self.output.exists() {
            let source = std::io::ErrorKind::AlreadyExists.into();
            return Err(Error::Write { path: self.output, source }.into());
        }
        let read =
            |path: &PathBuf| std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()));
        let text = self.text.as_ref().map(read).transpose()?;
        self.input = resolve(&self.input)?;
        let file = pollster::block_on(ModelFile::open(&self.input))?;
        let options = ConvertOptions { format: self.format, keep: self.keep.clone() };
        let conversion = pollster::block_on(Conversion::plan(&file, &options))?;
        warn(&conversion, self.format);
        let exact = exact_format(&conversion);
        let before = text.as_ref().map(|text| self.perplexity(&self.input, exact, text)).transpose()?;
        let deviations = match self.write(&conversion) {
            Err(error) if matches!(error.downcast_ref(), Some(Error::Interrupted { .. })) => {
                eprintln!("error: {error}");
                // What shells report for a program that Ctrl-C ended.
                return Ok(ExitCode::from(130));
            }
            written => written?,
        };
        let after = text.as_ref().map(|text| self.perplexity(&self.output, None, text)).transpose()?;
        let measured = before.zip(after).map(|((before, n_scored), (after, _))| Measured { before, after, n_scored });
        let mut out = std::io::BufWriter::new(std::io::stdout().lock());
        match self.json {
            true => writeln!(out, "{:#}", as_json(&conversion, &deviations, measured))?,
            false => print(&mut out, &conversion, &deviations, measured)?,
        }
        out.flush()?;
        Ok(ExitCode::SUCCESS)
    }

    /// Writes the file; Ctrl-C ends that without leaving any of it.
    fn write(&self, conversion: &Conversion) -> anyhow::Result<Vec<Deviation>> {
        let stop = Arc::new(AtomicBool::new(false));
        let flag = stop.clone();
        ctrlc::set_handler(move || flag.store(true, Ordering::Relaxed)).context("listening for Ctrl-C")?;
        let total = conversion.source_bytes();
        let bar = ProgressBar::new(total).with_style(ProgressStyle::with_template(
            "quantizing {bar:30} {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec} {eta}",
        )?);
        let start = Instant::now();
        let written = conversion.write(&self.output, self.force, |bytes| {
            bar.inc(bytes);
            match stop.load(Ordering::Relaxed) {
                true => Err(Error::Interrupted { what: format!("{} was not written", self.output.display()) }),
                false => Ok(()),
            }
        });
        let deviations = pollster::block_on(written);
        bar.finish_and_clear();
        let deviations = deviations?;
        let seconds = start.elapsed().as_secs_f64();
        eprintln!(
            "wrote {} to {} in {seconds:.1} s ({:.1} MB/s of {} read)",
            human_bytes(conversion.n_bytes()),
            self.output.display(),
            total as f64 / 1e6 / seconds.max(1e-9),
            human_bytes(total),
        );
        Ok(deviations)
    }

    fn perplexity(&self, model: &Path, weights: Option<WeightFormat>, text: &str) -> anyhow::Result<(f64, usize)> {
        let adapter = self.adapter.clone();
        // An exact cache, so that what differs is the weights.
        let options = ModelOptions { model: model.into(), adapter, weights, kv: CacheFormat::F32, ctx: None };
        let losses = perplexity::losses(&mut options.session(TextNeed::Tokenizer, true)?, text)?;
        Ok((perplexity::of(&losses), losses.len()))
    }
}

/// Nothing may read from the file that it replaces.
fn refuse_same(input: &Path, output: &Path) -> anyhow::Result<()> {
    match (input.canonicalize(), output.canonicalize()) {
        (Ok(input), Ok(output)) if input == output => {
            Err(Error::Invalid { what: format!("{} is IN and OUT at once", input.display()) }.into())
        }
        _ => Ok(()),
    }
}

/// What matrices have to be held as on the device, for IN to be measured as it is.
fn exact_format(conversion: &Conversion) -> Option<WeightFormat> {
    let plain = [WeightFormat::F32, WeightFormat::BF16, WeightFormat::F16];
    let matrices = || conversion.tensors.iter().filter(|tensor| tensor.shape.len() > 1).map(Output::source_format);
    let first = matrices().next()?;
    match matrices().all(|format| format == first) {
        true => Some(first),
        false if matrices().all(|format| plain.contains(&format)) => Some(WeightFormat::F32),
        false => None,
    }
}

fn warn(conversion: &Conversion, format: WeightFormat) {
    // Widening to plain floats loses next to nothing.
    let requantized = |tensor: &&Output| {
        let (from, to) = (tensor.source_format(), tensor.format);
        from != to && from.block_len() > 1 && to.block_len() > 1
    };
    let n_requantized = conversion.tensors.iter().filter(requantized).count();
    if n_requantized > 0 {
        eprintln!(
            "warning: {n_requantized} tensors of IN are quantized already: the errors below come on top of those that \
             they have; start from f16 or f32 if you can"
        );
    }
    let fallback = |tensor: &&Output| {
        tensor.shape.len() > 1 && !tensor.shape.last().is_some_and(|n| n.is_multiple_of(format.block_len()))
    };
    let n_fallback = conversion.tensors.iter().filter(fallback).count();
    if n_fallback > 0 {
        let n = format.block_len();
        eprintln!("note: the rows of {n_fallback} tensors do not divide into blocks of {n}: they get another format");
    }
}

fn as_json(conversion: &Conversion, deviations: &[Deviation], measured: Option<Measured>) -> serde_json::Value {
    let tensor = |(tensor, deviation): (&Output, &Deviation)| {
        json!({
            "name": tensor.name,
            "shape": tensor.shape,
            "from": tensor.source_format().name(),
            "to": tensor.format.name(),
            "bytes": tensor.n_bytes(),
            "relative_rms_error": deviation.relative_rms_error(),
            "max_error": deviation.max_error,
        })
    };
    let tensors: Vec<_> = conversion.tensors.iter().zip(deviations).map(tensor).collect();
    let total = total(deviations);
    json!({
        "tensors": tensors,
        "total": {
            "source_bytes": conversion.source_bytes(),
            "bytes": conversion.n_bytes(),
            "relative_rms_error": total.relative_rms_error(),
            "max_error": total.max_error,
        },
        "perplexity": measured.map(|m| json!({ "before": m.before, "after": m.after, "n_scored": m.n_scored })),
    })
}

fn print(
    out: &mut impl Write,
    conversion: &Conversion,
    deviations: &[Deviation],
    measured: Option<Measured>,
) -> anyhow::Result<()> {
    let (tensor, shape, from, to) = ("tensor", "shape", "from", "to");
    writeln!(
        out,
        "{tensor:<30} {shape:<20} {from:<7} {to:<7} {:>13} {:>10} {:>10}",
        "bytes", "rel. RMS", "max. error"
    )?;
    for (tensor, deviation) in conversion.tensors.iter().zip(deviations) {
        let shape = tensor.shape.iter().map(usize::to_string).collect::<Vec<_>>().join(" x ");
        let (name, from, to) = (&tensor.name, tensor.source_format().name(), tensor.format.name());
        let (relative, max) = (deviation.relative_rms_error(), deviation.max_error);
        let bytes = tensor.n_bytes();
        writeln!(out, "{name:<30} {shape:<20} {from:<7} {to:<7} {bytes:>13} {relative:>10.3e} {max:>10.3e}")?;
    }
    let sum = total(deviations);
    writeln!(
        out,
        "\n{} tensors, {} from {}; relative RMS error {:.3e}, largest error {:.3e}",
        conversion.tensors.len(),
        human_bytes(conversion.n_bytes()),
        human_bytes(conversion.source_bytes()),
        sum.relative_rms_error(),
        sum.max_error,
    )?;
    if let Some(Measured { before, after, n_scored }) = measured {
        let change = 100.0 * (after / before - 1.0);
        writeln!(out, "perplexity {before:.4} before, {after:.4} after ({change:+.2} %), over {n_scored} tokens")?;
    }
    Ok(())
}

fn total(deviations: &[Deviation]) -> Deviation {
    let mut total = Deviation::default();
    deviations.iter().for_each(|deviation| total.add(deviation));
    total
}

fn keep(rule: &str) -> Result<Keep, String> {
    let (pattern, format) = rule.rsplit_once('=').ok_or("it has the form PATTERN=FORMAT, such as output=q8_0")?;
    Keep::new(pattern, weight_format(format)?).map_err(|error| error.to_string())
}
