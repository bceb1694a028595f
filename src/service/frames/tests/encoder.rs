//! Encodes header blocks in any way that HPACK allows.

use std::collections::VecDeque;

use proptest::collection::vec;
use proptest::prelude::*;

use super::super::huffman;
use super::{begun, frame, valid};

/// How to encode a field.
#[derive(Debug, Clone)]
struct Form {
    /// 0: indexed if possible; 1 to 3: a literal that is added to the table, that is not, and that must never be.
    literal: u8,
    /// Whether the name refers to a table if possible, and to the dynamic rather than the static one.
    by_index: bool,
    dynamic: bool,
    coded: (bool, bool),
}

fn form() -> impl Strategy<Value = Form> {
    (0..4_u8, any::<bool>(), any::<bool>(), any::<(bool, bool)>()).prop_map(
        |(literal, by_index, dynamic, coded)| Form {
            literal,
            by_index,
            dynamic,
            coded,
        },
    )
}

pub(super) type Field = (Vec<u8>, Vec<u8>);

/// A client with its dynamic table, newest entry first.
#[derive(Debug, Default)]
struct Encoder {
    table: VecDeque<Field>,
}

impl Encoder {
    const STATIC: [(usize, &'static [u8], &'static [u8]); 6] = [
        (1, b":authority", b""),
        (3, b":method", b"POST"),
        (4, b":path", b"/"),
        (6, b":scheme", b"http"),
        (58, b"user-agent", b""),
        (32, b"cookie", b""),
    ];

    fn field(&mut self, (name, value): &Field, form: &Form, block: &mut Vec<u8>) {
        let whole = Self::STATIC
            .iter()
            .find(|entry| entry.1 == name && entry.2 == value);
        let whole = whole.map(|entry| entry.0);
        let entered = self
            .table
            .iter()
            .position(|entry| (&entry.0, &entry.1) == (name, value));
        // Encoders do not spell out an empty value that a table has (see `AuthorityFilter::read`).
        let is_indexed = form.literal == 0 || whole == Some(1);
        if let (true, Some(index)) = (is_indexed, entered.map(|index| index + 62).or(whole)) {
            return integer(0x80, 7, index, block);
        }
        let (first, bits) = [(0x40, 6), (0x40, 6), (0x00, 4), (0x10, 4)][usize::from(form.literal)];
        let of_static = Self::STATIC.iter().find(|entry| entry.1 == name);
        let of_static = of_static.map(|entry| entry.0);
        let entered = self.table.iter().position(|entry| entry.0 == *name);
        let entered = entered.map(|index| index + 62).filter(|_| form.dynamic);
        match entered.or(of_static).filter(|_| form.by_index) {
            Some(index) => integer(first, bits, index, block),
            None => {
                block.push(first);
                string(name, form.coded.0, block);
            }
        }
        string(value, form.coded.1, block);
        if form.literal < 2 {
            self.table.push_front((name.clone(), value.clone()));
            let size = |table: &VecDeque<Field>| -> usize {
                table
                    .iter()
                    .map(|(name, value)| name.len() + value.len() + 32)
                    .sum()
            };
            while size(&self.table) > 4096 {
                self.table.pop_back();
            }
        }
    }
}

pub(in crate::service::frames) fn integer(first: u8, bits: u32, value: usize, to: &mut Vec<u8>) {
    let most = (1 << bits) - 1;
    if value < most {
        return to.push(first | u8::try_from(value).unwrap());
    }
    to.push(first | u8::try_from(most).unwrap());
    let mut rest = value - most;
    while rest >= 0x80 {
        to.push(0x80 | u8::try_from(rest & 0x7f).unwrap());
        rest >>= 7;
    }
    to.push(u8::try_from(rest).unwrap());
}

pub(in crate::service::frames) fn string(text: &[u8], coded: bool, to: &mut Vec<u8>) {
    let (flag, text) = match coded {
        true => (0x80, huffman::encode(text)),
        false => (0, text.to_vec()),
    };
    integer(flag, 7, text.len(), to);
    to.extend(text);
}

/// How to put a header block into frames.
#[derive(Debug, Clone)]
struct Framing {
    padding: Option<u8>,
    priority: bool,
    /// Lengths of the fragments before the last one, for CONTINUATION.
    cuts: Vec<usize>,
}

fn framing() -> impl Strategy<Value = Framing> {
    let cuts = prop_oneof![Just(vec![]), vec(0_usize..200, 0..4)];
    (any::<Option<u8>>(), any::<bool>(), cuts).prop_map(|(padding, priority, cuts)| Framing {
        padding,
        priority,
        cuts,
    })
}

fn framed(stream: u32, block: &[u8], framing: &Framing) -> Vec<u8> {
    let (mut rest, mut fragments) = (block, Vec::new());
    for &cut in &framing.cuts {
        let (fragment, more) = rest.split_at(cut.min(rest.len()));
        fragments.push(fragment);
        rest = more;
    }
    fragments.push(rest);
    let last = fragments.len() - 1;
    let mut bytes = Vec::new();
    for (index, fragment) in fragments.into_iter().enumerate() {
        let end = if index == last { 4 } else { 0 };
        if index > 0 {
            bytes.extend(frame(9, end, stream, fragment));
            continue;
        }
        let (mut flags, mut payload) = (1 | end, Vec::new());
        if let Some(padding) = framing.padding {
            flags |= 8;
            payload.push(padding);
        }
        if framing.priority {
            flags |= 0x20;
            payload.extend([0, 0, 0, 0, 7]);
        }
        payload.extend(fragment);
        payload.resize(payload.len() + usize::from(framing.padding.unwrap_or(0)), 0);
        bytes.extend(frame(1, flags, stream, &payload));
    }
    bytes
}

fn authority() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        valid().prop_map(String::into_bytes),
        Just(b"outbound|8081||ratelimit.default.svc.cluster.local".to_vec()),
        Just(b"[::1".to_vec()),
        Just(vec![]),
        vec(any::<u8>(), 0..40),
        vec(any::<u8>(), 0..2_500),
    ]
}

#[derive(Debug, Clone)]
pub(super) struct Call {
    pub(super) authority: Vec<u8>,
    pub(super) headers: Vec<Field>,
    forms: Vec<Form>,
    framing: Framing,
}

pub(super) fn a_call() -> impl Strategy<Value = Call> {
    let name = prop_oneof![
        Just("user-agent"),
        Just("cookie"),
        Just("x-a"),
        Just("x-b"),
        Just("x-c")
    ];
    let header = (name, "[!-~]{0,40}|[a-z]{300}")
        .prop_map(|(name, value)| (name.as_bytes().to_vec(), value.into_bytes()));
    (authority(), vec(header, 0..6), vec(form(), 10), framing()).prop_map(
        |(authority, headers, forms, framing)| Call {
            authority,
            headers,
            forms,
            framing,
        },
    )
}

/// Encodes a connection with these calls.
pub(super) fn encoded(calls: &[Call]) -> Vec<u8> {
    let (mut bytes, mut encoder) = (begun(), Encoder::default());
    for (call, stream) in calls.iter().zip((1..).step_by(2)) {
        let mut block = Vec::new();
        let pseudo = [
            (b":method".to_vec(), b"POST".to_vec()),
            (b":authority".to_vec(), call.authority.clone()),
            (b":scheme".to_vec(), b"http".to_vec()),
            (b":path".to_vec(), b"/".to_vec()),
        ];
        for (field, form) in pseudo.iter().chain(&call.headers).zip(&call.forms) {
            encoder.field(field, form, &mut block);
        }
        bytes.extend(framed(stream, &block, &call.framing));
    }
    bytes
}
