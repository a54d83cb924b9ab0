//! Weight formats: bytes against published definitions, packing without loss.

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

#[test]
fn encoding_errs_by_less_than_a_step() {
    let weights = random::with_outliers(1, 64 * 32, 1.0);
    for (format, step) in
        [(WeightFormat::Q4_0, 1.0 / 8.0), (WeightFormat::Q4_1, 2.0 / 15.0), (WeightFormat::Q8_0, 1.0 / 127.0)]
    {
        let decoded = format.decode(&format.encode(&weights));
        for (block, got) in weights.chunks(32).zip(decoded.chunks(32)) {
            let largest = block.iter().fold(0f32, |m, w| m.max(w.abs()));
            for (w, g) in block.iter().zip(got) {
                assert!((w - g).abs() <= step * largest * 1.01, "{format}: {w} became {g} in a block up to {largest}");
            }
        }
    }
    assert_eq!(WeightFormat::Q4_0.decode(&WeightFormat::Q4_0.encode(&[0.0; 32])), [0.0; 32]);
    assert_eq!(WeightFormat::Q4_1.decode(&WeightFormat::Q4_1.encode(&[0.5; 32])), [0.5; 32]);
}

#[test]
fn packing_loses_nothing() {
    for format in WeightFormat::ALL {
        for (rows, columns) in [(1, 32), (33, 64), (70, 96)] {
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

/// Packed weights take what their format says: 4.5, 5, 8.5 and 16 bits.
#[test]
fn packing_never_widens() {
    for format in WeightFormat::ALL {
        let bytes = packed_bytes(format, 64, 64);
        assert_eq!(bytes as usize, 64 * 64 / format.block_len() * format.block_bytes(), "{format}");
    }
}
