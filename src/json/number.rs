//! Numbers that keep every digit.
//!
//! JSON's numbers are decimal and have no limit; most programs read them as binary floating point and
//! silently change them (2^53 + 1, 0.1, 400 digits). A [`Number`] keeps the text as written and
//! is turned into a machine's number only on demand, and only where that is exact.

use std::fmt;

use super::{Short, Str};

/// A number, as it was written. Compares by value: `1.0`, `1` and `10e-1` are equal, at any length.
#[derive(Clone, Debug)]
pub struct Number(Short<22>);

impl Number {
    /// To be set; not a number yet.
    pub(super) const UNSET: Number = Number(Short::EMPTY);

    /// Becomes what the grammar of numbers has accepted.
    #[inline(always)]
    pub(super) fn set(&mut self, piece: Str<'_>) {
        self.0.set(piece);
    }

    /// Text known to be a number.
    pub(super) fn known(text: &str) -> Number {
        Number(Short::from(text))
    }

    /// A finite float, by the shortest digits that read back as the same; NaN and infinities are no JSON.
    pub fn from_f64(float: f64) -> Option<Number> {
        float.is_finite().then(|| Number::known(&format!("{float:?}")))
    }

    /// As written.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    pub(super) fn digits(&self) -> &Short<22> {
        &self.0
    }

    /// The integer, if it is one by value and fits: `5.0` and `1e3` are integers.
    pub fn as_i128(&self) -> Option<i128> {
        integer(self.as_str())
    }

    /// As [`Number::as_i128`].
    pub fn as_i64(&self) -> Option<i64> {
        self.as_i128()?.try_into().ok()
    }

    /// As [`Number::as_i128`].
    pub fn as_u64(&self) -> Option<u64> {
        self.as_i128()?.try_into().ok()
    }

    /// The float, if it has exactly this value: `0.5` has one, `0.1` and `1e400` have none.
    pub fn as_f64(&self) -> Option<f64> {
        // No f64 has more than 767 significant digits, and this many are printed exactly.
        let float = Some(self.to_f64()).filter(|float| float.is_finite())?;
        (*self == Number::known(&format!("{float:.766e}"))).then_some(float)
    }

    /// The nearest float; infinite where it is too large for one.
    pub fn to_f64(&self) -> f64 {
        self.as_str().parse().expect("JSON's numbers are a subset of Rust's")
    }
}

impl PartialEq for Number {
    fn eq(&self, other: &Number) -> bool {
        self.0 == other.0 || Decimal::new(self.as_str()) == Decimal::new(other.as_str())
    }
}

impl Eq for Number {}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

macro_rules! from_integers {
    ($($integer:ty)*) => {$(
        impl From<$integer> for Number {
            fn from(integer: $integer) -> Number {
                Number::known(&integer.to_string())
            }
        }
    )*};
}
from_integers!(i32 u32 i64 u64 i128 u128 usize);

/// See [`Number::as_i128`]. Nearly all that are asked for are plain and fit an `i64`.
pub(super) fn integer(number: &str) -> Option<i128> {
    number.parse::<i64>().map(i128::from).ok().or_else(|| Decimal::new(number).to_i128())
}

/// A number taken apart where it stands: ±0.DIGITS × 10^(exponent + shift), where DIGITS neither begin nor
/// end with a zero. Equal values have equal parts. Nothing is ever written out: `1e999999999` is one digit.
struct Decimal<'n> {
    negative: bool,
    /// The digits before and after the point; between them they hold all significant ones.
    whole: &'n str,
    fraction: &'n str,
    exponent: Exponent<'n>,
    shift: i128,
}

#[derive(Clone, Copy)]
struct Exponent<'n> {
    negative: bool,
    /// Without leading zeros.
    digits: &'n str,
}

impl<'n> Decimal<'n> {
    fn new(text: &'n str) -> Decimal<'n> {
        let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, ""));
        let (negative, mantissa) = sign(mantissa);
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let (whole, tail) = (whole.trim_start_matches('0'), fraction.trim_end_matches('0'));
        let fraction = if whole.is_empty() { tail.trim_start_matches('0') } else { tail };
        let shift = whole.len() as i128 - (tail.len() - fraction.len()) as i128;
        let whole = if fraction.is_empty() { whole.trim_end_matches('0') } else { whole };
        let (downwards, exponent) = sign(exponent);
        let exponent = Exponent { negative: downwards, digits: exponent.trim_start_matches('0') };
        Decimal { negative, whole, fraction, exponent, shift }
    }

    fn digits(&self) -> impl Iterator<Item = u8> {
        self.whole.bytes().chain(self.fraction.bytes()).map(|digit| digit - b'0')
    }

    fn len(&self) -> usize {
        self.whole.len() + self.fraction.len()
    }

    fn to_i128(&self) -> Option<i128> {
        if self.len() == 0 {
            return Some(0);
        }
        // The point stands this many places behind the first digit; i128 has at most 39.
        let places = self.exponent.minus(Exponent { negative: false, digits: "" })? + self.shift;
        let zeros = usize::try_from(places).ok()?.checked_sub(self.len())?;
        if zeros > 39 {
            return None;
        }
        let sign = if self.negative { -1 } else { 1 };
        self.digits()
            .chain(std::iter::repeat_n(0, zeros))
            .try_fold(0_i128, |sum, digit| sum.checked_mul(10)?.checked_add(sign * i128::from(digit)))
    }
}

impl PartialEq for Decimal<'_> {
    fn eq(&self, other: &Decimal<'_>) -> bool {
        if self.len() == 0 || other.len() == 0 {
            return self.len() == other.len();
        }
        self.negative == other.negative
            && self.exponent.minus(other.exponent) == Some(other.shift - self.shift)
            && self.digits().eq(other.digits())
    }
}

impl Exponent<'_> {
    /// The difference, if it is less than some 10^30: exponents have no limit either, but shifts are
    /// no longer than the texts. Digit by digit from the top: once the difference is beyond what the
    /// digits below can undo, it only grows.
    fn minus(self, other: Exponent<'_>) -> Option<i128> {
        const FAR: i128 = 10_i128.pow(30);
        let len = self.digits.len().max(other.digits.len());
        let digit = |exponent: Exponent<'_>, place: usize| {
            let behind = (exponent.digits.len() + place).checked_sub(len);
            let digit = behind.map_or(0, |at| i128::from(exponent.digits.as_bytes()[at] - b'0'));
            if exponent.negative { -digit } else { digit }
        };
        (0..len).try_fold(0_i128, |sum, place| {
            let sum = sum * 10 + digit(self, place) - digit(other, place);
            (sum.abs() < FAR).then_some(sum)
        })
    }
}

fn sign(text: &str) -> (bool, &str) {
    match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    }
}
