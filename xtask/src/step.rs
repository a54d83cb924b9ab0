//! One named step of a longer command: says that it begins, how long it took, and on failure its name.

use anyhow::{Context, Result};
use std::time::Instant;

/// Does `work` and reports it on stderr as `name`.
pub fn step<T>(name: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    eprintln!("\n== {name}");
    let start = Instant::now();
    let done = work().with_context(|| format!("the step `{name}` failed"))?;
    eprintln!("== {name}: passed in {:.1} s", start.elapsed().as_secs_f64());
    Ok(done)
}
