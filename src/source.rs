//! Where rules come from.
//!
//! A source hands over the text of rule files, at the start and whenever it changes. It does not
//! know what the text means: a source never parses, and never decides whether a text is taken.

pub mod files;
