//! A finding about a deployment.

/// Kind of a finding, in order of severity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// ratekeeper would not start, or not do what is intended.
    ChangeFirst,
    /// It works, but behaves differently.
    Differs,
    /// It has no effect, and needs no replacement.
    NoEffect,
    /// Neither server reads it.
    Unknown,
    /// It has the same meaning.
    Same,
}

impl Kind {
    pub(super) const ALL: [Self; 5] = [
        Self::ChangeFirst,
        Self::Differs,
        Self::NoEffect,
        Self::Unknown,
        Self::Same,
    ];

    /// Name in JSON.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::ChangeFirst => "change_first",
            Self::Differs => "differs",
            Self::NoEffect => "no_effect",
            Self::Unknown => "unknown",
            Self::Same => "same",
        }
    }

    /// Title in the text report.
    pub(super) fn title(self) -> &'static str {
        match self {
            Self::ChangeFirst => "Change first",
            Self::Differs => "Will differ",
            Self::NoEffect => "Has no effect, and needs no replacement",
            Self::Unknown => "Read by neither server",
            Self::Same => "Will stay the same",
        }
    }
}

/// A finding about a deployment.
#[derive(Debug, Clone)]
pub(super) struct Finding {
    pub(super) kind: Kind,
    /// The variable, file or behavior.
    pub(super) about: String,
    /// Explanation; empty if the kind is enough.
    pub(super) what: String,
    /// A variable and its value that give the behavior of envoyproxy/ratelimit.
    pub(super) parity: Option<(&'static str, String)>,
}

impl Finding {
    pub(super) fn new(kind: Kind, about: impl Into<String>, what: impl Into<String>) -> Self {
        Self {
            kind,
            about: about.into(),
            what: what.into(),
            parity: None,
        }
    }

    /// Adds the variable to set for parity.
    pub(super) fn with_parity(self, name: &'static str, value: impl Into<String>) -> Self {
        Self {
            parity: Some((name, value.into())),
            ..self
        }
    }
}
