//! The command line: one file a command. Data goes to stdout, talk to stderr.

mod bench;
mod chat;
mod devices;
mod doctor;
mod inspect;
mod kernels;
mod logits;
mod options;
mod perplexity;
mod pull;
mod quantize;
mod run;
mod synth;
mod tune;

use crate::error::Error;
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use std::{io::IsTerminal, process::ExitCode};

#[derive(Debug, Parser)]
#[command(name = "pocketlm", version, about = "Runs language models on any GPU", long_about = None, after_help = EXAMPLES)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
    /// Say more on stderr (-v, -vv)
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
}

const EXAMPLES: &str = "Examples:
  pocketlm run model.gguf -p 'Why is the sky blue?'
  pocketlm chat model.gguf --temp 0.8 --top-p 0.95
  pocketlm inspect model.gguf --plan
  pocketlm pull bartowski/Phi-3.5-mini-instruct-GGUF
  pocketlm doctor";

#[derive(Debug, Subcommand)]
enum Command {
    /// Answer one prompt
    Run(run::Run),
    /// Hold a conversation
    Chat(chat::Chat),
    /// Print logits as JSON, for tests of numerics
    Logits(logits::Logits),
    /// Measure how well a model predicts a text
    Perplexity(perplexity::Perplexity),
    /// Write a model as one GGUF file, in another weight format
    Quantize(quantize::Quantize),
    /// Show what a model file holds and what it needs on a device
    Inspect(inspect::Inspect),
    /// Fetch a model from the Hugging Face hub into the cache that other tools share
    Pull(pull::Pull),
    /// Write a model of a published shape with random weights
    Synth(synth::Synth),
    /// Measure prompt and decode speed
    Bench(bench::Bench),
    /// Measure the device and every kernel of a model on it
    Kernels(kernels::Kernels),
    /// Find the fastest way of building each kernel of a model on this adapter
    Tune(tune::Tune),
    /// List adapters, and which one is chosen and why
    Devices(devices::Devices),
    /// Test every kernel on this adapter against its reference
    Doctor(doctor::Doctor),
}

/// Parses the arguments, runs the command, reports an error with its hint. Exit status: 0, 1 for an error, 2 for
/// wrong usage.
pub fn main() -> ExitCode {
    if std::env::var_os("XDG_RUNTIME_DIR").is_none() {
        // Mesa's device-select layer complains on stderr of a session without a desktop; the choice is ours anyway.
        // SAFETY: the program has one thread so far.
        unsafe { std::env::set_var("NODEVICE_SELECT", "1") };
    }
    let arguments = arguments();
    let level = ["warn", "info", "debug", "trace"][arguments.verbose.min(3) as usize];
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(format!("pocketlm={level},wgpu=error,naga=error")));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).without_time();
    log.with_ansi(std::io::stderr().is_terminal()).with_target(false).init();
    let result = match arguments.command {
        Command::Run(command) => command.execute(),
        Command::Chat(command) => command.execute(),
        Command::Logits(command) => command.execute(),
        Command::Perplexity(command) => command.execute(),
        Command::Quantize(command) => command.execute(),
        Command::Inspect(command) => command.execute(),
        Command::Pull(command) => command.execute(),
        Command::Synth(command) => command.execute(),
        Command::Bench(command) => command.execute(),
        Command::Kernels(command) => command.execute(),
        Command::Tune(command) => command.execute(),
        Command::Devices(command) => command.execute(),
        Command::Doctor(command) => command.execute(),
    };
    match result {
        Ok(code) => code,
        // The reader of a pipe may leave before we are done; that is its right.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            if let Some(hint) = error.downcast_ref::<Error>().and_then(Error::hint) {
                eprintln!("\nhint: {hint}");
            }
            ExitCode::FAILURE
        }
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let kind = |cause: &(dyn std::error::Error + 'static)| {
        let io = cause.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
        io.or_else(|| cause.downcast_ref::<serde_json::Error>().and_then(serde_json::Error::io_error_kind))
    };
    error.chain().any(|cause| kind(cause) == Some(std::io::ErrorKind::BrokenPipe))
}

/// Bytes in the unit that people read most easily.
fn human_bytes(bytes: u64) -> String {
    indicatif::BinaryBytes(bytes).to_string()
}

fn arguments() -> Arguments {
    // What is kept of an adapter can be looked at without a model.
    let alone = ["shape", "show", "reset", "import", "export"];
    let model = |argument: clap::Arg| argument.required_unless_present_any(alone);
    let command = Arguments::command().mut_subcommand("tune", |tune| tune.mut_arg("model", model));
    Arguments::from_arg_matches(&command.get_matches()).unwrap_or_else(|error| error.exit())
}
