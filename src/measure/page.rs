//! An examination as one page that needs nothing else: rooflines, waterfalls and tables, light and dark, wide and narrow.

use super::{
    Change, Comparison, Examination, KernelRow, PhaseReport, plot,
    table::{self, bytes, percent, rate, time},
};
use std::fmt::Write;

/// The page, with the JSON that it shows inside it.
pub fn page(found: &Examination, compared: Option<&Comparison>) -> String {
    let about = &found.about;
    let commit = about.commit.as_ref().map_or(String::new(), |commit| format!(", commit {}", escape(commit)));
    let mut out = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <title>{model} on {adapter}</title><style>\n{}</style></head><body><main>\
         <h1>{model} on {adapter}</h1>\
         <p class=\"about\">{} adapter through {}, driver {}, {}.<br>pocketlm {}{commit}, {}.</p>",
        include_str!("page.css"),
        escape(&about.kind),
        escape(&about.backend),
        escape(&about.driver),
        escape(&about.system),
        escape(&about.version),
        escape(&about.date),
        model = escape(&about.model),
        adapter = escape(&about.adapter),
    );
    out.push_str(&tiles(found));
    if let Some(compared) = compared {
        out.push_str(&comparison(compared));
    }
    for phase in &found.phases {
        out.push_str(&phase_section(phase, found));
    }
    out.push_str(&ceilings(found));
    // `<` would end the element if a name held `</script>`.
    let json = serde_json::to_string(found).unwrap_or_default().replace('<', "\\u003c");
    let _ = writeln!(out, "</main><script type=\"application/json\" id=\"examination\">{json}</script></body></html>");
    out
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

fn tiles(found: &Examination) -> String {
    let mut all: Vec<(String, String)> = Vec::new();
    for phase in found.phases.iter().filter(|phase| phase.is_whole()) {
        let Some(whole_s) = phase.whole_s() else {
            all.push(("–".into(), format!("tokens/s, {}: lost in noise", phase.phase)));
            continue;
        };
        let per_s = phase.n_tokens as f64 / whole_s;
        all.push((format!("{per_s:.1}"), format!("tokens/s, {}, device alone", phase.phase)));
        let share = |least: f64| (percent(least / whole_s), format!("of what the ceilings allow, {}", phase.phase));
        all.extend(phase.least_s.map(share));
    }
    all.extend(found.ceilings.copy_bytes_per_s().map(|v| (rate(v, "B/s"), "copied, from memory to memory".into())));
    all.extend(found.ceilings.dependent_dispatch_s.value.map(|v| (time(v), "between dependent dispatches".into())));
    let tile =
        |(value, what): &(String, String)| format!("<div class=\"tile\"><b>{value}</b><span>{what}</span></div>");
    format!("<div class=\"tiles\">{}</div>", all.iter().map(tile).collect::<String>())
}

/// A kernel's colour, the same in every phase: by what its name says it is about.
fn colour(kernel: &str) -> usize {
    const ABOUT: [&str; 6] = ["mat", "atten", "norm", "swiglu", "rope", "expert"];
    ABOUT.iter().position(|about| kernel.contains(about)).unwrap_or(ABOUT.len())
}

fn phase_section(phase: &PhaseReport, found: &Examination) -> String {
    let title = match phase.phase.as_str() {
        "decode" => format!("Decode: a token after {} others", phase.position),
        "choice" => "Choice: the most probable token".into(),
        "draw" => "Draw: a token among the most probable".into(),
        "logits" => "Logits: of a prompt's last token".into(),
        _ => format!("Prompt: {} tokens after {} others", phase.n_tokens, phase.position),
    };
    let least =
        phase.least_s.map_or(String::new(), |s| format!(" With every kernel at its ceiling it would be {}.", time(s)));
    let mut out = format!(
        "<h2>{title}</h2><p>{} dispatches. Kernels measured one by one add up to {}; all of it together takes {}.{least}</p>",
        phase.n_dispatches,
        table::sum(phase),
        phase.whole_s().map_or("a time that is lost in noise".into(), time),
    );
    out.push_str(&waterfall(phase));
    out.push_str(
        "<h3>Roofline</h3><p class=\"soft\">Numbers are the table's; a larger point takes more of the time. Where points would cover each other they are moved to the right.</p>",
    );
    let marks: Vec<_> = phase.rows.iter().enumerate().map(|(i, row)| (i + 1, colour(&row.kernel), row)).collect();
    let _ =
        write!(out, "<figure>{}</figure>", plot::both_sizes(|frame| plot::roofline(frame, &marks, &found.ceilings)));
    out.push_str(&rows(phase));
    out
}

/// A lane for each label, with a bar for each dispatch, on one scale of time.
fn waterfall(phase: &PhaseReport) -> String {
    let label_of = |label: &str| label.split_once('.').map_or(label, |(_, label)| label).to_string();
    let end = phase.waterfall.iter().map(|bar| bar.end_s).fold(0.0, f64::max);
    let mut lanes: Vec<(String, &str, f64, String)> = Vec::new();
    for bar in &phase.waterfall {
        let label = label_of(&bar.label);
        let at = lanes.iter().position(|lane| lane.0 == label).unwrap_or_else(|| {
            lanes.push((label, &bar.kernel, 0.0, String::new()));
            lanes.len() - 1
        });
        let (begin, width) = (1000.0 * bar.begin_s / end, 1000.0 * (bar.end_s - bar.begin_s) / end);
        lanes[at].2 += bar.end_s - bar.begin_s;
        // Never so thin that it is not seen.
        let _ = write!(lanes[at].3, "<rect x=\"{begin:.2}\" width=\"{:.2}\" height=\"10\"/>", width.max(1.0));
    }
    let by = match phase.stamps_cost() {
        Some(cost) => format!(
            "One run with a pass for each dispatch, {} in all: {:+.0} % against what it takes in one pass, so look at \
             proportions.",
            time(end),
            100.0 * cost
        ),
        None => "The device has no clock of its own: times of single kernels, one after another.".into(),
    };
    let mut out = format!("<h3>Waterfall</h3><p class=\"soft\">{by}</p><figure><div class=\"lanes\">");
    for (label, kernel, seconds, bars) in &lanes {
        let class = colour(kernel);
        let share = percent(seconds / end);
        let _ = write!(
            out,
            "<div class=\"lane\"><span class=\"what\" title=\"{kernel}\">{}</span>\
             <svg viewBox=\"0 0 1000 10\" preserveAspectRatio=\"none\" role=\"img\" aria-label=\"{}\"><g class=\"bars f{class}\">{bars}</g></svg>\
             <span class=\"much\">{} · {share}</span></div>",
            escape(label),
            escape(label),
            time(*seconds),
            kernel = escape(kernel),
        );
    }
    let ticks: String = (0..=4).map(|i| format!("<span>{}</span>", time(end * i as f64 / 4.0))).collect();
    out + &format!("</div><div class=\"ticks\">{ticks}</div></figure>")
}

fn rows(phase: &PhaseReport) -> String {
    let mut out = String::from(
        "<div class=\"scroll\"><table><thead><tr><th class=\"l\">what</th><th>time</th><th>in all</th><th>of its ceiling</th>\
         <th class=\"l\">limit</th><th class=\"rest\">×</th><th class=\"rest\">±</th><th class=\"rest\">moves</th>\
         <th class=\"rest\">bytes/s</th><th class=\"rest\">op/s</th></tr></thead><tbody>",
    );
    // Of times that are believed: what is refused has no part of them.
    let all_s: f64 = phase.rows.iter().filter_map(|row| Some(row.count as f64 * row.believed_s()?)).sum();
    for (i, row) in phase.rows.iter().enumerate() {
        out.push_str(&row_cells(i + 1, colour(&row.kernel), row, all_s));
    }
    out + "</tbody></table></div>"
}

fn row_cells(n: usize, colour: usize, row: &KernelRow, all_s: f64) -> String {
    let believed = |show: &dyn Fn(f64) -> String| row.believed_s().map_or("–".into(), show);
    let shown = |value: Option<f64>, unit| value.map_or("–".into(), |v| rate(v, unit));
    let limit = match (&row.problem, row.limit) {
        (Some(problem), _) => format!("<td></td><td class=\"why\">{}</td>", escape(problem)),
        (None, limit) => {
            let share = row.share.map_or("–".into(), |share| {
                let width = (100.0 * share).clamp(0.0, 100.0);
                format!("<span class=\"bar\"><i style=\"width:{width:.0}%\"></i></span>{}", percent(share))
            });
            format!("<td>{share}</td><td class=\"l\">{}</td>", limit.map_or("–", |limit| limit.name()))
        }
    };
    format!(
        "<tr><td class=\"l\"><span class=\"dot k{colour}\">{n}</span>{} <span class=\"soft shape\">{}</span>\
         <span class=\"soft variant rest\">{} {}</span></td><td>{}</td><td>{}</td>{limit}<td class=\"rest\">{}</td><td class=\"rest\">{}</td><td class=\"rest\">{}</td>\
         <td class=\"rest\">{}</td><td class=\"rest\">{}</td></tr>",
        escape(&row.label),
        escape(&row.shape),
        escape(&row.kernel),
        escape(&row.variant),
        believed(&time),
        believed(&|s| percent(row.count as f64 * s / all_s)),
        row.count,
        believed(&|_| percent(row.timing.noise())),
        row.work.map_or("–".into(), |work| bytes(work.bytes())),
        shown(row.bytes_per_s, "B/s"),
        shown(row.operations_per_s, "op/s"),
    )
}

fn ceilings(found: &Examination) -> String {
    let plot = plot::both_sizes(|frame| plot::bandwidth(frame, &found.ceilings));
    let clock = escape(&found.ceilings.clock);
    let mut out = format!(
        "<h2>What the device can do</h2><p>Each figure is the median of several rounds, by the clock of the {clock}. \
         Percentages above are of these.</p><figure>{plot}</figure><div class=\"scroll\"><table><tbody>"
    );
    for (name, value) in table::ceilings(&found.ceilings) {
        let _ = write!(out, "<tr><td class=\"l\">{}</td><td>{}</td></tr>", escape(&name), escape(&value));
    }
    out + "</tbody></table></div>"
}

fn comparison(compared: &Comparison) -> String {
    let (slower, faster) = (compared.regressions.len(), compared.improvements.len());
    let mut out = format!(
        "<h2>Compared with before</h2><p>{slower} slower, {faster} faster, {} the same within the noise of both.</p>",
        compared.n_same
    );
    for doubt in &compared.doubts {
        let _ = write!(out, "<p class=\"bad\">Doubtful: {}.</p>", escape(doubt));
    }
    if slower + faster > 0 {
        out.push_str("<div class=\"scroll\"><table class=\"changes\"><tbody>");
        let line = |class: &str, change: &Change| {
            format!(
                "<tr><td class=\"l\">{}</td><td class=\"{class}\">{}</td><td class=\"soft\">{} → {}</td></tr>",
                escape(&change.name),
                change.told(),
                time(change.old_s),
                time(change.new_s)
            )
        };
        compared.regressions.iter().for_each(|change| out.push_str(&line("bad", change)));
        compared.improvements.iter().for_each(|change| out.push_str(&line("good", change)));
        out.push_str("</tbody></table></div>");
    }
    for (when, names) in [("before", &compared.only_old), ("now", &compared.only_new)] {
        if !names.is_empty() {
            let names: Vec<String> = names.iter().map(|name| escape(name)).collect();
            let _ = write!(out, "<p class=\"soft\">Only {when}: {}.</p>", names.join("; "));
        }
    }
    out
}
