//! Writes GGUF version 3: metadata and the table of tensors first, since every size is known before any weight is.

use super::gguf::Value;

/// What the data of each tensor begins at a multiple of; GGUF's default, so no key has to say it.
pub const ALIGNMENT: u64 = 32;

/// The description at the head of a GGUF file. The tensors' bytes follow it in the order of [`GgufHeader::tensor`],
/// each padded by [`padding`] zeros.
#[derive(Debug, Default)]
pub struct GgufHeader {
    n_pairs: u64,
    pairs: Vec<u8>,
    n_tensors: u64,
    tensors: Vec<u8>,
    data_bytes: u64,
}

/// Zeros that follow `n_bytes` of data, up to the alignment.
pub fn padding(n_bytes: u64) -> usize {
    (n_bytes.next_multiple_of(ALIGNMENT) - n_bytes) as usize
}

impl GgufHeader {
    /// Adds a pair. Integers are stored in 32 bits where they fit, floats in 32: llama.cpp takes no other width for the
    /// keys that it knows.
    pub fn pair(&mut self, key: &str, value: &Value) {
        self.n_pairs += 1;
        string(&mut self.pairs, key);
        write_value(&mut self.pairs, value);
    }

    /// Adds a pair that is already in GGUF's form.
    pub fn encoded_pair(&mut self, bytes: &[u8]) {
        self.n_pairs += 1;
        self.pairs.extend_from_slice(bytes);
    }

    /// Adds a tensor of `shape`, slowest dimension first. `kind` is ggml's number of its format.
    pub fn tensor(&mut self, name: &str, shape: &[usize], kind: u32, n_bytes: u64) {
        self.n_tensors += 1;
        string(&mut self.tensors, name);
        self.tensors.extend((shape.len() as u32).to_le_bytes());
        for &n in shape.iter().rev() {
            self.tensors.extend((n as u64).to_le_bytes());
        }
        self.tensors.extend(kind.to_le_bytes());
        self.tensors.extend(self.data_bytes.to_le_bytes());
        self.data_bytes += n_bytes.next_multiple_of(ALIGNMENT);
    }

    /// Bytes of all tensors, padding included.
    pub fn data_bytes(&self) -> u64 {
        self.data_bytes
    }

    /// The header's bytes, padded so that the first tensor's data may follow.
    pub fn bytes(&self) -> Vec<u8> {
        let mut out = b"GGUF".to_vec();
        out.extend(3u32.to_le_bytes());
        out.extend(self.n_tensors.to_le_bytes());
        out.extend(self.n_pairs.to_le_bytes());
        out.extend_from_slice(&self.pairs);
        out.extend_from_slice(&self.tensors);
        out.resize(out.len() + padding(out.len() as u64), 0);
        out
    }
}

fn string(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend_from_slice(text.as_bytes());
}

/// The value's type, then the value.
fn write_value(out: &mut Vec<u8>, value: &Value) {
    let kind = |out: &mut Vec<u8>, kind: u32| out.extend(kind.to_le_bytes());
    let array = |out: &mut Vec<u8>, kind: u32, n: usize| {
        out.extend([9, kind].map(u32::to_le_bytes).concat());
        out.extend((n as u64).to_le_bytes());
    };
    match value {
        Value::Unsigned(v) => match u32::try_from(*v) {
            Ok(v) => out.extend([4, v].map(u32::to_le_bytes).concat()),
            Err(_) => {
                kind(out, 10);
                out.extend(v.to_le_bytes());
            }
        },
        Value::Signed(v) => match i32::try_from(*v) {
            Ok(v) => out.extend([5, v as u32].map(u32::to_le_bytes).concat()),
            Err(_) => {
                kind(out, 11);
                out.extend(v.to_le_bytes());
            }
        },
        Value::Float(v) => {
            kind(out, 6);
            out.extend((*v as f32).to_le_bytes());
        }
        Value::Bool(v) => {
            kind(out, 7);
            out.push(*v as u8);
        }
        Value::String(v) => {
            kind(out, 8);
            string(out, v);
        }
        Value::Integers(v) => match v.iter().map(|&n| i32::try_from(n)).collect::<Result<Vec<_>, _>>() {
            Ok(v) => {
                array(out, 5, v.len());
                out.extend(v.iter().flat_map(|n| n.to_le_bytes()));
            }
            Err(_) => {
                array(out, 11, v.len());
                out.extend(v.iter().flat_map(|n| n.to_le_bytes()));
            }
        },
        Value::Floats(v) => {
            array(out, 6, v.len());
            out.extend(v.iter().flat_map(|n| n.to_le_bytes()));
        }
        Value::Bools(v) => {
            array(out, 7, v.len());
            out.extend(v.iter().map(|&b| b as u8));
        }
        Value::Strings(v) => {
            array(out, 8, v.len());
            v.iter().for_each(|text| string(out, text));
        }
    }
}
