use http::HeaderName;
use proptest::prelude::*;

use super::super::huffman::encode;
use super::super::tests::encoder::{integer, string};
use super::*;

/// Encodes a plain string.
fn raw(text: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    string(text, false, &mut bytes);
    bytes
}

/// Encodes a string in the Huffman code.
fn coded(text: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    string(text, true, &mut bytes);
    bytes
}

/// Encodes a literal whose name refers to an entry of the dynamic table; 0 is the newest.
fn of_entry((form, bits): (u8, u32), entry: usize, value: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    integer(form, bits, STATIC_ENTRIES + 1 + entry, &mut bytes);
    string(value, false, &mut bytes);
    bytes
}

/// Forms of literals: with and without a new entry in the dynamic table.
const WITH_ENTRY: (u8, u32) = (0x40, 6);
const WITHOUT: (u8, u32) = (0x00, 4);

/// Returns a block with the edits of the filter.
fn rewritten(filter: &mut AuthorityFilter, block: &[u8]) -> Vec<u8> {
    let mut block = block.to_vec();
    for Edit { range, with } in filter.read(&block).unwrap().into_iter().rev() {
        block.splice(range, with);
    }
    block
}

#[test]
fn the_name_in_the_huffman_code() {
    assert_eq!(encode(NAME), NAME_IN_HUFFMAN);
}

/// Tests each form of literals with each form of name and value.
#[test]
fn an_invalid_authority_is_replaced_in_every_form() {
    let names = [raw(NAME), coded(NAME)].map(|name| [vec![0], name].concat());
    for form in [0x40, 0x00, 0x10] {
        for name in [vec![1]].iter().chain(&names) {
            let mut name = name.clone();
            name[0] |= form;
            for (value, length) in [
                (
                    &b"outbound|8081||ratelimit.default.svc.cluster.local"[..],
                    50,
                ),
                (b"[::1", 4),
                (b"a b", 3),
                (b"r\xe4te", 4),
                ("r\u{e4}te".as_bytes(), 5),
                (b"/run/x.sock", 11),
                (b"run%2Fx.sock", 12),
                (b"", 1),
                (b"\0", 1),
                (&[b'|'; 126], 126),
                (&[b'|'; 127], 127),
                (&[b'|'; 300], 300),
                (&[0xff; 20_000], 20_000),
            ] {
                for value in [raw(value), coded(value)] {
                    let block = [&[0x83][..], &name, &value, &[0x86]].concat();
                    let expected =
                        [&[0x83][..], &name, &raw(&vec![b'a'; length]), &[0x86]].concat();
                    assert_eq!(rewritten(&mut AuthorityFilter::default(), &block), expected);
                }
            }
        }
    }
}

#[test]
fn the_empty_value_of_the_static_table_is_replaced() {
    let block = [0x83, 0x81, 0x86];
    let expected = [0x83, 0x01, 0x01, b'a', 0x86];
    assert_eq!(rewritten(&mut AuthorityFilter::default(), &block), expected);
}

#[test]
fn valid_values_and_other_fields_stay_as_they_are() {
    for name in [
        &[0x41][..],
        &[0x01],
        &[0x11],
        &[&[0x40][..], &coded(NAME)].concat(),
    ] {
        for value in [
            "localhost",
            "h:80",
            "10.0.0.1:8081",
            "[::1]:80",
            "user@host",
            "a~b!c",
        ] {
            for value in [raw(value.as_bytes()), coded(value.as_bytes())] {
                let block = [name, &value].concat();
                assert_eq!(AuthorityFilter::default().read(&block), Ok(vec![]));
            }
        }
    }
    // Values that would be invalid authorities: of `:path`, of `host`, of a name with the same beginning.
    for name in [
        &[0x44][..],
        &[0x66],
        &[&[0x40][..], &raw(b":authority2")].concat(),
    ] {
        let block = [name, &raw(b"a b")].concat();
        assert_eq!(AuthorityFilter::default().read(&block), Ok(vec![]));
    }
}

/// A name can refer to an entry of the dynamic table, whose index changes as entries are added.
#[test]
fn names_of_the_dynamic_table_are_resolved() {
    let mut filter = AuthorityFilter::default();
    let other = [&[0x40][..], &raw(b"x-name"), &raw(b"value")].concat();
    filter.read(&[0x41, 1, b'h']).unwrap();
    for _ in 0..90 {
        filter.read(&other).unwrap();
    }
    for entry in 0..100 {
        let block = of_entry(WITHOUT, entry, b"a b");
        let expected = match entry {
            90 => of_entry(WITHOUT, entry, b"aaa"),
            _ => block.clone(),
        };
        assert_eq!(rewritten(&mut filter, &block), expected, "{entry}");
    }
    // The field is added as a new entry with the same name.
    let block = of_entry(WITH_ENTRY, 90, b"a b");
    assert_eq!(
        rewritten(&mut filter, &block),
        of_entry(WITH_ENTRY, 90, b"aaa")
    );
    let newest = of_entry(WITHOUT, 0, b"a b");
    assert_eq!(
        rewritten(&mut filter, &newest),
        of_entry(WITHOUT, 0, b"aaa")
    );
    // An entry that is larger than the table clears it.
    let large = [&[0x40][..], &raw(b"x"), &raw(&[b'x'; 5_000])].concat();
    filter.read(&large).unwrap();
    assert_eq!(rewritten(&mut filter, &newest), newest);
}

#[test]
fn a_smaller_table_keeps_no_large_entry() {
    let mut filter = AuthorityFilter::default();
    // The first entry (at most 59 octets) fits into 60 octets; the second one does not.
    let first = [&[0x3f, 29, 0x40][..], &raw(NAME), &raw(b"h")].concat();
    filter.read(&first).unwrap();
    let newest = of_entry(WITHOUT, 0, b"a b");
    assert_ne!(rewritten(&mut filter, &newest), newest);
    let second = [&[0x40][..], &raw(b"x"), &raw(&[b'x'; 28])].concat();
    filter.read(&second).unwrap();
    assert_eq!(rewritten(&mut filter, &newest), newest);
}

#[test]
fn malformed_blocks_are_recognized() {
    for block in [
        &[0xff][..],
        &[0xff, 0x80, 0x80, 0x80, 0x80, 0x00],
        &[0x41],
        &[0x41, 5, b'x'],
        &[0x40, 0x8f, b'x'],
        &[0x7f, 0xff, 0xff, 0xff, 0x7f],
    ] {
        assert_eq!(
            AuthorityFilter::default().read(block),
            Err(Malformed),
            "{block:x?}"
        );
    }
}

proptest! {
    #[test]
    fn plain_hosts_are_authorities(text in "[a-zA-Z0-9._:-]{0,12}") {
        prop_assert!(!is_plain(text.as_bytes()) || Authority::try_from(text.as_str()).is_ok(), "{text}");
    }

    #[test]
    fn replacements_are_authorities(length in 1_usize..70_000) {
        let string = replacement(length);
        let mut reader = Reader { block: &string, at: 0 };
        let text = reader.string().unwrap();
        prop_assert_eq!((text.octets.len(), text.is_coded, reader.at), (length, false, string.len()));
        prop_assert!(Authority::try_from(text.octets).is_ok());
    }

    #[test]
    fn any_block_is_read(blocks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..100), 0..20)) {
        let mut filter = AuthorityFilter::default();
        for block in blocks {
            if let Ok(edits) = filter.read(&block) {
                let mut at = 0;
                for Edit { range, .. } in edits {
                    prop_assert!(at <= range.start && range.start < range.end && range.end <= block.len());
                    at = range.end;
                }
            }
        }
    }

    /// Values of other filter are never edited, whatever their name.
    #[test]
    fn names_of_headers_are_not_authorities(name in "[a-z-]{1,20}") {
        prop_assume!(HeaderName::try_from(name.as_str()).is_ok());
        let block = [&[0x40][..], &raw(name.as_bytes()), &raw(b"a b")].concat();
        prop_assert_eq!(AuthorityFilter::default().read(&block), Ok(vec![]));
    }
}
