//! A broken file changes nothing, and shows no key.

use super::{Desk, organization, text};

const CANARY: &str = "sk-canary-0123456789abcdef";

#[tokio::test]
async fn a_broken_file_changes_nothing_and_says_all_that_is_wrong() {
    let desk = Desk::start().await;
    desk.file("key", "sk-0123456789abcdefghijk");
    desk.file("two lines", &format!("{CANARY}\nsecond\n"));
    let kept = organization("  - {provider: openai, name: Kept, material: {file: key}}\n");
    desk.apply(&desk.file("kept.yaml", &kept), &[]).await;
    let revision = desk.revision().await;
    // Each after a key that is right: nothing of a file is done if something of it is wrong.
    for (broken, expected) in [
        (
            "  - {provider: openai, name: x, material: CANARY}\n",
            &["keys.yaml:5: organizations[0].keys[1].material", "does not belong into the file"][..],
        ),
        (
            "  - {provider: openai, name: x, material: {file: CANARY}}\n",
            &["keys.yaml:5: organizations[0].keys[1].material `file` cannot be read"],
        ),
        ("  - {provider: openai, name: x, material: {env: CANARY}}\n", &["keys.yaml:5:", "the name of a variable"]),
        ("  - {provider: openai, name: x, material: {env: NO_SUCH_VARIABLE}}\n", &["keys.yaml:5:", "is not set"]),
        ("  - {provider: openai, name: x, material: {file: two lines}}\n", &["keys.yaml:5:", "a line break"]),
        ("  - {provider: openai, name: x, api_key: CANARY}\n", &["keys.yaml:5:", "has no field `api_key`"]),
        ("  - {provider: openai, name: x, CANARY: y}\n", &["keys.yaml:5:", "has no field of this name"]),
        ("  - {provider: openai, name: \"x, material: CANARY}\n", &["is not YAML or JSON"]),
        (
            "  - {provider: openai, name: x}\n",
            &["keys.yaml:5: organizations[0].keys[1] is not in the vault, and has no `material`"],
        ),
        (
            "  - {provider: openai, name: New, material: {file: key}}\n",
            &["keys.yaml:5:", "has the provider and the name of the key of line 4"],
        ),
        (
            "  - {provider: other, name: ' x', profiles: [a b], colour: red}\n",
            &["anthropic or openai or gemini", "white space at its ends", "profiles[0] must be 1 to 128", "`colour`"],
        ),
        (
            "  - {provider: openai, name: x, default: true, profiles: [p], material: {file: key}}\n  - {provider: openai, name: y, default: true, profiles: [p], material: {file: key}}\n",
            &["a second default", "has profile p"],
        ),
    ] {
        let keys =
            format!("  - {{provider: openai, name: New, material: {{file: key}}}}\n{broken}").replace("CANARY", CANARY);
        let file = desk.file("keys.yaml", &organization(&keys));

        let ran = desk.run(&["apply", "--yes", "-f", text(&file)]).await;

        assert_eq!(ran.code, 4, "{broken}: {ran:?}");
        assert!(ran.err.contains("nothing was changed"), "{broken}: {ran:?}");
        for expected in expected {
            assert!(ran.err.contains(expected), "{expected}: {ran:?}");
        }
        assert!(!format!("{ran:?}").contains("canary"), "{broken}: {ran:?}");
        assert_eq!(desk.revision().await, revision, "{broken}");
    }
    let csv = desk.file("keys.csv", &format!("provider,name,api_key\nopenai,x,{CANARY}\n"));
    let ran = desk.run(&["apply", "--yes", "-f", text(&csv)]).await;
    assert!(ran.code == 4 && ran.err.contains("keys.csv:2:") && !ran.err.contains("canary"), "{ran:?}");
}

#[tokio::test]
async fn a_name_that_two_keys_have_is_not_guessed() {
    let desk = Desk::start().await;
    let key = desk.file("key", "sk-0123456789abcdefghijk");
    let mut ids = Vec::new();
    for _ in 0..2 {
        let ran = desk
            .run(&[
                "keys",
                "add",
                "--provider",
                "openai",
                "--name",
                "Twice",
                "--key-file",
                text(&key),
                "--output",
                "json",
            ])
            .await;
        ids.push(ran.json()["api_key_id"].as_str().expect("an id").to_owned());
    }
    let file = desk.file("keys.yaml", &organization("  - {provider: openai, name: Twice, profiles: [a]}\n"));

    let ran = desk.run(&["diff", "-f", text(&file)]).await;
    assert_eq!(ran.code, 4, "{ran:?}");
    assert!(ids.iter().all(|id| ran.err.contains(id)), "{ran:?}");

    let meant = format!("  - {{provider: openai, name: Twice, profiles: [a], id: {}}}\n", ids[1]);
    desk.apply(&desk.file("keys.yaml", &organization(&meant)), &[]).await;
    let keys = desk.listed().await;
    let owner = keys.iter().find(|key| key["profile_ids"] == serde_json::json!(["a"])).expect("a key has the profile");
    assert_eq!(owner["api_key_id"], ids[1].as_str());
}
