//! Every kernel of a model against the device's ceilings: `cargo bench --bench kernels [-- SHAPE]`, what `pocketlm kernels`
//! measures, by the same code.

use pocketlm::{
    CacheFormat, EngineOptions, Result, WeightFormat,
    backend::Gpu,
    measure::{About, ExamineOptions, Subject, SubjectOptions, examine, table},
    model::ModelFile,
};

fn main() -> Result<()> {
    // Cargo hands `--bench` on to us.
    let shape = std::env::args().skip(1).find(|argument| !argument.starts_with("--"));
    let shape = shape.unwrap_or("smollm2-135m".into());
    pollster::block_on(async {
        let file = ModelFile::from_shape(&shape, WeightFormat::Q4_0, 1)?;
        let gpu = Gpu::open(None).await?;
        let engine = EngineOptions::default();
        let subject = SubjectOptions { n_prompt: 256, depth: 256, cache: CacheFormat::F16, engine };
        let mut subject = Subject::new(&file, &gpu, &subject)?;
        subject.take_choices(&gpu).await?;
        let about = About::now(&gpu.report, &shape, std::env::var("POCKETLM_COMMIT").ok());
        let found = examine(&gpu, subject, &ExamineOptions::default(), about, |_, _| ()).await?;
        print!("{}", table::examination(&found));
        Ok(())
    })
}
