//! The command and arguments of a container.

use serde_json::Value as Json;

use super::finding::{Finding, Kind};
use super::manifest::list;

/// Programs in the image.
const PROGRAMS: [&str; 2] = ["ratelimit", "ratekeeper"];

/// Returns the findings about the command and the arguments of a container.
pub(super) fn findings(container: &Json) -> Vec<Finding> {
    let words = |json| list(json).iter().filter_map(Json::as_str);
    let mut command = words(&container["command"]);
    let program = command.next().unwrap_or("/bin/ratelimit");
    let name = program.rsplit('/').next().unwrap_or(program);
    if !PROGRAMS.contains(&name) {
        let what = format!(
            "it starts {program}, but the image has only /bin/ratelimit and /bin/ratekeeper, and no shell: write \
             command: [\"/bin/ratelimit\"], and set the variables of the script in env"
        );
        return vec![Finding::new(Kind::ChangeFirst, "command", what)];
    }
    let arguments = command.chain(words(&container["args"]));
    let flags: Vec<_> = arguments
        .filter(|word| word.starts_with('-'))
        .map(|word| word.split('=').next().unwrap_or(word))
        .collect();
    if flags.is_empty() || name != "ratelimit" {
        return Vec::new();
    }
    let what = format!(
        "envoyproxy/ratelimit ignores all arguments; ratekeeper ignores those of {} that are not options of ratekeeper \
         serve, with a warning",
        flags.join(", ")
    );
    vec![Finding::new(Kind::NoEffect, "arguments", what)]
}
