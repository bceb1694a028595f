//! Finds values of `:authority` in header blocks (HPACK, RFC 7541) that the HTTP/2 library would reject.
//!
//! A header block is parsed only as far as that requires: where its fields begin and end, which of them are
//! `:authority`, and which entries of the dynamic table have that name. The table itself is not kept.

use std::ops::Range;

use http::uri::Authority;

use super::huffman;

/// Index of `:authority` in the static table. The value of the entry is empty.
const AUTHORITY: usize = 1;

/// Fields of one octet that refer to an entry of a table other than [`AUTHORITY`].
const INDEXED_FIELDS: Range<u8> = 0x82..0xff;

/// Number of entries of the static table, and length of its longest name (`access-control-allow-origin`).
const STATIC_ENTRIES: usize = 61;
const LONGEST_STATIC_NAME: usize = 27;

/// The name as plain text and in the Huffman code.
const NAME: &[u8] = b":authority";
const NAME_IN_HUFFMAN: &[u8] = &[0xb8, 0x3b, 0x53, 0x39, 0xec, 0x32, 0x7d, 0x7f];

/// Size of the dynamic table in octets. The server announces no other size, so that clients cannot choose a larger one.
const TABLE_SIZE: usize = 4096;

/// Size of an entry in addition to its name and value. Therefore a table has at most 128 entries.
const ENTRY_OVERHEAD: usize = 32;

/// Replaces a range of a header block.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Edit {
    pub(super) range: Range<usize>,
    pub(super) with: Vec<u8>,
}

/// Finds invalid authorities in the header blocks of a connection. Each block can refer to entries of the dynamic table
/// that previous ones have added.
#[derive(Debug)]
pub(super) struct AuthorityFilter {
    /// A bit for each entry of the dynamic table whose name is `:authority`; the lowest bit is the newest entry.
    ///
    /// Evicted entries can still have a bit. The library closes the connection of a client that refers to one.
    authorities: u128,
    /// Size of the dynamic table that the client uses.
    table_size: usize,
    /// Upper bound of the length of names in the dynamic table.
    longest_name: usize,
}

impl Default for AuthorityFilter {
    fn default() -> Self {
        Self {
            authorities: 0,
            table_size: TABLE_SIZE,
            longest_name: LONGEST_STATIC_NAME,
        }
    }
}

/// A block that violates HPACK. The library closes the connection.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Malformed;

impl AuthorityFilter {
    /// Reads the next header block. Returns the edits that make each value of `:authority` acceptable to the library.
    ///
    /// A value is replaced by one of the same length, so that client and library agree on the size of the new table
    /// entry. That is impossible for an empty value: its entry is one octet larger in the table of the library, which
    /// can thus evict its oldest entry too early if the table is full to the last octet. Encoders refer to the static
    /// table for an empty value, which adds no entry.
    pub(super) fn read(&mut self, block: &[u8]) -> Result<Vec<Edit>, Malformed> {
        let mut edits = Vec::new();
        let mut rest = Reader { block, at: 0 };
        while let Some(&first) = block.get(rest.at) {
            let begin = rest.at;
            // Most fields take one octet, the index of a table entry. Entries of the dynamic table were checked when
            // they were added, and the only authority of the static table is the first entry.
            if INDEXED_FIELDS.contains(&first) {
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

    /// Reads a literal field that begins with this octet.
    #[inline]
    fn literal(&mut self, rest: &mut Reader<'_>, first: u8) -> Result<Option<Edit>, Malformed> {
        // Whether the field is added to the dynamic table.
        let is_indexed = first & 0x40 != 0;
        let index = rest.integer(if is_indexed { 6 } else { 4 })?;
        let (is_authority, longest_name) = match index {
            0 => {
                let name = rest.string()?;
                (name.is_authority_name(), name.max_length())
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
            let mut size = ENTRY_OVERHEAD + longest_name + value.max_length();
            if size > self.table_size {
                size = ENTRY_OVERHEAD + longest_name + value.length();
            }
            self.longest_name = self.longest_name.max(longest_name);
            self.add_entry(is_authority, size);
        }
        if !is_authority {
            return Ok(None);
        }
        Ok(value.rejected_length().map(|length| Edit {
            range: begin..rest.at,
            with: replacement(length),
        }))
    }

    /// Returns whether the entry at this index of the dynamic table has the name `:authority`.
    fn is_authority_entry(&self, index: usize) -> bool {
        let index = u32::try_from(index).unwrap_or(u32::MAX);
        self.authorities.checked_shr(index).unwrap_or(0) & 1 != 0
    }

    /// Adds an entry of at most `size` octets to the dynamic table.
    fn add_entry(&mut self, is_authority: bool, size: usize) {
        if size <= self.table_size {
            self.authorities = self.authorities << 1 | u128::from(is_authority);
        } else {
            // An entry that is larger than the table clears it and is not added. If it is uncertain which of both
            // happens, the indexes of older entries are lost. A name that refers to one of them is not recognized as
            // `:authority` any more, and its value is passed on unchanged.
            self.authorities = 0;
        }
    }

    /// Handles a header block that was passed on without being read. It can have added any entries and changed the size
    /// of the dynamic table, so that no index is certain until the client announces a size again.
    pub(super) fn forget_table(&mut self) {
        self.authorities = 0;
        self.table_size = 0;
    }
}

/// Returns an encoded string of `length` octets (at least one) that is a valid authority.
fn replacement(length: usize) -> Vec<u8> {
    let length = length.max(1);
    let mut string = Vec::with_capacity(length + 5);
    // An integer with a prefix of seven bits. The eighth bit marks the Huffman code.
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
    /// Reads an integer with a prefix of `bits` bits.
    #[inline]
    fn integer(&mut self, bits: u32) -> Result<usize, Malformed> {
        let max = (1_usize << bits) - 1;
        let value = usize::from(self.octet()?) & max;
        if value < max {
            Ok(value)
        } else {
            self.long_integer(max)
        }
    }

    /// Reads the rest of an integer that does not fit into its prefix, of which `prefix` is the maximum.
    #[inline(never)]
    fn long_integer(&mut self, prefix: usize) -> Result<usize, Malformed> {
        let mut value = prefix;
        // The library reads as many octets.
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
    /// Whether the octets are in the Huffman code.
    is_coded: bool,
    octets: &'a [u8],
}

impl Text<'_> {
    fn is_authority_name(&self) -> bool {
        self.octets == if self.is_coded { NAME_IN_HUFFMAN } else { NAME }
    }

    /// Returns the maximum decoded length.
    fn max_length(&self) -> usize {
        match self.is_coded {
            true => huffman::max_decoded_length(self.octets.len()),
            false => self.octets.len(),
        }
    }

    /// Returns the decoded length.
    fn length(&self) -> usize {
        match self.is_coded {
            true => huffman::decode(self.octets).map_or(0, |decoded| decoded.len()),
            false => self.octets.len(),
        }
    }

    /// Returns the decoded length if the library rejects the text as an authority.
    fn rejected_length(&self) -> Option<usize> {
        if !self.is_coded {
            return (!is_valid(self.octets)).then_some(self.octets.len());
        }
        // The library closes the connection if the text cannot be decoded.
        let decoded = huffman::decode(self.octets)?;
        (!is_valid(&decoded)).then_some(decoded.len())
    }
}

/// Returns whether the library accepts the authority.
fn is_valid(authority: &[u8]) -> bool {
    is_plain(authority) || Authority::try_from(authority).is_ok()
}

/// Returns whether the authority is a plain host name with an optional port. Most are, and this check is cheaper than
/// the parser of the library, which copies.
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
