//! What a container starts: its command and arguments.

use serde_json::Value as Json;

use super::finding::{Finding, Kind};
use super::manifest::list;

/// The programs of the image.
const PROGRAMS: [&str; 2] = ["ratelimit", "ratekeeper"];

/// What is worth saying of the command and the arguments of a container.
pub(super) fn findings(container: &Json) -> Vec<Finding> {
    let words = |json| list(json).iter().filter_map(Json::as_str);
    let mut command = words(&container["command"]);
    let program = command.next().unwrap_or("/bin/ratelimit");
    let name = program.rsplit('/').next().unwrap_or(program);
    if !PROGRAMS.contains(&name) {
        let what = format!(
            "it starts {program}, and the image has no shell and no program but /bin/ratelimit and /bin/ratekeeper: write \
             command: [\"/bin/ratelimit\"], and set in env what the script sets"
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
        "envoyproxy/ratelimit looks at none of them; here, {} that are no options of ratekeeper serve are ignored with a \
         warning",
        flags.join(", ")
    );
    vec![Finding::new(Kind::NoEffect, "arguments", what)]
}
