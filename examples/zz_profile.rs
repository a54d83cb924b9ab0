//! Scratch.
use pocketlm::{backend::Gpu, kernels::CacheFormat, model::*, plan::Batch, *};
use std::{collections::BTreeMap, sync::Arc, time::Instant};
fn cpu() -> f64 {
    let s = std::fs::read_to_string("/proc/self/stat").unwrap();
    let f: Vec<&str> = s.rsplit(')').next().unwrap().split_whitespace().collect();
    (f[11].parse::<f64>().unwrap() + f[12].parse::<f64>().unwrap()) * 10.0
}
fn main() {
    let path = std::env::args().nth(1).unwrap();
    let position: usize = std::env::args().nth(2).map_or(100, |s| s.parse().unwrap());
    pollster::block_on(async {
        let file = ModelFile::open(path.as_ref()).await.unwrap();
        let mut gpu = Gpu::open(None).await.unwrap();
        if let Ok(w) = std::env::var("AW") {
            gpu.tuning.attention.width = w.parse().unwrap();
            gpu.tuning.attention.one_subgroup = w == "8";
        }
        if let Ok(w) = std::env::var("SK") {
            gpu.tuning.attention.split_keys = w.parse().unwrap();
        }
        if let Ok(w) = std::env::var("TILES") {
            gpu.tuning.tiles = w.parse().unwrap();
        }
        let (placement, placed) = file.weights.place(file.config.tied, None, gpu.max_binding_bytes()).unwrap();
        let weights = Arc::new(gpu.load(&placement, |_| ()).await.unwrap());
        let options = RecordOptions {
            capacity: 2048,
            max_tokens: 64,
            cache: CacheFormat::F16,
            part_kv_heads: file.config.n_kv_heads,
            tuning: gpu.tuning,
        };
        let plan = record(&file.config, &placed, &options, Phase::Decode);
        let mut plan = plan;
        if let Ok(name) = std::env::var("REPLACE") {
            // NAME=FILE
            let (name, file) = name.split_once('=').unwrap();
            let text: &'static str = Box::leak(std::fs::read_to_string(file).unwrap().into_boxed_str());
            let mut made: Option<&'static pocketlm::kernels::Kernel> = None;
            for d in &mut plan.dispatches {
                if d.kernel.name == name {
                    let k = d.kernel;
                    let new = *made.get_or_insert_with(|| {
                        Box::leak(Box::new(pocketlm::kernels::Kernel {
                            name: "replaced",
                            shader: text,
                            params: k.params,
                            reads: k.reads,
                            writes: k.writes,
                            needs: k.needs,
                            reference: k.reference,
                            tolerance: k.tolerance,
                        }))
                    });
                    d.kernel = new;
                }
            }
        }
        let memory = gpu.allocate(&[&plan], &weights, &file.config.rope.angles(2048)).await.unwrap();
        let program = gpu.program(&plan, &memory, &weights).await.unwrap();
        gpu.write(&memory, "step", &[1, position as u32, 0, 0, 17]);
        let batch = Batch { n_tokens: 1, position };
        for _ in 0..2 {
            gpu.run(&[&program], batch).unwrap();
            gpu.finished("x").await.unwrap();
        }
        let n = 20;
        let c0 = cpu();
        let start = Instant::now();
        for _ in 0..n {
            gpu.run(&[&program], batch).unwrap();
            gpu.finished("x").await.unwrap();
        }
        println!(
            "whole {:.2} ms, cpu {:.2} ms",
            start.elapsed().as_secs_f64() * 1e3 / n as f64,
            (cpu() - c0) / n as f64
        );
        let mut by: BTreeMap<String, (f64, usize)> = BTreeMap::new();
        let mut idle = f64::MAX;
        for _ in 0..10 {
            let s = Instant::now();
            gpu.run(&[], batch).unwrap();
            gpu.finished("x").await.unwrap();
            idle = idle.min(s.elapsed().as_secs_f64());
        }
        for (i, d) in plan.dispatches.iter().enumerate() {
            let mut best = f64::MAX;
            for _ in 0..4 {
                let s = Instant::now();
                gpu.run_one(&program, i, batch);
                gpu.finished("x").await.unwrap();
                best = best.min(s.elapsed().as_secs_f64());
            }
            let stem = d.label.rsplit('.').next().unwrap().to_string();
            let e = by.entry(stem).or_default();
            e.0 += best - idle;
            e.1 += 1;
        }
        let sum: f64 = by.values().map(|v| v.0).sum();
        for (k, (t, c)) in &by {
            println!("{k:<16} {c:>3} x {:8.1} us = {:7.2} ms", t * 1e6 / *c as f64, t * 1e3);
        }
        println!("sum {:.2} ms, idle {:.1} us", sum * 1e3, idle * 1e6);
    });
}
