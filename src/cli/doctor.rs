//! `pocketlm doctor`: every kernel variant on this adapter against its reference, then a small model in lockstep.

use crate::{
    backend::Gpu,
    doctor::{Row, examine, report},
};
use clap::Args;
use std::{io::Write, process::ExitCode};

#[derive(Debug, Args)]
pub struct Doctor {
    /// Adapter to test: a part of its name, or its index in `pocketlm devices`
    #[arg(long, value_name = "NAME|INDEX")]
    adapter: Option<String>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

impl Doctor {
    pub fn execute(self) -> anyhow::Result<ExitCode> {
        let gpu = pollster::block_on(Gpu::open(self.adapter.as_deref()))?;
        if !self.json {
            eprintln!("testing {} ({}, {})", gpu.report.name, gpu.report.backend, gpu.report.driver);
        }
        let rows = pollster::block_on(examine(&gpu, |row| {
            if !self.json {
                let _ = writeln!(std::io::stdout().lock(), "{}", line(row));
            }
            true
        }));
        let failed = rows.iter().filter(|row| !row.passed).count();
        if self.json {
            writeln!(std::io::stdout().lock(), "{}", serde_json::to_string_pretty(&report(&gpu, &rows))?)?;
        } else {
            let checks: usize = rows.iter().map(|row| row.n_checks).sum();
            writeln!(
                std::io::stdout().lock(),
                "\n{} variants passed, {failed} failed ({checks} checks)",
                rows.len() - failed
            )?;
        }
        Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

fn line(row: &Row) -> String {
    let mark = if row.passed { "pass" } else { "FAIL" };
    let detail = row.detail.as_ref().map_or(String::new(), |detail| format!("\n     {detail}"));
    format!("{mark} {:<72} {:>3} checks, error {:.3} of tolerance{detail}", row.name, row.n_checks, row.worst)
}
