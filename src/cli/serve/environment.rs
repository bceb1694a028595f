//! The variables of envoyproxy/ratelimit that mean nothing here, and why.
//!
//! Each variable of its is either an option (`ratekeeper serve --help`) or in a list here, which the log
//! goes through once at the start; a test holds it to that.

use super::super::mistakes::Mistakes;
use super::super::reference::MEMCACHED_PLACES;
use super::redis;

/// A variable, and why it has no effect.
pub(in crate::cli) type WithoutEffect = (&'static str, &'static str);

/// What has no effect, because there is nothing here that it could have an effect on.
pub(in crate::cli) const WITHOUT_EFFECT: &[WithoutEffect] = &[
    (
        "EXPIRATION_JITTER_MAX_SECONDS",
        "a bucket expires when it would be full again, which spreads the work by itself",
    ),
    (
        "LOCAL_CACHE_SIZE_IN_BYTES",
        "denials are remembered in any case, in memory that is bounded",
    ),
    (
        "STOP_CACHE_KEY_INCREMENT_WHEN_OVERLIMIT",
        "a denied request takes nothing from any of its buckets in any case",
    ),
];

/// What has an effect on memcached alone.
pub(in crate::cli) const MEMCACHED: &[WithoutEffect] = &[
    ("MEMCACHE_HOST_PORT", NO_MEMCACHED),
    ("MEMCACHE_SRV", NO_MEMCACHED),
    ("MEMCACHE_SRV_REFRESH", NO_MEMCACHED),
    ("MEMCACHE_MAX_IDLE_CONNS", NO_MEMCACHED),
    ("MEMCACHE_TLS", NO_MEMCACHED),
    ("MEMCACHE_TLS_CLIENT_CERT", NO_MEMCACHED),
    ("MEMCACHE_TLS_CLIENT_KEY", NO_MEMCACHED),
    ("MEMCACHE_TLS_CACERT", NO_MEMCACHED),
    ("MEMCACHE_TLS_SKIP_HOSTNAME_VERIFICATION", NO_MEMCACHED),
];

const NO_MEMCACHED: &str = "buckets do not live in memcached, which cannot hold them exactly";

/// How far a name may be from what it is meant for, and how long it must be: short ones are near to much.
const MISSPELT_LETTERS: usize = 2;
const SHORTEST_MISSPELT: usize = 9;

/// All variables without effect.
pub(in crate::cli) fn without_effect() -> impl Iterator<Item = &'static WithoutEffect> {
    [WITHOUT_EFFECT, redis::WITHOUT_EFFECT, MEMCACHED]
        .into_iter()
        .flatten()
}

/// Refuses a server that would forget what was to live in memcached.
pub(super) fn check(backend_is_chosen: bool, mistakes: &mut Mistakes) {
    if backend_is_chosen {
        return;
    }
    for name in MEMCACHED_PLACES.into_iter().filter(|name| is_set(name)) {
        mistakes.add(format!(
            "{name}: {NO_MEMCACHED}; use REDIS_URL, or BACKEND_TYPE=memory for buckets in this process"
        ));
    }
}

/// Says once which variables that are set have no effect, and which may be meant for others that are options.
pub(super) fn tell(unused: &[&str], options: &[String]) {
    for (name, why) in without_effect().filter(|(name, _)| is_set(name)) {
        tracing::warn!("{name} has no effect: {why}");
    }
    for name in unused {
        tracing::warn!("{name} has no effect: GRPC_SERVER_USE_TLS is not true");
    }
    let set = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    for name in set {
        if let Some(meant) = meant_by(&name, options) {
            tracing::warn!("{name} has no effect: there is no such option; is {meant} meant?");
        }
    }
}

/// The option that a variable may be meant for: one whose name is the same but for a letter or two.
fn meant_by<'o>(name: &str, options: &'o [String]) -> Option<&'o str> {
    let is_known = options.iter().any(|option| option == name)
        || without_effect().any(|(known, _)| *known == name);
    if is_known || name.len() < SHORTEST_MISSPELT {
        return None;
    }
    let near = |option: &&String| strsim::osa_distance(option, name) <= MISSPELT_LETTERS;
    options.iter().find(near).map(String::as_str)
}

/// Whether a variable is set to something.
pub(super) fn is_set(name: &str) -> bool {
    #[expect(
        clippy::disallowed_methods,
        reason = "this is where the environment is read"
    )]
    std::env::var_os(name).is_some_and(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_name_is_told_from_one_that_is_meant_for_others() {
        let options = ["GRPC_MAX_CONNECTION_AGE", "REDIS_URL", "PORT"].map(str::to_owned);
        for (name, meant) in [
            ("GRPC_MAX_CONECTION_AGE", Some("GRPC_MAX_CONNECTION_AGE")),
            ("REDIS_URLS", Some("REDIS_URL")),
            ("REDIS_URL", None),
            ("REDIS_PORT", None),
            ("LOCAL_CACHE_SIZE_IN_BYTES", None),
            ("PORTS", None),
            ("KUBERNETES_PORT", None),
        ] {
            assert_eq!(meant_by(name, &options), meant, "{name}");
        }
    }
}
