//! A run as a page that opens without a network: figures and plots, light and dark.

use std::fmt::Write as _;

use crate::stress::outcome::Outcome;
use crate::stress::summary::millis;
use crate::stress::tally::Second;

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 220.0;
/// Room for the numbers at the axes.
const LEFT: f64 = 64.0;
const BOTTOM: f64 = 24.0;
const TOP: f64 = 10.0;
/// Points of one line; more are thinned out.
const MOST_POINTS: usize = 600;

const STYLE: &str = "\
:root{color-scheme:light dark;--ink:#1c2430;--paper:#fff;--faint:#8a94a3;--line:#d9dee6;--a:#2563eb;--b:#d97706;--bad:#dc2626}\
@media(prefers-color-scheme:dark){:root{--ink:#e6e9ef;--paper:#14181f;--faint:#8a94a3;--line:#2b323d;--a:#60a5fa;--b:#fbbf24;--bad:#f87171}}\
body{font:15px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--paper);max-width:760px;margin:2rem auto;padding:0 1rem}\
h1{font-size:1.4rem}h2{font-size:1.05rem;margin:2rem 0 .3rem}table{border-collapse:collapse;width:100%}\
td{border-top:1px solid var(--line);padding:.25rem .5rem;vertical-align:top;overflow-wrap:anywhere}td:first-child{color:var(--faint);width:9rem}\
svg{width:100%;height:auto}svg text{font:11px system-ui,sans-serif;fill:var(--faint)}.grid{stroke:var(--line)}\
.a{stroke:var(--a)}.b{stroke:var(--b)}.bad{stroke:var(--bad)}path{fill:none;stroke-width:1.6}.bar{fill:var(--a)}.bar.bad{fill:var(--bad);stroke:none}\
.key{color:var(--faint)}.key b.a{color:var(--a)}.key b.b{color:var(--b)}.key b.bad{color:var(--bad)}.no{color:var(--bad);font-weight:600}";

impl Outcome {
    /// The page of `--report`.
    #[must_use]
    pub fn html(&self) -> String {
        let mut page = format!(
            "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
             <title>turnwise stress: {test}</title><style>{STYLE}</style><h1>{test} against {url}</h1><table>",
            test = self.test,
            url = escaped(&self.url)
        );
        for line in self.summary().lines() {
            let (what, value) = line.split_at_checked(16).unwrap_or((line, ""));
            let class = if value.contains("BROKEN") { " class=\"no\"" } else { "" };
            // Writing to a String does not fail.
            let _ = write!(page, "<tr><td>{}</td><td{class}>{}</td></tr>", escaped(what.trim()), escaped(value.trim()));
        }
        page += "</table>";
        page += &self.distribution();
        page += &self.over_time();
        page += &self.codes();
        page += "</html>\n";
        page
    }

    /// Latency by the part of requests that was as fast; the nines are given room.
    fn distribution(&self) -> String {
        let nines = 4.0_f64;
        let points = (0..=200).map(|step| {
            let x = f64::from(step) / 200.0;
            (x, self.tally.quantile(1.0 - 10.0_f64.powf(-nines * x)))
        });
        let points: Vec<(f64, f64)> = points.collect();
        let ticks = [(0.0, "0 %"), (0.075, "50 %"), (0.25, "90 %"), (0.5, "99 %"), (0.75, "99.9 %"), (1.0, "99.99 %")];
        let plot = Plot::new(points.iter().map(|(_, y)| *y).fold(0.0, f64::max));
        format!(
            "<h2>Latency</h2><p class=\"key\">as fast or faster were so many of all requests</p>{}",
            plot.svg(&[("a", &points)], &ticks, &millis)
        )
    }

    fn over_time(&self) -> String {
        let seconds = &self.tally.seconds;
        let step = seconds.len().div_ceil(MOST_POINTS).max(1);
        let line = |value: &dyn Fn(&Second) -> f64| -> Vec<(f64, f64)> {
            let last = seconds.len().saturating_sub(1).max(1) as f64;
            let mut points = Vec::new();
            for (place, some) in seconds.chunks(step).enumerate() {
                let mean = some.iter().map(value).sum::<f64>() / some.len() as f64;
                points.push(((place * step) as f64 / last, mean));
            }
            // A line needs two ends.
            if let [(_, only)] = points[..] {
                points.push((1.0, only));
            }
            points
        };
        let end = format!("{} s", seconds.len());
        let ticks = [(0.0, "0"), (1.0, end.as_str())];
        let (good, bad) = (line(&|second| second.succeeded as f64), line(&|second| second.failed as f64));
        let most = good.iter().chain(&bad).map(|(_, y)| *y).fold(0.0, f64::max);
        let mut text = "<h2>Requests a second</h2><p class=\"key\"><b class=\"a\">successes</b>, \
                        <b class=\"bad\">failures</b></p>"
            .to_owned();
        text += &Plot::new(most).svg(&[("a", &good), ("bad", &bad)], &ticks, &|value| format!("{value:.0}"));
        let quantile = |part: f64| move |second: &Second| second.latency.value_at_quantile(part) as f64 / 1000.0;
        let (half, most_of) = (line(&quantile(0.5)), line(&quantile(0.95)));
        let most = half.iter().chain(&most_of).map(|(_, y)| *y).fold(0.0, f64::max);
        text += "<h2>Latency over time</h2><p class=\"key\"><b class=\"a\">p50</b>, <b class=\"b\">p95</b></p>";
        text += &Plot::new(most).svg(&[("a", &half), ("b", &most_of)], &ticks, &millis);
        text
    }

    fn codes(&self) -> String {
        let most = self.tally.status.values().copied().max().unwrap_or(1).max(1) as f64;
        let mut text = "<h2>Status codes</h2>".to_owned();
        let height = 22.0 * self.tally.status.len() as f64;
        let _ = write!(text, "<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\">");
        for (place, (status, count)) in self.tally.status.iter().enumerate() {
            let y = 22.0 * place as f64;
            let width = (WIDTH - LEFT - 90.0) * *count as f64 / most;
            let class = if *status < 300 { "bar" } else { "bar bad" };
            let _ = write!(
                text,
                "<text x=\"{:.0}\" y=\"{:.0}\" text-anchor=\"end\">{status}</text>\
                 <rect class=\"{class}\" x=\"{LEFT}\" y=\"{:.0}\" width=\"{width:.1}\" height=\"14\"/>\
                 <text x=\"{:.1}\" y=\"{:.0}\">{count}</text>",
                LEFT - 8.0,
                y + 14.0,
                y + 3.0,
                LEFT + width + 8.0,
                y + 14.0
            );
        }
        text += "</svg>";
        text
    }
}

/// Axes from 0 to a round number.
struct Plot {
    most: f64,
}

impl Plot {
    fn new(most: f64) -> Self {
        let magnitude = 10.0_f64.powf(most.max(0.001).log10().floor());
        let steps = [1.0, 2.0, 2.5, 5.0, 10.0].map(|step| step * magnitude);
        Self { most: steps.into_iter().find(|step| *step >= most).unwrap_or(most) }
    }

    fn svg(&self, lines: &[(&str, &[(f64, f64)])], ticks: &[(f64, &str)], shown: &dyn Fn(f64) -> String) -> String {
        let (right, foot) = (WIDTH - 32.0, HEIGHT - BOTTOM);
        let x = |part: f64| LEFT + (right - LEFT) * part;
        let y = |value: f64| foot - (foot - TOP) * (value / self.most);
        let mut svg = format!("<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\">");
        for quarter in 0..=4 {
            let value = self.most * f64::from(quarter) / 4.0;
            let at = y(value);
            let _ = write!(
                svg,
                "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{right}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>\
                 <text x=\"{:.0}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                LEFT - 6.0,
                at + 4.0,
                shown(value)
            );
        }
        for (part, text) in ticks {
            let _ = write!(
                svg,
                "<text x=\"{:.1}\" y=\"{:.0}\" text-anchor=\"middle\">{text}</text>",
                x(*part),
                HEIGHT - 6.0
            );
        }
        for (class, points) in lines {
            let mut path = String::new();
            for (place, (part, value)) in points.iter().enumerate() {
                let _ = write!(path, "{}{:.1} {:.1}", if place == 0 { "M" } else { "L" }, x(*part), y(*value));
            }
            let _ = write!(svg, "<path class=\"{class}\" d=\"{path}\"/>");
        }
        svg += "</svg>";
        svg
    }
}

/// Text that is only text.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::stress::judge::Turns;
    use crate::stress::tally::{Failure, Tally};

    #[test]
    fn a_page_needs_no_network_and_hostile_text_is_only_text() {
        let mut tally = Tally::default();
        for second in 0..2000 {
            let failure = || Failure { kind: "500".to_owned(), said: "<script>alert(1)</script>".to_owned() };
            let error = (second % 7 == 0).then(failure);
            let status = if error.is_some() { 500 } else { 200 };
            tally.ended(Duration::from_secs(second), Duration::from_millis(second), Some(status), error);
        }
        let outcome = Outcome {
            test: "custom",
            url: "http://a/?\"<b>".to_owned(),
            seed: 1,
            tally,
            took: Duration::from_secs(2000),
            turns: Turns::default(),
            taken: None,
            interrupted: false,
            unsent: 0,
            spaced: false,
            checked: Vec::new(),
        };
        let page = outcome.html();
        assert!(!page.contains("<script") && page.contains("&lt;script&gt;"), "{page}");
        assert!(!page.contains("src=") && !page.contains("@import") && !page.contains("href="));
        assert_eq!(page.matches("<svg").count(), 4);
        assert!(!page.contains("NaN") && !page.contains("inf"), "{page}");
        assert!(page.len() < 200_000);
    }

    #[test]
    fn axes_end_at_round_numbers() {
        let most = |value| Plot::new(value).most;
        assert!(
            (most(37.0) - 50.0).abs() < 1e-9 && (most(100.0) - 100.0).abs() < 1e-9 && (most(0.0) - 0.001).abs() < 1e-9
        );
        assert!((most(0.21) - 0.25).abs() < 1e-9 && (most(1001.0) - 2000.0).abs() < 1e-9);
    }
}
