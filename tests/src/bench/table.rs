//! The table that is printed.

use comfy_table::Table;

use super::{
    figures::{FIGURES, Values},
    result::{Row, Run, median},
};

/// All rows of a run, each with a pass or a shortfall, and what was measured for it.
pub fn table(run: &Run) -> Table {
    let mut table = Table::new();
    table.set_header(["row", "what", "is", "range", "must be", "", "beside it"]);
    for row in &run.figures {
        let must = match (row.at_least, row.at_most) {
            (Some(least), _) => format!("{least} or more"),
            (_, Some(most)) => format!("{most} or less"),
            _ => "-".to_owned(),
        };
        let verdict = row.is_good().map_or("-", |is_good| if is_good { "pass" } else { "SHORTFALL" });
        let is = format!("{} {}", number(row.median()), row.unit);
        table.add_row([&row.name, &row.text, &is, &range(row), &must, verdict, &beside(row, &run.repeats)]);
    }
    table
}

fn range(row: &Row) -> String {
    let (least, most) =
        row.values.iter().fold((f64::MAX, f64::MIN), |(least, most), value| (least.min(*value), most.max(*value)));
    if row.values.len() > 1 { format!("{} to {}", number(least), number(most)) } else { String::new() }
}

/// The values beside a row, each the middle one of the repeats. A cost is in CPU seconds for 1,000
/// calls, which is milliseconds for one.
fn beside(row: &Row, repeats: &[Values]) -> String {
    let names = FIGURES.iter().find(|figure| figure.name == row.name).map_or(&[][..], |figure| figure.beside);
    let told = names.iter().filter_map(|name| {
        let values: Vec<f64> = repeats.iter().filter_map(|values| values.get(*name)).copied().collect();
        if values.is_empty() {
            return None;
        }
        let (what, unit) = name.rsplit_once('.').unwrap_or((name, ""));
        let value = median(&values);
        Some(match unit {
            "cpu_ms" => format!("{what}: {} CPU s/1,000", number(value)),
            "per_s" => format!("{what}: {}/s", number(value)),
            _ if unit.ends_with("_s") => {
                format!("{what} {}: {} ms", unit.trim_end_matches("_s"), number(value * 1e3))
            }
            _ => format!("{what}: {} {unit}", number(value)),
        })
    });
    told.collect::<Vec<_>>().join("; ")
}

/// With three figures.
pub fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}
