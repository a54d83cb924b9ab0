//! `pocketlm tune`: which way of building each kernel is fastest here; to look at, share and reset.

use super::options::ModelOptions;
use crate::{
    Engine, EngineOptions,
    backend::Gpu,
    kernels::Choice,
    tune::{Kept, KeptShape, SearchOptions},
};
use clap::Args;
use indicatif::ProgressBar;
use std::{io::Write, path::PathBuf, process::ExitCode};

#[derive(Debug, Args)]
pub struct Tune {
    #[command(flatten)]
    model: ModelOptions,
    /// Print what is known and measure nothing
    #[arg(long, conflicts_with = "reset")]
    show: bool,
    /// Forget what is known of this adapter, then measure if there is a MODEL
    #[arg(long)]
    reset: bool,
    /// Write what is known of this adapter to FILE as well
    #[arg(long, value_name = "FILE")]
    export: Option<PathBuf>,
    /// Take over what was exported on a device like this one, then measure what it lacks if there is a MODEL
    #[arg(long, value_name = "FILE")]
    import: Option<PathBuf>,
}

impl Tune {
    pub fn execute(self) -> anyhow::Result<ExitCode> {
        pollster::block_on(self.tune())
    }

    async fn tune(self) -> anyhow::Result<ExitCode> {
        let gpu = Gpu::open(self.model.adapter.as_deref()).await?;
        let mut kept = if self.reset { Kept::new(&gpu) } else { Kept::load(&gpu) };
        if let Some(file) = &self.import {
            kept.shapes.extend(Kept::import(&gpu, file)?.shapes);
        }
        if self.import.is_some() || self.reset {
            kept.save(&gpu)?;
        }
        let mut saved = None;
        let measures = !self.show && (self.model.model.is_some() || self.model.shape.is_some());
        if measures {
            let file = self.model.file()?;
            let options = EngineOptions {
                session: Some(self.model.session_options(false)),
                tune: Some(false),
                ..self.model.engine_options()
            };
            let engine = Engine::load(file, gpu, &options, |_, _| ()).await?;
            let bar = ProgressBar::new_spinner().with_message("measuring");
            engine
                .search(&mut kept, SearchOptions::THOROUGH, |key, _| bar.set_message(format!("measured {key}")))
                .await?;
            bar.finish_and_clear();
            saved = Some(kept.save(&engine.gpu));
        }
        // Whoever reads the list may stop, and what cannot be written is printed all the same.
        let exported = self.export.as_deref().map(|file| kept.export(file));
        let mut out = std::io::stdout().lock();
        writeln!(out, "{} ({}, {}, wgpu {})", kept.adapter, kept.backend, kept.driver, kept.wgpu)?;
        for (key, shape) in &kept.shapes {
            writeln!(out, "{}", line(key, shape))?;
        }
        if let (Some(file), Some(())) = (&self.export, exported.transpose()?) {
            eprintln!("wrote {}", file.display());
        }
        if let Some(path) = saved.transpose()?.flatten() {
            eprintln!("kept in {}", path.display());
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn line(key: &str, shape: &KeptShape) -> String {
    let KeptShape { choice, usual_s, chosen_s, n_tried, n_all, .. } = shape;
    let chosen = match choice {
        Choice::Product { k_split, tiles } => format!("split {k_split} tiles {tiles}"),
        Choice::Staged { token_quads } => format!("{token_quads} quads of tokens a lane"),
        Choice::Attention { width, four_lanes, split_keys, most_splits } => {
            let lanes = if *four_lanes { " by fours" } else { "" };
            format!("width {width}{lanes}, {split_keys} keys, {most_splits} parts")
        }
    };
    let time = |s: &Option<f64>| s.map_or("lost in noise".into(), |s| format!("{:.1} us", s * 1e6));
    let gain = match (usual_s, chosen_s) {
        (Some(usual_s), Some(chosen_s)) => format!(" ({:+.0} %)", 100.0 * (usual_s / chosen_s - 1.0)),
        _ => String::new(),
    };
    let rest = if n_tried < n_all { format!(" of {n_all}") } else { String::new() };
    format!("{key:<52} {chosen:<28} {:>13}, usual {:>13}{gain}, of {n_tried}{rest}", time(chosen_s), time(usual_s))
}
