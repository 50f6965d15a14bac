//! How a log line looks: one JSON object, or one line for people.
//!
//! Fields of the spans that enclose an event stand beside the event's own, so a line says of
//! which call it is without being read with others; so do the ids of the trace and the span.

use std::{fmt, sync::OnceLock};

use anstyle::{AnsiColor, Style};
use chrono::{SecondsFormat, Utc};
use opentelemetry::trace::TraceContextExt as _;
use serde_json::{Map, Value};
use tracing::{
    Event, Level, Subscriber,
    dispatcher::{self, WeakDispatch},
    field::{Field, Visit},
    span,
};
use tracing_opentelemetry::get_otel_context;
use tracing_subscriber::{
    fmt::{
        FmtContext, FormattedFields,
        format::{FormatEvent, JsonFields, Writer},
    },
    registry::LookupSpan,
};

/// The subscriber of this process, in which spans are looked up.
static DISPATCH: OnceLock<WeakDispatch> = OnceLock::new();

/// Lets lines have the ids of their traces. Call it once the subscriber is set.
pub(super) fn know_traces() {
    dispatcher::get_default(|dispatch| {
        // A second one would be of another test in the same process.
        let _ = DISPATCH.set(dispatch.downgrade());
    });
}

/// Writes log lines.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lines {
    pub(super) json: bool,
    pub(super) colours: bool,
}

impl<S> FormatEvent<S, JsonFields> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn format_event(&self, ctx: &FmtContext<'_, S, JsonFields>, out: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut fields = Map::new();
        event.record(&mut Fields(&mut fields));
        let message = fields.remove("message");
        // The innermost first: its fields go before those of the spans around it.
        for span in ctx.event_scope().into_iter().flatten() {
            let extensions = span.extensions();
            let formatted = extensions.get::<FormattedFields<JsonFields>>();
            let of_span = formatted.and_then(|formatted| serde_json::from_str::<Map<_, _>>(&formatted.fields).ok());
            for (name, value) in of_span.into_iter().flatten() {
                if !name.starts_with("otel.") {
                    fields.entry(name).or_insert(value);
                }
            }
        }
        if let Some(span) = ctx.event_scope().and_then(|mut scope| scope.next()) {
            add_trace(&span.id(), &mut fields);
        }
        let line = Line { level: event.metadata().level(), target: event.metadata().target(), message, fields };
        if self.json { line.json(out) } else { line.text(out, self.colours) }
    }
}

fn add_trace(span: &span::Id, fields: &mut Map<String, Value>) {
    let Some(dispatch) = DISPATCH.get().and_then(WeakDispatch::upgrade) else { return };
    let Some(context) = get_otel_context(span, &dispatch) else { return };
    let context = context.span().span_context().clone();
    if context.is_valid() {
        fields.insert("trace_id".to_owned(), context.trace_id().to_string().into());
        fields.insert("span_id".to_owned(), context.span_id().to_string().into());
    }
}

struct Line<'a> {
    level: &'a Level,
    target: &'a str,
    message: Option<Value>,
    fields: Map<String, Value>,
}

impl Line<'_> {
    fn json(self, mut out: Writer<'_>) -> fmt::Result {
        let mut line = Map::new();
        line.insert("timestamp".to_owned(), now().into());
        line.insert("level".to_owned(), self.level.as_str().into());
        line.insert("target".to_owned(), self.target.into());
        line.insert("message".to_owned(), self.message.unwrap_or_default());
        line.extend(self.fields);
        writeln!(out, "{}", Value::Object(line))
    }

    fn text(self, mut out: Writer<'_>, colours: bool) -> fmt::Result {
        let style = if colours { style(*self.level) } else { Style::new() };
        let dim = if colours { Style::new().dimmed() } else { Style::new() };
        write!(out, "{dim}{}{dim:#} {style}{:>5}{style:#} ", now(), self.level.as_str())?;
        write!(out, "{dim}{}:{dim:#} {}", self.target, word(&self.message.unwrap_or_default()))?;
        for (name, value) in &self.fields {
            write!(out, " {dim}{name}={dim:#}{}", word(value))?;
        }
        out.write_char('\n')
    }
}

fn now() -> String {
    Utc::now().to_rfc3339_opts(SecondsFormat::Micros, true)
}

fn word(value: &Value) -> String {
    match value {
        // Control characters of others do not reach a terminal.
        Value::String(text) if text.chars().any(char::is_control) => value.to_string(),
        Value::String(text) => text.clone(),
        value => value.to_string(),
    }
}

fn style(level: Level) -> Style {
    let colour = match level {
        Level::ERROR => AnsiColor::Red,
        Level::WARN => AnsiColor::Yellow,
        Level::INFO => AnsiColor::Green,
        Level::DEBUG => AnsiColor::Blue,
        Level::TRACE => AnsiColor::Magenta,
    };
    colour.on_default()
}

/// Takes the fields of an event.
struct Fields<'a>(&'a mut Map<String, Value>);

impl Fields<'_> {
    fn take(&mut self, field: &Field, value: impl Into<Value>) {
        self.0.insert(field.name().to_owned(), value.into());
    }
}

impl Visit for Fields<'_> {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.take(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.take(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.take(field, value);
    }

    fn record_u128(&mut self, field: &Field, value: u128) {
        self.take(field, u64::try_from(value).unwrap_or(u64::MAX));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.take(field, value);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.take(field, value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.take(field, format!("{value:?}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_say_cannot_forge_a_line() {
        assert_eq!(word(&"plain words".into()), "plain words");
        assert_eq!(word(&"two\nlines \u{1b}[31m".into()), "\"two\\nlines \\u001b[31m\"");
    }
}
