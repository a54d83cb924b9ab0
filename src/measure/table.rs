//! Results as text for a terminal, and as Markdown and CSV.

use super::{Bench, BenchRow, Ceiling, Ceilings, Comparison, DepthCost, Examination, PhaseReport};
use std::fmt::Write;

/// A rate in the unit that people read most easily: `12.3 GB/s`.
pub fn rate(per_s: f64, unit: &str) -> String {
    let (value, prefix) = match per_s.abs() {
        v if v >= 1e12 => (per_s / 1e12, "T"),
        v if v >= 1e9 => (per_s / 1e9, "G"),
        v if v >= 1e6 => (per_s / 1e6, "M"),
        v if v >= 1e3 => (per_s / 1e3, "k"),
        _ => (per_s, ""),
    };
    format!("{} {prefix}{unit}", digits(value))
}

/// A time in the unit that people read most easily: `12.3 µs`.
pub fn time(s: f64) -> String {
    match s.abs() {
        0.0 => "0".into(),
        v if v >= 1.0 => format!("{} s", digits(s)),
        v if v >= 1e-3 => format!("{} ms", digits(s * 1e3)),
        _ => format!("{} µs", digits(s * 1e6)),
    }
}

/// Bytes as a power of two where they are one: `256 KiB`.
pub fn bytes(bytes: u64) -> String {
    match bytes {
        b if b >= 1 << 30 => format!("{} GiB", digits(b as f64 / (1u64 << 30) as f64)),
        b if b >= 1 << 20 => format!("{} MiB", digits(b as f64 / (1u64 << 20) as f64)),
        b if b >= 1 << 10 => format!("{} KiB", digits(b as f64 / 1024.0)),
        b => format!("{b} B"),
    }
}

/// Three digits that mean something.
fn digits(value: f64) -> String {
    match value.abs() {
        v if v >= 99.95 => format!("{value:.0}"),
        v if v >= 9.995 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// `37 %`.
pub fn percent(share: f64) -> String {
    format!("{:.0} %", 100.0 * share)
}

/// Every ceiling with its name and its value as text, or why there is none.
pub fn ceilings(ceilings: &Ceilings) -> Vec<(String, String)> {
    let text = |ceiling: &Ceiling, show: &dyn Fn(f64) -> String| match (ceiling.value, ceiling.low, ceiling.high) {
        (Some(value), Some(low), Some(high)) => {
            let spread = (high - low) / 2.0 / value;
            let spread = if spread > 0.02 { format!("  ± {}", percent(spread)) } else { String::new() };
            format!("{}{spread}", show(value))
        }
        _ => ceiling.missing.clone().unwrap_or_else(|| "not measured".into()),
    };
    let bytes_per_s = |v: f64| rate(v, "B/s");
    let mut all = Vec::new();
    for (name, curve) in [("copy", &ceilings.copy), ("read", &ceilings.read)] {
        for point in curve {
            all.push((format!("{name} {}", bytes(point.bytes)), text(&point.bytes_per_s, &bytes_per_s)));
        }
    }
    let per_s = |v: f64| rate(v, "op/s");
    all.push(("f32 multiply-adds".into(), text(&ceilings.f32, &per_s)));
    all.push(("f16 multiply-adds".into(), text(&ceilings.f16, &per_s)));
    all.push(("packed 8-bit dot product".into(), text(&ceilings.dot8, &per_s)));
    all.push(("cooperative matrix".into(), text(&ceilings.cooperative_matrix, &per_s)));
    all.push(("workgroup memory".into(), text(&ceilings.workgroup_memory, &bytes_per_s)));
    for (name, ceiling) in [
        ("dispatch, dependent", &ceilings.dependent_dispatch_s),
        ("dispatch, independent", &ceilings.independent_dispatch_s),
        ("submit", &ceilings.submit_s),
        ("submit and wait", &ceilings.wait_s),
        ("submit and read back", &ceilings.read_back_s),
    ] {
        all.push((name.into(), text(ceiling, &time)));
    }
    all
}

/// A whole examination.
pub fn examination(found: &Examination) -> String {
    let about = &found.about;
    let mut out = String::new();
    let _ = writeln!(out, "{} on {} ({}, {})", about.model, about.adapter, about.backend, about.driver);
    let _ = writeln!(out, "\nCEILINGS (clock of the {})", found.ceilings.clock);
    for (name, value) in ceilings(&found.ceilings) {
        let _ = writeln!(out, "  {name:<26} {value}");
    }
    for phase in &found.phases {
        out.push_str(&phase_table(phase));
    }
    out
}

fn phase_table(phase: &PhaseReport) -> String {
    let PhaseReport { n_tokens, position, n_dispatches, .. } = phase;
    let what = match phase.phase.as_str() {
        "decode" => "a token".to_string(),
        "choice" => "the most probable token's choice".to_string(),
        "draw" => "a token drawn from the most probable".to_string(),
        "logits" => "the logits of a prompt's last token".to_string(),
        _ => format!("a prompt of {n_tokens}"),
    };
    let mut out =
        format!("\n{}: {what} after {position} others, {n_dispatches} dispatches\n", phase.phase.to_uppercase());
    let headings = ["kernel", "what", "count", "time", "±", "moves", "bytes/s", "op/s", "of it", "limit"];
    let mut rows = vec![headings.map(String::from)];
    for row in &phase.rows {
        let shown = |value: Option<f64>, unit| value.map_or("–".into(), |v| rate(v, unit));
        rows.push([
            row.kernel.clone(),
            format!("{} {}", row.label, row.shape),
            row.count.to_string(),
            row.believed_s().map_or("–".into(), time),
            row.believed_s().map_or("–".into(), |_| percent(row.timing.noise())),
            row.work.map_or("–".into(), |work| bytes(work.bytes())),
            shown(row.bytes_per_s, "B/s"),
            shown(row.operations_per_s, "op/s"),
            row.share.map_or("–".into(), percent),
            row.problem.as_deref().or(row.limit.map(|limit| limit.name())).unwrap_or("").into(),
        ]);
    }
    out.push_str(&columns("  ", &rows, &[0, 1, 9]));
    let whole = phase.whole_s().map_or("a time that is lost in noise".into(), |s| {
        let per_s = format!(" ({} tokens/s)", digits(*n_tokens as f64 / s));
        time(s) + if phase.is_whole() { &per_s } else { "" }
    });
    let _ = writeln!(
        out,
        "  kernels add up to {}; all of it takes {whole}{}",
        sum(phase),
        phase.least_s.map_or(String::new(), |s| format!("; at the ceilings {}", time(s)))
    );
    out
}

/// What the kernels of a phase add up to.
pub fn sum(phase: &PhaseReport) -> String {
    let n_refused = phase.rows.iter().filter(|row| row.believed_s().is_none()).count();
    phase.sum_s.map_or_else(|| format!("nothing to be believed, {n_refused} without a time"), time)
}

/// Rows as aligned columns, those of `left` with their text on the left.
fn columns<const N: usize>(indent: &str, rows: &[[String; N]], left: &[usize]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; N] = std::array::from_fn(width);
    let mut out = String::new();
    for row in rows {
        let cell = |column: usize| {
            let pad = " ".repeat(widths[column] - row[column].chars().count());
            if left.contains(&column) { format!("{}{pad}", row[column]) } else { format!("{pad}{}", row[column]) }
        };
        let cells: Vec<String> = (0..N).map(cell).collect();
        let _ = writeln!(out, "{indent}{}", cells.join("  ").trim_end());
    }
    out
}

/// What a comparison found.
pub fn comparison(found: &Comparison) -> String {
    let mut out = String::new();
    for doubt in &found.doubts {
        let _ = writeln!(out, "doubtful: {doubt}");
    }
    for change in found.regressions.iter().chain(&found.improvements) {
        let _ = writeln!(
            out,
            "{} {} (noise {:.2})  {}: {} -> {}",
            if change.is_regression() { "SLOWER" } else { "FASTER" },
            change.told(),
            1.0 + change.noise,
            change.name,
            time(change.old_s),
            time(change.new_s)
        );
    }
    let (slower, faster) = (found.regressions.len(), found.improvements.len());
    let _ = writeln!(out, "{slower} slower, {faster} faster, {} the same within noise", found.n_same);
    let missing = found.only_old.iter().map(|name| format!("only before: {name}"));
    for line in missing.chain(found.only_new.iter().map(|name| format!("only now: {name}"))) {
        let _ = writeln!(out, "{line}");
    }
    out
}

const HEADINGS: [&str; 10] =
    ["test", "t/s", "least", "most", "first token", "of bandwidth", "submits", "dispatches", "read back", "created"];

fn cells(row: &BenchRow) -> [String; 10] {
    let count = |n: f64| if n.fract() == 0.0 { format!("{n:.0}") } else { format!("{n:.2}") };
    let taken = &row.per_step;
    [
        row.test.clone(),
        format!("{:.2}", row.median),
        format!("{:.2}", row.low),
        format!("{:.2}", row.high),
        row.first_token_s.map_or("–".into(), time),
        row.bandwidth_share.map_or("–".into(), percent),
        count(taken.submits),
        count(taken.dispatches),
        format!("{} B", count(taken.read_back_bytes)),
        count(taken.created),
    ]
}

/// What a bench says beside its rows, a line each.
pub fn bench_talk(bench: &Bench) -> Vec<String> {
    let about = &bench.about;
    let mut lines = vec![
        format!("{} ({}) on {} ({}, {})", about.model, bench.weights, about.adapter, about.backend, about.driver),
        format!("{} prompt math", bench.prompt_math.name()),
        format!(
            "loaded in {}; on the device {}, {} of it weights{}",
            time(bench.load_s),
            bytes(bench.device_bytes),
            bytes(bench.weights_bytes),
            bench.host_peak_bytes.map_or(String::new(), |peak| format!("; at most {} of host memory", bytes(peak)))
        ),
    ];
    lines.extend(bench.first_token_s.map(|s| format!("the first prompt took {} to its first token", time(s))));
    lines.extend(bench.copy_bytes_per_s.map(|v| format!("the device copies {}", rate(v, "B/s"))));
    lines.extend(bench.warnings.iter().map(|warning| format!("warning: {warning}")));
    lines
}

/// A bench's rows as aligned columns; counts are of a token when decoding, of the whole prompt otherwise.
pub fn bench_table(bench: &Bench) -> String {
    let rows: Vec<_> = std::iter::once(HEADINGS.map(String::from)).chain(bench.rows.iter().map(cells)).collect();
    columns("", &rows, &[0]) + &depth_costs(bench)
}

/// A line for each depth that says what its keys and values cost.
fn depth_costs(bench: &Bench) -> String {
    let line = |row: &BenchRow| {
        let DepthCost { base, more_s, more_bytes, more_bytes_per_s, base_bytes_per_s } = row.depth_cost.as_ref()?;
        let (more, than) = (rate(*more_bytes_per_s, "B/s"), rate(*base_bytes_per_s, "B/s"));
        let (s, n) = (time(*more_s), bytes(*more_bytes));
        Some(format!(
            "{}: {s} and {n} a token more than {base}: read at {more}, where {base} reads at {than}\n",
            row.test
        ))
    };
    bench.rows.iter().filter_map(line).collect()
}

/// A bench's rows as llama-bench prints its own, so that the lines of both can stand in one table: the mean of the rounds
/// and its standard deviation, and all layers on the device.
pub fn bench_markdown(bench: &Bench) -> String {
    let mut out = String::from(
        "| model | size | params | backend | ngl | test | t/s |\n| --- | ---: | ---: | --- | --: | ---: | ---: |\n",
    );
    for row in &bench.rows {
        let (mean, deviation) = mean_and_deviation(&row.tokens_per_s);
        let _ = writeln!(
            out,
            "| {} {} | {} | {:.2} B | pocketlm {} | all | {} | {mean:.2} ± {deviation:.2} |",
            bench.about.model,
            bench.weights,
            bytes(bench.weights_bytes),
            bench.n_weights as f64 / 1e9,
            bench.about.backend,
            row.test,
        );
    }
    out
}

/// The mean of samples, and their standard deviation as that of a part of many; 0 of a single one.
fn mean_and_deviation(samples: &[f64]) -> (f64, f64) {
    let n = samples.len() as f64;
    let mean = samples.iter().sum::<f64>() / n;
    let squares: f64 = samples.iter().map(|sample| (sample - mean).powi(2)).sum();
    (mean, (squares / (n - 1.0).max(1.0)).sqrt())
}

/// A bench's rows for a spreadsheet.
pub fn bench_csv(bench: &Bench) -> String {
    let mut out = String::from(
        "model,weights,adapter,test,n_tokens,depth,tokens_per_s,least,most,first_token_s,bandwidth_share,submits,dispatches,read_back_bytes,created\n",
    );
    // Names may hold commas and quotes.
    let quoted = |text: &str| format!("\"{}\"", text.replace('"', "\"\""));
    let number = |value: Option<f64>| value.map_or(String::new(), |v| v.to_string());
    for row in &bench.rows {
        let BenchRow { n_tokens, depth, median, low, high, per_step, .. } = row;
        let super::PathTaken { submits, dispatches, read_back_bytes, created } = per_step;
        let _ = writeln!(
            out,
            "{},{},{},{},{n_tokens},{depth},{median},{low},{high},{},{},{submits},{dispatches},{read_back_bytes},{created}",
            quoted(&bench.about.model),
            quoted(&bench.weights),
            quoted(&bench.about.adapter),
            quoted(&row.test),
            number(row.first_token_s),
            number(row.bandwidth_share),
        );
    }
    out
}
