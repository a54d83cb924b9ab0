//! Which experts a token goes to, and how much each of them counts.

use super::{Call, Kernel, Needs};

pub static ROUTE: Kernel = Kernel {
    name: "route",
    shader: include_str!("../../shaders/route.wgsl"),
    params: &["n_experts", "n_used", "sparse", "jitter"],
    reads: &["step", "logits"],
    writes: &["ids", "shares"],
    needs: Needs::NOTHING,
    reference,
    tolerance: 1e-5,
};

fn reference(call: &mut Call<'_>) {
    let [n_experts, n_used, sparse] = [0, 1, 2].map(|i| call.count(i));
    let (jitter, n_tokens, logits) = (call.float(3), call.step().n_tokens, call.read(1));
    for t in 0..n_tokens {
        let logits: Vec<f64> = logits[t * n_experts..][..n_experts].iter().map(|&l| l as f64).collect();
        let mut picks: Vec<usize> = Vec::new();
        let mut shares: Vec<f64> = Vec::new();
        for _ in 0..n_used {
            let left: Vec<usize> = (0..n_experts).filter(|e| !picks.contains(e)).collect();
            let best = left.iter().copied().fold(left[0], |best, e| if logits[e] > logits[best] { e } else { best });
            let close = |&&e: &&usize| (logits[best] - logits[e]) / logits[e].abs().max(logits[best]) <= 2.0 * jitter;
            shares.push(match sparse {
                1 => 1.0 / left.iter().filter(close).map(|&e| (logits[e] - logits[best]).exp()).sum::<f64>(),
                _ => logits[best].exp(),
            });
            picks.push(best);
        }
        let total: f64 = if sparse == 1 { 1.0 } else { shares.iter().sum() };
        for i in 0..n_used {
            call.writes[0][t * n_used + i] = picks[i] as u32;
            call.write(1)[t * n_used + i] = (shares[i] / total) as f32;
        }
    }
}
