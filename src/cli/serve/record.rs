//! Options for recording requests, for `ratekeeper replay`.

use std::path::PathBuf;

use clap::Args;

use crate::limiter::Sample;
use crate::telemetry::recording::{RecordingSettings, check};

/// Minimum size: two files share it, and each must have room for some lines.
const LEAST_BYTES: u64 = 64 << 10;

#[derive(Debug, Args)]
#[command(next_help_heading = "Recording")]
pub(super) struct RecordOptions {
    /// File to record requests in, for `ratekeeper replay`; it contains everything that clients send in them
    /// [default: none]
    #[arg(long, env = "RECORD_PATH", value_name = "PATH")]
    record_path: Option<PathBuf>,

    /// Fraction of the buckets whose requests are recorded, above 0 and up to 1
    #[arg(long, env = "RECORD_SHARE", value_name = "RATIO", default_value = "1", value_parser = share)]
    record_share: f64,

    /// Maximum size of the recording, such as 100MiB; at half of it, the file is renamed to end in .1 and a new one
    /// begins
    #[arg(long, env = "RECORD_MAX_BYTES", value_name = "BYTES", default_value = "1GiB", value_parser = bytes)]
    record_max_bytes: u64,
}

impl RecordOptions {
    /// The settings, if requests are recorded. Creates the file, to check that it is writable.
    pub(super) fn settings(&self) -> anyhow::Result<Option<(RecordingSettings, Sample)>> {
        let Some(path) = &self.record_path else {
            return Ok(None);
        };
        let settings = RecordingSettings {
            path: path.clone(),
            max_bytes: self.record_max_bytes,
        };
        check(&settings)?;
        Ok(Some((settings, Sample::new(self.record_share))))
    }
}

/// Parses a fraction greater than 0.
fn share(text: &str) -> Result<f64, String> {
    let share = text.parse::<f64>().ok();
    share
        .filter(|share| *share > 0.0 && *share <= 1.0)
        .ok_or_else(|| "write a number above 0 and up to 1, such as 0.1".to_owned())
}

/// Parses a number of bytes with or without a unit.
fn bytes(text: &str) -> Result<u64, String> {
    let unit_at = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(unit_at);
    let shift = match unit.trim() {
        "" | "B" => Some(0),
        "KiB" | "Ki" => Some(10),
        "MiB" | "Mi" => Some(20),
        "GiB" | "Gi" => Some(30),
        _ => None,
    };
    let bytes = shift.and_then(|shift| number.parse::<u64>().ok()?.checked_mul(1 << shift));
    bytes
        .filter(|bytes| *bytes >= LEAST_BYTES)
        .ok_or_else(|| "write a number of bytes from 64KiB, such as 100MiB".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_read_with_and_without_a_unit() {
        for (text, expected) in [
            ("65536", Some(65_536)),
            ("64KiB", Some(65_536)),
            ("1Gi", Some(1 << 30)),
            ("100 MiB", Some(100 << 20)),
            ("64", None),
            ("", None),
            ("MiB", None),
            ("1GB", None),
            ("-1", None),
            ("99999999999GiB", None),
        ] {
            assert_eq!(bytes(text).ok(), expected, "{text}");
        }
    }

    #[test]
    fn a_share_is_above_0_and_at_most_1() {
        for text in ["0", "-0.1", "1.1", "NaN", "inf", "", "x"] {
            assert!(share(text).is_err(), "{text}");
        }
        assert_eq!(share("0.25"), Ok(0.25));
    }
}
