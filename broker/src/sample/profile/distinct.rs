//! How many different values there are, in bounded memory.
//!
//! HyperLogLog (Flajolet, Fusy, Gandouet, Meunier 2007) with 2^11 registers: a standard error of
//! 1.04 / sqrt(2^11) = 2.3 %. The estimate is the one of Ertl, "New cardinality estimation algorithms
//! for HyperLogLog sketches" (2017), algorithm 6, which needs no correction for small or large counts.
//! Up to 64 different values are counted exactly, as a list of their hashes.

const BITS: u32 = 11;
const REGISTERS: usize = 1 << BITS;
/// Bits of a hash that are left for the rank.
const RANK_BITS: usize = 64 - BITS as usize;
const EXACT: usize = 64;

/// Counts different hashes.
#[derive(Clone, Debug)]
pub(super) enum Distinct {
    /// Rising.
    Exact(Vec<u64>),
    /// The highest rank seen by each register.
    Estimated(Box<[u8; REGISTERS]>),
}

impl Default for Distinct {
    fn default() -> Self {
        Self::Exact(Vec::new())
    }
}

impl Distinct {
    /// One more value, by a hash whose bits are all alike random.
    pub(super) fn add(&mut self, hash: u64) {
        match self {
            Self::Exact(hashes) => {
                let Err(at) = hashes.binary_search(&hash) else { return };
                if hashes.len() < EXACT {
                    hashes.insert(at, hash);
                    return;
                }
                let mut registers = Box::new([0; REGISTERS]);
                hashes.iter().for_each(|known| raise(&mut registers, *known));
                raise(&mut registers, hash);
                *self = Self::Estimated(registers);
            }
            Self::Estimated(registers) => raise(registers, hash),
        }
    }

    pub(super) fn count(&self) -> u64 {
        match self {
            Self::Exact(hashes) => hashes.len() as u64,
            Self::Estimated(registers) => estimate(registers).round() as u64,
        }
    }
}

fn raise(registers: &mut [u8; REGISTERS], hash: u64) {
    let register = &mut registers[(hash >> RANK_BITS) as usize];
    // A mark behind the bits of the rank bounds it.
    let rank = ((hash << BITS) | (1 << (BITS - 1))).leading_zeros() as u8 + 1;
    *register = rank.max(*register);
}

fn estimate(registers: &[u8; REGISTERS]) -> f64 {
    let m = REGISTERS as f64;
    let mut counts = [0_u32; RANK_BITS + 2];
    registers.iter().for_each(|rank| counts[usize::from(*rank)] += 1);
    let mut z = m * tau(1.0 - f64::from(counts[RANK_BITS + 1]) / m);
    for count in counts[1..=RANK_BITS].iter().rev() {
        z = 0.5 * (z + f64::from(*count));
    }
    z += m * sigma(f64::from(counts[0]) / m);
    m * m / (2.0 * std::f64::consts::LN_2 * z)
}

fn sigma(x: f64) -> f64 {
    if x >= 1.0 {
        return f64::INFINITY;
    }
    let (mut x, mut y, mut z) = (x, 1.0, x);
    loop {
        let before = z;
        x *= x;
        z += x * y;
        y += y;
        if z == before {
            return z;
        }
    }
}

fn tau(x: f64) -> f64 {
    if x <= 0.0 || x >= 1.0 {
        return 0.0;
    }
    let (mut x, mut y, mut z) = (x, 1.0, 1.0 - x);
    loop {
        let before = z;
        x = x.sqrt();
        y *= 0.5;
        z -= (1.0 - x).powi(2) * y;
        if z == before {
            return z / 3.0;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::hash::{DefaultHasher, Hash as _, Hasher as _};

    use proptest::prelude::*;

    use super::*;

    fn hash(value: u64) -> u64 {
        let mut hasher = DefaultHasher::new();
        value.hash(&mut hasher);
        hasher.finish()
    }

    fn count(values: impl Iterator<Item = u64>) -> u64 {
        let mut distinct = Distinct::default();
        values.for_each(|value| distinct.add(hash(value)));
        distinct.count()
    }

    #[test]
    fn the_error_stays_within_what_the_theory_says() {
        for exact in [65_u64, 100, 500, 1_000, 3_000, 5_000, 10_000, 100_000, 1_000_000] {
            // Several independent sets of each size: the root of the mean square error is 2.3 %.
            let runs = if exact > 10_000 { 4 } else { 40 };
            let mut squares = 0.0;
            for run in 0..runs {
                let estimate = count((0..exact).map(|n| n + run * 1_000_000_007));
                let error = (estimate as f64 - exact as f64) / exact as f64;
                assert!(error.abs() < 0.1, "{exact}: {estimate}");
                squares += error * error;
            }
            let spread = (squares / runs as f64).sqrt();
            assert!(spread < 0.04, "{exact}: {spread}");
        }
    }

    proptest! {
        #[test]
        fn few_values_are_counted_exactly_many_nearly_and_order_and_repetition_do_not_matter(
            values in prop::collection::vec(0..2_000_u64, 0..4_000),
        ) {
            let exact = values.iter().collect::<HashSet<_>>().len() as u64;
            let counted = count(values.iter().copied());
            if exact <= EXACT as u64 {
                prop_assert_eq!(counted, exact);
            } else {
                prop_assert!(counted.abs_diff(exact) as f64 <= 0.12 * exact as f64, "{} {}", counted, exact);
            }
            let twice = values.iter().rev().chain(&values).copied();
            prop_assert_eq!(count(twice), counted);
        }
    }
}
