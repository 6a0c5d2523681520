//! Numbers as values have them, compared without loss.

use std::cmp::Ordering;

/// A finite number, an integer exactly.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Number {
    Integer(i128),
    /// Has a fraction, or is beyond 2^53.
    Float(f64),
}

impl Number {
    /// A float; one that is a small integer is that integer. `None`: it is not finite.
    pub(crate) fn of_float(float: f64) -> Option<Self> {
        const EXACT: f64 = 9_007_199_254_740_992.0;
        match float.is_finite() {
            false => None,
            true if float.fract() == 0.0 && float.abs() < EXACT => {
                Some(Self::Integer(float as i128))
            }
            true => Some(Self::Float(float)),
        }
    }

    /// By size.
    pub(crate) fn order(self, other: Self) -> Ordering {
        match (self, other) {
            (Self::Integer(a), Self::Integer(b)) => a.cmp(&b),
            (Self::Float(a), Self::Float(b)) => a.total_cmp(&b),
            (Self::Integer(a), Self::Float(b)) => integer_to_float(a, b),
            (Self::Float(a), Self::Integer(b)) => integer_to_float(b, a).reverse(),
        }
    }

    /// As JSON writes it.
    pub(crate) fn text(self) -> String {
        match self {
            Self::Integer(integer) => integer.to_string(),
            Self::Float(float) => {
                serde_json::Number::from_f64(float).map_or_else(String::new, |n| n.to_string())
            }
        }
    }
}

fn integer_to_float(integer: i128, float: f64) -> Ordering {
    // 2^127: beyond what an i128 holds.
    const BEYOND: f64 = 170_141_183_460_469_231_731_687_303_715_884_105_728.0;
    if float >= BEYOND {
        return Ordering::Less;
    }
    if float < -BEYOND {
        return Ordering::Greater;
    }
    let whole = integer.cmp(&(float.trunc() as i128));
    whole.then_with(|| 0.0_f64.total_cmp(&(float.fract() + 0.0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn float(value: f64) -> Number {
        Number::of_float(value).unwrap()
    }

    #[test]
    fn integers_of_64_bits_are_told_apart_where_floats_are_not() {
        let big = i128::from(u64::MAX);
        assert_eq!(Number::Integer(big).order(Number::Integer(big - 1)), Ordering::Greater);
        assert_eq!(Number::Integer(big).order(float(1.8446744073709552e19)), Ordering::Less);
        assert_eq!(float(-1e300).order(Number::Integer(i128::MIN)), Ordering::Less);
        assert_eq!(Number::Integer(3).order(float(3.5)), Ordering::Less);
        assert_eq!(Number::Integer(-3).order(float(-3.5)), Ordering::Greater);
        assert_eq!(Number::Integer(4).order(float(3.5)), Ordering::Greater);
        assert_eq!(Number::Integer(big).text(), "18446744073709551615");
    }

    #[test]
    fn a_float_that_is_an_integer_is_that_integer() {
        assert_eq!(float(3.0).text(), "3");
        assert_eq!(float(-0.0).text(), "0");
        assert_eq!(float(0.1).text(), "0.1");
        assert_eq!(float(1e300).text(), "1e+300");
        assert!(Number::of_float(f64::NAN).is_none());
        assert!(Number::of_float(f64::INFINITY).is_none());
    }
}
