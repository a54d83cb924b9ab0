//! GPTQ and AWQ checkpoints: their numbers against the definition, whole models against float64, and broken ones.

use crate::common::{floats, ids, json, logits, max_difference, path, session};
use pocketlm::{
    CacheFormat, Error, WeightFormat,
    format::{Folder, TensorInfo},
    model::ModelFile,
};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use serde_json::{Value, json};
use std::{collections::BTreeMap, path::PathBuf};

const CHECKPOINTS: [&str; 3] = ["gptq", "gptq-v2", "awq"];

fn read(name: &str) -> Vec<TensorInfo> {
    pollster::block_on(Folder::read(&path(&format!("tests/data/packed/{name}")))).expect("it opens").tensors
}

/// Every row of every layer, by its product with one vector; the reference knows nothing of packed words.
#[test]
fn rows_mean_what_the_methods_define() {
    for name in CHECKPOINTS {
        let tensors = read(name);
        let golden = json(&format!("tests/data/packed/{name}/golden.json"));
        for (part, dots) in golden["row_dots"].as_object().expect("layers") {
            let full = format!("model.layers.0.{part}.weight");
            let tensor = tensors.iter().find(|tensor| tensor.name == full).expect(part);
            let format = match name {
                // Rows of 160 do not fill blocks of 128.
                "gptq-v2" if part == "mlp.down_proj" => WeightFormat::Q4_0,
                "gptq-v2" => WeightFormat::Q4_G128,
                _ => WeightFormat::Q4_1,
            };
            assert_eq!(tensor.format, format, "{name} {part}");
            let weights = pollster::block_on(tensor.read_f32()).expect("it reads");
            for (row, want) in floats(dots).into_iter().enumerate() {
                let of_row = weights[row * tensor.columns()..][..tensor.columns()].iter().enumerate();
                let dot: f64 = of_row.map(|(k, w)| f64::from(*w) * (1.5 + (1.0 + k as f64).sin())).sum();
                assert!((dot - f64::from(want)).abs() < 1e-5, "{name} {part} row {row}: {dot} instead of {want}");
            }
        }
        // Nothing of the packed form is left, and what was never packed is as it was.
        let file = pollster::block_on(ModelFile::open(&path(&format!("tests/data/packed/{name}")))).expect("it opens");
        let tensors = file.tensors;
        assert!(tensors.iter().all(|t| t.name.ends_with(".weight")), "{name}");
        assert_eq!(tensors.len(), 12, "{name}");
        assert_eq!(tensors.iter().filter(|t| t.format == WeightFormat::F16).count(), 5, "{name}");
    }
}

/// Any rows, however they lie across the words of eight, are those of the whole tensor.
#[test]
fn rows_are_read_in_any_piece() {
    for name in CHECKPOINTS {
        let tensors = read(name);
        let tensor = tensors.iter().find(|t| t.name.ends_with("gate_proj.weight")).expect("a layer");
        let (mut whole, mut some) = (Vec::new(), Vec::new());
        pollster::block_on(tensor.read_rows(0, 160, &mut whole)).expect("it reads");
        for (first, n) in [(0, 1), (3, 10), (7, 1), (8, 8), (1, 158), (159, 1), (5, 0)] {
            pollster::block_on(tensor.read_rows(first, n, &mut some)).expect("it reads");
            assert!(some == whole[first * tensor.row_bytes()..][..n * tensor.row_bytes()], "{name}: {n} from {first}");
        }
        assert!(matches!(pollster::block_on(tensor.read_rows(155, 6, &mut some)), Err(Error::Corrupt { .. })));
    }
}

/// A layer larger than what is put together at once: rows before, across and behind the border.
#[test]
fn rows_of_a_large_layer_follow_one_another() {
    let (rows, columns) = (8192, 4096);
    let words = |n: usize, word: fn(usize) -> u32| (0..n).flat_map(|i| word(i).to_le_bytes()).collect::<Vec<u8>>();
    // Each row has one code and a scale of its own.
    let code = |i: usize| (i % 8192 % 16) as u32 * 0x1111_1111;
    let scales = |i: usize| (2 * i) as u32 | ((2 * i + 1) as u32) << 16;
    let layer = [
        ("x.qweight", (Dtype::I32, vec![columns / 8, rows], words(columns / 8 * rows, code))),
        ("x.qzeros", (Dtype::I32, vec![1, rows / 8], words(rows / 8, |_| 0x8888_8888))),
        ("x.scales", (Dtype::F16, vec![1, rows], words(rows / 2, scales))),
    ];
    let config = json!({ "quantization_config": {
        "quant_method": "gptq", "bits": 4, "group_size": -1, "checkpoint_format": "gptq_v2",
    } });
    let folder = Written::new("large", &config, layer.map(|(name, tensor)| (name.to_string(), tensor)).into());
    let tensors = pollster::block_on(Folder::read(&folder.0)).expect("it opens").tensors;
    let mut bytes = Vec::new();
    for (first, n) in [(0, 600), (7000, 600), (6999, 600), (8191, 1), (7200, 992), (12, 3)] {
        pollster::block_on(tensors[0].read_rows(first, n, &mut bytes)).expect("it reads");
        for (i, row) in bytes.chunks_exact(tensors[0].row_bytes()).enumerate() {
            let (index, code) = (first + i, ((first + i) % 16) as u8);
            for block in row.chunks_exact(66) {
                assert!(block[..2] == (index as u16).to_le_bytes(), "row {index} from {first}");
                assert!(block[2..].iter().all(|&byte| byte == code << 4 | code), "row {index} from {first}");
            }
        }
    }
}

#[test]
fn logits_agree_with_float64() {
    for name in CHECKPOINTS {
        let golden = json(&format!("tests/data/packed/{name}/golden.json"));
        let mut session = session(&path(&format!("tests/data/packed/{name}")), None, CacheFormat::F32, false);
        for case in golden["cases"].as_array().expect("cases") {
            let prompt = ids(&case["ids"]);
            let error = max_difference(&logits(&mut session, &prompt), &floats(&case["last_logits"]));
            let tolerance = if name == "gptq-v2" { 1e-4 } else { 1e-2 };
            assert!(error < tolerance, "{name}, prompt of {}: logits differ by {error}", prompt.len());
        }
    }
}

/// Tensors of a checkpoint as a test may change them.
type Tensors = BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)>;

/// Opens a copy of a checkpoint with changes in `quantization_config` and in the tensors.
fn changed(name: &str, config: Value, change: impl FnOnce(&mut Tensors)) -> Result<ModelFile, Error> {
    let source = path(&format!("tests/data/packed/{name}"));
    let bytes = std::fs::read(source.join("model.safetensors")).expect("the file");
    let views = SafeTensors::deserialize(&bytes).expect("safetensors").tensors();
    let mut tensors: Tensors =
        views.into_iter().map(|(name, t)| (name, (t.dtype(), t.shape().to_vec(), t.data().to_vec()))).collect();
    change(&mut tensors);
    let mut whole = json(&format!("tests/data/packed/{name}/config.json"));
    for (key, value) in config.as_object().expect("changes") {
        whole["quantization_config"][key] = value.clone();
    }
    pollster::block_on(ModelFile::open(&Written::new("changed", &whole, tensors).0))
}

/// A checkpoint in a folder of its own, gone when dropped.
struct Written(PathBuf);

impl Written {
    fn new(label: &str, config: &Value, tensors: Tensors) -> Self {
        let folder = std::env::temp_dir().join(format!("pocketlm-packed-{label}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        std::fs::write(folder.join("config.json"), config.to_string()).expect("it is written");
        let views = tensors.iter().map(|(name, (dtype, shape, data))| {
            (name, TensorView::new(*dtype, shape.clone(), data).expect("a size that fits the shape"))
        });
        // Old quantisers name the file after its format.
        let file = folder.join("gptq_model-4bit-64g.safetensors");
        std::fs::write(&file, safetensors::serialize(views, None).expect("it serialises")).expect("it is written");
        Self(folder)
    }
}

impl Drop for Written {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn q(part: &str) -> String {
    format!("model.layers.0.self_attn.q_proj.{part}")
}

/// One test, since its cases share a folder.
#[test]
fn other_and_broken_checkpoints() {
    let same = |_: &mut Tensors| ();
    assert!(changed("gptq", json!({}), same).is_ok());
    assert!(changed("gptq", json!({ "quant_method": "GPTQ", "desc_act": true }), same).is_ok(), "groups in order");
    assert!(changed("gptq", json!({}), |t| drop(t.remove(&q("g_idx")))).is_ok());
    for (name, config, part) in [
        ("gptq", json!({ "bits": 3 }), "quantisation to 3 bits"),
        ("gptq", json!({ "bits": 8 }), "quantisation to 8 bits"),
        ("awq", json!({ "bits": null }), "quantisation to null bits"),
        ("gptq", json!({ "quant_method": "bitsandbytes" }), "the quantisation method `bitsandbytes`"),
        ("gptq", json!({ "checkpoint_format": "marlin" }), "packed as `marlin`"),
        ("awq", json!({ "version": "gemv" }), "packed as `gemv`"),
        ("gptq", json!({ "group_size": 16 }), "in groups of 16"),
        ("gptq", json!({ "group_size": 48 }), "in groups of 48"),
        ("gptq", json!({ "group_size": 0 }), "in groups of 0"),
        ("gptq", json!({ "group_size": i64::MIN }), "in groups of -9223372036854775808"),
        (
            "gptq",
            json!({ "group_size": 128 }),
            "`model.layers.0.mlp.down_proj.scales` has shape [3, 128], expected [2, 128]",
        ),
        ("gptq", json!({ "group_size": -1 }), "has shape"),
        ("awq", json!({ "group_size": i64::MAX - 31 }), "has shape"),
    ] {
        let error = changed(name, config.clone(), same).expect_err(part);
        assert!(error.to_string().contains(part), "{config}: {error}");
        assert!(error.hint().is_some());
    }
    type Change = fn(&mut Tensors);
    let changes: [(&str, Change, &str); 11] = [
        ("gptq", |t| drop(t.remove(&q("qzeros"))), "q_proj.qzeros` is missing"),
        ("gptq", |t| drop(t.remove(&q("scales"))), "q_proj.scales` is missing"),
        ("awq", |t| drop(t.remove(&q("qweight"))), "`blk.0.attn_q.weight` is missing"),
        ("gptq", |t| edit(t, "qweight").1 = vec![32, 64], "q_proj.scales` has shape [2, 128], expected [4, 64]"),
        ("gptq", |t| edit(t, "qweight").1 = vec![16 * 128], "is not a matrix"),
        ("gptq", |t| *edit(t, "qweight") = (Dtype::I32, vec![1 << 62, 0], Vec::new()), "is not a matrix"),
        ("gptq", |t| edit(t, "qzeros").1 = vec![16, 2], "q_proj.qzeros` has shape [16, 2], expected [2, 16]"),
        ("gptq", |t| edit(t, "g_idx").1 = vec![2, 64], "q_proj.g_idx` has shape"),
        // Act-order: one column in the other group.
        ("gptq", |t| edit(t, "g_idx").2[4 * 63] = 1, "act-order in GPTQ"),
        ("gptq", |t| edit(t, "bias").2[1] = 0x3c, "bias"),
        ("awq", |t| *edit(t, "scales") = (Dtype::F32, vec![2, 128], vec![0; 1024]), "q_proj.scales` has shape"),
    ];
    for (name, change, part) in changes {
        let error = changed(name, json!({}), change).expect_err(part);
        assert!(error.to_string().contains(part), "{error}");
    }
    let error = changed("gptq", json!({ "desc_act": true }), |t| drop(t.remove(&q("g_idx")))).expect_err("no order");
    assert!(error.to_string().contains("act-order"), "{error}");
}

fn edit<'a>(tensors: &'a mut Tensors, part: &str) -> &'a mut (Dtype, Vec<usize>, Vec<u8>) {
    tensors.get_mut(&q(part)).expect(part)
}
