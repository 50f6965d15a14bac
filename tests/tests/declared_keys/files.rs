//! What can be read, and what is written: lists, and exports.

use super::{Desk, organization, text};

#[tokio::test]
async fn lists_of_keys_are_imported_as_csv_and_as_json() {
    let desk = Desk::start().await;
    desk.file("one", "sk-one-0123456789abcdefgh");
    desk.file("two", "sk-two-0123456789abcdefgh");
    let csv = desk.file(
        "keys.csv",
        "organization,provider,name,default,profiles,file\n\
         ,openai,One,true,a;b,one\n\
         other,openai,\"Two, with a comma\",,,two\n",
    );
    let json = desk.file(
        "keys.json",
        r#"[{"provider": "gemini", "name": "Three \u00e9", "profiles": ["a"], "material": {"file": "one"}}]"#,
    );

    let organization = ["--organization", "acme"];
    let ran = desk.apply(&csv, &organization).await;
    desk.apply(&json, &organization).await;

    assert!(ran.err.contains("made 2 changes"), "{ran:?}");
    let keys = desk.listed().await;
    let found: Vec<_> = keys.iter().map(|key| (&key["display_name"], &key["organization_default"])).collect();
    assert_eq!(found, [(&"One".into(), &true.into()), (&"Three é".into(), &false.into())]);
    assert_eq!(keys[0]["profile_ids"], serde_json::json!(["a", "b"]));
    for list in [&csv, &json] {
        let again = desk.run(&["diff", "-f", text(list), "-o", "acme"]).await;
        assert_eq!((again.code, again.out.as_str()), (0, ""), "{again:?}");
    }
}

#[tokio::test]
async fn an_export_differs_in_nothing_and_has_no_key() {
    let desk = Desk::start().await;
    desk.file("key", "sk-canary-0123456789abcdef");
    let keys = "  - {provider: openai, name: 'a: \"b\" # c', default: true, profiles: [x, '1', 'true'], material: {file: key}}\n  \
                - {provider: gemini, name: 'no', state: disabled, profiles: [x], material: {file: key}}\n  policies:\n  \
                - {profile: x, organization_default: forbid}\n  - {profile: alone, environment: forbid}\n";
    desk.apply(&desk.file("keys.yaml", &organization(keys)), &[]).await;
    // Two that provider and name do not tell apart.
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
                text(&desk.folder.path().join("key")),
            ])
            .await;
        assert_eq!(ran.code, 0, "{ran:?}");
    }

    let export = desk.run(&["export", "-o", "acme", "--profile", "alone"]).await;

    assert_eq!(export.code, 0, "{export:?}");
    assert!(!export.out.contains("canary"), "{}", export.out);
    assert!(export.out.contains("profile: \"alone\""), "{}", export.out);
    let exported = desk.file("exported.yaml", &export.out);
    let diff = desk.run(&["diff", "--prune", "-f", text(&exported)]).await;
    assert_eq!((diff.code, diff.out.as_str(), diff.err.as_str()), (0, "", ""));
    let again = desk.apply(&exported, &[]).await;
    assert!(again.err.contains("0 changes"), "{again:?}");
}
