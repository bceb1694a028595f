//! Redis in the same manifests: whether the version in its image tag is new enough.

use serde_json::Value as Json;

use super::finding::{Finding, Kind};

/// The oldest version, as major and minor, that can run the script.
const OLDEST: (u32, u32) = (5, 0);

/// The finding about an image of Redis; `None` for other images, and for tags without a version.
pub(super) fn finding(container: &Json, owner: &str) -> Option<Finding> {
    let (shown, version) = version(container["image"].as_str()?)?;
    let about = format!("Redis {shown} in {owner}");
    Some(match version < OLDEST {
        true => Finding::new(
            Kind::ChangeFirst,
            about,
            "its version is too old for the script that decides, so each server would limit alone; use Redis 5.0 or newer \
             (redis:7)",
        ),
        false => Finding::new(Kind::Same, about, ""),
    })
}

/// The version in the tag of an image of Redis, as text and as numbers.
fn version(image: &str) -> Option<(&str, (u32, u32))> {
    let image = image.split('@').next().unwrap_or_default();
    let (name, tag) = image.rsplit('/').next()?.rsplit_once(':')?;
    if name != "redis" {
        return None;
    }
    let shown = tag.split('-').next().unwrap_or_default();
    let mut numbers = shown.split('.').map(str::parse);
    let major: u32 = numbers.next()?.ok()?;
    // A tag such as 4 means the newest minor version.
    let minor = numbers.next().and_then(Result::ok).unwrap_or(u32::MAX);
    Some((shown, (major, minor)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_in_the_tag() {
        for (image, expected) in [
            ("redis:6.0.6", Some(("6.0.6", (6, 0)))),
            ("docker.io/library/redis:4.0-alpine", Some(("4.0", (4, 0)))),
            (
                "bitnami/redis:3.2.1-debian-9-r1@sha256:00",
                Some(("3.2.1", (3, 2))),
            ),
            ("registry:5000/redis:4", Some(("4", (4, u32::MAX)))),
            ("redis:alpine", None),
            ("redis", None),
            ("registry:5000/redis", None),
            ("redis-exporter:1.0", None),
            ("ratelimit:4.0", None),
        ] {
            assert_eq!(version(image), expected, "{image}");
        }
    }
}
