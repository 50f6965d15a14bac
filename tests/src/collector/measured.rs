//! Metrics, by their names, with all that was measured for each set of attributes.

use std::collections::BTreeSet;

use opentelemetry_proto::tonic::metrics::v1::{
    self as wire, AggregationTemporality, NumberDataPoint, metric::Data, number_data_point::Value as Number,
};

use super::{Attributes, attributes};

/// A metric as a service said it last.
#[derive(Clone, Debug)]
pub struct Metric {
    /// Its name.
    pub name: String,
    /// Its unit.
    pub unit: String,
    /// What it says to people.
    pub description: String,
    /// Its kind.
    pub kind: Kind,
    /// What was measured, for each set of attributes.
    pub points: Vec<Point>,
}

/// The kind of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A count that only grows.
    Counter,
    /// A count that grows and shrinks.
    UpDown,
    /// A value of now.
    Gauge,
    /// How many values were how large.
    Histogram,
    /// No metric of ours is anything else, or counts from the last export on.
    Other,
}

/// What was measured for one set of attributes.
#[derive(Clone, Debug)]
pub struct Point {
    /// The attributes.
    pub attributes: Attributes,
    /// The value, or the sum of all values of a histogram.
    pub value: f64,
    /// How many values a histogram has. Otherwise 0.
    pub count: u64,
    /// The upper bounds of a histogram's buckets.
    pub bounds: Vec<f64>,
}

impl Metric {
    pub(super) fn read(metric: wire::Metric) -> Self {
        let cumulative = AggregationTemporality::Cumulative;
        let (kind, points) = match metric.data {
            Some(Data::Gauge(gauge)) => (Kind::Gauge, numbers(gauge.data_points)),
            Some(Data::Sum(sum)) if sum.aggregation_temporality() == cumulative => {
                let kind = if sum.is_monotonic { Kind::Counter } else { Kind::UpDown };
                (kind, numbers(sum.data_points))
            }
            Some(Data::Histogram(histogram)) if histogram.aggregation_temporality() == cumulative => {
                let points = histogram.data_points.into_iter().map(|point| Point {
                    attributes: attributes(point.attributes),
                    value: point.sum.unwrap_or_default(),
                    count: point.count,
                    bounds: point.explicit_bounds,
                });
                (Kind::Histogram, points.collect())
            }
            _ => (Kind::Other, Vec::new()),
        };
        Self { name: metric.name, unit: metric.unit, description: metric.description, kind, points }
    }

    /// The points that have all of these attributes.
    pub fn with(&self, attributes: &[(&str, &str)]) -> Vec<&Point> {
        let has = |point: &&Point| attributes.iter().all(|(name, value)| point.text(name) == *value);
        self.points.iter().filter(has).collect()
    }

    /// The names of all attributes.
    pub fn names(&self) -> BTreeSet<&str> {
        self.points.iter().flat_map(|point| point.attributes.keys()).map(String::as_str).collect()
    }

    /// All values together.
    pub fn total(&self) -> f64 {
        self.points.iter().map(|point| point.value).sum()
    }
}

impl Point {
    /// A text among its attributes. Empty if there is none.
    pub fn text(&self, name: &str) -> &str {
        self.attributes.get(name).and_then(|value| value.as_str()).unwrap_or_default()
    }
}

fn numbers(points: Vec<NumberDataPoint>) -> Vec<Point> {
    let number = |point: NumberDataPoint| Point {
        attributes: attributes(point.attributes),
        value: match point.value {
            Some(Number::AsDouble(value)) => value,
            #[expect(clippy::cast_precision_loss, reason = "no count of a test is so large")]
            Some(Number::AsInt(value)) => value as f64,
            None => 0.0,
        },
        count: 0,
        bounds: Vec::new(),
    };
    points.into_iter().map(number).collect()
}
