//! Running the cases of a series in turn, so that a busy minute falls on all of them and not on one.

use std::{
    io,
    time::{Duration, Instant},
};

use clap::Args;
use serde::Serialize;

use crate::{
    load::OtherLoad,
    report::{Format, Machine, Report, Spread, Table},
};

/// One case with the sample of every round.
#[derive(Debug)]
pub struct Measured<C, S> {
    /// What was measured.
    pub case: C,
    /// One sample for each round, in order.
    pub samples: Vec<S>,
}

impl<C, S> Measured<C, S> {
    /// Lowest, median and highest of one figure over the rounds.
    pub fn spread(&self, figure: impl Fn(&S) -> f64) -> Spread {
        Spread::of(self.samples.iter().map(figure))
    }
}

/// Rounds, and what to do about other work on the machine.
#[derive(Clone, Copy, Debug, Args)]
pub struct Rounds {
    /// Interleaved rounds.
    #[arg(long, default_value_t = 5)]
    pub rounds: usize,
    /// Cores that others may keep busy while a sample is taken; a sample with more is taken again.
    #[arg(long, default_value_t = 0.3)]
    pub quiet: f64,
    /// Seconds to spend on taking samples again, over the whole series.
    #[arg(long, default_value_t = 40.0)]
    pub patience: f64,
}

/// Arguments of a program whose cases run for a time each, in this process alone.
#[derive(Clone, Copy, Debug, Args)]
pub struct Timed {
    /// Time for one case in one round, in seconds.
    #[arg(long, default_value_t = 0.5)]
    pub seconds: f64,
    /// Rounds of the series.
    #[command(flatten)]
    pub rounds: Rounds,
    /// Output format.
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Format,
}

impl Timed {
    /// Time for one case in one round.
    #[must_use]
    pub fn time(&self) -> Duration {
        Duration::from_secs_f64(self.seconds)
    }

    /// The report of a series, as text in the format that was asked for.
    ///
    /// # Errors
    /// When the machine cannot be described, or a figure has no JSON form (not a number).
    pub fn report(&self, noise: Noise, table: Table) -> io::Result<String> {
        let machine = Machine::describe(None)?;
        let report = Report { machine, rounds: self.rounds.rounds, noise, tables: vec![table] };
        report.render(self.output)
    }
}

/// The cases with their samples, and how quiet the machine was.
#[derive(Debug)]
pub struct Series<C, S> {
    /// The cases, in the order they were given.
    pub measured: Vec<Measured<C, S>>,
    /// What others did meanwhile.
    pub noise: Noise,
}

/// How quiet the machine was during the samples that were kept.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Noise {
    /// Cores that others kept busy, on average.
    pub other_cores: f64,
    /// Share of the samples with more of it than asked for, kept because patience had run out.
    pub noisy_share: f64,
}

impl Rounds {
    /// Measures every case once per round; every second round runs backwards, so that no case always follows the same
    /// one. A sample is taken up to four times, until others were quiet enough; the quietest one stays.
    ///
    /// # Errors
    /// The first error of a measurement, which ends the series.
    pub fn run<C, S>(
        self,
        cases: Vec<C>,
        mut measure: impl FnMut(&C) -> io::Result<S>,
    ) -> io::Result<Series<C, S>> {
        let mut measured: Vec<_> = cases
            .into_iter()
            .map(|case| Measured { case, samples: Vec::with_capacity(self.rounds) })
            .collect();
        let mut patience = Duration::try_from_secs_f64(self.patience).unwrap_or_default();
        let (mut other_cores, mut noisy, mut kept) = (0.0, 0.0, 0.0_f64);
        for round in 0..self.rounds {
            let last = measured.len().saturating_sub(1);
            for step in 0..measured.len() {
                let at = if round % 2 == 0 { step } else { last - step };
                let (mut sample, mut cores) = observe(&measured[at].case, &mut measure)?;
                for _ in 0..3 {
                    if cores <= self.quiet || patience.is_zero() {
                        break;
                    }
                    let began = Instant::now();
                    let (again, quieter) = observe(&measured[at].case, &mut measure)?;
                    patience = patience.saturating_sub(began.elapsed());
                    if quieter < cores {
                        (sample, cores) = (again, quieter);
                    }
                }
                measured[at].samples.push(sample);
                other_cores += cores;
                noisy += f64::from(u8::from(cores > self.quiet));
                kept += 1.0;
            }
        }
        let kept = kept.max(1.0);
        let noise = Noise { other_cores: other_cores / kept, noisy_share: noisy / kept };
        Ok(Series { measured, noise })
    }
}

fn observe<C, S>(case: &C, measure: &mut impl FnMut(&C) -> io::Result<S>) -> io::Result<(S, f64)> {
    let load = OtherLoad::start()?;
    let sample = measure(case)?;
    Ok((sample, load.cores()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_case_is_measured_once_per_round_and_neighbours_change() {
        let mut order = Vec::new();
        let rounds = Rounds { rounds: 2, quiet: f64::INFINITY, patience: 0.0 };
        let series = rounds
            .run(vec!['a', 'b', 'c'], |case| {
                order.push(*case);
                Ok(order.len())
            })
            .expect("measuring cannot fail here");
        assert_eq!(order, ['a', 'b', 'c', 'c', 'b', 'a']);
        assert_eq!(series.measured[0].samples, [1, 6]);
        assert!(series.noise.noisy_share.abs() < f64::EPSILON);
    }
}
