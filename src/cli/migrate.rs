//! `ratekeeper migrate`: reports what changes when ratekeeper replaces envoyproxy/ratelimit in a deployment.
//!
//! It reads the environment of the deployment ([`environment`], [`manifest`], [`command`]) and its rule files
//! ([`mounts`], [`files`]), compares them with the known differences ([`variables`], [`files`]), and prints the findings
//! ([`report`]). It changes nothing and connects to nothing.

mod command;
mod environment;
mod files;
mod finding;
mod images;
mod manifest;
mod mounts;
mod report;
mod variables;

use std::io::Write as _;
use std::path::PathBuf;

use super::Outcome;
use super::output::stdout;
use environment::Environment;
use finding::Kind;
use manifest::Deployment;
use report::Report;

/// Options of the command.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Without --env and --manifest, the environment of this process is read.\n\n\
    Try:  ratekeeper migrate --manifest rate-limit-service.yaml\n      \
          kubectl get deployment,configmap -n envoy-gateway-system -o yaml | ratekeeper migrate --manifest -\n      \
          ratekeeper migrate --env ratelimit.env --rules config/\n\n\
    Exit code: 0 the deployment can migrate, 1 something must be changed first, 2 wrong options."
)]
pub(super) struct Args {
    /// File of NAME=value lines, in the format of docker and systemd
    #[arg(long, value_name = "FILE", conflicts_with = "manifest")]
    env: Option<PathBuf>,

    /// File of Kubernetes manifests with the Deployment and, for the rules, its ConfigMaps; - for standard input;
    /// can be given several times
    #[arg(long, value_name = "FILE")]
    manifest: Vec<PathBuf>,

    /// Name of the container in the manifests [default: the one that runs ratelimit]
    #[arg(long, value_name = "NAME", requires = "manifest")]
    container: Option<String>,

    /// Rule files: a file or a directory [default: the files that the manifests mount, or the path in the
    /// environment]
    #[arg(long, value_name = "PATH")]
    rules: Option<PathBuf>,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// The options of `ratekeeper serve`, which the variables of a deployment are checked with.
#[derive(Debug)]
pub(super) struct ServerOptions {
    /// Command with the options and their variables.
    pub(super) command: clap::Command,
    /// Returns errors in options that are valid alone but contradict each other.
    pub(super) contradictions: fn(&clap::ArgMatches) -> Vec<String>,
}

/// Prints what stays the same, what differs and why, and what must be changed first.
pub(super) fn run(args: &Args, server: &ServerOptions) -> anyhow::Result<Outcome> {
    let Deployment {
        environment,
        mut rules,
        mut findings,
        missing_rules,
    } = deployment(args)?;
    findings.extend(variables::findings(&environment, server));
    // Paths in manifests are paths in the container, so they are not read on this machine.
    let is_here = args.rules.is_some() || args.manifest.is_empty();
    if !is_here {
        findings.extend(missing_rules);
        findings.extend(files::of_management_server(&environment));
    } else {
        match files::read(args.rules.as_deref(), &environment) {
            Ok(read) => rules = read,
            Err(finding) => findings.push(finding),
        }
    }
    findings.extend(files::findings(&rules, &environment));
    let report = Report::new(&environment, rules.len(), findings);
    let text = if args.json {
        format!("{:#}\n", report.json())
    } else {
        report.text()
    };
    stdout().write_all(text.as_bytes())?;
    Ok(if report.has(Kind::ChangeFirst) {
        Outcome::Mistakes
    } else {
        Outcome::Done
    })
}

fn deployment(args: &Args) -> anyhow::Result<Deployment> {
    if !args.manifest.is_empty() {
        return manifest::read(&args.manifest, args.container.as_deref());
    }
    let environment = match &args.env {
        Some(path) => Environment::of_file(path)?,
        None => Environment::of_process(),
    };
    Ok(Deployment::new(environment))
}
