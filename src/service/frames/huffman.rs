//! The Huffman code of HPACK (RFC 7541, appendix B).
//!
//! The code is canonical: symbols are ordered by the length of their codes and then by their value, and codes count up
//! in that order. The lengths therefore determine the codes, and no table of codes is needed.

/// The symbols of each code length, in the order of their codes. The end-of-string symbol follows the last of them.
const SYMBOLS: [(u32, &[u8]); 21] = [
    (5, b"012aceiost"),
    (6, b" %-./3456789=A_bdfghlmnpru"),
    (7, b":BCDEFGHIJKLMNOPQRSTUVWYjkqvwxyz"),
    (8, b"&*,;XZ"),
    (10, b"!\"()?"),
    (11, b"'+|"),
    (12, b"#>"),
    (13, b"\x00$@[]~"),
    (14, b"^}"),
    (15, b"<`{"),
    (19, b"\\\xc3\xd0"),
    (20, b"\x80\x82\x83\xa2\xb8\xc2\xe0\xe2"),
    (
        21,
        b"\x99\xa1\xa7\xac\xb0\xb1\xb3\xd1\xd8\xd9\xe3\xe5\xe6",
    ),
    (
        22,
        b"\x81\x84\x85\x86\x88\x92\x9a\x9c\xa0\xa3\xa4\xa9\xaa\xad\xb2\xb5\xb9\xba\xbb\xbd\xbe\xc4\xc6\xe4\xe8\xe9",
    ),
    (
        23,
        b"\x01\x87\x89\x8a\x8b\x8c\x8d\x8f\x93\x95\x96\x97\x98\x9b\x9d\x9e\xa5\xa6\xa8\xae\xaf\xb4\xb6\xb7\xbc\xbf\xc5\xe7\xef",
    ),
    (24, b"\x09\x8e\x90\x91\x94\x9f\xab\xce\xd7\xe1\xec\xed"),
    (25, b"\xc7\xcf\xea\xeb"),
    (
        26,
        b"\xc0\xc1\xc8\xc9\xca\xcd\xd2\xd5\xda\xdb\xee\xf0\xf2\xf3\xff",
    ),
    (
        27,
        b"\xcb\xcc\xd3\xd4\xd6\xdd\xde\xdf\xf1\xf4\xf5\xf6\xf7\xf8\xfa\xfb\xfc\xfd\xfe",
    ),
    (
        28,
        b"\x02\x03\x04\x05\x06\x07\x08\x0b\x0c\x0e\x0f\x10\x11\x12\x13\x14\x15\x17\x18\x19\x1a\x1b\x1c\x1d\x1e\x1f\x7f\xdc\xf9",
    ),
    (30, b"\n\r\x16"),
];

/// Returns the maximum decoded length of a string of `encoded` octets. No code is shorter than five bits.
pub(super) fn max_decoded_length(encoded: usize) -> usize {
    encoded.saturating_mul(8) / 5
}

/// Decodes a string; `None` if it is not a valid one.
pub(super) fn decode(encoded: &[u8]) -> Option<Vec<u8>> {
    let mut decoded = Vec::with_capacity(max_decoded_length(encoded.len()));
    // The bits of an incomplete code, and their number.
    let (mut code, mut length) = (0_u32, 0_u32);
    let bits = encoded
        .iter()
        .flat_map(|byte| (0..8).rev().map(move |bit| u32::from(byte >> bit & 1)));
    for bit in bits {
        (code, length) = (code << 1 | bit, length + 1);
        if let Some(symbol) = symbol(code, length) {
            decoded.push(symbol);
            (code, length) = (0, 0);
        } else if length >= 30 {
            // The end-of-string symbol, which clients must not send.
            return None;
        }
    }
    // The last octet is padded with the beginning of the end-of-string symbol: fewer than eight ones.
    (length < 8 && code == (1 << length) - 1).then_some(decoded)
}

/// Returns the symbol of a code of this length; `None` if there is none.
fn symbol(code: u32, length: u32) -> Option<u8> {
    // The first code of the current length, and that length.
    let (mut first, mut bits) = (0_u32, 0);
    for (longer, symbols) in SYMBOLS {
        if longer > length {
            return None;
        }
        first <<= longer - bits;
        bits = longer;
        if longer == length {
            let index = usize::try_from(code.checked_sub(first)?).ok()?;
            return symbols.get(index).copied();
        }
        first += u32::try_from(symbols.len()).ok()?;
    }
    None
}

#[cfg(test)]
pub(super) fn encode(text: &[u8]) -> Vec<u8> {
    let (mut bytes, mut free) = (Vec::new(), 0_u32);
    let mut push = |code: u32, length: u32| {
        for bit in (0..length).rev() {
            if free == 0 {
                bytes.push(0);
                free = 8;
            }
            free -= 1;
            *bytes.last_mut().unwrap() |= u8::try_from(code >> bit & 1).unwrap() << free;
        }
        free
    };
    let mut left = 0;
    for &byte in text {
        let (mut first, mut bits) = (0_u32, 0);
        for (length, symbols) in SYMBOLS {
            first <<= length - bits;
            bits = length;
            if let Some(index) = symbols.iter().position(|&symbol| symbol == byte) {
                left = push(first + u32::try_from(index).unwrap(), length);
            }
            first += u32::try_from(symbols.len()).unwrap();
        }
    }
    push((1 << left) - 1, left);
    bytes
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn examples_of_the_specification() {
        for (text, code) in [
            ("www.example.com", "f1e3c2e5f23a6ba0ab90f4ff"),
            ("no-cache", "a8eb10649cbf"),
            ("custom-value", "25a849e95bb8e8b4bf"),
            ("302", "6402"),
            (
                "https://www.example.com",
                "9d29ad171863c78f0b97c8e9ae82ae43d3",
            ),
            (
                "foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1",
                "94e7821dd7f2e6c7b335dfdfcd5b3960d5af27087f3672c1ab270fb5291f9587316065c003ed4ee5b1063d5007",
            ),
        ] {
            let code: Vec<u8> = (0..code.len())
                .step_by(2)
                .map(|at| u8::from_str_radix(&code[at..at + 2], 16).unwrap())
                .collect();
            assert_eq!(decode(&code).unwrap(), text.as_bytes());
            assert_eq!(encode(text.as_bytes()), code);
        }
    }

    #[test]
    fn every_octet_has_a_code() {
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(decode(&encode(&all)).unwrap(), all);
    }

    #[test]
    fn invalid_strings_are_rejected() {
        for bytes in [
            // The end-of-string symbol.
            &[0xff, 0xff, 0xff, 0xff][..],
            // Eight bits of padding, and padding of zeros.
            &[0xff],
            &[0x07, 0xff],
            &[0x18],
        ] {
            assert_eq!(decode(bytes), None, "{bytes:x?}");
        }
        assert_eq!(decode(&[0x1f]).unwrap(), b"a");
    }

    proptest! {
        #[test]
        fn encoded_strings_are_decoded(text in proptest::collection::vec(any::<u8>(), 0..200)) {
            let encoded = encode(&text);
            prop_assert!(text.len() <= max_decoded_length(encoded.len()));
            prop_assert_eq!(decode(&encoded), Some(text));
        }

        #[test]
        fn any_bytes_are_decoded_or_rejected(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Some(text) = decode(&bytes) {
                prop_assert_eq!(encode(&text), bytes);
            }
        }
    }
}
