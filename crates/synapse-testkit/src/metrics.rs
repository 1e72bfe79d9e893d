//! Samples of a scrape.

/// A scrape in Prometheus' text format.
#[derive(Debug)]
pub struct Samples(String);

impl Samples {
    pub(crate) fn new(text: String) -> Self {
        Self(text)
    }

    /// The sum of the samples of `name` that have all of these labels.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let wanted: Vec<String> = labels.iter().map(|(key, value)| format!("{key}=\"{value}\"")).collect();
        let samples = self.0.lines().filter_map(|line| {
            let rest = line.strip_prefix(name).filter(|rest| rest.starts_with(['{', ' ']))?;
            let (labels, value) = rest.rsplit_once(' ')?;
            wanted.iter().all(|label| labels.contains(label)).then(|| value.parse::<f64>().ok())?
        });
        samples.sum()
    }

    /// All of it.
    pub fn text(&self) -> &str {
        &self.0
    }
}
