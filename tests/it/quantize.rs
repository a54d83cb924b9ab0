//! Writing GGUF files: what is written reads back as the same model, and a run that fails leaves nothing behind.

use crate::{
    cli::{pocketlm, stderr, stdout},
    common::{floats, ids, json, logits, max_difference, path, session},
};
use pocketlm::{
    CacheFormat, Error, WeightFormat,
    convert::{Conversion, ConvertOptions, Deviation, Keep},
    format::{ByteSource, Gguf, Metadata, Value, gguf_writer::GgufHeader},
    model::{ModelFile, TextSource},
};
use std::{
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
};

fn convert(from: &Path, to: &Path, format: WeightFormat, keep: &[(&str, WeightFormat)]) -> Vec<Deviation> {
    let keep = keep.iter().map(|(pattern, format)| Keep::new(pattern, *format).expect("a pattern")).collect();
    pollster::block_on(async {
        let file = ModelFile::open(from).await.expect("the model opens");
        let conversion = Conversion::plan(&file, &ConvertOptions { format, keep }).await.expect("a plan");
        let deviations = conversion.write(to, false, |_| Ok(())).await.expect("it is written");
        assert_eq!(std::fs::metadata(to).expect("a file").len(), conversion.n_bytes());
        deviations
    })
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a folder")
}

/// The names in a folder, the hidden ones included.
fn entries(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).expect("a folder");
    entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect()
}

/// A golden checkpoint written to GGUF: in f32 the logits are the folder's, in f16 they are the reference's.
fn check_folder(name: &str) {
    let (golden, folder) = (json(&format!("tests/data/golden/{name}/golden.json")), folder());
    let model = path(&format!("tests/data/golden/{name}"));
    let mut from_folder = session(&model, Some(WeightFormat::F32), CacheFormat::F32, false);
    for format in [WeightFormat::F32, WeightFormat::F16] {
        let gguf = folder.path().join(format!("{format}.gguf"));
        convert(&model, &gguf, format, &[]);
        let mut from_gguf = session(&gguf, None, CacheFormat::F32, false);
        for case in golden["cases"].as_array().expect("cases") {
            let prompt = ids(&case["input_ids"]);
            let found = logits(&mut from_gguf, &prompt);
            let error = max_difference(&found, &floats(&case["last_logits"]));
            assert!(error < 1e-3, "{name} in {format}, prompt of {}: logits differ by {error}", prompt.len());
            let error = max_difference(&found, &logits(&mut from_folder, &prompt));
            assert!(error < 1e-5 || format != WeightFormat::F32, "{name}, prompt of {}: {error}", prompt.len());
        }
    }
}

#[test]
fn folders_become_the_same_model() {
    for entry in entries(&path("tests/data/golden")) {
        check_folder(&entry);
    }
}

/// Every kind of value comes back; what was a file's own pair comes back byte by byte.
#[test]
fn metadata_survives() {
    let values = [
        ("a.count", Value::Unsigned(7)),
        ("a.large", Value::Unsigned(1 << 40)),
        ("a.negative", Value::Signed(-7)),
        ("a.very_negative", Value::Signed(-1 << 40)),
        ("a.float", Value::Float(0.5)),
        ("a.bool", Value::Bool(true)),
        ("a.text", Value::String("Tür".into())),
        ("a.integers", Value::Integers(vec![1, -1])),
        ("a.long_integers", Value::Integers(vec![1 << 40, -1])),
        ("a.floats", Value::Floats(vec![1.5, -2.5])),
        ("a.bools", Value::Bools(vec![true, false])),
        ("a.texts", Value::Strings(vec!["x".into(), String::new()])),
    ];
    // Of two pairs with one key the last counts.
    let read = |bytes: Vec<u8>| -> Metadata {
        let source = Arc::new(ByteSource::memory("test", bytes));
        pollster::block_on(Gguf::read(source)).expect("a header").metadata
    };
    let mut header = GgufHeader::default();
    values.iter().for_each(|(key, value)| header.pair(key, value));
    let mut doubled = GgufHeader::default();
    doubled.pair("a.count", &Value::Bool(false));
    values.iter().for_each(|(key, value)| doubled.pair(key, value));
    let first = read(doubled.bytes());
    let mut copy = GgufHeader::default();
    let pairs = pollster::block_on(first.encoded()).expect("pairs");
    pairs.iter().for_each(|(_, bytes)| copy.encoded_pair(bytes));
    assert_eq!(header.bytes(), copy.bytes());
    let second = read(copy.bytes());
    for (key, value) in &values {
        assert_eq!(first.get(key), Some(value), "{key}");
        assert_eq!(second.get(key), Some(value), "{key}");
    }
}

/// A GGUF file written again in its own format is the same in every pair and every byte of every tensor.
#[test]
fn gguf_files_are_copied_whole() {
    let folder = folder();
    for name in ["F32", "F16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q4_K", "Q5_K", "Q6_K"] {
        let format = WeightFormat::from_name(name).expect("a format");
        let (from, to) = (path(&format!("tests/data/golden-gguf/{name}.gguf")), folder.path().join(name));
        for deviation in convert(&from, &to, format, &[("*", format)]) {
            assert_eq!(deviation, Deviation::default());
        }
        let [old, new] = [&from, &to].map(|path| pollster::block_on(ModelFile::open(path)).expect("a model"));
        let (TextSource::Gguf(before), TextSource::Gguf(after)) = (&old.text, &new.text) else { panic!("GGUF") };
        for (key, value) in before.sorted() {
            assert!(key == "general.file_type" || after.get(key) == Some(value), "{name}: {key}");
        }
        assert_eq!(old.tensors.len(), new.tensors.len());
        for tensor in &old.tensors {
            let copy = new.tensors.iter().find(|copy| copy.name == tensor.name).expect("every tensor");
            assert_eq!((copy.format, &copy.shape), (tensor.format, &tensor.shape), "{name}: {}", tensor.name);
            let bytes = |tensor: &pocketlm::format::TensorInfo| {
                let (mut bytes, n_rows) = (Vec::new(), tensor.n_weights() / tensor.columns());
                pollster::block_on(tensor.read_rows(0, n_rows, &mut bytes)).expect("its bytes");
                bytes
            };
            assert_eq!(bytes(copy), bytes(tensor), "{name}: {}", tensor.name);
        }
    }
}

/// The formats that tensors get, by name.
fn formats(model: &Path, format: WeightFormat, keep: &[(&str, WeightFormat)]) -> Result<Vec<(String, String)>, Error> {
    let keep = keep.iter().map(|(pattern, format)| Keep::new(pattern, *format).expect("a pattern")).collect();
    let file = pollster::block_on(ModelFile::open(model))?;
    let conversion = pollster::block_on(Conversion::plan(&file, &ConvertOptions { format, keep }))?;
    Ok(conversion.tensors.iter().map(|tensor| (tensor.name.clone(), tensor.format.name().into())).collect())
}

#[test]
fn rules_choose_formats() {
    use WeightFormat::{F16, Q4_0, Q4_G128, Q4_K, Q8_0};
    let untied = path("tests/data/golden/llama2");
    let tied = path("tests/data/golden/llama3-gqa-tied");
    let wide = path("tests/data/golden-gguf/F32.gguf");
    for (model, format, keep, tensor, want) in [
        (&untied, Q4_0, &[][..], "blk.0.attn_q.weight", "q4_0"),
        (&untied, Q4_0, &[], "blk.0.attn_norm.weight", "f32"),
        (&untied, Q4_0, &[], "token_embd.weight", "q4_0"),
        // What makes the logits has 6 bits or more, here 8 since 6 come in blocks of 256, unless someone says so.
        (&untied, Q4_0, &[], "output.weight", "q8_0"),
        (&wide, Q4_0, &[], "output.weight", "q6_k"),
        (&wide, Q4_K, &[], "blk.0.attn_q.weight", "q4_k"),
        (&wide, Q4_G128, &[], "blk.0.attn_q.weight", "q4_g128"),
        (&path("tests/data/golden/mixtral"), Q8_0, &[], "blk.1.ffn_gate_inp.weight", "f32"),
        (&path("tests/data/golden/mixtral"), Q8_0, &[], "blk.1.ffn_gate_exps.weight", "q8_0"),
        (&tied, Q4_0, &[], "token_embd.weight", "q8_0"),
        (&untied, F16, &[], "output.weight", "f16"),
        (&untied, Q4_0, &[("output", Q4_0)], "output.weight", "q4_0"),
        (&untied, Q4_0, &[("output.weight", F16)], "output.weight", "f16"),
        (&untied, Q4_0, &[("blk.?.ffn_*", Q8_0)], "blk.1.ffn_down.weight", "q8_0"),
        (&untied, Q4_0, &[("blk.?.ffn_*", Q8_0)], "blk.1.attn_v.weight", "q4_0"),
        // The first rule that fits counts, and vectors have none.
        (&untied, Q4_0, &[("*_v", F16), ("*", Q8_0)], "blk.1.attn_v.weight", "f16"),
        (&untied, Q4_0, &[("*_v", F16), ("*", Q8_0)], "blk.1.attn_k.weight", "q8_0"),
        (&untied, Q4_0, &[("*", Q8_0)], "output_norm.weight", "f32"),
        // Rows of 96 fill no blocks of 128 or 256.
        (&untied, Q4_K, &[], "blk.0.attn_q.weight", "q5_1"),
        (&untied, Q4_G128, &[], "blk.0.attn_q.weight", "q4_0"),
    ] {
        let formats = formats(model, format, keep).expect("a plan");
        let found = &formats.iter().find(|(name, _)| name == tensor).expect(tensor).1;
        assert_eq!(found, want, "{tensor} with --format {format} and {keep:?}");
    }
    let error = formats(&untied, Q4_0, &[("attn_q", Q8_0)]).expect_err("a rule for nothing").to_string();
    assert!(error.contains("--keep attn_q=q8_0"), "{error}");
}

/// Errors grow as bits go away, and are those of the formats: half a step of 1/8 to 1/127 of a block's largest weight.
#[test]
fn deviations_are_in_order() {
    let folder = folder();
    let mut last = -1.0;
    for format in [WeightFormat::F32, WeightFormat::F16, WeightFormat::Q8_0, WeightFormat::Q4_1, WeightFormat::Q4_0] {
        let to = folder.path().join(format.name());
        let mut sum = Deviation::default();
        convert(&path("tests/data/golden/phi3-4k"), &to, format, &[("*", format)]).iter().for_each(|d| sum.add(d));
        assert!(sum.relative_rms_error() > last, "{format}: {} after {last}", sum.relative_rms_error());
        last = sum.relative_rms_error();
    }
    assert!((0.03..0.15).contains(&last), "{last}");
}

#[test]
fn a_stopped_run_leaves_nothing() {
    let folder = folder();
    let out = folder.path().join("out.gguf");
    let file = pollster::block_on(ModelFile::open(&path("tests/data/golden/llama2"))).expect("a model");
    let options = ConvertOptions { format: WeightFormat::Q8_0, keep: Vec::new() };
    let conversion = pollster::block_on(Conversion::plan(&file, &options)).expect("a plan");
    for stop_after in [1, 5, conversion.tensors.len()] {
        let mut n_pieces = 0;
        let stopped = pollster::block_on(conversion.write(&out, false, |_| {
            n_pieces += 1;
            assert_eq!(entries(folder.path()).len(), 1, "a file under another name");
            assert!(!out.exists());
            match n_pieces == stop_after {
                true => Err(Error::Interrupted { what: "test".into() }),
                false => Ok(()),
            }
        }));
        assert!(matches!(stopped, Err(Error::Interrupted { .. })));
        assert_eq!(entries(folder.path()), [""; 0]);
    }
    // A file that is there stays as it is, unless it may be replaced by a whole one.
    std::fs::write(&out, "mine").expect("a file");
    let refused = pollster::block_on(conversion.write(&out, false, |_| Ok(()))).expect_err("it exists");
    assert!(refused.hint().expect("a hint").contains("--force"), "{refused}");
    let stop = |_| Err(Error::Interrupted { what: "test".into() });
    pollster::block_on(conversion.write(&out, true, stop)).expect_err("stopped");
    assert_eq!(std::fs::read_to_string(&out).expect("the file"), "mine");
    pollster::block_on(conversion.write(&out, true, |_| Ok(()))).expect("it is replaced");
    assert_eq!(entries(folder.path()), ["out.gguf"]);
    assert!(pollster::block_on(ModelFile::open(&out)).is_ok());
}

#[test]
fn ctrl_c_leaves_nothing() {
    let folder = folder();
    let out = folder.path().join("out.gguf");
    let child = Command::new(env!("CARGO_BIN_EXE_pocketlm"))
        .args(["quantize", crate::common::smollm2().to_str().expect("UTF-8"), out.to_str().expect("UTF-8")])
        .args(["--format", "f32"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    // The handler is set before the file is made.
    while entries(folder.path()).is_empty() {
        std::thread::yield_now();
    }
    let killed = Command::new("kill").args(["-INT", &child.id().to_string()]).status().expect("kill runs");
    assert!(killed.success());
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(output.status.code(), Some(130), "{}", stderr(&output));
    assert!(stderr(&output).contains("error: interrupted: "), "{}", stderr(&output));
    assert_eq!(entries(folder.path()), [""; 0]);
}

/// A limit on the size of files stands for a disk that fills up.
#[test]
fn a_full_disk_leaves_nothing() {
    let folder = folder();
    let out = folder.path().join("out.gguf");
    let output = Command::new("sh")
        .args(["-c", "trap '' XFSZ; ulimit -f 100; exec \"$@\"", "sh", env!("CARGO_BIN_EXE_pocketlm"), "quantize"])
        .args([path("tests/data/golden/llama2").to_str().expect("UTF-8"), out.to_str().expect("UTF-8")])
        .output()
        .expect("it starts");
    assert_eq!(output.status.code(), Some(1));
    let text = stderr(&output);
    assert!(text.contains("error: cannot write ") && text.contains("hint: nothing half-written was left"), "{text}");
    assert_eq!(entries(folder.path()), [""; 0]);
}

#[test]
fn the_command_reports() {
    let folder = folder();
    let (model, out) = (path("tests/data/golden/llama2"), folder.path().join("out.gguf"));
    let (model, out) = (model.to_str().expect("UTF-8"), out.to_str().expect("UTF-8"));
    let output = pocketlm(&["quantize", model, out, "--format", "q8_0", "--keep", "*attn_v=f16", "--json"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let report: serde_json::Value = serde_json::from_str(&stdout(&output)).expect("JSON");
    let tensors = report["tensors"].as_array().expect("tensors");
    assert_eq!(tensors.len(), 21);
    let value = tensors.iter().find(|t| t["name"] == "blk.0.attn_v.weight").expect("a tensor");
    assert_eq!((&value["to"], &value["from"]), (&"f16".into(), &"bf16".into()));
    let error = tensors[0]["relative_rms_error"].as_f64().expect("an error");
    assert!(error > 1e-4 && error < 1e-2, "{error}");
    assert_eq!(report["total"]["bytes"], std::fs::metadata(out).expect("a file").len());
    assert!(report["perplexity"].is_null());

    // Again: it exists. Then from that file, which is quantized already.
    let output = pocketlm(&["quantize", model, out]);
    assert!(stderr(&output).contains("--force"), "{}", stderr(&output));
    let output = pocketlm(&["quantize", out, out, "--force"]);
    assert!(stderr(&output).contains("is IN and OUT at once"), "{}", stderr(&output));
    let again = folder.path().join("again.gguf");
    let output = pocketlm(&["quantize", out, again.to_str().expect("UTF-8")]);
    assert!(stderr(&output).contains("tensors of IN are quantized already"), "{}", stderr(&output));
    assert!(stdout(&output).contains("blk.1.ffn_down.weight"), "{}", stdout(&output));
    let nowhere = folder.path().join("missing").join("out.gguf");
    for (to, message) in
        [(nowhere.to_str().expect("UTF-8"), "No such file"), (folder.path().to_str().expect("UTF-8"), "directory")]
    {
        let output = pocketlm(&["quantize", model, to, "--force"]);
        assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
        assert!(
            stderr(&output).contains("error: cannot write") && stderr(&output).contains(message),
            "{}",
            stderr(&output)
        );
    }
    for arguments in [&["--keep", "attn_q"][..], &["--keep", "a=q9"], &["--format", "q9"]] {
        let output = pocketlm(&[&["quantize", model, "x.gguf"], arguments].concat());
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
    }
}

/// The perplexities are those that the command for them finds.
#[test]
fn perplexity_before_and_after() {
    let folder = folder();
    let [text, out] = ["text.txt", "out.gguf"].map(|name| folder.path().join(name));
    let words: Vec<String> = (0..90).map(|i| format!("t{}", i * 37 % 250)).collect();
    std::fs::write(&text, words.join(" ")).expect("a text");
    let model = path("tests/data/golden-gguf/F32.gguf");
    let [model, text, out] = [&model, &text, &out].map(|path| path.to_str().expect("UTF-8"));
    let output = pocketlm(&["quantize", model, out, "--format", "q8_0", "--text", text, "--json"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let parse =
        |output: &std::process::Output| -> serde_json::Value { serde_json::from_str(&stdout(output)).expect("JSON") };
    let report = parse(&output)["perplexity"].clone();
    for (model, key) in [(model, "before"), (out, "after")] {
        let alone = parse(&pocketlm(&["perplexity", model, text, "--kv", "f32", "--json"]));
        assert_eq!(alone["perplexity"], report[key], "{key}");
        assert_eq!(alone["n_scored"], report["n_scored"]);
    }
    assert_ne!(report["before"], report["after"]);
}

#[test]
fn weights_that_are_no_numbers() {
    let folder = folder();
    let mut bytes = std::fs::read(path("tests/data/golden-gguf/F32.gguf")).expect("the file");
    let at = bytes.len() - 4096;
    for (weight, format, message) in [
        (f32::NAN, WeightFormat::Q8_0, "no finite number"),
        (f32::INFINITY, WeightFormat::F16, "no finite number"),
        (1e6, WeightFormat::F16, "cannot express"),
    ] {
        bytes[at..][..4].copy_from_slice(&weight.to_le_bytes());
        let source = Arc::new(ByteSource::memory("test.gguf", bytes.clone()));
        let error = pollster::block_on(async {
            let file = ModelFile::from_gguf(Gguf::read(source).await.expect("a header")).await.expect("a model");
            let options = ConvertOptions { format, keep: vec![Keep::new("*", format).expect("a pattern")] };
            let conversion = Conversion::plan(&file, &options).await.expect("a plan");
            conversion.write(&folder.path().join("out.gguf"), false, |_| Ok(())).await
        });
        let error = error.expect_err("an error").to_string();
        assert!(error.contains(message), "{weight} in {format}: {error}");
        assert_eq!(entries(folder.path()), [""; 0]);
    }
}
