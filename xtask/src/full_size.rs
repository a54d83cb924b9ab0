//! `cargo xtask full-size`: Phi-3-mini at its real size, weights from a seed, on a software adapter that can hold it.

use crate::{Paths, step::step};
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::env;
use xshell::{Shell, cmd};

/// A weight format, and the most GiB that Phi-3-mini's weights may take in it.
const WEIGHTS: [(&str, f64); 2] = [("q4_0", 2.01), ("q4_g128", 1.84)];
/// A cache format, and the bytes that a token takes in it.
const CACHES: [(&str, u64); 3] = [("f16", 393_216), ("q8_0", 208_896), ("q4_0", 110_592)];
const CONTEXT: u64 = 1024;

pub fn run(sh: &Shell, paths: &Paths) -> Result<()> {
    step("build", || Ok(cmd!(sh, "cargo build --release").run()?))?;
    let _driver = step("driver", || newer_mesa(sh))?;
    let pocketlm = paths.pocketlm("release");
    for (cache, per_token) in CACHES {
        step(&format!("{cache} cache"), || {
            let ctx = CONTEXT.to_string();
            let text = cmd!(sh, "{pocketlm} inspect --shape phi-3-mini --kv {cache} --ctx {ctx} --json").read()?;
            let found = number(&serde_json::from_str(&text)?, "/memory/bytes/cache")?;
            ensure!(found == CONTEXT * per_token, "{found} bytes for {CONTEXT} tokens, {per_token} for each expected");
            eprintln!("{per_token} bytes per token");
            Ok(())
        })?;
    }
    for (weights, most_gib) in WEIGHTS {
        step(&format!("{weights} weights"), || {
            let shape = ["--shape", "phi-3-mini", "--weights", weights, "--ctx", "64"];
            let inspected: Value = serde_json::from_str(&cmd!(sh, "{pocketlm} inspect {shape...} --json").read()?)?;
            let quickly = ["-p", "16", "-n", "8", "-r", "1", "--format", "json"];
            let measured: Value = serde_json::from_str(&cmd!(sh, "{pocketlm} bench {shape...} {quickly...}").read()?)?;
            let said = number(&inspected, "/memory/bytes/weights")?;
            let allocated = number(&measured, "/weights_bytes")?;
            let gib = allocated as f64 / (1u64 << 30) as f64;
            ensure!(gib <= most_gib, "{gib:.3} GiB of weights, {most_gib} at most");
            // Planes begin at multiples of 256 bytes, which is all that may come on top.
            ensure!(allocated - said < 1 << 20, "inspect says {said} bytes, the device allocated {allocated}");
            for row in measured["rows"].as_array().context("bench printed no rows")? {
                eprintln!("{}: {} tokens/s", row["test"], row["tokens_per_s"][0]);
            }
            eprintln!("{gib:.3} GiB of weights");
            Ok(())
        })?;
    }
    eprintln!("\nPhi-3-mini runs at full size");
    Ok(())
}

/// Chooses the lavapipe of Debian's backports for the programs that are run from now on.
fn newer_mesa(sh: &Shell) -> Result<Vec<xshell::PushEnv<'_>>> {
    if env::var_os("VK_DRIVER_FILES").is_some() {
        eprintln!("VK_DRIVER_FILES is set: that driver is used");
        return Ok(Vec::new());
    }
    // export NAME='VALUE' NAME='VALUE'
    let exports = cmd!(sh, "bash xtask/mesa-backports.sh").read()?;
    let pairs = exports.split_whitespace().filter_map(|word| word.split_once('='));
    Ok(pairs.map(|(name, value)| sh.push_env(name, value.trim_matches('\''))).collect())
}

fn number(json: &Value, pointer: &str) -> Result<u64> {
    json.pointer(pointer).and_then(Value::as_u64).with_context(|| format!("no number at {pointer}"))
}
