//! `pocketlm devices`: adapters, and which one is chosen and why.

use super::human_bytes;
use crate::{Error, backend::gpu::adapters};
use clap::Args;
use std::{io::Write, process::ExitCode};

#[derive(Debug, Args)]
pub struct Devices {
    /// Print a JSON array
    #[arg(long)]
    json: bool,
}

impl Devices {
    pub fn execute(self) -> anyhow::Result<ExitCode> {
        let all = pollster::block_on(adapters());
        let mut out = std::io::stdout().lock();
        if self.json {
            writeln!(out, "{}", serde_json::to_string_pretty(&all)?)?;
            return Ok(ExitCode::SUCCESS);
        }
        if all.is_empty() {
            let what = "no adapter: neither a GPU nor a software driver for one was found".into();
            return Err(Error::NoAdapter { what, available: Vec::new() }.into());
        }
        for (index, a) in all.iter().enumerate() {
            let yes = |b: bool| if b { "yes" } else { "no" };
            let [min, max] = a.subgroup_size;
            let lanes = if min == max { format!("{min}") } else { format!("{min} to {max}") };
            let matrices = a.coop.map_or("no".into(), |coop| format!("{0}x{0}", coop.side));
            writeln!(out, "{index}: {}{}", a.name, if index == 0 { "   (chosen)" } else { "" })?;
            writeln!(out, "   {} through {}, driver {}", a.kind, a.backend, a.driver)?;
            writeln!(
                out,
                "   subgroups {} ({lanes} lanes), f16 {}, f16 matrices {matrices}, timestamps {}",
                yes(a.subgroups),
                yes(a.f16),
                yes(a.timestamps)
            )?;
            writeln!(
                out,
                "   binding up to {}, buffer up to {}, workgroup memory {}, {} invocations",
                human_bytes(a.max_binding_bytes),
                human_bytes(a.max_buffer_bytes),
                human_bytes(a.max_workgroup_bytes as u64),
                a.max_workgroup_invocations
            )?;
        }
        let first = &all[0];
        writeln!(out, "\nchosen: {} ({}: {}); --adapter takes another", first.name, first.kind, first.reason)?;
        Ok(ExitCode::SUCCESS)
    }
}
