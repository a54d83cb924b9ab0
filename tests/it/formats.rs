//! Weight formats: bytes against published definitions, packing without loss.

use crate::common::path;
use pocketlm::{
    WeightFormat,
    format::pack::{pack, packed_bytes, unpack_row},
    random,
};

/// A block with known codes, by the definition of each format.
#[test]
fn blocks_decode_as_published() {
    // f16: 0x3800 = 0.5, 0x0001 = 2^-24, the smallest subnormal.
    let codes: Vec<u8> = (0..16).map(|j| j | (15 - j) << 4).collect();
    let low_high = |f: &dyn Fn(f32) -> f32| -> Vec<f32> {
        (0..16).map(|j| f(j as f32)).chain((0..16).map(|j| f(15.0 - j as f32))).collect()
    };
    let q4_0 = [&[0x00, 0x38][..], &codes].concat();
    assert_eq!(WeightFormat::Q4_0.decode(&q4_0), low_high(&|q| 0.5 * (q - 8.0)));
    let q4_1 = [&[0x00, 0x38, 0x00, 0xb8][..], &codes].concat();
    assert_eq!(WeightFormat::Q4_1.decode(&q4_1), low_high(&|q| 0.5 * q - 0.5));
    let subnormal = 2f32.powi(-24);
    let q8_0: Vec<u8> = [0x01, 0x00].into_iter().chain((0..32).map(|i| (i * 8 - 128) as i8 as u8)).collect();
    let want: Vec<f32> = (0..32).map(|i| subnormal * (i * 8 - 128) as f32).collect();
    assert_eq!(WeightFormat::Q8_0.decode(&q8_0), want);
    assert_eq!(WeightFormat::F16.decode(&[0x00, 0xb8, 0x01, 0x00]), [-0.5, subnormal]);
    assert_eq!(WeightFormat::BF16.decode(&[0x80, 0x3f, 0x00, 0xc0]), [1.0, -2.0]);
}

/// Random blocks against what others decode them to, bit for bit: see `tests/data/blocks/make.py`.
#[test]
fn blocks_decode_as_elsewhere() {
    for format in WeightFormat::ALL.into_iter().filter(|format| format.block_len() > 1) {
        let bytes = std::fs::read(path(&format!("tests/data/blocks/{format}.bin"))).expect("the file");
        let n_blocks = bytes.len() / (format.block_bytes() + 4 * format.block_len());
        assert_eq!(n_blocks, 16, "{format}");
        let (blocks, weights) = bytes.split_at(n_blocks * format.block_bytes());
        let got: Vec<u32> = format.decode(blocks).into_iter().map(f32::to_bits).collect();
        let want: Vec<u32> = weights.chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
        assert!(got == want, "{format}: {got:x?} where others have {want:x?}");
    }
}

/// Root mean square error of what `weights` become, relative to that of the weights.
fn relative_error(format: WeightFormat, weights: &[f32]) -> f64 {
    let decoded = format.decode(&format.encode(weights));
    let squares = |values: &mut dyn Iterator<Item = f32>| values.map(|v| v as f64 * v as f64).sum::<f64>();
    let error = squares(&mut weights.iter().zip(&decoded).map(|(a, b)| a - b));
    (error / squares(&mut weights.iter().copied())).sqrt()
}

/// Weights with outliers and without; the bounds are what the encoders reach, plus a hundredth.
#[test]
fn encoding_errs_little() {
    let rough = random::with_outliers(1, 64 * 256, 0.05);
    let smooth: Vec<f32> = rough.iter().enumerate().map(|(i, w)| if i % 61 == 60 { w / 8.0 } else { *w }).collect();
    let bounds = [
        (WeightFormat::F16, 3e-4, 3e-4),
        (WeightFormat::BF16, 2e-3, 2e-3),
        (WeightFormat::Q4_0, 0.1469, 0.0771),
        (WeightFormat::Q4_1, 0.0911, 0.0679),
        (WeightFormat::Q5_0, 0.0753, 0.0383),
        (WeightFormat::Q5_1, 0.0442, 0.0325),
        (WeightFormat::Q8_0, 0.0096, 0.0051),
        (WeightFormat::Q4_K, 0.0928, 0.0688),
        (WeightFormat::Q5_K, 0.0461, 0.0336),
        (WeightFormat::Q6_K, 0.0271, 0.0168),
        (WeightFormat::Q4_G128, 0.2425, 0.0899),
    ];
    assert_eq!(bounds.len() + 1, WeightFormat::ALL.len(), "f32 alone is exact");
    for (format, with_outliers, without) in bounds {
        for (weights, bound) in [(&rough, with_outliers), (&smooth, without)] {
            let error = relative_error(format, weights);
            assert!(error <= bound, "{format}: {error} where {bound} is reached");
            // Scales of k-quants near f16's smallest number round, and must not round to zero or below the range.
            let tiny: Vec<f32> = weights.iter().map(|w| w * 2e-3).collect();
            assert!(format.block_len() < 256 || relative_error(format, &tiny) <= 1.3 * bound, "{format}, tiny weights");
        }
    }
}

/// The searched scale of a block is never worse than the one that its extreme weight calls for.
#[test]
fn searched_scales_beat_extremes() {
    let weights = random::with_outliers(2, 256 * 32, 0.1);
    for block in weights.chunks(32) {
        let extreme = block.iter().fold(0f32, |m, &w| if w.abs() > m.abs() { w } else { m });
        for (format, n) in [(WeightFormat::Q4_0, 8.0), (WeightFormat::Q5_0, 16.0), (WeightFormat::Q8_0, 127.0)] {
            let scale = half::f16::from_f32(extreme / -n).to_f32();
            let plain: f32 = block.iter().map(|w| (w - scale * (w / scale).round().clamp(-n, n - 1.0)).powi(2)).sum();
            let got = format.decode(&format.encode(block));
            let searched: f32 = block.iter().zip(got).map(|(w, g)| (w - g).powi(2)).sum();
            assert!(searched <= plain * 1.0001, "{format}: {searched} and {plain}");
        }
    }
}

/// Blocks without a range, with numbers beyond f16 or none at all: nothing panics, and what can be exact is.
#[test]
fn odd_blocks_are_encoded() {
    for format in WeightFormat::ALL {
        let n = format.block_len();
        assert_eq!(format.decode(&format.encode(&vec![0.0; n])), vec![0.0; n], "{format}");
        for value in [0.5, -0.5] {
            let got = format.decode(&format.encode(&vec![value; n]));
            assert!(got.iter().all(|g| (g - value).abs() < 0.01), "{format}: {value} became {}", got[0]);
        }
        for odd in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1e30, f32::MIN_POSITIVE] {
            let mut block = vec![0.25; n];
            block[n / 2] = odd;
            assert_eq!(format.encode(&block).len(), format.block_bytes(), "{format}, {odd}");
        }
    }
    assert_eq!(WeightFormat::Q4_1.decode(&WeightFormat::Q4_1.encode(&[0.3125; 32])), [0.3125; 32]);
}

/// Where rows do not fill blocks, formats of 32 stand in.
#[test]
fn narrow_rows_take_narrow_blocks() {
    use WeightFormat::*;
    for format in WeightFormat::ALL {
        assert_eq!(format.for_columns(512), format);
        assert!(format.for_columns(576).block_len() <= 32);
    }
    assert_eq!([Q4_K, Q5_K, Q6_K, Q4_G128, Q4_0].map(|f| f.for_columns(576)), [Q5_1, Q5_1, Q8_0, Q4_0, Q4_0]);
    assert_eq!(Q4_G128.for_columns(1152), Q4_G128);
    assert_eq!([Q4_K, Q8_0].map(|f| f.for_columns(33)), [Q5_1, Q8_0], "padded on the device");
}

/// Phi-3-mini: embedding, head and 32 layers at the sizes that small devices have to hold.
#[test]
fn phi3_mini_fits() {
    let gib = |format| {
        let bytes = |rows, columns| packed_bytes(format, rows, columns);
        let layer = bytes(9216, 3072) + bytes(3072, 3072) + bytes(16384, 3072) + bytes(3072, 8192);
        (2 * bytes(32064, 3072) + 32 * layer) as f64 / (1u64 << 30) as f64
    };
    let sizes = [WeightFormat::Q4_G128, WeightFormat::Q4_0, WeightFormat::Q4_K].map(gib);
    assert!(sizes[0] <= 1.84 && sizes[1] <= 2.01 && sizes[2] == sizes[1], "{sizes:?} GiB");
}

#[test]
fn packing_loses_nothing() {
    for format in WeightFormat::ALL {
        for (rows, blocks) in [(1, 1), (33, 2), (70, 3)] {
            let columns = blocks * format.block_len().max(32);
            let bytes = format.encode(&random::with_outliers(9, rows * columns, 1.0));
            let (quants, scales) = pack(format, &bytes, rows, columns);
            assert_eq!(4 * (quants.len() + scales.len()) as u64, packed_bytes(format, rows, columns));
            let decoded = format.decode(&bytes);
            for row in 0..rows {
                let got = unpack_row(format, &quants, &scales, columns / 32, row);
                assert_eq!(got, decoded[row * columns..][..columns], "{format}, row {row} of {rows}");
            }
        }
    }
}

/// Packed weights take what their format says, from 4.125 bits to 32.
#[test]
fn packing_never_widens() {
    for format in WeightFormat::ALL {
        let bytes = packed_bytes(format, 64, 512);
        assert_eq!(bytes as usize, 64 * 512 / format.block_len() * format.block_bytes(), "{format}");
    }
}
