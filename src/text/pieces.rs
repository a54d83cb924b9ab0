//! What each token is as text: the table that decoding and streaming read.

/// The bytes of every token, by id.
#[derive(Debug)]
pub(super) struct Pieces {
    pub pieces: Vec<Piece>,
    pub space_prefix: SpacePrefix,
}

/// One token's bytes; they need not be whole characters.
#[derive(Debug, Clone, Default)]
pub(super) struct Piece {
    pub bytes: Box<[u8]>,
    pub kind: PieceKind,
}

/// How a token is matched in text and whether a reader sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum PieceKind {
    /// Found by merging.
    #[default]
    Text,
    /// Matched as a whole wherever it occurs, and shown.
    UserDefined,
    /// Stands for structure, such as the end of a turn; not shown.
    Control,
}

/// Where encoding puts a space in front of text, which decoding takes away again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SpacePrefix {
    Never,
    /// In front of the whole text.
    First,
    /// In front of the text and again after each token that is not text.
    EachFragment,
}

/// Bytes that decoding has produced so far but for whole characters, and where it stands.
#[derive(Debug, Clone)]
pub(super) struct Cursor {
    /// Bytes not handed out yet.
    pub bytes: Vec<u8>,
    /// Whether the next text begins with a space of the encoder's making.
    strips_space: bool,
}

impl Pieces {
    /// Bytes of `token` in the alphabet of byte-level BPE, where each byte is a visible character; a token with other
    /// characters stands for itself.
    pub fn byte_level(token: &str) -> Box<[u8]> {
        let bytes: Option<Box<[u8]>> = token.chars().map(byte_of).collect();
        bytes.unwrap_or_else(|| token.as_bytes().into())
    }

    /// Bytes of a SentencePiece token, where `▁` is a space.
    pub fn sentencepiece(token: &str) -> Box<[u8]> {
        token.replace('▁', " ").into_bytes().into()
    }

    /// The byte that a token such as `<0x0A>` stands for.
    pub fn byte_token(token: &str) -> Option<u8> {
        let digits = token.strip_prefix("<0x")?.strip_suffix('>')?;
        (digits.len() == 2).then(|| u8::from_str_radix(digits, 16).ok())?
    }

    /// A decoder that has seen nothing.
    pub fn cursor(&self) -> Cursor {
        Cursor { bytes: Vec::new(), strips_space: self.space_prefix != SpacePrefix::Never }
    }

    /// Adds the token `id`; control tokens only if `shown`, ids outside the vocabulary never.
    pub fn append(&self, cursor: &mut Cursor, id: u32, shown: bool) {
        let Some(piece) = self.pieces.get(id as usize) else { return };
        match piece.kind {
            PieceKind::Text => {
                let stripped = piece.bytes.strip_prefix(b" ").filter(|_| cursor.strips_space);
                cursor.bytes.extend_from_slice(stripped.unwrap_or(&piece.bytes));
                cursor.strips_space &= piece.bytes.is_empty();
            }
            kind => {
                if shown || kind == PieceKind::UserDefined {
                    cursor.bytes.extend_from_slice(&piece.bytes);
                }
                match self.space_prefix {
                    SpacePrefix::Never => {}
                    SpacePrefix::First => cursor.strips_space &= kind == PieceKind::Control,
                    SpacePrefix::EachFragment => cursor.strips_space = true,
                }
            }
        }
    }
}

impl Cursor {
    /// Takes out the text that can no longer change; bytes that no later byte could complete become U+FFFD.
    pub fn take_complete(&mut self) -> String {
        let mut text = String::new();
        let mut start = 0;
        loop {
            match std::str::from_utf8(&self.bytes[start..]) {
                Ok(valid) => {
                    text.push_str(valid);
                    start = self.bytes.len();
                    break;
                }
                Err(error) => {
                    let (valid, rest) = self.bytes[start..].split_at(error.valid_up_to());
                    text.push_str(&String::from_utf8_lossy(valid));
                    start += valid.len();
                    let Some(n_invalid) = error.error_len() else { break };
                    text.push(char::REPLACEMENT_CHARACTER);
                    start += n_invalid.min(rest.len());
                }
            }
        }
        self.bytes.drain(..start);
        text
    }

    /// Takes out everything; a character cut short becomes U+FFFD.
    pub fn take_all(&mut self) -> String {
        let text = String::from_utf8_lossy(&self.bytes).into_owned();
        self.bytes.clear();
        text
    }
}

/// The inverse of GPT-2's table: visible Latin-1 characters stand for themselves, the others follow from U+0100.
fn byte_of(c: char) -> Option<u8> {
    let code = c as u32;
    match code {
        0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF => Some(code as u8),
        0x100..=0x120 => Some((code - 0x100) as u8),
        0x121..=0x142 => Some((code - 0x121 + 0x7F) as u8),
        0x143 => Some(0xAD),
        _ => None,
    }
}
