//! Finds the `:authority` of requests in their header blocks (HPACK, RFC 7541), and those that the HTTP/2 library would
//! reject.
//!
//! A header block is read as far as that needs: where its fields begin and end, which of them are `:authority`, and which
//! entries the dynamic table has under that name. The table itself is not kept.

use std::ops::Range;

use http::uri::Authority;

use super::huffman;

/// The place of `:authority` in the static table, whose entry has an empty value.
const AUTHORITY: usize = 1;

/// Fields of one octet that refer to an entry of a table other than that one.
const WHOLE_FIELDS: Range<u8> = 0x82..0xff;

/// The number of entries of the static table, and the length of the longest name in it
/// (`access-control-allow-origin`).
const STATIC_ENTRIES: usize = 61;
const LONGEST_STATIC_NAME: usize = 27;

/// The name, as it is and in the Huffman code.
const NAME: &[u8] = b":authority";
const NAME_IN_HUFFMAN: &[u8] = &[0xb8, 0x3b, 0x53, 0x39, 0xec, 0x32, 0x7d, 0x7f];

/// The octets of the dynamic table. We announce no other size, so clients cannot choose a larger one.
const TABLE_SIZE: usize = 4096;

/// What an entry of the table takes up beside its name and value. Therefore a table has at most 128 entries.
const ENTRY_OVERHEAD: usize = 32;

/// A piece of a header block and what to put in its place.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Edit {
    pub(super) range: Range<usize>,
    pub(super) with: Vec<u8>,
}

/// What must be known of the header blocks before to read the next one.
#[derive(Debug)]
pub(super) struct Fields {
    /// Which entries of the dynamic table have the name `:authority`; the newest one is the lowest bit.
    ///
    /// Entries that were evicted may still have a bit. A client that refers to one breaks its connection anyway.
    authorities: u128,
    /// The size of the dynamic table that the client uses.
    table_size: usize,
    /// No name in the dynamic table is longer.
    longest_name: usize,
}

impl Default for Fields {
    fn default() -> Self {
        Self {
            authorities: 0,
            table_size: TABLE_SIZE,
            longest_name: LONGEST_STATIC_NAME,
        }
    }
}

/// A block that breaks the rules of HPACK, after which the library ends the connection.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Malformed;

impl Fields {
    /// Reads the next header block. Returns what to edit, so that each value of `:authority` is one that the library
    /// accepts.
    ///
    /// A value is replaced by one of the same length, so that client and library agree on the size of the entry that they
    /// put into their tables. That is impossible for an empty value: its entry is one octet larger in the library's
    /// table, which can thus lose its oldest entry early if the table is full to the last octet. Encoders refer to the
    /// entry of the static table for an empty value, which puts nothing into the dynamic one.
    pub(super) fn read(&mut self, block: &[u8]) -> Result<Vec<Edit>, Malformed> {
        let mut edits = Vec::new();
        let mut rest = Reader { block, at: 0 };
        while let Some(&first) = block.get(rest.at) {
            let begin = rest.at;
            // Most fields are whole ones of a table and take one octet. Those of the dynamic table have been through here
            // already, and the only authority of the static table is the first entry.
            if WHOLE_FIELDS.contains(&first) {
                rest.at += 1;
            } else if first & 0x80 != 0 {
                if rest.integer(7)? == AUTHORITY {
                    let with = [&[0x01][..], &replacement(0)].concat();
                    let range = begin..rest.at;
                    edits.push(Edit { range, with });
                }
            } else if first & 0xe0 == 0x20 {
                self.table_size = rest.integer(5)?.min(TABLE_SIZE);
            } else if let Some(edit) = self.literal(&mut rest, first)? {
                edits.push(edit);
            }
        }
        Ok(edits)
    }

    /// Reads a field that begins with this octet and whose value is spelled out.
    #[inline]
    fn literal(&mut self, rest: &mut Reader<'_>, first: u8) -> Result<Option<Edit>, Malformed> {
        // It is put into the dynamic table, or not.
        let is_indexed = first & 0x40 != 0;
        let index = rest.integer(if is_indexed { 6 } else { 4 })?;
        let (is_authority, longest_name) = match index {
            0 => {
                let name = rest.string()?;
                (name.is_authority_name(), name.longest())
            }
            1..=STATIC_ENTRIES => (index == AUTHORITY, LONGEST_STATIC_NAME),
            _ => (
                self.is_authority_entry(index - STATIC_ENTRIES - 1),
                self.longest_name,
            ),
        };
        let begin = rest.at;
        let value = rest.string()?;
        if is_indexed {
            let mut size = ENTRY_OVERHEAD + longest_name + value.longest();
            if size > self.table_size {
                size = ENTRY_OVERHEAD + longest_name + value.length();
            }
            self.longest_name = self.longest_name.max(longest_name);
            self.put(is_authority, size);
        }
        if !is_authority {
            return Ok(None);
        }
        Ok(value.rejected().map(|length| Edit {
            range: begin..rest.at,
            with: replacement(length),
        }))
    }

    /// Whether the entry at this place of the dynamic table has the name `:authority`.
    fn is_authority_entry(&self, place: usize) -> bool {
        let place = u32::try_from(place).unwrap_or(u32::MAX);
        self.authorities.checked_shr(place).unwrap_or(0) & 1 != 0
    }

    /// An entry of at most so many octets is put into the dynamic table.
    fn put(&mut self, is_authority: bool, size: usize) {
        if size <= self.table_size {
            self.authorities = self.authorities << 1 | u128::from(is_authority);
        } else {
            // An entry that is larger than the table empties it and is not put into it. Where it is not certain which of
            // both happens, the places of older entries are lost. Then a name that refers to one of them is not known to
            // be `:authority`, and its value is passed on as it is.
            self.authorities = 0;
        }
    }

    /// A header block has been passed on without being read. It may have put anything into the dynamic table, and may have
    /// changed its size, so that no place in it is certain until the client states a size again.
    pub(super) fn forget(&mut self) {
        self.authorities = 0;
        self.table_size = 0;
    }
}

/// A string of so many octets, or one, that is a valid authority.
fn replacement(length: usize) -> Vec<u8> {
    let length = length.max(1);
    let mut string = Vec::with_capacity(length + 5);
    // An integer with a prefix of seven bits; the eighth is for the Huffman code.
    match u8::try_from(length) {
        Ok(short) if short < 0x7f => string.push(short),
        _ => {
            string.push(0x7f);
            let mut more = length - 0x7f;
            while more >= 0x80 {
                string.push(0x80 | u8::try_from(more & 0x7f).unwrap_or_default());
                more >>= 7;
            }
            string.push(u8::try_from(more).unwrap_or_default());
        }
    }
    string.resize(string.len() + length, b'a');
    string
}

/// Reads a header block from its beginning.
#[derive(Debug)]
struct Reader<'a> {
    block: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    /// An integer whose first octet has so many bits of it.
    #[inline]
    fn integer(&mut self, bits: u32) -> Result<usize, Malformed> {
        let most = (1_usize << bits) - 1;
        let value = usize::from(self.octet()?) & most;
        if value < most {
            Ok(value)
        } else {
            self.longer_integer(most)
        }
    }

    /// The rest of an integer that its first octet is too small for: what it is more than `most`.
    #[inline(never)]
    fn longer_integer(&mut self, most: usize) -> Result<usize, Malformed> {
        let mut value = most;
        // As many octets as the library reads.
        for shift in [0, 7, 14, 21] {
            let octet = self.octet()?;
            value += usize::from(octet & 0x7f) << shift;
            if octet & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Malformed)
    }

    #[inline]
    fn octet(&mut self) -> Result<u8, Malformed> {
        let octet = *self.block.get(self.at).ok_or(Malformed)?;
        self.at += 1;
        Ok(octet)
    }

    #[inline]
    fn string(&mut self) -> Result<Text<'a>, Malformed> {
        let is_coded = self.block.get(self.at).ok_or(Malformed)? & 0x80 != 0;
        let length = self.integer(7)?;
        let octets = self.block.get(self.at..self.at + length).ok_or(Malformed)?;
        self.at += length;
        Ok(Text { is_coded, octets })
    }
}

/// A name or a value.
#[derive(Debug)]
struct Text<'a> {
    /// It is in the Huffman code.
    is_coded: bool,
    octets: &'a [u8],
}

impl Text<'_> {
    fn is_authority_name(&self) -> bool {
        self.octets == if self.is_coded { NAME_IN_HUFFMAN } else { NAME }
    }

    /// The most octets that it has when it is decoded.
    fn longest(&self) -> usize {
        match self.is_coded {
            true => huffman::longest(self.octets.len()),
            false => self.octets.len(),
        }
    }

    /// The number of octets that it has when it is decoded.
    fn length(&self) -> usize {
        match self.is_coded {
            true => huffman::decode(self.octets).map_or(0, |decoded| decoded.len()),
            false => self.octets.len(),
        }
    }

    /// Its decoded length, if the library rejects it as an authority.
    fn rejected(&self) -> Option<usize> {
        if !self.is_coded {
            return (!is_valid(self.octets)).then_some(self.octets.len());
        }
        // The library ends the connection if it cannot be decoded.
        let decoded = huffman::decode(self.octets)?;
        (!is_valid(&decoded)).then_some(decoded.len())
    }
}

/// Whether the library accepts the authority of a request.
fn is_valid(authority: &[u8]) -> bool {
    is_plain(authority) || Authority::try_from(authority).is_ok()
}

/// Whether this is a host, and perhaps a port, of the plainest kind. Most are, and looking costs less than the library's
/// parser, which copies.
fn is_plain(authority: &[u8]) -> bool {
    let is_host = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    let host = match authority.iter().position(|&byte| byte == b':') {
        Some(colon) if authority[colon + 1..].iter().all(u8::is_ascii_digit) => &authority[..colon],
        _ => authority,
    };
    !host.is_empty() && host.iter().all(is_host)
}

#[cfg(test)]
mod tests;
