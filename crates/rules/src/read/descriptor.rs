//! Descriptors: the nodes of the tree.

use super::{Descriptor, Fields, Reader};
use crate::mistake::At;
use crate::pattern::is_wildcard;
use crate::spelling::shown;
use crate::tree::composite;
use crate::vocabulary::{FAILURE_MODES, Place};
use crate::yaml::Node;
use ratekeeper_core::charge::OnStoreFailure;

/// Maximum depth of nested descriptors, which bounds the stack of reading and building. Real descriptors have fewer than ten
/// entries.
const MAX_LEVELS: usize = 64;

impl Reader<'_> {
    /// Reads the descriptors of a map that is `level` levels below the top of the file.
    pub(super) fn descriptors(&mut self, fields: &mut Fields<'_>, level: usize) -> Vec<Descriptor> {
        let list = fields.take("descriptors");
        if level > MAX_LEVELS && list.is_given() {
            let what = format!("descriptors are nested deeper than {MAX_LEVELS} levels");
            self.mistake(
                list.at,
                what,
                "a descriptor with so many entries cannot be matched",
            );
            return Vec::new();
        }
        let elements = self.maps(list, "descriptors").iter();
        elements
            .filter_map(|element| self.descriptor(element, level))
            .collect()
    }

    fn descriptor(&mut self, node: &Node, level: usize) -> Option<Descriptor> {
        if self.report.is_full() || !self.is_map(node) {
            return None;
        }
        let mut fields = self.fields(node, Place::Descriptor)?;
        let key = self.key(&mut fields);
        let value = self
            .text(&mut fields, "value")
            .value
            .filter(|value| !value.is_empty());
        let share_at = fields.value_at("share_threshold");
        let descriptor = Descriptor {
            at: node.at,
            key,
            value,
            candidates: self.candidates(&mut fields),
            limits: self.limits(&mut fields),
            shadow_mode: self.flag(&mut fields, "shadow_mode"),
            quota_mode: self.flag(&mut fields, "quota_mode"),
            detailed_metric: self.flag(&mut fields, "detailed_metric"),
            value_to_metric: self.flag(&mut fields, "value_to_metric"),
            share_threshold: self.flag(&mut fields, "share_threshold"),
            metadata: self.metadata(&mut fields),
            on_store_failure: self.on_store_failure(&mut fields),
            descriptors: self.descriptors(&mut fields, level + 1),
        };
        self.finish(fields);
        if descriptor.share_threshold {
            self.check_shared(&descriptor, share_at);
        }
        Some(descriptor)
    }

    fn key(&mut self, fields: &mut Fields<'_>) -> Option<String> {
        let key = self.text(fields, "key");
        if key.is_wrong {
            return None;
        }
        let text = key.value.filter(|text| !text.is_empty());
        if text.is_none() {
            self.mistake(
                key.at,
                "descriptor has empty key",
                "give it the key of the descriptor entry that Envoy sends, in quotes if it is null",
            );
        }
        text
    }

    fn on_store_failure(&mut self, fields: &mut Fields<'_>) -> Option<OnStoreFailure> {
        let modes = [
            OnStoreFailure::Local,
            OnStoreFailure::Allow,
            OnStoreFailure::Deny,
            OnStoreFailure::Error,
        ];
        self.word(fields, "on_store_failure", FAILURE_MODES, &modes)
            .value
    }

    fn check_shared(&mut self, descriptor: &Descriptor, at: At) {
        let Some(key) = &descriptor.key else {
            return;
        };
        let value = descriptor.value.as_deref();
        if is_wildcard(key) || value.is_some_and(is_wildcard) {
            return;
        }
        let what = format!(
            "share_threshold can only be used with wildcard values (containing '*'), but found key \
             '{}'",
            shown(&composite(key, value))
        );
        self.mistake(at, what, "remove it, or put a * into the value");
    }
}
