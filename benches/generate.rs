//! Prompt and decode speed: `cargo bench --bench generate [-- MODEL|SHAPE]`, what `pocketlm bench` measures, by the same
//! code. Without an argument it takes the model that `cargo xtask demo` fetches, or its shape.

use pocketlm::{
    Engine, EngineOptions, Result, Session, SessionOptions,
    backend::Gpu,
    measure::{About, BenchOptions, bench, measure_copy, table},
    model::ModelFile,
    platform::now_s,
    timing::Method,
};
use std::{path::Path, sync::Arc};

fn main() -> Result<()> {
    let name = subject();
    pollster::block_on(async {
        let start_s = now_s();
        let engine =
            Engine::load(file(&name).await?, Gpu::open(None).await?, &EngineOptions::default(), |_, _| ()).await?;
        let mut session = Session::new(Arc::new(engine), &SessionOptions::default()).await?;
        let load_s = now_s() - start_s;
        let gpu = &session.engine().clone().gpu;
        let copy_bytes_per_s = measure_copy(gpu, &Method::default()).await?;
        let about = About::now(&gpu.report, &name, std::env::var("POCKETLM_COMMIT").ok());
        let depths = vec![0];
        let options = BenchOptions { n_prompt: 256, n_decode: 64, depths, rounds: 5, copy_bytes_per_s, load_s };
        let found = bench(&mut session, &options, about, |_| ()).await?;
        table::bench_talk(&found).iter().for_each(|line| println!("{line}"));
        print!("{}", table::bench_table(&found));
        Ok(())
    })
}

/// The argument; Cargo hands `--bench` on as well.
fn subject() -> String {
    let demo = "models/SmolLM2-135M-Instruct.Q4_1.gguf";
    let default = if Path::new(demo).exists() { demo } else { "smollm2-135m" };
    std::env::args().skip(1).find(|argument| !argument.starts_with("--")).unwrap_or(default.into())
}

async fn file(name: &str) -> Result<ModelFile> {
    match Path::new(name).exists() {
        true => ModelFile::open(Path::new(name)).await,
        false => ModelFile::from_shape(name, pocketlm::WeightFormat::Q4_0, 1),
    }
}
