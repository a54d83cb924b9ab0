//! Bytes and operations of dispatches against what a person computes by hand.

use pocketlm::{
    CacheFormat, EngineOptions, WeightFormat,
    kernels::{self, Kernel, Situation, Tuning, Unit, Variant, Work, work},
    model::{ModelFile, Phase, RecordOptions, record, synthetic},
    plan::Batch,
    session::place,
};

const ONE: Situation = Situation { n_tokens: 1, position: 0, n_experts: 0, n_used: 0 };

fn counted(kernel: &Kernel, format: Option<WeightFormat>, cache: CacheFormat, params: &[u32], s: Situation) -> Work {
    let variant = Variant { format, cache: Some(cache), heads: None, tuning: Tuning::BASELINE };
    work(kernel, kernel.variant(variant), params, s).expect("it is counted")
}

fn check(found: Work, weight_bytes: u64, read_bytes: u64, written_bytes: u64, operations: f64) {
    assert_eq!(found, Work { weight_bytes, read_bytes, written_bytes, operations, unit: Unit::F32 });
}

#[test]
fn products() {
    let q4_0 = Some(WeightFormat::Q4_0);
    let f32 = CacheFormat::F32;
    // 18 bytes for 32 weights; a float for each column and row.
    let qkv = counted(&kernels::MATVEC, q4_0, f32, &[9216, 96, 0, 0], ONE);
    check(qkv, 9216 * 3072 / 32 * 18, 3072 * 4, 9216 * 4, 2.0 * 9216.0 * 3072.0);
    // 33 rows lie in two tiles of 32.
    let awkward = counted(&kernels::MATVEC, q4_0, f32, &[33, 3, 5, 0], ONE);
    check(awkward, 64 * 3 * 18, 96 * 4, 33 * 4, 2.0 * 33.0 * 96.0);
    // What is accumulated is read as well.
    let down = counted(&kernels::MATVEC, Some(WeightFormat::F16), f32, &[576, 48, 0, 1], ONE);
    check(down, 576 * 1536 * 2, (1536 + 576) * 4, 576 * 4, 2.0 * 576.0 * 1536.0);
    let batch = Situation { n_tokens: 32, ..ONE };
    let matmul = counted(&kernels::MATMUL_LANES, Some(WeightFormat::F16), f32, &[576, 48, 0, 576, 1], batch);
    check(matmul, 576 * 1536 * 2, 32 * (1536 + 576) * 4, 32 * 576 * 4, 32.0 * 2.0 * 576.0 * 1536.0);
}

#[test]
fn attention() {
    let at = |position, n_tokens| Situation { n_tokens, position, ..ONE };
    // n_heads, n_kv_heads, head_dim, capacity, window, first_kv_head, part_kv_heads, out_stride
    let plain = [9, 3, 64, 1024, 0, 0, 3, 576];
    let f16 = CacheFormat::F16;
    let found = counted(&kernels::ATTENTION, None, f16, &plain, at(64, 1));
    check(found, 0, 576 * 4 + 2 * 65 * 192 * 2, 576 * 4, 4.0 * 576.0 * 65.0);
    // One of three parts of the heads.
    let part = counted(&kernels::ATTENTION, None, f16, &[9, 3, 64, 1024, 0, 1, 1, 576], at(64, 1));
    check(part, 0, 192 * 4 + 2 * 65 * 64 * 2, 192 * 4, 4.0 * 192.0 * 65.0);
    // A window of 10: the first of four tokens sees positions 21 to 30, the last 24 to 33; 13 keys in all.
    let window = counted(&kernels::ATTENTION, None, f16, &[2, 2, 64, 64, 10, 0, 2, 128], at(30, 4));
    check(window, 0, 4 * 128 * 4 + 2 * 13 * 128 * 2, 4 * 128 * 4, 4.0 * 128.0 * 40.0);
    // A prompt from the start: 1 + 2 + 3 pairs.
    let prompt = counted(&kernels::ATTENTION, None, CacheFormat::F32, &[2, 2, 64, 64, 0, 0, 2, 128], at(0, 3));
    check(prompt, 0, 3 * 128 * 4 + 2 * 3 * 128 * 4, 3 * 128 * 4, 4.0 * 128.0 * 6.0);
    // Two heads of 64 in q8_0: 128 bytes of codes and four scales of two.
    let q8 = counted(&kernels::ATTENTION, None, CacheFormat::Q8_0, &[2, 2, 64, 64, 0, 0, 2, 128], at(9, 1));
    check(q8, 0, 128 * 4 + 2 * 10 * (128 + 8), 128 * 4, 4.0 * 128.0 * 10.0);
}

#[test]
fn fused_products() {
    let (q4_0, f32) = (Some(WeightFormat::Q4_0), CacheFormat::F32);
    let matrix = 9216 * 3072 / 32 * 18;
    // n_rows, n_blocks, y_first, has_bias, n_squares, dim, eps; beside x 96 sums of squares.
    let qkv = counted(&kernels::MATVEC_NORM, q4_0, f32, &[9216, 96, 0, 0, 96, 3072, 0], ONE);
    check(qkv, matrix, (3072 + 96) * 4, 9216 * 4, 2.0 * 9216.0 * 3072.0);
    let biased = counted(&kernels::MATVEC_NORM, q4_0, f32, &[9216, 96, 0, 1, 96, 3072, 0], ONE);
    assert_eq!(biased.read_bytes - qkv.read_bytes, 9216 * 4);
    // The residual and a norm are read; the residual, the weighted one and 96 sums of squares are written.
    let down = counted(&kernels::MATVEC_RESIDUAL, q4_0, f32, &[3072, 256, 0, 0], ONE);
    check(down, 3072 * 8192 / 32 * 18, (8192 + 2 * 3072) * 4, (2 * 3072 + 96) * 4, 2.0 * 3072.0 * 8192.0);
    // Gate and up.
    let gate_up = counted(&kernels::MATVEC_SWIGLU, q4_0, f32, &[8192, 96, 96, 3072, 0], ONE);
    check(gate_up, 2 * 8192 * 3072 / 32 * 18, (3072 + 96) * 4, 8192 * 4, 4.0 * 8192.0 * 3072.0);
}

#[test]
fn one_tokens_attention() {
    let at = |position| Situation { position, ..ONE };
    // n_heads, n_kv_heads, head_dim, rope_dim, interleaved, capacity, window, first, part, split_keys, most_splits,
    // partials_at, q_scale, norm_eps
    let params = |window| [9, 3, 64, 64, 0, 1024, window, 0, 3, 256, 8, 0, 0, 0];
    let f16 = CacheFormat::F16;
    // 64 keys and values come from the cache, the token's own go there.
    let found = counted(&kernels::ATTEND, None, f16, &params(0), at(64));
    check(found, 0, (960 + 64) * 4 + 2 * 64 * 384, 2 * 384 + 576 * 4, 4.0 * 576.0 * 65.0);
    // 600 keys in three splits, each with its maximum and its sum.
    let split = counted(&kernels::ATTEND, None, f16, &params(0), at(599));
    check(split, 0, (960 + 64) * 4 + 2 * 599 * 384, 2 * 384 + 3 * 9 * 66 * 4, 4.0 * 576.0 * 600.0);
    let window = counted(&kernels::ATTEND, None, f16, &params(100), at(599));
    assert_eq!((window.read_bytes, window.operations), ((960 + 64) * 4 + 2 * 100 * 384, 4.0 * 576.0 * 100.0));
    // head_dim, first_head, n_heads, window, split_keys, most_splits, partials_at
    let merge = counted(&kernels::ATTEND_MERGE, None, f16, &[64, 0, 9, 0, 256, 8, 0], at(599));
    check(merge, 0, 3 * 9 * 66 * 4, 576 * 4, 2.0 * 3.0 * 9.0 * 66.0);
}

#[test]
fn experts() {
    let one = Situation { n_tokens: 1, position: 0, n_experts: 8, n_used: 2 };
    let matrix = 64 * 96 / 32 * 18;
    let q4_0 = Some(WeightFormat::Q4_0);
    // Two of eight; both have the same x.
    let params = [64, 3, 0, 8, 0, 64, 2, 1];
    let all = counted(&kernels::EXPERT_MATVEC, q4_0, CacheFormat::F32, &params, one);
    check(all, 2 * matrix, 96 * 4, 2 * 64 * 4, 2.0 * 2.0 * 64.0 * 96.0);
    // Half of the experts serve half of the assignments on average.
    let params = [64, 3, 0, 4, 0, 64, 2, 0];
    let half = counted(&kernels::EXPERT_MATVEC, q4_0, CacheFormat::F32, &params, one);
    check(half, matrix, 96 * 4, 64 * 4, 2.0 * 64.0 * 96.0);
    // Gate and up of two experts, 3 sums of squares beside x; n_rows, n_blocks, first_expert, n_experts, h_stride, n_used,
    // n_squares, dim, eps.
    let params = [64, 3, 0, 8, 64, 2, 3, 96, 0];
    let swiglu = counted(&kernels::EXPERT_SWIGLU, q4_0, CacheFormat::F32, &params, one);
    check(swiglu, 4 * matrix, (96 + 3) * 4, 2 * 64 * 4, 4.0 * 2.0 * 64.0 * 96.0);
    // Two rows of x, the residual and a norm; the residual, the weighted one and two sums of squares.
    let down = counted(&kernels::EXPERT_RESIDUAL, q4_0, CacheFormat::F32, &[64, 3, 0, 8, 2], one);
    check(down, 2 * matrix, (2 * 96 + 128) * 4, (128 + 2) * 4, 2.0 * 2.0 * 64.0 * 96.0);
    // Of two tokens the second finds an expert unused by the first with probability 3/4: 8 (1 - 9/16) are in use.
    let two = Situation { n_tokens: 2, ..one };
    let batch = counted(&kernels::EXPERT_MATMUL_LANES, q4_0, CacheFormat::F32, &[64, 3, 0, 8, 0, 64, 2], two);
    check(batch, matrix * 7 / 2, 2 * 96 * 4, 4 * 64 * 4, 4.0 * 2.0 * 64.0 * 96.0);
}

/// A token of Phi-3-mini in q4_0 reads 3.624 G weights of its layers and 98.5 M of the logits, at 4.5 bits each.
#[test]
fn a_token_of_phi_3_mini() {
    let file = ModelFile::from_shape("phi-3-mini", WeightFormat::Q4_0, 1).expect("a shape");
    let (_, placed) = place(&file, 128 << 20, &EngineOptions::default()).expect("it fits");
    let (cache, part_kv_heads, tuning) = (CacheFormat::F16, 32, Tuning::BASELINE);
    let options = RecordOptions { capacity: 512, max_tokens: 1, cache, part_kv_heads, tuning };
    let plan = record(&file.config, &placed, &options, Phase::Decode);
    let situation = Situation { position: 255, ..ONE };
    let batch = Batch { n_tokens: 1, position: 255 };
    let run = plan.dispatches.iter().filter(|d| d.grid.iter().all(|extent| extent.resolve(batch) > 0));
    let n_run = |position| {
        let batch = Batch { n_tokens: 1, position };
        plan.dispatches.iter().filter(|d| d.grid.iter().all(|extent| extent.resolve(batch) > 0)).count()
    };
    // Two of them choose the token, in a plan of their own.
    assert!(n_run(0) > 32 * 4 && n_run(4095) > n_run(0) && n_run(4095) + 2 <= 200, "{} and {}", n_run(0), n_run(4095));
    let works = run.map(|d| work(d.kernel, d.variant, &d.params, situation).expect(&d.label));
    let (mut weights, mut read, mut operations) = (0, 0, 0.0);
    for work in works {
        (weights, read, operations) =
            (weights + work.weight_bytes, read + work.read_bytes, operations + work.operations);
    }
    let expected = (3.623_878_656e9 + 32064.0 * 3072.0) * 4.5 / 8.0;
    assert!((weights as f64 / expected - 1.0).abs() < 1e-3, "{weights} bytes of weights, {expected} expected");
    // 255 keys and values of 32 layers in f16, and in each layer 39,200 floats of activations and tables.
    let cached = 255 * 393_216;
    assert!((cached + 5_000_000..cached + 5_300_000).contains(&read), "{read} bytes read");
    assert!((operations / 7.45e9 - 1.0).abs() < 0.05, "{operations} operations");
}

/// Whoever adds a kernel has to say what it does.
#[test]
fn every_kernel_is_counted() {
    let situation = Situation { n_experts: 1, n_used: 1, ..ONE };
    for kernel in kernels::ALL {
        let (format, cache) = (Some(WeightFormat::Q4_0), Some(CacheFormat::F16));
        let variant = Variant { format, cache, heads: None, tuning: Tuning::BASELINE };
        let found = work(kernel, kernel.variant(variant), &vec![1; kernel.params.len()], situation);
        let found = found.unwrap_or_else(|| panic!("{}: add it to src/kernels/work.rs", kernel.name));
        assert!(found.bytes() > 0 && found.operations > 0.0, "{}: {found:?}", kernel.name);
    }
}

#[test]
fn every_dispatch_of_small_models_is_counted() {
    for (name, config, weights) in synthetic::all_tiny(WeightFormat::Q4_0, 1).expect("small models") {
        let (_, placed) = weights.place(config.tied, None, 128 << 20).expect("it fits");
        let (cache, part_kv_heads, tuning) = (CacheFormat::Q8_0, 1, Tuning::BASELINE);
        let options = RecordOptions { capacity: 64, max_tokens: 8, cache, part_kv_heads, tuning };
        let (n_experts, n_used) = config.experts.map_or((0, 0), |e| (e.n, e.n_used));
        for phase in [Phase::Decode, Phase::Prompt, Phase::LastLogits] {
            let n_tokens = if phase == Phase::Decode { 1 } else { 8 };
            for d in record(&config, &placed, &options, phase).dispatches {
                let found =
                    work(d.kernel, d.variant, &d.params, Situation { n_tokens, position: 5, n_experts, n_used });
                assert!(found.is_some_and(|work| work.bytes() > 0), "{name} {}", d.label);
            }
        }
    }
}
