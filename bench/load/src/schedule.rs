//! The times at which requests are due in an open loop. The kernel's timer is exact where the
//! runtime's has steps of a millisecond, which would be part of every latency.

use std::{
    io,
    time::{Duration, Instant},
};

use nix::sys::{
    time::TimeSpec,
    timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags},
};

/// Evenly spaced times, none of which is left out.
pub(crate) struct Schedule {
    timer: TimerFd,
    next: Instant,
    every: Duration,
}

impl Schedule {
    /// One time every `every`, the first of them that long from now.
    pub(crate) fn start(every: Duration) -> io::Result<Self> {
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::empty())?;
        let next = Instant::now() + every;
        timer.set(Expiration::Interval(TimeSpec::from_duration(every)), TimerSetTimeFlags::empty())?;
        Ok(Self { timer, next, every })
    }

    /// Blocks until the next time. One that is past already is returned at once, so that a generator
    /// that was held up makes up for it, and what is counted from that time shows it.
    pub(crate) fn next(&mut self) -> io::Result<Instant> {
        while Instant::now() < self.next {
            self.timer.wait()?;
        }
        let due = self.next;
        self.next += self.every;
        Ok(due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generator_that_was_held_up_makes_up_for_every_time() {
        let every = Duration::from_millis(1);
        let mut schedule = Schedule::start(every).expect("a timer");
        schedule.next -= 20 * every;
        let first = schedule.next;
        for n in 0..20 {
            assert_eq!(schedule.next().expect("a time"), first + n * every);
        }
    }

    #[test]
    fn no_time_comes_before_it_is_due() {
        let mut schedule = Schedule::start(Duration::from_micros(700)).expect("a timer");
        for _ in 0..20 {
            let due = schedule.next().expect("a time");
            assert!(Instant::now() >= due);
        }
    }
}
