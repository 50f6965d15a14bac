//! What holds for every pod, and for everything that names another object.
//!
//! Each rule is a function that says what breaks it. A table of planted mistakes shows that it
//! would.

mod mistakes;
mod pods;
mod references;

use serde_json::Value;

use super::sets;

/// Everything that breaks a rule, with the object that does.
fn broken(objects: &[Value]) -> Vec<String> {
    [pods::broken(objects), references::broken(objects)].concat()
}

#[tokio::test]
async fn every_pod_is_confined_and_everything_that_is_named_is_there() {
    let Some((_, sets)) = sets().await else { return };
    for set in &sets {
        let broken = broken(&set.objects);
        assert!(broken.is_empty(), "{}:\n{}", set.name, broken.join("\n"));
    }
}
