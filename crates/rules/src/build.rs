//! Builds the domains and their trees from the files that were read, and checks the files together.

use std::collections::HashMap;
use std::sync::Arc;

use foldhash::fast::RandomState;

use super::mistake::Report;
use super::read::{self, Descriptor};
use super::rule::Rule;
use super::spelling::shown;
use super::tree::{Domain, Node, composite};
use super::{Algorithm, Hits, LoadOptions, Mistakes, RuleSet, SourceFile, SourceValue};

/// Builds the rules in texts.
pub(super) fn build(files: &[SourceFile], options: LoadOptions) -> Result<RuleSet, Mistakes> {
    let mut builder = Builder::new(options);
    for source in files {
        if builder.report.is_full() {
            break;
        }
        let file = read::read(&source.name, &source.text, options, &mut builder.report);
        builder.add(&source.name, file, options);
    }
    builder.finish()
}

/// Builds the rules in values.
pub(super) fn build_values(
    values: Vec<SourceValue>,
    options: LoadOptions,
) -> Result<RuleSet, Mistakes> {
    let mut builder = Builder::new(options);
    for SourceValue { name, value } in values {
        if builder.report.is_full() {
            break;
        }
        let file = read::read_value(&name, value, options, &mut builder.report);
        builder.add(&name, file, options);
    }
    builder.finish()
}

#[derive(Default)]
struct Builder {
    domains: Vec<Domain>,
    names: HashMap<Box<[u8]>, usize, RandomState>,
    /// The position at which each domain was defined first.
    origins: Vec<String>,
    rules: Vec<Arc<Rule>>,
    default_algorithm: Algorithm,
    default_hits: Hits,
    report: Report,
}

impl Builder {
    fn new(options: LoadOptions) -> Self {
        Self {
            default_algorithm: options.default_algorithm,
            default_hits: options.default_hits,
            ..Self::default()
        }
    }

    fn finish(self) -> Result<RuleSet, Mistakes> {
        let warnings = self.report.into_result()?;
        Ok(RuleSet {
            warnings,
            domains: self.domains,
            names: self.names,
            rules: self.rules,
            default_algorithm: self.default_algorithm,
            default_hits: self.default_hits,
        })
    }

    fn add(&mut self, name: &str, file: Option<read::File>, options: LoadOptions) {
        let Some(file) = file else {
            return;
        };
        let source: Arc<str> = name.into();
        let Some(domain_name) = &file.domain else {
            // The domain is rejected, but its tree is built to report its errors, too.
            self.grow_apart("", &source, file.descriptors);
            return;
        };
        if let Some(&id) = self.names.get(domain_name.as_bytes()) {
            if options.merge_domains {
                self.domains[id].add_file(&source);
                self.grow(id, None, domain_name, &source, file.descriptors);
                return;
            }
            let what = format!("duplicate domain '{}' in config file", shown(domain_name));
            let advice = format!(
                "it is also the domain of {}; move all of its rules into one file, or set \
                 MERGE_DOMAIN_CONFIG=true",
                self.origins[id]
            );
            self.report.add(name, file.at, what, advice);
            self.grow_apart(domain_name, &source, file.descriptors);
            return;
        }
        let id = self.domains.len();
        let mut domain = Domain::new(domain_name.clone(), id);
        domain.add_file(&source);
        self.domains.push(domain);
        self.names.insert(domain_name.as_bytes().into(), id);
        self.origins.push(self.report.place(name, file.at));
        self.grow(id, None, domain_name, &source, file.descriptors);
    }

    /// Builds a tree only to report its errors.
    fn grow_apart(&mut self, name: &str, source: &Arc<str>, descriptors: Vec<Descriptor>) {
        let id = self.domains.len();
        self.domains.push(Domain::new(name.to_owned(), id));
        self.origins.push(String::new());
        self.grow(id, None, name, source, descriptors);
    }

    /// Adds descriptors below the node with this path.
    fn grow(
        &mut self,
        domain: usize,
        parent: Option<usize>,
        path: &str,
        source: &Arc<str>,
        descriptors: Vec<Descriptor>,
    ) {
        for mut descriptor in descriptors {
            if self.report.is_full() {
                return;
            }
            let children = std::mem::take(&mut descriptor.descriptors);
            let key = descriptor.key.as_deref().unwrap_or("?");
            let path = format!("{path}.{}", composite(key, descriptor.value.as_deref()));
            let id = self.place(domain, parent, &path, source, &descriptor);
            if let Some(limits) = descriptor.limits {
                let rule = Arc::new(Rule {
                    id: self.rules.len(),
                    domain,
                    path: path.clone(),
                    limits,
                    candidates: descriptor.candidates,
                    shadow_mode: descriptor.shadow_mode,
                    quota_mode: descriptor.quota_mode,
                    detailed_metric: descriptor.detailed_metric,
                    metadata: descriptor.metadata,
                    on_store_failure: descriptor.on_store_failure,
                    file: Arc::clone(source),
                    line: descriptor.at.line,
                });
                self.domains[domain].set_rule(id, Arc::clone(&rule));
                self.rules.push(rule);
            }
            self.grow(domain, Some(id), &path, source, children);
        }
    }

    fn place(
        &mut self,
        domain: usize,
        parent: Option<usize>,
        path: &str,
        source: &Arc<str>,
        descriptor: &Descriptor,
    ) -> usize {
        let domain = &mut self.domains[domain];
        let id = domain.push(
            parent,
            Node {
                key: descriptor.key.clone().unwrap_or_default(),
                value: descriptor.value.clone(),
                value_to_metric: descriptor.value_to_metric,
                share_threshold: descriptor.share_threshold,
                file: Arc::clone(source),
                line: descriptor.at.line,
                rule: None,
                children: None,
                path: Box::default(),
            },
        );
        // Without its key a descriptor cannot be compared with its siblings.
        if descriptor.key.is_none() {
            return id;
        }
        if let Err(first) = domain.link(parent, id) {
            let first = domain.node(first);
            let what = format!("duplicate descriptor composite key '{}'", shown(path));
            let instead = match self.report.has_lines(source) {
                true => "remove one, or put both limits in one rate_limit list",
                false => {
                    "the management server sent both: change what it makes them of. Under Envoy Gateway, these are \
                          rules of BackendTrafficPolicies that select the same requests of a route; remove one of \
                          them, or give one another selector. Until then, the rules in force stay"
                }
            };
            let advice = format!(
                "it is defined first at {}; {instead}",
                self.report.line(&first.file, first.line)
            );
            self.report.add(source, descriptor.at, what, advice);
        }
        id
    }
}
