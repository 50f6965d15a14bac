//! `bench` by itself: whether everything can be measured, kept and compared. What comes out of builds
//! without optimization, in no time, says nothing, and nothing is asked of it.

use std::{fs, path::Path, process::Stdio};

use system_tests::{
    bench::{
        figures::{FIGURES, RATIO},
        result::Run,
        servers::haproxy,
    },
    binary, skip_without,
};
use tokio::process::Command;

/// As little of everything as can be measured.
const LEAST: [&str; 3] = ["--part-seconds=0.05", "--repeats=1", "--open-streams=100"];

/// So many times better or worse than what was measured: far from what any machine does.
const FAR: f64 = 1e6;

/// Runs `bench`. Returns whether it succeeded, and what it printed.
async fn bench(arguments: &[&str]) -> (bool, String) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let output = Command::new(binary("bench")).args(arguments).current_dir(folder).stdin(Stdio::null()).output();
    let output = output.await.expect("it runs");
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    (output.status.success(), text(&output.stdout) + &text(&output.stderr))
}

/// A run with its ratios changed, as a file.
fn changed(run: &Run, path: &Path, change: impl Fn(bool, f64) -> f64) {
    let mut run = run.clone();
    for row in run.figures.iter_mut().filter(|row| row.unit == RATIO) {
        let more_is_better = row.at_least.is_some();
        row.values.iter_mut().for_each(|value| *value = change(more_is_better, *value));
    }
    run.write(path).expect("it is written");
}

#[tokio::test]
async fn everything_is_measured_kept_and_compared() {
    if haproxy().is_none() {
        return skip_without("haproxy");
    }
    let folder = tempfile::tempdir().expect("a folder");
    let into = folder.path().to_str().expect("a path");
    let (went_well, said) = bench(&[&["run", "--into", into], &LEAST[..]].concat()).await;
    assert!(went_well, "{said}");
    let kept = fs::read_dir(folder.path()).expect("a folder").next().expect("a result").expect("a file").path();
    let run = Run::read(&kept).expect("a run");
    let rows: Vec<_> = run.figures.iter().map(|row| row.name.as_str()).collect();
    let expected: Vec<_> = FIGURES.iter().map(|figure| figure.name).collect();
    assert_eq!(rows, expected);
    assert!(run.figures.iter().all(|row| row.values.iter().all(|value| value.is_finite())), "{run:?}");
    assert_eq!(run.row("lost_512").expect("a row").is_good(), Some(true), "no event is lost");
    let (shown, table) = bench(&["show", kept.to_str().expect("a path")]).await;
    assert!(shown && expected.iter().all(|name| table.contains(name)), "{table}");

    let check = async |name: &str| {
        let baseline = folder.path().join(name);
        bench(&[&["check", "--only=chats", "--baseline", baseline.to_str().expect("a path")], &LEAST[..]].concat())
            .await
    };
    let of_chats =
        Run { figures: run.figures.iter().filter(|row| row.name.starts_with("unary")).cloned().collect(), ..run };
    changed(&of_chats, &folder.path().join("worse.json"), |more, value| if more { value / FAR } else { value * FAR });
    changed(&of_chats, &folder.path().join("better.json"), |more, value| if more { value * FAR } else { value / FAR });
    let (is_good, said) = check("worse.json").await;
    assert!(is_good && said.contains("no row is more than 15 % worse"), "{said}");
    let (is_good, said) = check("better.json").await;
    assert!(!is_good && said.contains("REGRESSION unary:"), "{said}");
}
