//! `[directory]` of `config.toml`.

use serde::Deserialize;

/// Whether this node keeps a directory for its counterparts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DirectoryConfig {
    /// Whether this entity is a steward: counterparts may have themselves listed here, and may ask who is.
    pub steward: bool,
}
