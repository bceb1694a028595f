//! Slots of a Redis Cluster. By its specification, a slot is the CRC-16 of the key's hash tag, or of the whole key if it
//! has no tag.

/// Returns the slot of a key in a Redis Cluster.
#[must_use]
pub fn slot(key: &str) -> u16 {
    let tag = key
        .split_once('{')
        .and_then(|(_, rest)| rest.split_once('}'));
    let hashed = match tag {
        Some((tag, _)) if !tag.is_empty() => tag,
        _ => key,
    };
    crc16(hashed.as_bytes()) % 16384
}

/// Returns the CRC-16/XMODEM: polynomial 0x1021, not reflected, initial value 0.
fn crc16(bytes: &[u8]) -> u16 {
    const TABLE: [u16; 256] = table();
    bytes.iter().fold(0, |crc, &byte| {
        let [high, _] = crc.to_be_bytes();
        (crc << 8) ^ TABLE[usize::from(high ^ byte)]
    })
}

const fn table() -> [u16; 256] {
    let mut table = [0; 256];
    let mut index = 0;
    let mut start: u16 = 0;
    while index < 256 {
        let (mut crc, mut bit) = (start << 8, 0);
        while bit < 8 {
            crc = if crc & 0x8000 == 0 {
                crc << 1
            } else {
                (crc << 1) ^ 0x1021
            };
            bit += 1;
        }
        table[index] = crc;
        index += 1;
        start += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The expected values are those of the command CLUSTER KEYSLOT.
    #[test]
    fn slots_are_those_of_redis() {
        assert_eq!(crc16(b"123456789"), 0x31C3);
        for (key, expected) in [
            ("", 0),
            ("foo", 12182),
            ("rk:{foo}shop|client=alice", 12182),
            ("rk:{foo}{bar}", 12182),
            ("{foo", slot("{foo")),
        ] {
            assert_eq!(slot(key), expected, "{key}");
        }
        // An empty tag counts as no tag, and so does a tag without an end.
        assert_ne!(slot("{}foo"), slot("{}bar"));
        assert_ne!(slot("{foo"), slot("foo"));
    }
}
