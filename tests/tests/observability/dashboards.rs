//! The dashboards: their form, and what they ask.

use std::collections::HashSet;

use serde_json::{Value, json};
use system_tests::prometheus::{is_installed, promtool};

use super::file;

/// The width of a dashboard, in units of its grid.
const GRID_WIDTH: u64 = 24;

/// A panel that shows something.
#[derive(Clone, Debug)]
pub(super) struct Panel {
    /// Dashboard and title.
    pub(super) name: String,
    /// What it asks, with variables.
    pub(super) queries: Vec<String>,
}

/// All panels of both dashboards.
pub(super) fn panels() -> Vec<Panel> {
    all().iter().flat_map(|(name, dashboard)| panels_of(name, dashboard)).collect()
}

/// A query with its variables filled in: everybody, and rates over `window`.
pub(super) fn filled(query: &str, window: &str) -> String {
    query
        .replace("$__rate_interval", window)
        .replace("$__range", window)
        .replace("$instance", ".*")
        .replace("$provider", ".*")
}

fn all() -> Vec<(&'static str, Value)> {
    ["chat", "vault"]
        .into_iter()
        .map(|name| {
            let text = file(&format!("deploy/observability/dashboards/{name}.json"));
            (name, serde_json::from_str(&text).expect("a dashboard is JSON"))
        })
        .collect()
}

fn panels_of(name: &str, dashboard: &Value) -> Vec<Panel> {
    let panels = dashboard["panels"].as_array().expect("panels");
    let shown = panels.iter().filter(|panel| panel["type"] != "row");
    let panel = |panel: &Value| Panel {
        name: format!("{name}: {}", text(&panel["title"])),
        queries: panel["targets"].as_array().into_iter().flatten().map(|target| text(&target["expr"])).collect(),
    };
    shown.map(panel).collect()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

#[test]
fn every_panel_says_what_it_shows_and_stands_beside_the_others() {
    let mut wrong = Vec::new();
    for (name, dashboard) in all() {
        wrong.extend(faults(&dashboard).into_iter().map(|fault| format!("{name}: {fault}")));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Spoils a dashboard.
type Spoils = fn(&mut Value);

#[test]
fn the_form_is_really_looked_at() {
    let good = all().remove(0).1;
    let spoil: [(&str, Spoils, &str); 6] = [
        ("a second id", |board| board["panels"][2]["id"] = board["panels"][1]["id"].clone(), "its id"),
        ("no words", |board| board["panels"][1]["description"] = json!(""), "no description"),
        ("no unit", |board| board["panels"][1]["fieldConfig"]["defaults"] = json!({}), "no unit"),
        ("over another", |board| board["panels"][2]["gridPos"] = board["panels"][1]["gridPos"].clone(), "overlaps"),
        ("too wide", |board| board["panels"][1]["gridPos"]["w"] = json!(GRID_WIDTH + 1), "beside the grid"),
        (
            "tied to one install",
            |board| board["panels"][1]["datasource"]["uid"] = json!("P1809F7CD0C75ACF3"),
            "data source",
        ),
    ];
    for (what, spoils, expected) in spoil {
        let mut spoiled = good.clone();
        spoils(&mut spoiled);
        let faults = faults(&spoiled);
        assert!(faults.iter().any(|fault| fault.contains(expected)), "{what} is not seen: {faults:?}");
    }
}

/// What is wrong with the form of a dashboard.
fn faults(dashboard: &Value) -> Vec<String> {
    let mut faults = Vec::new();
    if !dashboard["id"].is_null() {
        faults.push("an id ties it to one install".to_owned());
    }
    let (mut ids, mut titles, mut taken) = (HashSet::new(), HashSet::new(), HashSet::new());
    for panel in dashboard["panels"].as_array().expect("panels") {
        let title = text(&panel["title"]);
        let mut says = |fault: &str| faults.push(format!("{title}: {fault}"));
        if !ids.insert(panel["id"].as_u64()) {
            says("its id is another panel's");
        }
        if !titles.insert(title.clone()) {
            says("its title is another panel's");
        }
        place(&panel["gridPos"], &mut taken, &mut says);
        if panel["type"] != "row" {
            shows(panel, &mut says);
        }
    }
    faults
}

/// Where a panel is.
fn place(position: &Value, taken: &mut HashSet<(u64, u64)>, says: &mut impl FnMut(&str)) {
    let [x, y, w, h] = ["x", "y", "w", "h"].map(|name| position[name].as_u64().unwrap_or_default());
    if w == 0 || h == 0 || x + w > GRID_WIDTH {
        return says("it is beside the grid");
    }
    let cells = (x..x + w).flat_map(|x| (y..y + h).map(move |y| (x, y)));
    if cells.filter(|cell| !taken.insert(*cell)).count() > 0 {
        says("it overlaps another panel");
    }
}

/// What a panel shows.
fn shows(panel: &Value, says: &mut impl FnMut(&str)) {
    let description = text(&panel["description"]);
    if description.is_empty() {
        says("no description");
    } else if !description.contains("ormal") && !description.contains("up:") {
        says("its description does not say what is normal");
    }
    if text(&panel["fieldConfig"]["defaults"]["unit"]).is_empty() {
        says("no unit");
    }
    let targets = panel["targets"].as_array().expect("targets");
    if targets.is_empty() {
        says("it asks nothing");
    }
    let sources = targets.iter().map(|target| &target["datasource"]).chain([&panel["datasource"]]);
    if sources.into_iter().any(|source| source["uid"] != "${datasource}") {
        says("its data source is not the variable");
    }
    let references: HashSet<_> = targets.iter().map(|target| text(&target["refId"])).collect();
    if references.len() != targets.len() {
        says("two of its queries have one name");
    }
}

#[tokio::test]
async fn every_query_parses() {
    if !is_installed().await {
        return;
    }
    let mut queries: Vec<String> = panels().into_iter().flat_map(|panel| panel.queries).collect();
    let checked = parsed(&queries).await;
    assert!(checked.well, "{}", checked.text);
    assert!(checked.text.contains(&format!("{} rules found", queries.len())), "{}", checked.text);

    queries.push("sum(rate(a[$__rate_interval])".to_owned());
    assert!(!parsed(&queries).await.well, "a bracket that is missing is not seen");
}

/// Lets `promtool` read queries as the rules that they could be.
async fn parsed(queries: &[String]) -> system_tests::prometheus::Checked {
    let rule = |(n, query): (usize, &String)| json!({"record": format!("panel:{n}"), "expr": filled(query, "1m")});
    let rules: Vec<_> = queries.iter().enumerate().map(rule).collect();
    let folder = tempfile::tempdir().expect("a folder");
    // JSON is YAML.
    let text = json!({"groups": [{"name": "panels", "rules": rules}]}).to_string();
    std::fs::write(folder.path().join("panels.yaml"), text).expect("a file");
    promtool(&["check", "rules", "panels.yaml"], folder.path(), "").await.expect("promtool runs")
}
