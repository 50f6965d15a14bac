//! Objects of Kubernetes as data: how to name them, and how to find what is in them.

use serde_json::{Map, Value, json};

/// Pods of an object, or of what makes them.
#[derive(Clone, Debug)]
pub(super) struct Pod<'a> {
    /// Its owner: kind and name.
    pub(super) of: String,
    pub(super) labels: &'a Value,
    pub(super) spec: &'a Value,
}

/// The objects of a stream of documents.
pub(super) fn parse(text: &str) -> Vec<Value> {
    let all: Vec<Value> = serde_saphyr::from_multiple(text).unwrap_or_else(|error| panic!("{error}:\n{text}"));
    all.into_iter().filter(|object| !object.is_null()).collect()
}

/// Kind and name.
pub(super) fn title(object: &Value) -> String {
    format!("{}/{}", text(object, "/kind"), text(object, "/metadata/name"))
}

/// The text at a pointer, or nothing.
pub(super) fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// The list at a pointer, or nothing.
pub(super) fn list<'a>(object: &'a Value, pointer: &str) -> &'a [Value] {
    object.pointer(pointer).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

/// All of a kind.
pub(super) fn of_kind<'a>(objects: &'a [Value], kind: &'a str) -> impl Iterator<Item = &'a Value> {
    objects.iter().filter(move |object| text(object, "/kind") == kind)
}

/// One of them.
pub(super) fn find<'a>(objects: &'a [Value], kind_and_name: &str) -> Option<&'a Value> {
    objects.iter().find(|object| title(object) == kind_and_name)
}

/// All that make pods.
pub(super) fn pods(objects: &[Value]) -> Vec<Pod<'_>> {
    let pod = |object| -> Option<Pod<'_>> {
        let template = Value::pointer(object, "/spec/template")?;
        Some(Pod { of: title(object), labels: template.pointer("/metadata/labels")?, spec: template.get("spec")? })
    };
    objects.iter().filter_map(pod).collect()
}

/// Containers, those that come first among them.
pub(super) fn containers<'a>(pod: &Pod<'a>) -> Vec<&'a Value> {
    list(pod.spec, "/initContainers").iter().chain(list(pod.spec, "/containers")).collect()
}

/// Whether a selector, of labels or of expressions, takes these labels.
pub(super) fn selects(selector: &Value, labels: &Value) -> bool {
    let empty = Map::new();
    let wanted = selector.get("matchLabels").and_then(Value::as_object).unwrap_or(&empty);
    let by_labels = wanted.iter().all(|(key, value)| labels.get(key) == Some(value));
    let by_expressions = list(selector, "/matchExpressions").iter().all(|expression| {
        assert_eq!(text(expression, "/operator"), "In", "the only one in use");
        labels.get(text(expression, "/key")).is_some_and(|label| list(expression, "/values").contains(label))
    });
    by_labels && by_expressions
}

/// The selector of a Service, in the form of all others.
pub(super) fn service_selector(service: &Value) -> Value {
    json!({ "matchLabels": service.pointer("/spec/selector") })
}

/// The value of an option in a container's arguments.
pub(super) fn option<'a>(container: &'a Value, name: &str) -> Option<&'a str> {
    let value = |argument: &'a Value| argument.as_str()?.strip_prefix(name)?.strip_prefix('=');
    list(container, "/args").iter().find_map(value)
}
