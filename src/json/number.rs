//! Numbers that keep every digit.
//!
//! JSON's numbers are decimal and have no limit; most programs read them as binary floating point and
//! silently change them (2^53 + 1, 0.1, 400 digits). A [`Number`] keeps the text as it was written. It becomes
//! a machine's number only when a program asks for one, and only where that is exact, unless its name says otherwise.
//!
//! There is no arithmetic here: the one sum that this program computes, INCREMENT's, is of `i128`.

use std::fmt;
use std::iter::repeat_n;

use super::fast::Short;

/// A number, as it was written; up to 22 bytes take no memory of their own. It compares by value: `1.0`, `1` and
/// `10e-1` are equal, at any length.
///
/// ```
/// # use socket_tables::json::{Number, Value};
/// let value = Value::parse("9007199254740993.0")?;
/// let number = value.as_number().expect("it is one");
/// assert_eq!((number.as_i64(), number.as_exact_f64()), (Some((1 << 53) + 1), None));
/// assert_eq!((number.as_str(), number.to_f64()), ("9007199254740993.0", 9007199254740992.0));
/// assert_eq!(Number::from_f64(f64::NAN), None);
/// # Ok::<(), socket_tables::json::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Number(pub(super) Short<22>);

impl Number {
    /// A finite float, by the shortest digits that read back as the same; JSON has no NaN and no infinities.
    pub fn from_f64(float: f64) -> Option<Number> {
        float.is_finite().then(|| Number(format!("{float:?}").into()))
    }

    /// As written.
    pub fn as_str(&self) -> &str {
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
    pub fn as_exact_f64(&self) -> Option<f64> {
        let float = Some(self.to_f64()).filter(|float| float.is_finite())?;
        // A float is a fraction of a power of two, so it has a decimal end: 767 significant digits at most. One
        // digit and 766 behind the point write it exactly, and Decimal compares that with what stands here.
        (Decimal::new(self.as_str()) == Decimal::new(&format!("{float:.766e}"))).then_some(float)
    }

    /// The nearest float, as most languages would read it; infinite where it is too large for one.
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
                Number(integer.to_string().into())
            }
        }
    )*};
}
from_integers!(i8 u8 i16 u16 i32 u32 i64 u64 i128 u128 isize usize);

/// What [`Number::as_i128`] gives, for the text of a number. Nearly all that are asked for are written plainly
/// and fit an `i64`; those need no [`Decimal`].
pub(super) fn integer(number: &str) -> Option<i128> {
    number.parse::<i64>().map(i128::from).ok().or_else(|| Decimal::new(number).to_i128())
}

/// A number taken apart: ±0.DIGITS × 10^(exponent + shift). DIGITS neither begin nor end with a zero, so equal
/// values have equal digits. The exponent is never carried out: `1e999999999` has one digit here, not a
/// gigabyte of zeros that a client could make us write with eleven bytes.
struct Decimal<'n> {
    negative: bool,
    /// None for zero, whatever its exponent.
    digits: String,
    /// As it was written. It may have any number of digits.
    exponent: &'n str,
    shift: i128,
}

impl<'n> Decimal<'n> {
    fn new(text: &'n str) -> Decimal<'n> {
        let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
        let (negative, mantissa) = sign(mantissa);
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let all = [whole, fraction].concat();
        let digits = all.trim_start_matches('0');
        // The point stands behind `whole`; each zero taken away in front moves the first digit towards it.
        let shift = whole.len() as i128 - (all.len() - digits.len()) as i128;
        Decimal { negative, digits: digits.trim_end_matches('0').into(), exponent, shift }
    }

    fn to_i128(&self) -> Option<i128> {
        if self.digits.is_empty() {
            return Some(0);
        }
        // An integer ends before its point: its digits and zeros fill the places in front of that. An i128 has
        // at most 39 of them; an exponent beyond i128 is far beyond that.
        let places = self.exponent.parse::<i128>().ok()?.checked_add(self.shift)?;
        let zeros =
            usize::try_from(places).ok().filter(|places| *places <= 39)?.checked_sub(self.digits.len())?;
        let sign = if self.negative { "-" } else { "" };
        format!("{sign}{}{}", self.digits, "0".repeat(zeros)).parse().ok()
    }
}

impl PartialEq for Decimal<'_> {
    fn eq(&self, other: &Decimal<'_>) -> bool {
        if self.digits.is_empty() || other.digits.is_empty() {
            return self.digits == other.digits;
        }
        self.negative == other.negative
            && self.digits == other.digits
            && difference(self.exponent, other.exponent) == Some(other.shift - self.shift)
    }
}

/// The first exponent less the second, if that is below 10^30: a difference of shifts is no larger than the
/// texts are long. Exponents may have a million digits and no integer type holds them, so they are
/// subtracted digit by digit from the left, as on paper. Once the difference is as large as that, the
/// digits that are left can only make it larger.
fn difference(one: &str, other: &str) -> Option<i128> {
    const FAR: i128 = 10_i128.pow(30);
    let length = one.len().max(other.len());
    signed_digits(one, length)
        .zip(signed_digits(other, length))
        .try_fold(0, |sum, (one, other)| Some(sum * 10 + one - other).filter(|sum: &i128| sum.abs() < FAR))
}

/// An exponent's digits, each with its sign, and zeros in front of them up to this length.
fn signed_digits(exponent: &str, length: usize) -> impl Iterator<Item = i128> {
    let (negative, digits) = sign(exponent);
    let signed = move |digit| i128::from(digit - b'0') * if negative { -1 } else { 1 };
    repeat_n(0, length - digits.len()).chain(digits.bytes().map(signed))
}

/// Whether there is a minus in front, and what stands behind the sign.
fn sign(text: &str) -> (bool, &str) {
    (text.starts_with('-'), text.trim_start_matches(['-', '+']))
}
