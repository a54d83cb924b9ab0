//! `cargo xtask demo`: from a fresh checkout to an answer.

use crate::{Paths, driver, model};
use anyhow::{Context, Result, bail};
use std::{
    fs,
    process::{Child, Command, ExitStatus},
    thread,
    time::Duration,
};
use xshell::{Shell, cmd};

const PROMPT: &str = "Why is the sky blue?";
const N: &str = "64";

pub fn run(sh: &Shell, paths: &Paths) -> Result<()> {
    cmd!(sh, "cargo build --release").run()?;
    let pocketlm = paths.pocketlm("release");
    driver::provide(sh, &pocketlm)?;
    let model = model::provide(sh, paths)?;
    eprintln!("\n$ {} run {} -p '{PROMPT}' -n {N}", paths.short(&pocketlm).display(), paths.short(&model).display());
    let child = Command::new(&pocketlm)
        .current_dir(&paths.root)
        .args(["run".as_ref(), paths.short(&model), "-p".as_ref(), PROMPT.as_ref(), "-n".as_ref(), N.as_ref()])
        .spawn()
        .with_context(|| format!("cannot run {}", pocketlm.display()))?;
    let (status, peak_kib) = watch(child)?;
    if let Some(peak_kib) = peak_kib {
        eprintln!("peak host memory {:.1} MiB", peak_kib as f64 / 1024.0);
    }
    if !status.success() {
        bail!("pocketlm stopped with {status}");
    }
    Ok(())
}

/// Waits for `child`; says how it ended and, on Linux, the most memory that it ever had resident, in KiB.
fn watch(mut child: Child) -> Result<(ExitStatus, Option<u64>)> {
    let mut peak_kib = None;
    loop {
        // The kernel keeps the maximum itself and drops it when the process ends, so the last look counts.
        peak_kib = resident_peak_kib(child.id()).or(peak_kib);
        if let Some(status) = child.try_wait()? {
            return Ok((status, peak_kib));
        }
        thread::sleep(Duration::from_millis(10));
    }
}

/// `VmHWM` of a live process; `None` where the system has no `/proc`.
fn resident_peak_kib(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.split_whitespace().next()?.parse().ok()
}
