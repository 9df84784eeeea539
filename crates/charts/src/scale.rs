//! How an axis divides its range, and how its numbers are written.

/// How an axis divides its range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// Evenly, from 0.
    Linear,
    /// By powers of ten.
    Logarithmic,
}

impl Scale {
    /// Returns the ends of an axis that shows values from `least` to `most`.
    pub(crate) fn range(self, least: f64, most: f64) -> (f64, f64) {
        match self {
            Scale::Linear => (0.0, nice(if most > 0.0 { most } else { 1.0 })),
            Scale::Logarithmic => {
                let bottom = 10_f64.powf(least.max(0.001).log10().floor());
                let top = 10_f64.powf(most.max(0.01).log10().ceil());
                (bottom, if top > bottom { top } else { bottom * 10.0 })
            }
        }
    }

    /// Returns the place of a value between the ends of an axis: 0 at the bottom, 1 at the top.
    pub(crate) fn place(self, value: f64, (bottom, top): (f64, f64)) -> f64 {
        match self {
            Scale::Linear => (value - bottom) / (top - bottom),
            Scale::Logarithmic => (value.max(bottom) / bottom).log10() / (top / bottom).log10(),
        }
    }

    /// Returns the values that are written at an axis.
    pub(crate) fn ticks(self, (bottom, top): (f64, f64)) -> Vec<f64> {
        match self {
            Scale::Linear => (0..=4).map(|step| top * f64::from(step) / 4.0).collect(),
            Scale::Logarithmic => {
                let powers = (top / bottom).log10().round() as i32;
                (0..=powers).map(|power| bottom * 10_f64.powi(power)).collect()
            }
        }
    }
}

/// Returns the next number of the form 1, 2, 2.5 or 5 times a power of ten, where an axis that shows this value ends.
pub fn nice(value: f64) -> f64 {
    let power = 10_f64.powf(value.log10().floor());
    let factors = [1.0, 2.0, 2.5, 5.0, 10.0];
    factors
        .into_iter()
        .map(|factor| factor * power)
        .find(|candidate| *candidate >= value * 0.999)
        .unwrap_or(value)
}

/// Writes a time.
pub(crate) fn time(seconds: f64) -> String {
    match seconds as u64 {
        short @ ..600 => format!("{short} s"),
        long @ 600..36_000 => format!("{} min", long / 60),
        hours => format!("{} h", hours / 3600),
    }
}

/// Writes a number in short.
pub(crate) fn number(value: f64) -> String {
    match value {
        value if value >= 1e6 => format!("{} M", trimmed(value / 1e6)),
        value if value >= 1e4 => format!("{} k", trimmed(value / 1e3)),
        value => trimmed(value),
    }
}

fn trimmed(value: f64) -> String {
    let text = format!("{value:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_end_at_round_numbers() {
        assert_eq!([0.7, 13.0, 240.0, 1000.0].map(nice), [1.0, 20.0, 250.0, 1000.0]);
        assert_eq!([0.5, 2500.0, 25_000.0, 3e6].map(number), ["0.5", "2500", "25 k", "3 M"]);
    }

    #[test]
    fn an_axis_has_its_ends_at_0_and_1() {
        for (scale, least, most) in [(Scale::Linear, 3.0, 80.0), (Scale::Logarithmic, 0.3, 80.0)] {
            let range = scale.range(least, most);
            assert_eq!((scale.place(range.0, range), scale.place(range.1, range)), (0.0, 1.0));
            assert!(scale.ticks(range).len() > 2);
        }
    }
}
