//! Parses the owners of slots in `CLUSTER SLOTS` and `MOVED` replies. No I/O.

use bb8_redis::redis::Value;

use crate::store::redis::redis_error;

/// Number of slots of a Redis Cluster.
pub(super) const SLOTS: usize = 16384;

/// Host and port of a node.
pub(super) type Address = (String, u16);

/// Consecutive slots of one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) first: u16,
    pub(super) last: u16,
    /// The master.
    pub(super) owner: Address,
    /// Its replicas, which also know the owners.
    pub(super) replicas: Vec<Address>,
}

/// Parses a reply to CLUSTER SLOTS. A node that does not know its own host leaves it out; then it is that of the
/// queried node.
pub(super) fn ranges(reply: &Value, asked: &str) -> Option<Vec<Range>> {
    let Value::Array(ranges) = reply else {
        return None;
    };
    ranges
        .iter()
        .map(|range| self::range(range, asked))
        .collect()
}

fn range(range: &Value, asked: &str) -> Option<Range> {
    let Value::Array(parts) = range else {
        return None;
    };
    let [first, last, owner, replicas @ ..] = parts.as_slice() else {
        return None;
    };
    let replicas = replicas.iter().map(|replica| node(replica, asked));
    let (first, last) = (number(first)?, number(last)?);
    (first <= last && usize::from(last) < SLOTS).then_some(Range {
        first,
        last,
        owner: node(owner, asked)?,
        replicas: replicas.collect::<Option<_>>()?,
    })
}

fn node(node: &Value, asked: &str) -> Option<Address> {
    let Value::Array(parts) = node else {
        return None;
    };
    let [host, port, ..] = parts.as_slice() else {
        return None;
    };
    let host = match host {
        Value::BulkString(host) => std::str::from_utf8(host).ok()?,
        Value::SimpleString(host) => host,
        Value::Nil => "",
        _ => return None,
    };
    Some((redis_error::host(&known(host, asked))?, number(port)?))
}

/// Replaces an unknown host.
fn known(host: &str, asked: &str) -> String {
    match host {
        "" | "?" => asked.to_owned(),
        host => host.to_owned(),
    }
}

fn number(value: &Value) -> Option<u16> {
    match value {
        Value::Int(number) => u16::try_from(*number).ok(),
        _ => None,
    }
}

/// Parses the address of a redirection, `host:port`. The host can be missing, as above, or be an IPv6 address.
pub(super) fn redirected(address: &str, asked: &str) -> Option<Address> {
    let (host, port) = address.rsplit_once(':')?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    Some((redis_error::host(&known(host, asked))?, port.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bulk(text: &str) -> Value {
        Value::BulkString(text.as_bytes().to_vec())
    }

    fn at(host: Value, port: i64) -> Value {
        Value::Array(vec![
            host,
            Value::Int(port),
            bulk("id"),
            Value::Array(vec![]),
        ])
    }

    #[test]
    fn ranges_are_read() {
        let reply = Value::Array(vec![Value::Array(vec![
            Value::Int(0),
            Value::Int(5460),
            at(bulk("10.0.0.1"), 6379),
            at(Value::Nil, 6380),
        ])]);
        let expected = Range {
            first: 0,
            last: 5460,
            owner: ("10.0.0.1".to_owned(), 6379),
            replicas: vec![("asked".to_owned(), 6380)],
        };
        assert_eq!(ranges(&reply, "asked"), Some(vec![expected]));
        assert_eq!(ranges(&Value::Array(vec![]), "asked"), Some(vec![]));
    }

    #[test]
    fn what_is_no_map_is_none() {
        for wrong in [
            Value::Nil,
            Value::Array(vec![Value::Int(1)]),
            Value::Array(vec![Value::Array(vec![Value::Int(0), Value::Int(1)])]),
            Value::Array(vec![Value::Array(vec![
                Value::Int(0),
                Value::Int(16384),
                at(bulk("a"), 1),
            ])]),
            Value::Array(vec![Value::Array(vec![
                Value::Int(2),
                Value::Int(1),
                at(bulk("a"), 1),
            ])]),
            Value::Array(vec![Value::Array(vec![
                Value::Int(0),
                Value::Int(1),
                at(bulk("a"), 65536),
            ])]),
        ] {
            assert_eq!(ranges(&wrong, "asked"), None, "{wrong:?}");
        }
    }

    #[test]
    fn redirections_are_read() {
        let address = |host: &str, port| Some((host.to_owned(), port));
        assert_eq!(
            redirected("10.0.0.2:6381", "asked"),
            address("10.0.0.2", 6381)
        );
        assert_eq!(redirected(":6381", "asked"), address("asked", 6381));
        assert_eq!(redirected("?:6381", "asked"), address("asked", 6381));
        assert_eq!(redirected("::1:6381", "asked"), address("::1", 6381));
        assert_eq!(redirected("[::1]:6381", "asked"), address("::1", 6381));
        assert_eq!(redirected("6381", "asked"), None);
        assert_eq!(redirected("host:port", "asked"), None);
    }
}
