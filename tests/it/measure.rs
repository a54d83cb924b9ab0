//! What is made of measurements: figures that are refused, comparisons, pages, and the two commands.

use crate::{
    cli::{pocketlm, stderr, stdout},
    common::path,
};
use pocketlm::{
    Error,
    kernels::{Unit, Work},
    measure::{
        About, BenchRow, Ceiling, Ceilings, Examination, KIND, KernelRow, Limit, PathTaken, PhaseReport, Point,
        WaterfallBar, bound, compare, fill_depth_costs, page, parse, table, wrong_paths,
    },
    timing::Timing,
};

fn ceiling(value: f64) -> Ceiling {
    Ceiling { value: Some(value), low: Some(0.98 * value), high: Some(1.02 * value), missing: None }
}

fn ceilings() -> Ceilings {
    let point = |bytes, value| Point { bytes, bytes_per_s: ceiling(value) };
    Ceilings {
        clock: "device".into(),
        copy: vec![point(1 << 20, 400e9), point(1 << 28, 90e9)],
        read: vec![point(1 << 20, 500e9), point(1 << 24, 300e9), point(1 << 28, 100e9)],
        f32: ceiling(10e12),
        f16: ceiling(20e12),
        dot8: ceiling(40e12),
        cooperative_matrix: Ceiling { missing: Some("not measured".into()), ..Ceiling::default() },
        workgroup_memory: ceiling(2e12),
        dependent_dispatch_s: ceiling(2e-6),
        independent_dispatch_s: ceiling(1e-6),
        submit_s: ceiling(20e-6),
        wait_s: ceiling(60e-6),
        read_back_s: ceiling(80e-6),
    }
}

fn timing(median_s: f64, noise: f64) -> Timing {
    Timing { median_s, low_s: median_s * (1.0 - noise), high_s: median_s * (1.0 + noise), rounds: 7, runs: 64 }
}

/// A product of 16 MB of weights that takes so long, judged.
fn row(median_s: f64) -> KernelRow {
    let work =
        Work { weight_bytes: 16_000_000, read_bytes: 12_000, written_bytes: 40_000, operations: 57e6, unit: Unit::F32 };
    let mut row = KernelRow {
        label: "attn_qkv".into(),
        kernel: "matvec".into(),
        variant: "q4_0".into(),
        shape: "9216 x 3072".into(),
        count: 32,
        grid: [288, 1],
        work: Some(work),
        working_set: 1 << 29,
        timing: timing(median_s, 0.01),
        bytes_per_s: None,
        operations_per_s: None,
        limit: None,
        share: None,
        problem: None,
    };
    row.judge(&ceilings());
    row
}

fn about() -> About {
    About {
        version: "0.1.0".into(),
        commit: Some("abc1234".into()),
        date: "2026-11-24T06:30:00Z".into(),
        system: "linux x86_64".into(),
        adapter: "A GPU & <script>alert(1)</script>".into(),
        kind: "discrete".into(),
        backend: "vulkan".into(),
        driver: "driver 1.2".into(),
        subgroup_size: [32, 32],
        f16: true,
        model: "phi-3-mini".into(),
    }
}

fn examination(median_s: f64) -> Examination {
    let row = row(median_s);
    let bar = |i: usize| WaterfallBar {
        label: format!("layer{i}.attn_qkv"),
        kernel: "matvec".into(),
        begin_s: i as f64 * 1.18 * median_s,
        end_s: (i + 1) as f64 * 1.18 * median_s,
    };
    let phase = PhaseReport {
        phase: "decode".into(),
        n_tokens: 1,
        position: 256,
        n_dispatches: 32,
        sum_s: Some(32.0 * median_s),
        whole: timing(32.0 * median_s, 0.01),
        least_s: Some(32.0 * 1.6e-4),
        waterfall: (0..32).map(bar).collect(),
        waterfall_by: "stamps".into(),
        rows: vec![row],
    };
    Examination { kind: KIND.into(), about: about(), ceilings: ceilings(), phases: vec![phase] }
}

#[test]
fn ceilings_are_those_of_the_working_set() {
    let all = ceilings();
    let at = |bytes| all.bytes_per_s(bytes).expect("measured");
    assert_eq!(at(1 << 10), 500e9, "below the smallest");
    assert_eq!(at(1 << 24), 300e9);
    assert_eq!(at(1 << 26), 200e9, "half way on a logarithmic scale");
    assert_eq!(at(1 << 40), 100e9, "beyond the largest");
    assert_eq!((all.peak_bytes_per_s(), all.copy_bytes_per_s()), (Some(500e9), Some(90e9)));
    assert_eq!(all.operations_per_s(Unit::Dot8), Some(40e12));
    assert_eq!(all.operations_per_s(Unit::CooperativeMatrix), None, "not measured, and f32 is no ceiling for them");
    let plain = Ceilings { dot8: all.cooperative_matrix.clone(), ..all };
    assert_eq!(plain.operations_per_s(Unit::Dot8), Some(10e12), "f32's where there is none");
}

#[test]
fn the_nearest_ceiling_limits() {
    let of = |weight_bytes, operations| {
        let work = Work { weight_bytes, read_bytes: 0, written_bytes: 0, operations, unit: Unit::F32 };
        bound(&work, 1 << 29, &ceilings()).expect("there are ceilings")
    };
    let memory = of(10_000_000, 1e6);
    assert_eq!(memory.limit, Limit::Bandwidth);
    assert!((memory.seconds - 1e-4).abs() < 1e-12);
    assert_eq!(of(10_000_000, 1e10).limit, Limit::Arithmetic);
    assert_eq!(of(1000, 1000.0).limit, Limit::Launch);
}

#[test]
fn impossible_figures_are_refused() {
    let slow = row(200e-6);
    assert_eq!((slow.limit, slow.problem.as_deref()), (Some(Limit::Bandwidth), None));
    let share = slow.share.expect("a share");
    assert!((share - 16.052e6 / 100e9 / 200e-6).abs() < 1e-9, "{share}");
    // Twice what the memory can do: no figure, and a reason.
    let fast = row(80e-6);
    assert!(fast.problem.as_deref().is_some_and(|why| why.contains("implausible")), "{fast:?}");
    assert_eq!((fast.bytes_per_s, fast.operations_per_s, fast.share), (None, None, None));
    // Sooner over than an empty dispatch, though memory and arithmetic would allow it.
    let launch_s = ceilings().dependent_dispatch_s.value.expect("measured");
    let mut small = row(launch_s / 3.0);
    small.work = Some(Work { weight_bytes: 16, read_bytes: 0, written_bytes: 0, operations: 16.0, unit: Unit::F32 });
    (small.bytes_per_s, small.operations_per_s, small.limit, small.share, small.problem) =
        (None, None, None, None, None);
    small.judge(&ceilings());
    assert!(small.problem.as_deref().is_some_and(|why| why.contains("empty dispatch")), "{small:?}");
    let mut found = examination(81e-6);
    found.phases[0].sum_s = None;
    let shown = table::examination(&found);
    assert!(shown.contains("implausible") && !shown.contains("201 GB/s"), "{shown}");
    // Nor is the time itself, or anything that it is part of.
    for text in [&shown, &page::page(&found, None)[..]] {
        assert!(!text.contains("81.0 µs") && text.contains("nothing to be believed"), "{text}");
    }
    assert!(table::examination(&examination(200e-6)).contains("200 µs"));
}

/// A pass for each dispatch costs 18 %: figures come from elsewhere, and the page says what it cost.
#[test]
fn stamps_are_no_figures() {
    let found = examination(200e-6);
    let cost = found.phases[0].stamps_cost().expect("it has stamps");
    assert!((cost - 0.18).abs() < 1e-9, "{cost}");
    assert!(page::page(&found, None).contains("+18 %"));
    assert_eq!(found.phases[0].rows[0].timing.median_s, 200e-6);
}

/// What a depth costs is said where two rounds and more tell it from noise.
#[test]
fn depths_cost_what_they_read() {
    let row = |depth: usize, rates: &[f64]| BenchRow {
        test: format!("tg @ d{depth}"),
        n_tokens: 1,
        depth,
        median: rates[0],
        low: rates.iter().copied().fold(f64::INFINITY, f64::min),
        high: rates.iter().copied().fold(0.0, f64::max),
        first_token_s: None,
        per_step: PathTaken::default(),
        bytes_per_token: Some(1_000_000 * (1 + depth as u64)),
        bandwidth_share: None,
        depth_cost: None,
        tokens_per_s: rates.to_vec(),
    };
    let mut rows = [row(0, &[100.0, 99.0]), row(1, &[50.0, 51.0]), row(2, &[99.5, 98.0]), row(3, &[20.0])];
    fill_depth_costs(&mut rows);
    let cost = rows[1].depth_cost.as_ref().expect("it is slower");
    assert_eq!((cost.base.as_str(), cost.more_bytes), ("tg @ d0", 1_000_000));
    assert!((cost.more_s - 0.01).abs() < 1e-12 && (cost.more_bytes_per_s - 1e8).abs() < 1.0, "{cost:?}");
    assert!((cost.base_bytes_per_s - 1e8).abs() < 1.0, "{cost:?}");
    assert_eq!(rows[0].depth_cost, None);
    assert_eq!(rows[2].depth_cost, None, "lost in noise");
    assert_eq!(rows[3].depth_cost, None, "one round");
}

/// A format that one path did not know sent prompts through another, token by token: 8728 submits instead of 25.
#[test]
fn a_slow_path_is_noticed() {
    let expected = PathTaken { submits: 25.0, dispatches: 600.0, read_back_bytes: 64.0, created: 0.0 };
    assert!(wrong_paths("pp512", &expected, &expected).is_empty());
    let taken = PathTaken { submits: 8728.0, ..expected };
    let told = wrong_paths("pp512", &taken, &expected);
    assert_eq!(told.len(), 1);
    assert!(told[0].contains("pp512") && told[0].contains("8728") && told[0].contains("submits"), "{told:?}");
    let created = PathTaken { created: 1.0, ..expected };
    assert!(wrong_paths("tg128", &created, &expected)[0].contains("created"));
}

#[test]
fn comparisons_see_what_exceeds_the_noise() {
    let (old, slower, same) = (examination(200e-6), examination(240e-6), examination(204e-6));
    let found = compare(&old, &slower);
    assert_eq!((found.regressions.len(), found.improvements.len()), (2, 0), "{found:?}");
    assert!(found.regressions[0].name.contains("matvec 9216 x 3072"), "{found:?}");
    assert!(
        table::comparison(&found).contains("SLOWER 1.20 times as long (noise 1.0"),
        "{}",
        table::comparison(&found)
    );
    let faster = compare(&slower, &old);
    assert_eq!(faster.improvements.len(), 2);
    assert!(table::comparison(&faster).contains("FASTER 1.20 times as fast (noise 1.0"), "{faster:?}");
    assert!(faster.doubts.is_empty(), "{faster:?}");
    let found = compare(&old, &same);
    assert_eq!((found.regressions.len(), found.improvements.len(), found.n_same), (0, 0, 2));
    // The same difference is nothing where two runs of one program differ by as much.
    let mut loud = examination(240e-6);
    loud.phases[0].rows[0].timing = timing(240e-6, 0.15);
    assert_eq!(compare(&old, &loud).regressions.len(), 1, "the whole is as quiet as it was");
    let mut other = examination(200e-6);
    other.about.driver = "driver 1.3".into();
    other.ceilings.copy[1].bytes_per_s = ceiling(60e9);
    other.phases[0].rows[0].shape = "1 x 1".into();
    let found = compare(&old, &other);
    assert_eq!(found.doubts.len(), 2, "{found:?}");
    assert_eq!((found.only_old.len(), found.only_new.len()), (1, 1));
    let page = page::page(&other, Some(&found));
    assert!(page.contains("Only before: ") && page.contains("Only now: "), "{page}");
}

/// Two runs on a machine that was busy during one of them: everything changes by what neither run's noise shows.
#[test]
fn times_that_change_together_are_doubtful() {
    let many = |median_s: f64, n_slower: usize| {
        let mut found = examination(median_s);
        for i in 0..5 {
            let mut row = found.phases[0].rows[0].clone();
            row.label = format!("part {i}");
            row.timing = timing(if i < n_slower { 1.3 * median_s } else { median_s }, 0.01);
            found.phases[0].rows.push(row);
        }
        found
    };
    let found = compare(&many(200e-6, 0), &many(200e-6, 5));
    assert_eq!(found.regressions.len(), 5);
    let n_doubts = |found: &pocketlm::measure::Comparison| {
        found.doubts.iter().filter(|doubt| doubt.contains("slower together")).count()
    };
    assert_eq!(n_doubts(&found), 1, "{found:?}");
    // Of each phase once, though its rows and its whole are told apart.
    let twice = |n_slower| {
        let mut two = many(200e-6, n_slower);
        two.phases.push(PhaseReport { phase: "prompt".into(), ..two.phases[0].clone() });
        two
    };
    assert_eq!(n_doubts(&compare(&twice(0), &twice(5))), 2);
    let found = compare(&many(200e-6, 0), &many(200e-6, 2));
    assert_eq!((found.regressions.len(), found.doubts.len()), (2, 0), "{found:?}");
}

#[test]
fn json_comes_back_as_it_was() {
    let found = examination(200e-6);
    let text = serde_json::to_string(&found).expect("it is written");
    same(&parse("kernels.json", text.as_bytes()).expect("it is read"), &found);
}

/// Numbers may differ in the last digit, as decimal text has it.
fn same(a: &Examination, b: &Examination) {
    fn walk(a: &serde_json::Value, b: &serde_json::Value, at: &str) {
        match (a, b) {
            (serde_json::Value::Object(a), serde_json::Value::Object(b)) => {
                assert_eq!(a.len(), b.len(), "{at}");
                a.iter().for_each(|(key, value)| walk(value, &b[key], &format!("{at}.{key}")));
            }
            (serde_json::Value::Array(a), serde_json::Value::Array(b)) => {
                assert_eq!(a.len(), b.len(), "{at}");
                a.iter().zip(b).for_each(|(a, b)| walk(a, b, at));
            }
            (a, b) => match (a.as_f64(), b.as_f64()) {
                (Some(x), Some(y)) => assert!((x - y).abs() <= 1e-12 * y.abs(), "{at}: {x} and {y}"),
                _ => assert_eq!(a, b, "{at}"),
            },
        }
    }
    let value = |e: &Examination| serde_json::to_value(e).expect("it is written");
    walk(&value(a), &value(b), "");
}

#[test]
fn hostile_json_is_an_error() {
    let right = serde_json::to_string(&examination(200e-6)).expect("it is written");
    let wrong = [
        String::new(),
        "[]".into(),
        "{}".into(),
        "null".into(),
        r#"{"kind": 7}"#.into(),
        r#"{"kind": "pocketlm-bench-1"}"#.into(),
        format!(r#"{{"kind": "{KIND}"}}"#),
        right[..right.len() / 2].into(),
        right.replace("\"count\":32", "\"count\":-1"),
        right.replace("\"median_s\":0.0002,", "\"median_s\":null,"),
        right.replace("\"adapter\":\"", "\"adapter\":\"\\u001b[31m"),
        right.replace("\"kernel\":\"", "\"kernel\":\"\\u0007"),
        right.replace("\"median_s\":0.0002,", "\"median_s\":-1e999,"),
        right.replace("\"median_s\":0.0002,", "\"median_s\":5.0,"),
        right.replace("\"median_s\":0.0002,\"low_s\":", "\"median_s\":1e-300,\"low_s\":-"),
        right.replace("\"adapter\":\"", "\"adapter\":\"\u{202e}"),
        "[".repeat(100_000),
    ];
    for text in wrong {
        let start: String = text.chars().take(80).collect();
        let error = parse("old.json", text.as_bytes()).map(|_| ()).expect_err(&start);
        assert!(matches!(error, Error::Foreign { .. }) && error.to_string().contains("old.json"), "{start}: {error}");
    }
}

#[test]
fn a_page_stands_alone() {
    let (old, new) = (examination(200e-6), examination(240e-6));
    let text = page::page(&new, Some(&compare(&old, &new)));
    for outside in ["http", "src=", "href=", "url(", "@import", "<link", "<img"] {
        assert!(!text.contains(outside), "`{outside}` is in the page");
    }
    for part in
        ["prefers-color-scheme: dark", "max-width: 640px", "<svg", "attn_qkv", "1.20 times as long", "commit abc1234"]
    {
        assert!(text.contains(part), "`{part}` is not in the page");
    }
    // Names come from drivers and files.
    assert!(!text.contains("<script>") && text.contains("&lt;script&gt;"));
    let json = text.split("id=\"examination\">").nth(1).expect("the data").split("</script>").next().expect("its end");
    same(&parse("the page", json.as_bytes()).expect("it is read"), &new);
}

/// Every tag that is opened is closed, in order.
#[test]
fn a_page_is_well_formed() {
    let text = page::page(&examination(200e-6), None);
    let (mut open, mut rest) = (Vec::new(), text.as_str());
    while let Some(at) = rest.find('<') {
        rest = &rest[at + 1..];
        let tag = &rest[..rest.find('>').expect("a tag ends")];
        let name = tag.trim_start_matches('/').split([' ', '/', '\n']).next().expect("a name");
        if tag.starts_with('/') {
            assert_eq!(open.pop().as_deref(), Some(name), "before {}", &rest[..rest.len().min(60)]);
        } else if !tag.ends_with('/') && !["!doctype", "meta", "br"].contains(&name) {
            open.push(name.to_string());
        }
        // The data's `<` are escaped, the style's do not exist.
    }
    assert!(open.is_empty(), "{open:?}");
}

#[test]
fn kernels_measures_writes_and_compares() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().to_str().expect("UTF-8");
    let arguments = ["kernels", "--shape", "tiny-llama", "--quick", "-r", "2", "-p", "8", "--depth", "300"];
    let output = pocketlm(&[&arguments[..], &["--out", out]].concat());
    assert!(output.status.success(), "{}", stderr(&output));
    let text = stdout(&output);
    for part in ["CEILINGS", "dispatch, dependent", "DECODE: a token after 300", "PROMPT: a prompt of 8", "add up to"] {
        assert!(text.contains(part), "`{part}` in {text}");
    }
    let json = std::fs::read_to_string(folder.path().join("kernels.json")).expect("it was written");
    let found = parse("kernels.json", json.as_bytes()).expect("it is read");
    assert_eq!(
        found.phases.iter().map(|phase| phase.phase.as_str()).collect::<Vec<_>>(),
        ["decode", "choice", "draw", "prompt", "logits"]
    );
    for phase in &found.phases {
        // At that depth keys are split: every dispatch is in a row, and in the waterfall.
        assert_eq!(phase.rows.iter().map(|row| row.count).sum::<usize>(), phase.n_dispatches);
        assert_eq!(phase.waterfall.len(), phase.n_dispatches);
        assert!(phase.rows.iter().all(|row| row.work.is_some()), "{:?}", phase.rows);
    }
    assert!(found.ceilings.copy_bytes_per_s().is_some_and(|v| v > 1e6), "{:?}", found.ceilings);
    let page = std::fs::read_to_string(folder.path().join("kernels.html")).expect("it was written");
    assert!(page.contains("tiny-llama"));
    let old = folder.path().join("kernels.json");
    let arguments = [&arguments[..], &["--json", "--compare", old.to_str().expect("UTF-8")]].concat();
    let output = pocketlm(&arguments);
    assert!(output.status.success(), "{}", stderr(&output));
    parse("stdout", stdout(&output).as_bytes()).expect("one JSON object");
    assert!(stderr(&output).contains("the same within noise"), "{}", stderr(&output));
}

/// What cannot come to anything is said before anything is measured.
#[test]
fn kernels_and_bench_refuse_at_once() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::create_dir(folder.path().join("kernels.json")).expect("a folder in a file's place");
    let out = folder.path().to_str().expect("UTF-8");
    let mixtral = path("tests/data/golden/mixtral");
    let mixtral = mixtral.to_str().expect("UTF-8");
    for (arguments, why) in [
        (&["kernels", "--shape", "tiny-llama", "--out", out][..], "no ordinary file"),
        (&["kernels", "--shape", "tiny-llama", "--ctx", "8", "--depth", "100"], "do not fit a context of 8"),
        (&["kernels", mixtral, "--experts", "1"], "experts that take turns"),
        (&["bench", "--shape", "tiny-llama", "-p", "0", "-n", "0"], "nothing to measure"),
        (&["bench", "--shape", "tiny-llama", "-p", "16", "-n", "128", "--ctx", "64"], "do not fit a context of 64"),
    ] {
        let output = pocketlm(arguments);
        assert!(!output.status.success() && stderr(&output).contains(why), "{arguments:?}: {}", stderr(&output));
        assert!(output.stdout.is_empty(), "{arguments:?}: {}", stdout(&output));
    }
}

/// Experts that take turns cost submits, which is no mistake.
#[test]
fn bench_does_not_warn_of_what_was_asked_for() {
    let mixtral = path("tests/data/golden/mixtral");
    let arguments = ["bench", mixtral.to_str().expect("UTF-8"), "-p", "16", "-n", "8", "-r", "1", "--experts", "1"];
    let output = pocketlm(&arguments);
    assert!(output.status.success() && !stderr(&output).contains("slow path"), "{}", stderr(&output));
}

#[test]
fn kernels_refuses_what_it_cannot_compare_with() {
    let folder = tempfile::tempdir().expect("a folder");
    let old = folder.path().join("old.json");
    std::fs::write(&old, "{\"kind\": \"something else\"}").expect("it is written");
    let output = pocketlm(&["kernels", "--shape", "tiny-llama", "--compare", old.to_str().expect("UTF-8")]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("old.json") && stderr(&output).contains("something else"), "{}", stderr(&output));
    let output = pocketlm(&["kernels", "--shape", "tiny-llama", "--compare", "/nowhere/old.json"]);
    assert!(stderr(&output).contains("cannot read /nowhere/old.json"), "{}", stderr(&output));
}

#[test]
fn bench_measures_in_four_formats() {
    let bench = |format: &str| {
        let shape = ["bench", "--shape", "tiny-llama", "-p", "16", "-n", "8", "--depth", "0,20", "-r", "2"];
        let output = pocketlm(&[&shape[..], &["--format", format]].concat());
        assert!(output.status.success(), "{}", stderr(&output));
        stdout(&output)
    };
    let json: serde_json::Value = serde_json::from_str(&bench("json")).expect("one JSON object");
    let rows = json["rows"].as_array().expect("rows");
    let names: Vec<_> = rows.iter().map(|row| row["test"].as_str().expect("a name")).collect();
    assert_eq!(names, ["pp16", "tg8", "pp16 @ d20", "tg8 @ d20"]);
    assert!(rows.iter().all(|row| row["tokens_per_s"].as_array().expect("rounds").len() == 2));
    assert!(rows.iter().all(|row| row["median"].as_f64().expect("a rate") > 0.0));
    assert_eq!(json["warnings"], serde_json::json!([]));
    // Nothing is made between two tokens, and of a greedy one its id is read back.
    assert_eq!(rows[1]["per_step"]["created"], 0.0);
    assert!(rows[1]["per_step"]["read_back_bytes"].as_f64().expect("bytes") <= 8.0);
    assert!(rows[1]["bytes_per_token"].as_u64().expect("bytes") > 100_000);
    assert!(bench("csv").lines().nth(1).expect("a row").starts_with("\"tiny-llama\",\"q4_0\","));
    assert!(bench("md").contains("| pp16 |"));
    assert!(bench("table").starts_with("test"));
}
