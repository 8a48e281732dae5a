//! Durations, sizes, rates and shares as a policy file writes them.

use std::num::NonZeroU32;
use std::time::Duration;

use super::{Fault, Parsed, Text, quoted};

/// No duration of a policy is longer: 30 days. It keeps sums of deadlines far from any overflow.
pub const MAX_DURATION: Duration = Duration::from_secs(30 * 24 * 3600);

/// No rate has a greater number.
pub const MAX_RATE: u32 = 1_000_000;

const NANOS: [(&str, u64); 4] =
    [("h", 3_600_000_000_000), ("m", 60_000_000_000), ("s", 1_000_000_000), ("ms", 1_000_000)];
const BYTES: [(&str, u64); 4] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];
const PERIODS: [(&str, u64); 3] = [("h", 3600), ("min", 60), ("s", 1)];

/// A rate, as the count and the time that it is for.
pub const RATE: Parsed<(NonZeroU32, Duration)> =
    Parsed(&Text { what: "a rate such as `10/s`", pattern: "^0*([1-9][0-9]{0,5}|1000000)/(s|min|h)$" }, parse_rate);
/// A share, in percent.
pub const SHARE: Parsed<u8> =
    Parsed(&Text { what: "a share such as `50%`", pattern: "^0*([1-9][0-9]?|100)%$" }, parse_percent);

/// A regular expression that is true of durations; of some that are too long as well.
#[must_use]
pub fn duration_pattern(least: Duration) -> String {
    let units: Vec<&str> = NANOS.iter().map(|(unit, _)| *unit).collect();
    let more_than_zero = if least.is_zero() { "" } else { "(?=.*[1-9])" };
    format!("^{more_than_zero}[0-9]+(\\.[0-9]{{1,9}})?({})$", units.join("|"))
}

/// A regular expression that is true of sizes; of some that are out of bounds as well.
#[must_use]
pub fn size_pattern(least: u64) -> String {
    let units: Vec<&str> = BYTES.iter().map(|(unit, _)| *unit).collect();
    let more_than_zero = if least == 0 { "" } else { "(?=.*[1-9])" };
    format!("^{more_than_zero}[0-9]+({})?$", units.join("|"))
}

/// `250ms`, `30s`, `1.5m`, `1h`: one number, up to nine decimals, and a unit.
///
/// # Errors
///
/// What is wrong with the text; also more than [`MAX_DURATION`].
pub fn parse_duration(text: &str) -> Result<Duration, Fault> {
    let wrong =
        || Fault::new(format!("must be a duration such as `250ms`, `30s`, `10m` or `1h`, not `{}`", quoted(text)));
    let (number, unit) = split(text).ok_or_else(wrong)?;
    let Some(&(_, nanos)) = NANOS.iter().find(|(name, _)| *name == unit) else {
        return Err(match unit.to_lowercase().as_str() {
            "" => wrong().hint(format!("write the unit, as in `{number}s`")),
            "sec" | "secs" | "second" | "seconds" | "s" => wrong().hint(format!("write `{number}s`")),
            "min" | "mins" | "minute" | "minutes" | "m" => wrong().hint(format!("write `{number}m`")),
            "hr" | "hrs" | "hour" | "hours" | "h" => wrong().hint(format!("write `{number}h`")),
            "msec" | "millis" | "milliseconds" | "ms" => wrong().hint(format!("write `{number}ms`")),
            "d" | "day" | "days" => wrong().hint("write days in hours, as in `24h`"),
            _ => wrong(),
        });
    };
    let (whole, decimals) = number.split_once('.').unwrap_or((number, ""));
    let whole: u128 = whole.parse().map_err(|_| too_long(text))?;
    let part: u128 = if decimals.is_empty() { 0 } else { decimals.parse().map_err(|_| wrong())? };
    let scale = 10_u128.pow(u32::try_from(decimals.len()).unwrap_or(u32::MAX).min(9));
    let total = whole.saturating_mul(nanos.into()).saturating_add(part * u128::from(nanos) / scale);
    match u64::try_from(total).map(Duration::from_nanos) {
        Ok(duration) if duration <= MAX_DURATION => Ok(duration),
        _ => Err(too_long(text)),
    }
}

fn too_long(text: &str) -> Fault {
    Fault::new(format!("must be at most 720h (30 days), not `{}`", quoted(text)))
}

/// As [`parse_duration`] reads it, in the largest unit that needs no decimals.
#[must_use]
pub fn show_duration(duration: Duration) -> String {
    if duration.is_zero() {
        return "0s".to_owned();
    }
    let nanos = duration.as_nanos();
    for (unit, size) in NANOS {
        if nanos.is_multiple_of(size.into()) {
            return format!("{}{unit}", nanos / u128::from(size));
        }
    }
    let decimals = format!("{:06}", nanos % 1_000_000);
    format!("{}.{}ms", nanos / 1_000_000, decimals.trim_end_matches('0'))
}

/// `64KiB`, `16MiB`, `1GiB`, `512B` or a plain number of bytes.
///
/// # Errors
///
/// What is wrong with the text; also more than fits 64 bits.
pub fn parse_size(text: &str) -> Result<u64, Fault> {
    let wrong = || Fault::new(format!("must be a size such as `64KiB`, `16MiB` or `1GiB`, not `{}`", quoted(text)));
    let (number, unit) = split(text).ok_or_else(wrong)?;
    let unit = if unit.is_empty() { "B" } else { unit };
    let Some(&(_, bytes)) = BYTES.iter().find(|(name, _)| *name == unit) else {
        return Err(match unit.to_lowercase().as_str() {
            "k" | "kb" | "ki" | "kib" => wrong().hint(format!("write `{number}KiB` (1024 bytes)")),
            "m" | "mb" | "mi" | "mib" => wrong().hint(format!("write `{number}MiB` (1024 KiB)")),
            "g" | "gb" | "gi" | "gib" => wrong().hint(format!("write `{number}GiB` (1024 MiB)")),
            "b" | "byte" | "bytes" => wrong().hint(format!("write `{number}B`")),
            _ => wrong(),
        });
    };
    if number.contains('.') {
        return Err(wrong().hint("write a whole number in a smaller unit"));
    }
    let number: Option<u64> = number.parse().ok();
    let size = number.and_then(|number| number.checked_mul(bytes));
    size.ok_or_else(|| Fault::new(format!("`{}` is too large a size", quoted(text))))
}

/// As [`parse_size`] reads it, in the largest unit that fits exactly.
#[must_use]
pub fn show_size(bytes: u64) -> String {
    let fits = BYTES.iter().find(|(_, size)| bytes != 0 && bytes.is_multiple_of(*size));
    let (unit, size) = fits.unwrap_or(&("B", 1));
    format!("{}{unit}", bytes / size)
}

/// `10/s`, `600/min`, `1000/h`: how many in which time.
///
/// # Errors
///
/// What is wrong with the text; also a rate of 0 or of more than 1,000,000.
pub fn parse_rate(text: &str) -> Result<(NonZeroU32, Duration), Fault> {
    let wrong = || Fault::new(format!("must be a rate such as `10/s`, `600/min` or `1000/h`, not `{}`", quoted(text)));
    let (number, unit) = split(text).ok_or_else(wrong)?;
    let Some(period) = unit.strip_prefix('/') else {
        return Err(if unit.is_empty() {
            wrong().hint(format!("write the time, as in `{number}/s`"))
        } else {
            wrong()
        });
    };
    let Some(&(_, seconds)) = PERIODS.iter().find(|(name, _)| *name == period) else {
        return Err(match period.to_lowercase().as_str() {
            "s" | "sec" | "second" => wrong().hint(format!("write `{number}/s`")),
            "m" | "min" | "minute" => wrong().hint(format!("write `{number}/min`")),
            "h" | "hour" => wrong().hint(format!("write `{number}/h`")),
            _ => wrong(),
        });
    };
    if number.contains('.') {
        return Err(wrong().hint("write a whole number in a longer time, as in `30/min` for one in two seconds"));
    }
    let count = number.parse().ok().filter(|count| *count <= MAX_RATE);
    let count = count.ok_or_else(|| Fault::new(format!("must be at most {MAX_RATE}, not `{}`", quoted(text))))?;
    let count =
        NonZeroU32::new(count).ok_or_else(|| Fault::new("must be at least 1: a rate of 0 lets nothing pass"))?;
    Ok((count, Duration::from_secs(seconds)))
}

/// As [`parse_rate`] reads it. A period that is none of those is shown as a duration.
#[must_use]
pub fn show_rate(count: NonZeroU32, period: Duration) -> String {
    match PERIODS.iter().find(|(_, seconds)| period == Duration::from_secs(*seconds)) {
        Some((unit, _)) => format!("{count}/{unit}"),
        None => format!("{count}/{}", show_duration(period)),
    }
}

/// `1%` to `100%`.
///
/// # Errors
///
/// What is wrong with the text.
pub fn parse_percent(text: &str) -> Result<u8, Fault> {
    let wrong = || Fault::new(format!("must be a share from `1%` to `100%`, not `{}`", quoted(text)));
    let (number, unit) = split(text).ok_or_else(wrong)?;
    if unit.is_empty() && !number.contains('.') {
        return Err(wrong().hint(format!("write `{number}%`")));
    }
    let share = number.parse().ok().filter(|share| (1..=100).contains(share));
    share.filter(|_| unit == "%").ok_or_else(wrong)
}

/// Number and unit. The number is made of digits, with at most one point that has digits on both sides.
fn split(text: &str) -> Option<(&str, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let (whole, decimals) = number.split_once('.').unwrap_or((number, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    (digits(whole) && digits(decimals) && decimals.len() <= 9).then_some((number, unit))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn hint<T: std::fmt::Debug>(result: Result<T, Fault>) -> String {
        result.expect_err("the text is wrong").hint.expect("there is something to say")
    }

    #[test]
    fn durations_have_one_number_and_one_unit() {
        assert_eq!(parse_duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(parse_duration("1.5s"), Ok(Duration::from_millis(1500)));
        assert_eq!(parse_duration("10m"), Ok(Duration::from_secs(600)));
        assert_eq!(parse_duration("0s"), Ok(Duration::ZERO));
        for wrong in ["", "s", "1h30m", "-1s", "1 s", ".5s", "1.s", "1.2.3s", "1e3s", "721h", "99999999999999999999s"] {
            parse_duration(wrong).expect_err(wrong);
        }
    }

    #[test]
    fn a_duration_without_a_unit_is_told_to_have_one() {
        assert_eq!(hint(parse_duration("30")), "write the unit, as in `30s`");
        assert_eq!(hint(parse_duration("30sec")), "write `30s`");
    }

    #[test]
    fn sizes_are_binary() {
        assert_eq!(parse_size("64KiB"), Ok(65536));
        assert_eq!(parse_size("100"), Ok(100));
        assert_eq!(parse_size("7B"), Ok(7));
        assert_eq!(hint(parse_size("64KB")), "write `64KiB` (1024 bytes)");
        for wrong in ["", "KiB", "1.5MiB", "-1", "1 KiB", "99999999999GiB", "18446744073709551616"] {
            parse_size(wrong).expect_err(wrong);
        }
    }

    #[test]
    fn rates_name_their_time() {
        let (count, period) = parse_rate("600/min").expect("a rate");
        assert_eq!((count.get(), period), (600, Duration::from_secs(60)));
        assert_eq!(hint(parse_rate("600/m")), "write `600/min`");
        assert_eq!(hint(parse_rate("5")), "write the time, as in `5/s`");
        for wrong in ["", "/s", "0/s", "1/", "1.5/s", "5/day", "1000001/s", "99999999999/s"] {
            parse_rate(wrong).expect_err(wrong);
        }
    }

    #[test]
    fn a_share_is_1_to_100_percent() {
        assert_eq!(parse_percent("100%"), Ok(100));
        assert_eq!(hint(parse_percent("50")), "write `50%`");
        for wrong in ["0%", "101%", "0.5%", "%", "", "50 %", "256%"] {
            parse_percent(wrong).expect_err(wrong);
        }
    }

    proptest! {
        #[test]
        fn every_duration_reads_back(nanos in 0..=MAX_DURATION.as_nanos() as u64, unit in 0..5_u32) {
            let step = [1, 1_000_000, 1_000_000_000, 60_000_000_000, 3_600_000_000_000][unit as usize];
            let duration = Duration::from_nanos(nanos / step * step);
            prop_assert_eq!(parse_duration(&show_duration(duration)), Ok(duration));
        }

        #[test]
        fn every_size_reads_back(bytes: u64, shift in 0..40_u32) {
            let size = bytes >> shift << shift;
            prop_assert_eq!(parse_size(&show_size(size)), Ok(size));
        }

        #[test]
        fn every_rate_reads_back(count in 1..=1_000_000_u32, seconds in prop::sample::select(vec![1, 60, 3600_u64])) {
            let rate = (NonZeroU32::new(count).expect("from 1"), Duration::from_secs(seconds));
            prop_assert_eq!(parse_rate(&show_rate(rate.0, rate.1)), Ok(rate));
        }

        #[test]
        fn arbitrary_text_never_panics(text in "\\PC*", close in "[0-9.]{0,30}[a-zA-Z/%é]{0,4}") {
            for text in [text, close] {
                let _ = (parse_duration(&text), parse_size(&text), parse_rate(&text), parse_percent(&text));
            }
        }
    }
}
