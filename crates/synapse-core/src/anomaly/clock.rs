//! Which hour of which kind of day it is for the people who use the gateway.

use jiff::Timestamp;

use crate::config::snapshot::Calendar;

/// What a moment is, locally.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Local {
    /// The hour of the day, and whether it is a working day: what is usual is known for each of them.
    pub(super) slot: Slot,
    /// Whether people work at that moment.
    pub(super) is_working: bool,
}

/// An hour of a kind of day: 0 to 23 of working days, 24 to 47 of others.
pub(super) type Slot = u8;

/// Hours since 1970.
pub(super) fn hour_of(at: Timestamp) -> i64 {
    at.as_second().div_euclid(3600)
}

/// Whether a slot is of a working day.
pub(super) fn is_working_day(slot: Slot) -> bool {
    slot < 24
}

/// Reads moments by a calendar. The same minute is asked for again and again.
#[derive(Debug)]
pub(super) struct Clock {
    calendar: Calendar,
    last: Option<(i64, Local)>,
}

impl Clock {
    pub(super) fn new(calendar: Calendar) -> Self {
        Self { calendar, last: None }
    }

    pub(super) fn local(&mut self, at: Timestamp) -> Local {
        let minute = at.as_second().div_euclid(60);
        if let Some((known, local)) = self.last
            && known == minute
        {
            return local;
        }
        let local = self.read(at);
        self.last = Some((minute, local));
        local
    }

    /// The slot of an hour since 1970.
    pub(super) fn slot(&self, hour: i64) -> Slot {
        Timestamp::from_second(hour.saturating_mul(3600)).map_or(0, |at| self.read(at).slot)
    }

    /// The local time of the beginning of an hour since 1970.
    pub(super) fn beginning(&self, hour: i64) -> String {
        let at = Timestamp::from_second(hour.saturating_mul(3600)).unwrap_or_default();
        let zone = &self.calendar.time_zone;
        let name = zone.iana_name().unwrap_or("UTC");
        format!("{} ({name})", at.to_zoned(zone.clone()).strftime("%H:%M"))
    }

    fn read(&self, at: Timestamp) -> Local {
        let local = at.to_zoned(self.calendar.time_zone.clone());
        let is_working_day = self.calendar.is_working_day(local.date());
        let hour = u8::try_from(local.hour()).unwrap_or(0);
        let minute = u16::from(hour) * 60 + u16::try_from(local.minute()).unwrap_or(0);
        let (from, to) = self.calendar.minutes;
        Local {
            slot: hour + if is_working_day { 0 } else { 24 },
            is_working: is_working_day && (from..to).contains(&minute),
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::{
        civil::{Weekday, date},
        tz::TimeZone,
    };

    use super::*;

    fn berlin() -> Clock {
        Clock::new(Calendar {
            time_zone: TimeZone::get("Europe/Berlin").expect("a zone"),
            minutes: (450, 1080),
            days: vec![Weekday::Monday, Weekday::Friday],
            holidays: vec![date(2026, 12, 25)],
        })
    }

    #[test]
    fn hours_are_those_of_the_people_who_work() {
        for (at, slot, is_working) in [
            ("2026-11-20T06:29:59Z", 7, false),
            ("2026-11-20T06:30:00Z", 7, true),
            ("2026-11-20T16:59:59Z", 17, true),
            ("2026-11-20T17:00:00Z", 18, false),
            // In summer, an hour earlier.
            ("2026-07-03T05:30:00Z", 7, true),
            // A Saturday, though still a Friday in Greenwich.
            ("2026-11-20T23:30:00Z", 24, false),
            // A Friday, and a holiday.
            ("2026-12-25T10:00:00Z", 24 + 11, false),
        ] {
            let local = berlin().local(at.parse().expect("a time"));
            assert_eq!(local, Local { slot, is_working }, "{at}");
        }
    }
}
