//! Values of a scenario as people write them: `72h`, `15m`, `urgent`.

/// Durations such as `250ms`, `15m`, `2days 3h`, for `serde(with)`.
pub mod duration {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    /// As text that [`deserialize`] reads back unchanged.
    ///
    /// # Errors
    /// Those of the serializer.
    pub fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&humantime::format_duration(*duration))
    }

    /// From text.
    ///
    /// # Errors
    /// If the text is no duration.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        let text = String::deserialize(deserializer)?;
        humantime::parse_duration(&text)
            .map_err(|error| D::Error::custom(format!("`{text}` is no duration such as 90s, 15m or 72h: {error}")))
    }
}

/// Durations that may be absent, for `serde(with)` beside `serde(default)`.
pub mod optional_duration {
    use std::time::Duration;

    use serde::{Deserializer, Serializer};

    use super::duration;

    /// As text that [`deserialize`] reads back unchanged.
    ///
    /// # Errors
    /// Those of the serializer.
    pub fn serialize<S: Serializer>(duration: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
        match duration {
            Some(duration) => duration::serialize(duration, serializer),
            None => serializer.serialize_none(),
        }
    }

    /// From text.
    ///
    /// # Errors
    /// If the text is no duration.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
        duration::deserialize(deserializer).map(Some)
    }
}

/// Durations as seconds with a fraction, for reports.
pub mod seconds {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    /// As a number.
    ///
    /// # Errors
    /// Those of the serializer.
    pub fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(duration.as_secs_f64())
    }

    /// From a number.
    ///
    /// # Errors
    /// If it is negative or too large.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        Duration::try_from_secs_f64(f64::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

/// The name of a priority, as the command line of the node has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PriorityName {
    /// Overtakes everything.
    Urgent,
    /// The usual.
    Normal,
    /// Yields to everything.
    Bulk,
}

impl From<super::Priority> for PriorityName {
    fn from(priority: super::Priority) -> Self {
        match priority {
            super::Priority::Urgent => Self::Urgent,
            super::Priority::Normal => Self::Normal,
            super::Priority::Bulk => Self::Bulk,
        }
    }
}

impl From<PriorityName> for super::Priority {
    fn from(name: PriorityName) -> Self {
        match name {
            PriorityName::Urgent => Self::Urgent,
            PriorityName::Normal => Self::Normal,
            PriorityName::Bulk => Self::Bulk,
        }
    }
}

/// Priorities as `urgent`, `normal`, `bulk`, for `serde(with)`.
pub mod priority {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::{super::Priority, PriorityName};

    /// As its name.
    ///
    /// # Errors
    /// Those of the serializer.
    pub fn serialize<S: Serializer>(priority: &Priority, serializer: S) -> Result<S::Ok, S::Error> {
        PriorityName::from(*priority).serialize(serializer)
    }

    /// From its name.
    ///
    /// # Errors
    /// If there is no such priority.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Priority, D::Error> {
        PriorityName::deserialize(deserializer).map(Priority::from)
    }
}

/// Priorities that may be absent, for `serde(with)` beside `serde(default)`.
pub mod optional_priority {
    use serde::{Deserializer, Serializer};

    use super::{super::Priority, priority};

    /// As its name.
    ///
    /// # Errors
    /// Those of the serializer.
    pub fn serialize<S: Serializer>(name: &Option<Priority>, serializer: S) -> Result<S::Ok, S::Error> {
        match name {
            Some(name) => priority::serialize(name, serializer),
            None => serializer.serialize_none(),
        }
    }

    /// From its name.
    ///
    /// # Errors
    /// If there is no such priority.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Priority>, D::Error> {
        priority::deserialize(deserializer).map(Some)
    }
}
