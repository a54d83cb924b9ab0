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
    model::{ModelFile, TextSource},
};
use anyhow::Context;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use std::{
    collections::BTreeSet,
    io::{ErrorKind, Write},
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
    /// Format of the matrices: f32, f16, bf16, q4_0, q4_1, q4_k, q5_0, q5_1, q5_k, q6_k, q8_0, or q4_g128 (pocketlm's
    /// own); the matrix that makes the logits gets 6 bits or more unless --keep says otherwise
    #[arg(long, value_name = "FORMAT", default_value = "q4_k", value_parser = weight_format)]
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

/// What shells report for a program that Ctrl-C ended.
pub const INTERRUPTED: u8 = 130;

/// Perplexities of the text, and how many of its tokens they are over.
struct Measured {
    before: f64,
    after: f64,
    n_scored: usize,
}

impl Quantize {
    pub fn execute(mut self) -> anyhow::Result<ExitCode> {
        check_output(&self.input, &self.output, self.force)?;
        let read =
            |path: &PathBuf| std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()));
        let text = self.text.as_ref().map(read).transpose()?;
        self.input = resolve(&self.input)?;
        // Again, now that a name of the hub has become a file.
        check_output(&self.input, &self.output, self.force)?;
        let file = pollster::block_on(ModelFile::open(&self.input))?;
        let options = ConvertOptions { format: self.format, keep: self.keep.clone() };
        let conversion = pollster::block_on(Conversion::plan(&file, &options))?;
        warn(&conversion, self.format);
        if matches!(&file.text, TextSource::Folder(folder) if folder.tokenizer.is_none()) {
            eprintln!("warning: the folder has no tokenizer.json: the file will answer ids, not text");
        }
        let exact = exact_format(&conversion);
        let before = text.as_ref().map(|text| self.perplexity(&self.input, exact, text)).transpose()?;
        let Some(deviations) = write(&conversion, &self.output, self.force, "quantizing")? else {
            return Ok(ExitCode::from(INTERRUPTED));
        };
        let mut out = std::io::BufWriter::new(std::io::stdout().lock());
        if !self.json {
            // Before anything else can fail.
            print(&mut out, &conversion, &deviations)?;
            out.flush()?;
        }
        let after = text.as_ref().map(|text| self.perplexity(&self.output, None, text)).transpose()?;
        let measured = before.zip(after).map(|((before, n_scored), (after, _))| Measured { before, after, n_scored });
        match (self.json, measured) {
            (true, measured) => writeln!(out, "{:#}", as_json(&conversion, &deviations, measured))?,
            (false, Some(Measured { before, after, n_scored })) => {
                let change = 100.0 * (after / before - 1.0);
                writeln!(
                    out,
                    "perplexity {before:.4} before, {after:.4} after ({change:+.2} %), over {n_scored} tokens"
                )?;
            }
            (false, None) => {}
        }
        out.flush()?;
        Ok(ExitCode::SUCCESS)
    }

    fn perplexity(&self, model: &Path, weights: Option<WeightFormat>, text: &str) -> anyhow::Result<(f64, usize)> {
        let adapter = self.adapter.clone();
        // An exact cache, so that what differs is the weights.
        let options = ModelOptions { adapter, weights, kv: Some(CacheFormat::F32), ..ModelOptions::of(model) };
        let losses = perplexity::losses(&mut options.session(TextNeed::Tokenizer, true)?, text)?;
        Ok((perplexity::of(&losses), losses.len()))
    }
}

/// Writes the file with a progress bar; `None`: Ctrl-C ended that, and nothing of the file is left.
pub fn write(
    conversion: &Conversion,
    output: &Path,
    force: bool,
    doing: &'static str,
) -> anyhow::Result<Option<Vec<Deviation>>> {
    let [stop, done] = [(); 2].map(|()| Arc::new(AtomicBool::new(false)));
    let (stops, is_done) = (stop.clone(), done.clone());
    let on_interrupt = move || match is_done.load(Ordering::Relaxed) {
        // Nothing is half written any more.
        true => std::process::exit(INTERRUPTED.into()),
        false => stops.store(true, Ordering::Relaxed),
    };
    ctrlc::set_handler(on_interrupt).context("listening for Ctrl-C")?;
    let total = conversion.source_bytes();
    let style = "{msg} {bar:30} {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec} {eta}";
    let bar = ProgressBar::new(total).with_style(ProgressStyle::with_template(style)?).with_message(doing);
    let start = Instant::now();
    let written = conversion.write(output, force, |bytes| {
        bar.inc(bytes);
        match stop.load(Ordering::Relaxed) {
            true => Err(Error::Interrupted { what: format!("{} was not written", output.display()) }),
            false => Ok(()),
        }
    });
    let deviations = pollster::block_on(written);
    done.store(true, Ordering::Relaxed);
    bar.finish_and_clear();
    let deviations = match deviations {
        Err(error @ Error::Interrupted { .. }) => {
            eprintln!("error: {error}");
            return Ok(None);
        }
        deviations => deviations?,
    };
    let seconds = start.elapsed().as_secs_f64();
    eprintln!(
        "wrote {} to {} in {seconds:.1} s ({:.1} MB/s of {} read)",
        human_bytes(conversion.n_bytes()),
        output.display(),
        total as f64 / 1e6 / seconds.max(1e-9),
        human_bytes(total),
    );
    Ok(Some(deviations))
}

/// Refuses what would fail only after the work: a place where no file can be, or one that is taken.
pub fn check_output(input: &Path, output: &Path, force: bool) -> anyhow::Result<()> {
    let refused = |kind: ErrorKind| Err(Error::Write { path: output.into(), source: kind.into() }.into());
    match (input.canonicalize(), output.canonicalize()) {
        // Nothing may read from the file that it replaces.
        (Ok(input), Ok(output)) if input == output => {
            Err(Error::Invalid { what: format!("{} is IN and OUT at once", input.display()) }.into())
        }
        (_, Ok(output)) if output.is_dir() => refused(ErrorKind::IsADirectory),
        (_, Ok(_)) if !force => refused(ErrorKind::AlreadyExists),
        _ => Ok(()),
    }
}

/// What matrices have to be held as on the device, for IN to be measured as it is.
fn exact_format(conversion: &Conversion) -> Option<WeightFormat> {
    let plain = [WeightFormat::F32, WeightFormat::BF16, WeightFormat::F16];
    let matrices = || conversion.tensors.iter().filter(|tensor| tensor.is_matrix()).map(Output::source_format);
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
        tensor.is_matrix() && !tensor.shape.last().is_some_and(|n| n.is_multiple_of(format.block_len()))
    };
    let formats: BTreeSet<&str> =
        conversion.tensors.iter().filter(fallback).map(|tensor| tensor.format.name()).collect();
    if !formats.is_empty() {
        let (n, formats) = (conversion.tensors.iter().filter(fallback).count(), Vec::from_iter(formats).join(", "));
        let block = format.block_len();
        eprintln!(
            "note: {n} matrices have rows that are no multiple of {format}'s {block} weights; they become {formats}"
        );
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

fn print(out: &mut impl Write, conversion: &Conversion, deviations: &[Deviation]) -> anyhow::Result<()> {
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
