//! A histogram of times: bounded memory, however many are counted, and no percentile off by more than 1%.
//!
//! A list of all times would be exact, but it grows for as long as a benchmark runs, and the generator would spend its
//! time on sorting. Buckets of one width would be too coarse for microseconds or too many for seconds. So the width of a
//! bucket is a share of what it counts, as in HdrHistogram: each power of two is cut into 128 buckets, which makes 7,424
//! of them for everything from a nanosecond to five centuries.
//!
//! An average is deliberately absent. It hides the slow requests, and those are what users wait for.

use std::time::Duration;

/// Each power of two is cut into `1 << CUT_BITS` buckets, so a bucket is at most 1/128 as wide as what it counts.
const CUT_BITS: u32 = 7;
/// A number of 64 bits has so many powers of two above those that are counted one by one.
const BUCKETS: usize = ((u64::BITS - CUT_BITS + 1) << CUT_BITS) as usize;

/// Times that were counted, to the nanosecond at first and then to 1%.
pub(super) struct Histogram {
    counts: Box<[u64]>,
    total: u64,
    max: u64,
}

impl Default for Histogram {
    fn default() -> Histogram {
        Histogram { counts: vec![0; BUCKETS].into(), total: 0, max: 0 }
    }
}

impl Histogram {
    /// Counts a time.
    pub fn add(&mut self, time: Duration) {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.counts[bucket(nanos)] += 1;
        self.total += 1;
        self.max = self.max.max(nanos);
    }

    /// Counts all that another one has counted.
    pub fn merge(&mut self, other: &Histogram) {
        self.counts.iter_mut().zip(&other.counts).for_each(|(count, other)| *count += other);
        self.total += other.total;
        self.max = self.max.max(other.max);
    }

    /// The time that so many of a thousand did not exceed; zero where nothing was counted. It is never below the true
    /// one, and above it by less than 1%.
    pub fn per_mille(&self, share: u64) -> Duration {
        let rank = (u128::from(self.total) * u128::from(share)).div_ceil(1000);
        let mut seen = 0;
        let found = self.counts.iter().position(|count| {
            seen += u128::from(*count);
            seen >= rank
        });
        // The last bucket may end above the longest time there was.
        Duration::from_nanos(found.map_or(self.max, last_of).min(self.max))
    }

    /// The longest time, exactly.
    pub fn max(&self) -> Duration {
        Duration::from_nanos(self.max)
    }
}

/// The bucket of a number: its first eight bits, and how many follow them. Numbers below 256 have one each.
fn bucket(number: u64) -> usize {
    let cut_off = (u64::BITS - CUT_BITS - 1).saturating_sub(number.leading_zeros());
    ((u64::from(cut_off) << CUT_BITS) + (number >> cut_off)) as usize
}

/// The largest number of a bucket.
fn last_of(bucket: usize) -> u64 {
    let cut_off = (bucket >> CUT_BITS).saturating_sub(1);
    let first_bits = (bucket - (cut_off << CUT_BITS)) as u64;
    first_bits << cut_off | ((1 << cut_off) - 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_power_of_two_has_its_buckets() {
        for power in 0..u64::BITS {
            for number in [(1 << power) - 1, 1 << power, (1 << power) + 1, u64::MAX >> power] {
                let last = last_of(bucket(number));
                assert!(last >= number && last - number <= number >> CUT_BITS, "{number}: {last}");
                assert_eq!(bucket(last), bucket(number));
                assert!(last == u64::MAX || bucket(last + 1) == bucket(last) + 1, "{number}");
            }
        }
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn of_nothing_all_are_zero() {
        assert_eq!((Histogram::default().per_mille(500), Histogram::default().max()), Default::default());
    }

    /// Numbers of every size, where proptest's own are nearly all of the largest.
    fn number() -> impl Strategy<Value = u64> {
        (any::<u64>(), 0..u64::BITS).prop_map(|(number, cut_off)| number >> cut_off)
    }

    proptest! {
        #[test]
        fn percentiles_are_those_of_the_sorted_list(
            mut numbers in prop::collection::vec(number(), 1..300), share in 1_u64..=1000, cut in 0_usize..300,
        ) {
            let (mut histogram, mut other) = (Histogram::default(), Histogram::default());
            for (at, number) in numbers.iter().enumerate() {
                let into = if at < cut { &mut histogram } else { &mut other };
                into.add(Duration::from_nanos(*number));
            }
            histogram.merge(&other);
            numbers.sort_unstable();
            let exact = numbers[(numbers.len() * share as usize).div_ceil(1000) - 1];
            let told = histogram.per_mille(share).as_nanos() as u64;
            prop_assert!(told >= exact && told - exact <= exact / 100, "{told}, not {exact}");
            prop_assert_eq!(histogram.max().as_nanos() as u64, *numbers.last().unwrap());
        }
    }
}
