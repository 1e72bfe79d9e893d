//! Reading an engine's Prometheus text: just names and values, summed over labels.

use std::collections::HashMap;

/// The samples of one scrape.
#[derive(Debug, Default)]
pub(super) struct Samples(HashMap<String, (f64, u32)>);

impl Samples {
    /// Reads what can be read; a line that is no sample is skipped.
    pub(super) fn parse(text: &str) -> Self {
        let mut samples = HashMap::<String, (f64, u32)>::new();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let name_end = line.find(['{', ' ']).unwrap_or(line.len());
            let (name, rest) = line.split_at(name_end);
            let value = rest.rfind('}').map_or(rest, |at| &rest[at + 1..]);
            // A timestamp may follow the value.
            let Some(Ok(value)) = value.split_whitespace().next().map(str::parse::<f64>) else { continue };
            if value.is_finite() {
                let entry = samples.entry(name.to_owned()).or_default();
                *entry = (entry.0 + value, entry.1 + 1);
            }
        }
        Self(samples)
    }

    /// The sum over all label sets.
    pub(super) fn sum(&self, name: &str) -> Option<f64> {
        self.0.get(name).map(|(sum, _)| *sum)
    }

    /// The mean over all label sets.
    pub(super) fn mean(&self, name: &str) -> Option<f64> {
        self.0.get(name).map(|(sum, count)| sum / f64::from(*count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_summed_over_labels() {
        let text = "# HELP x y\nvllm:num_requests_waiting{model_name=\"a {b}\"} 2.0\n\
            vllm:num_requests_waiting{model_name=\"c\"} 3 1700000000\nplain 7\nbad\nnan NaN\n";
        let samples = Samples::parse(text);
        assert_eq!(samples.sum("vllm:num_requests_waiting"), Some(5.0));
        assert_eq!(samples.mean("vllm:num_requests_waiting"), Some(2.5));
        assert_eq!(samples.sum("plain"), Some(7.0));
        assert_eq!(samples.sum("nan"), None);
    }
}
