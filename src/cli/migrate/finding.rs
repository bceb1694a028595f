//! One thing that is worth saying about a deployment.

/// How much it matters, most first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// ratekeeper would not start, or not do what is meant.
    ChangeFirst,
    /// It works, and does something otherwise.
    Differs,
    /// It means nothing here, and nothing is missing.
    NoEffect,
    /// Neither knows it.
    Unknown,
    /// It means the same.
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

    /// What programs read.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::ChangeFirst => "change_first",
            Self::Differs => "differs",
            Self::NoEffect => "no_effect",
            Self::Unknown => "unknown",
            Self::Same => "same",
        }
    }

    /// What people read above the findings of this kind.
    pub(super) fn title(self) -> &'static str {
        match self {
            Self::ChangeFirst => "Change first",
            Self::Differs => "Will differ",
            Self::NoEffect => "Has no effect, and needs none",
            Self::Unknown => "Neither reads it",
            Self::Same => "Will be the same",
        }
    }
}

/// One thing that is worth saying.
#[derive(Debug, Clone)]
pub(super) struct Finding {
    pub(super) kind: Kind,
    /// The variable, the file or the behaviour.
    pub(super) about: String,
    /// What is so; empty when the kind says all.
    pub(super) what: String,
    /// A variable and its value, for what envoyproxy/ratelimit does.
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

    /// The same, with what to set for parity.
    pub(super) fn with_parity(self, name: &'static str, value: impl Into<String>) -> Self {
        Self {
            parity: Some((name, value.into())),
            ..self
        }
    }
}
