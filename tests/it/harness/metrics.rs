//! The text format of Prometheus, as far as looking up needs it.

/// One page of `/metrics`.
#[derive(Debug, Clone)]
pub struct Metrics {
    pub text: String,
}

impl Metrics {
    /// Sum of all series of `name` that carry all of `labels`; `None` when there is no such series.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let series = self.series(name);
        let matching = series
            .iter()
            .filter(|(given, _)| labels.iter().all(|(label, value)| given.contains(&format!("{label}=\"{value}\""))));
        matching.map(|(_, value)| *value).reduce(|left, right| left + right)
    }

    /// Labels as written and value of each series of `name`.
    pub fn series(&self, name: &str) -> Vec<(String, f64)> {
        let lines = self.text.lines().filter(|line| !line.starts_with('#'));
        let parsed = lines.filter_map(|line| {
            let (series, value) = line.rsplit_once(' ')?;
            let (metric, labels) = match series.split_once('{') {
                Some((metric, labels)) => (metric, labels.trim_end_matches('}')),
                None => (series, ""),
            };
            (metric == name).then(|| (labels.to_owned(), value.parse().unwrap_or(f64::NAN)))
        });
        parsed.collect()
    }

    /// Names that the page declares.
    pub fn families(&self) -> Vec<&str> {
        self.text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect()
    }
}
