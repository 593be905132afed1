//! `[line]` of `config.toml`: how much of the line content may take, and when.
//!
//! **Invariant:** the first rule of the schedule that covers the moment decides; what it does not name keeps the value
//! that holds at all times.

use jiff::civil::{DateTime, Time, Weekday};
use serde::{Deserialize, Deserializer, de};

/// Below this, eight lanes in the middle of an object could look dead to their readers.
const RATE_MIN: u64 = 256_000 / 8;

/// What an operator set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LineConfig {
    /// Sending, to all counterparts together.
    pub send: Limit,
    /// Receiving, from all counterparts together.
    pub receive: Limit,
    /// Sending, to each counterpart.
    pub send_per_peer: Limit,
    /// Receiving, from each counterpart.
    pub receive_per_peer: Limit,
    /// What holds instead at certain hours.
    pub schedule: Vec<Rule>,
}

/// Limits for certain hours of certain days, local time.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    #[serde(default)]
    days: Days,
    #[serde(deserialize_with = "hour")]
    from: Time,
    #[serde(deserialize_with = "hour")]
    to: Time,
    send: Option<Limit>,
    receive: Option<Limit>,
    send_per_peer: Option<Limit>,
    receive_per_peer: Option<Limit>,
}

/// A rate in bytes per second, or none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limit(pub Option<u64>);

/// The days on which a rule begins, Monday first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Days([bool; 7]);

/// The limits of one moment, in bytes per second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Sending, to all counterparts together.
    pub send: Option<u64>,
    /// Receiving, from all counterparts together.
    pub receive: Option<u64>,
    /// Sending, to each counterpart.
    pub send_per_peer: Option<u64>,
    /// Receiving, from each counterpart.
    pub receive_per_peer: Option<u64>,
}

impl LineConfig {
    /// What holds at a local time.
    pub fn at(&self, local: DateTime) -> Limits {
        let rule = self.schedule.iter().find(|rule| rule.covers(local));
        let limit = |usual: Limit, at: fn(&Rule) -> Option<Limit>| rule.and_then(at).unwrap_or(usual).0;
        Limits {
            send: limit(self.send, |rule| rule.send),
            receive: limit(self.receive, |rule| rule.receive),
            send_per_peer: limit(self.send_per_peer, |rule| rule.send_per_peer),
            receive_per_peer: limit(self.receive_per_peer, |rule| rule.receive_per_peer),
        }
    }
}

impl Rule {
    /// A rule that ends before it begins lasts over midnight and belongs to the day on which it begins.
    fn covers(&self, local: DateTime) -> bool {
        let (today, time) = (local.date().weekday(), local.time());
        if self.from < self.to {
            return self.days.has(today) && self.from <= time && time < self.to;
        }
        self.days.has(today) && self.from <= time || self.days.has(today.previous()) && time < self.to
    }
}

impl Default for Days {
    fn default() -> Days {
        Days([true; 7])
    }
}

impl Days {
    fn has(self, day: Weekday) -> bool {
        self.0[day.to_monday_zero_offset() as usize]
    }

    /// Reads `mon-fri`, `sat,sun`, `mon,wed-fri`, `daily`.
    fn parse(text: &str) -> Option<Days> {
        if text == "daily" {
            return Some(Days::default());
        }
        let day = |name: &str| ["mon", "tue", "wed", "thu", "fri", "sat", "sun"].iter().position(|day| *day == name);
        let mut days = [false; 7];
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (mut at, last) = (day(first.trim())?, day(last.trim())?);
            days[at] = true;
            while at != last {
                at = (at + 1) % 7;
                days[at] = true;
            }
        }
        Some(Days(days))
    }
}

impl Limit {
    /// Reads `20Mbit/s`, `2.5MB/s`, `none`.
    fn parse(text: &str) -> Option<Limit> {
        if text == "none" {
            return Some(Limit(None));
        }
        let text = text.strip_suffix("/s")?;
        let units = [("Gbit", 125e6), ("Mbit", 125e3), ("kbit", 125.0), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)];
        let (number, factor) = units.iter().find_map(|(unit, factor)| Some((text.strip_suffix(unit)?, factor)))?;
        let rate = number.trim().parse::<f64>().ok()? * factor;
        (rate.is_finite() && rate >= RATE_MIN as f64).then_some(Limit(Some(rate as u64)))
    }
}

impl<'de> Deserialize<'de> for Limit {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Limit, D::Error> {
        let text = String::deserialize(from)?;
        Limit::parse(&text).ok_or_else(|| {
            de::Error::custom("a limit is a rate such as \"20Mbit/s\" or \"2.5MB/s\", at least 256kbit/s, or \"none\"")
        })
    }
}

impl<'de> Deserialize<'de> for Days {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Days, D::Error> {
        let text = String::deserialize(from)?;
        Days::parse(&text).ok_or_else(|| de::Error::custom("days are such as \"mon-fri\", \"sat,sun\" or \"daily\""))
    }
}

fn hour<'de, D: Deserializer<'de>>(from: D) -> Result<Time, D::Error> {
    let text = String::deserialize(from)?;
    let read = text.split_once(':').and_then(|(hour, minute)| {
        let read = |part: &str| part.parse::<i8>().ok().filter(|_| part.len() == 2);
        Time::new(read(hour)?, read(minute)?, 0, 0).ok()
    });
    read.ok_or_else(|| de::Error::custom("an hour is such as \"07:00\", from \"00:00\" to \"23:59\""))
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::civil::date;

    const EXAMPLE: &str = r#"
        send = "80Mbit/s"
        receive_per_peer = "5MB/s"
        schedule = [
            { days = "mon-fri", from = "07:00", to = "18:00", send = "20Mbit/s" },
            { days = "sat", from = "22:00", to = "06:00", send = "none", receive = "1Gbit/s" },
        ]
    "#;

    #[test]
    fn the_first_rule_that_covers_the_moment_decides() {
        let line: LineConfig = toml::from_str(EXAMPLE).unwrap();
        // 2026-06-01 is a Monday.
        let check = |day: i8, hour: i8, send: Option<u64>, receive: Option<u64>| {
            let limits = line.at(date(2026, 6, day).at(hour, 0, 0, 0));
            assert_eq!((limits.send, limits.receive), (send, receive), "{day} {hour}");
            assert_eq!((limits.receive_per_peer, limits.send_per_peer), (Some(5_000_000), None));
        };
        check(1, 6, Some(10_000_000), None);
        check(1, 7, Some(2_500_000), None);
        check(5, 17, Some(2_500_000), None);
        check(5, 18, Some(10_000_000), None);
        check(6, 12, Some(10_000_000), None);
        check(6, 23, None, Some(125_000_000));
        check(7, 5, None, Some(125_000_000));
        check(7, 6, Some(10_000_000), None);
        check(6, 5, Some(10_000_000), None);
    }

    #[test]
    fn what_is_wrong_is_said() {
        let check = |text: &str, says: &str| {
            let error = toml::from_str::<LineConfig>(text).unwrap_err();
            assert!(error.message().contains(says), "{text}: {}", error.message());
        };
        check("send = \"20Mbit\"", "such as \"20Mbit/s\"");
        check("send = \"-5MB/s\"", "such as \"20Mbit/s\"");
        check("receive = \"1kbit/s\"", "at least 256kbit/s");
        check("sned = \"20Mbit/s\"", "sned");
        check("schedule = [{ days = \"mo-fr\", from = \"07:00\", to = \"18:00\" }]", "mon-fri");
        check("schedule = [{ from = \"7:00\", to = \"18:00\" }]", "07:00");
        check("schedule = [{ from = \"07:00\", to = \"24:00\" }]", "23:59");
        check("schedule = [{ from = \"07:00\" }]", "to");
    }

    #[test]
    fn days_wrap_around_the_week() {
        assert_eq!(Days::parse("sat-mon").unwrap().0, [true, false, false, false, false, true, true]);
        assert_eq!(Days::parse("mon, wed").unwrap().0, [true, false, true, false, false, false, false]);
        assert_eq!(Days::parse(""), None);
    }
}
