//! Variables that are set but have no effect: those of envoyproxy/ratelimit that are not options, and misspelled ones.

use super::super::mistakes::Mistakes;
use super::super::ratelimit_variables::{MEMCACHED_ADDRESSES, MEMCACHED_UNUSED, without_effect};

/// Maximum edit distance of a misspelled name, and its minimum length: short names are similar to too many others.
const MAX_DISTANCE: usize = 2;
const MIN_LENGTH: usize = 9;

/// Rejects memcached as the store, because buckets would then be stored in this process without notice.
pub(super) fn check(backend_is_chosen: bool, mistakes: &mut Mistakes) {
    if backend_is_chosen {
        return;
    }
    for name in MEMCACHED_ADDRESSES.into_iter().filter(|name| is_set(name)) {
        mistakes.add(format!(
            "{name}: {MEMCACHED_UNUSED}; set REDIS_URL, or BACKEND_TYPE=memory for buckets in this process"
        ));
    }
}

/// Logs variables that are set and have no effect, and those that look like a misspelled option.
pub(super) fn log_without_effect(unused: &[&str], options: &[String]) {
    for (name, reason) in without_effect().filter(|(name, _)| is_set(name)) {
        tracing::warn!("{name} has no effect: {reason}");
    }
    for name in unused {
        tracing::warn!("{name} has no effect: GRPC_SERVER_USE_TLS is not true");
    }
    let set = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    for name in set {
        if let Some(option) = similar_option(&name, options) {
            tracing::warn!("{name} has no effect: there is no such option; did you mean {option}?");
        }
    }
}

/// Returns the option with a similar name, unless the name is known.
fn similar_option<'o>(name: &str, options: &'o [String]) -> Option<&'o str> {
    let is_known = options.iter().any(|option| option == name)
        || without_effect().any(|(known, _)| known == name);
    if is_known || name.len() < MIN_LENGTH {
        return None;
    }
    let near = |option: &&String| strsim::osa_distance(option, name) <= MAX_DISTANCE;
    options.iter().find(near).map(String::as_str)
}

/// Whether a variable is set and not empty.
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
    fn misspelled_options_are_found() {
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
            assert_eq!(similar_option(name, &options), meant, "{name}");
        }
    }
}
