//! Random numbers by counter: the n-th number of a seed, with no state, the same on every machine.

/// PCG4D, a hash of four words to four words (Jarzynski and Olano, JCGT 2020, <https://jcgt.org/published/0009/03/02/>).
fn pcg4d(words: [u32; 4]) -> [u32; 4] {
    let [mut x, mut y, mut z, mut w] = words.map(|v| v.wrapping_mul(1664525).wrapping_add(1013904223));
    for round in 0..2 {
        x = x.wrapping_add(y.wrapping_mul(w));
        y = y.wrapping_add(z.wrapping_mul(x));
        z = z.wrapping_add(x.wrapping_mul(y));
        w = w.wrapping_add(y.wrapping_mul(z));
        if round == 0 {
            [x, y, z, w] = [x, y, z, w].map(|v| v ^ v >> 16);
        }
    }
    [x, y, z, w]
}

/// Number `counter` of `seed`: 32 random bits.
pub fn bits(seed: u64, counter: u64) -> u32 {
    bits4(seed, counter)[0]
}

/// Number `counter` of `seed`: 128 random bits, of which [`bits`] are the first.
pub fn bits4(seed: u64, counter: u64) -> [u32; 4] {
    pcg4d([seed as u32, (seed >> 32) as u32, counter as u32, (counter >> 32) as u32])
}

/// Number `counter` of `seed`, uniform in [0, 1), exact in f32.
pub fn uniform(seed: u64, counter: u64) -> f32 {
    (bits(seed, counter) >> 8) as f32 / (1 << 24) as f32
}

/// `n` numbers of `seed`, about normal with the given deviation, every 61st of them eight times as large: without
/// outliers a test of numerics proves little.
pub fn with_outliers(seed: u64, n: usize, deviation: f32) -> Vec<f32> {
    let normal = |i: u64| (0..4).map(|k| uniform(seed, 4 * i + k) - 0.5).sum::<f32>() * 1.732 * deviation;
    (0..n as u64).map(|i| normal(i) * if i % 61 == 60 { 8.0 } else { 1.0 }).collect()
}
