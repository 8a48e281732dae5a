//! Everyone who is here, counted.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use crate::control::Control;
use crate::request::exchange::Phase;
use crate::time;

/// Those of one route, or all.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Crowd {
    pub running: usize,
    pub waiting: usize,
    pub oldest_wait: Option<Instant>,
    pub oldest_running: Option<Instant>,
}

impl Crowd {
    fn add(&mut self, waits: bool, since: Instant) {
        let (count, oldest) = if waits {
            (&mut self.waiting, &mut self.oldest_wait)
        } else {
            (&mut self.running, &mut self.oldest_running)
        };
        *count += 1;
        *oldest = Some(oldest.map_or(since, |other| other.min(since)));
    }
}

/// Counts over everyone who is here.
#[derive(Debug, Default)]
pub(super) struct Census {
    pub all: Crowd,
    pub routes: HashMap<Arc<str>, Crowd>,
}

impl Census {
    pub fn take(control: &Control) -> Self {
        let mut census = Self::default();
        control.admission.roll.for_each(|exchange| {
            let phase = exchange.phase();
            // One that shares an answer is no work of its own.
            if matches!(phase, Phase::Arriving | Phase::Joined) {
                return;
            }
            let (waits, since) = (phase.waiting_for().is_some(), exchange.phase_since());
            census.all.add(waits, since);
            match census.routes.get_mut(&exchange.route) {
                Some(route) => route.add(waits, since),
                None => census.routes.entry(exchange.route.clone()).or_default().add(waits, since),
            }
        });
        census
    }

    pub fn of(&self, route: &str) -> Crowd {
        self.routes.get(route).copied().unwrap_or_default()
    }
}

pub(super) fn seconds_since(since: Option<Instant>) -> f64 {
    since.map_or(0.0, |since| time::now().saturating_duration_since(since).as_secs_f64())
}
