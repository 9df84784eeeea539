//! What holds for every rate and every sequence of arrivals.

use std::collections::BTreeSet;
use std::time::Duration;

use proptest::prelude::*;
use starling_rate::{Allowance, Rate};

fn rates() -> impl Strategy<Value = Rate> {
    (1_u32..5_000, 1_u64..100_000).prop_map(|(count, period_ms)| {
        Rate::new(count, Duration::from_millis(period_ms)).expect("neither is 0")
    })
}

/// Times between arrivals, in hundredths of the rate's interval.
fn gaps() -> impl Strategy<Value = Vec<u64>> {
    prop::collection::vec(prop_oneof![Just(0), 0_u64..300, 0_u64..20_000], 1..400)
}

/// The moments of arrival.
fn arrivals(gaps: &[u64], rate: Rate) -> Vec<u64> {
    let mut now_us = 1;
    let step = |gap: &u64| {
        now_us += gap * rate.interval_us() / 100;
        now_us
    };
    gaps.iter().map(step).collect()
}

fn burst(rate: Rate) -> u64 {
    rate.tolerance_us() / rate.interval_us() + 1
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// In no window of time pass more cells than a burst and what the rate gives in that time.
    #[test]
    fn never_more_than_the_rate(rate in rates(), burst_of in 1_u32..100, gaps in gaps()) {
        let rate = rate.with_burst(burst_of);
        let mut allowance = Allowance::default();
        let taken: Vec<u64> =
            arrivals(&gaps, rate).into_iter().filter(|now_us| allowance.take(*now_us, rate).is_ok()).collect();
        for (first, begin_us) in taken.iter().enumerate() {
            for (last, end_us) in taken.iter().enumerate().skip(first) {
                let cells = (last - first + 1) as u64;
                prop_assert!(cells <= burst(rate) + (end_us - begin_us) / rate.interval_us());
            }
        }
    }

    /// Who keeps to the interval is never refused.
    #[test]
    fn an_even_flow_passes(rate in rates(), late_us in prop::collection::vec(0_u64..1_000, 1..400)) {
        let mut allowance = Allowance::default();
        let mut now_us = 0;
        for late_us in late_us {
            prop_assert_eq!(allowance.take(now_us, rate), Ok(()));
            now_us += rate.interval_us() + late_us;
        }
    }

    /// Who is refused and comes back when told to finds a cell; a moment earlier there is none.
    #[test]
    fn the_first_refused_is_told_the_earliest_time(rate in rates(), now_us in 0_u64..1 << 50) {
        let mut allowance = Allowance::default();
        for _ in 0..burst(rate) {
            prop_assert_eq!(allowance.take(now_us, rate), Ok(()));
        }
        let away_us = allowance.take(now_us, rate).expect_err("the burst is over");
        prop_assert!(allowance.clone().take(now_us + away_us - 1, rate).is_err());
        prop_assert_eq!(allowance.take(now_us + away_us, rate), Ok(()));
    }

    /// Those who are refused at one moment have different places, as long as the line is not full.
    #[test]
    fn places_differ(rate in rates(), refused in 1_usize..200) {
        let mut allowance = Allowance::default();
        let places: Vec<u64> =
            std::iter::from_fn(|| Some(allowance.take(0, rate))).filter_map(Result::err).take(refused).collect();
        let line_us = burst(rate) * rate.interval_us();
        prop_assert!(places.iter().all(|away_us| *away_us <= line_us));
        let within: Vec<&u64> = places.iter().filter(|away_us| **away_us < line_us).collect();
        prop_assert_eq!(within.iter().collect::<BTreeSet<_>>().len(), within.len());
    }

    /// After the time that a charge says, another cell is free within one interval.
    #[test]
    fn a_debt_is_paid_in_the_time_that_is_said(rate in rates(), cells in prop::collection::vec(0_u64..1_000_000, 1..50)) {
        let mut allowance = Allowance::default();
        let away_us = cells.into_iter().map(|cells| allowance.charge(0, cells, rate)).last().unwrap_or_default();
        prop_assert_eq!(allowance.charge(away_us, 0, rate), 0);
        prop_assert_eq!(allowance.take(away_us + rate.interval_us(), rate), Ok(()));
    }

    /// After a clock was set back, nobody waits for longer than a burst takes to come back.
    #[test]
    fn a_clock_may_be_set_back(rate in rates(), gaps in gaps(), back_percent in 0_u64..=100) {
        let mut allowance = Allowance::default();
        let mut now_us = 0;
        for moment_us in arrivals(&gaps, rate) {
            now_us = moment_us;
            let _ = allowance.take(now_us, rate);
        }
        let now_us = now_us * (100 - back_percent) / 100;
        allowance.cap(now_us, rate);
        prop_assert!(allowance.is_whole(now_us + burst(rate) * rate.interval_us()));
    }
}
