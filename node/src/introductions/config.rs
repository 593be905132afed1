//! `[introductions]` of `config.toml`.

use serde::Deserialize;

/// What this node does with introductions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct IntroductionsConfig {
    /// Whether counterparts are introduced to each other here; without it a steward does, others do not.
    pub pass_on: Option<bool>,
    /// What is done with proposals and requests that come through an introducer.
    pub receive: Receive,
    /// Who gets this entity's card without the operator being asked.
    pub card: GiveCard,
}

/// What is done with proposals and requests of strangers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Receive {
    /// They wait for the operator's decision.
    #[default]
    Ask,
    /// They are dropped unseen.
    Never,
}

/// Who gets this entity's card without the operator being asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GiveCard {
    /// Whoever asks through a steward at which this entity is listed: its card stands there already.
    #[default]
    Listed,
    /// Whoever asks.
    Always,
    /// Nobody.
    Ask,
}
