//! What the refusals of all providers have in common: their statuses, the shapes of
//! their bodies, and how long they ask to wait.

use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderName, header};
use serde::{Deserialize, de::IgnoredAny};
use serde_json::Value;

use super::RejectionKind;

/// What a status says by itself. `None` if it is no refusal: an error inside a 200.
pub(super) fn kind_of_status(status: u16) -> Option<RejectionKind> {
    Some(match status {
        0..400 => return None,
        401 => RejectionKind::Key,
        402 => RejectionKind::Quota,
        403 => RejectionKind::Permission,
        404 => RejectionKind::ModelNotFound,
        408 | 504 => RejectionKind::Timeout,
        // A conflict or a request that came too early; the vendors' SDKs send it again.
        409 | 425 => RejectionKind::Internal,
        429 => RejectionKind::RateLimited,
        503 | 529 => RejectionKind::Overloaded,
        400..500 => RejectionKind::InvalidRequest,
        500.. => RejectionKind::Internal,
    })
}

/// The body of a refusal, whatever its shape: an object with `error`, that in an array,
/// the inner error by itself, or no JSON at all.
#[derive(Debug)]
pub(super) struct ErrorBody {
    error: Value,
    plain: String,
}

/// A body that is no JSON is the text of a proxy; its beginning says enough.
const PLAIN_CHARS_MAX: usize = 300;

impl ErrorBody {
    pub(super) fn parse(body: &[u8]) -> Self {
        let Ok(value) = serde_json::from_slice::<Value>(body) else {
            return Self { error: Value::Null, plain: plain_text(body) };
        };
        let outer = match value {
            Value::Array(items) => items.into_iter().next().unwrap_or_default(),
            other => other,
        };
        let error = match outer {
            Value::Object(mut fields) if fields.get("error").is_some_and(|error| !error.is_null()) => {
                fields.remove("error").unwrap_or_default()
            }
            other => other,
        };
        let plain = error.as_str().unwrap_or_default().to_owned();
        Self { error, plain }
    }

    /// A field of the error as text; a number as its digits. Empty if there is none.
    pub(super) fn word(&self, field: &str) -> String {
        match &self.error[field] {
            Value::String(word) => word.clone(),
            Value::Number(number) => number.to_string(),
            Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => String::new(),
        }
    }

    pub(super) fn message(&self) -> String {
        [self.word("message"), self.word("detail"), self.plain.clone()]
            .into_iter()
            .find(|text| !text.is_empty())
            .unwrap_or_default()
    }

    /// The items of a list of the error.
    pub(super) fn list(&self, field: &str) -> &[Value] {
        self.error[field].as_array().map_or(&[], Vec::as_slice)
    }
}

/// The beginning of a text body. A page of HTML says nothing that anybody wants to read.
fn plain_text(body: &[u8]) -> String {
    if is_page(body) {
        String::new()
    } else {
        String::from_utf8_lossy(body).trim().chars().take(PLAIN_CHARS_MAX).collect()
    }
}

/// Whether a body is a page for people.
pub(super) fn is_page(body: &[u8]) -> bool {
    body.trim_ascii_start().starts_with(b"<")
}

/// Whether a body of a 200 is an error nevertheless.
pub(crate) fn is_error(body: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Body {
        #[serde(default)]
        error: Option<IgnoredAny>,
    }
    let one = serde_json::from_slice::<Body>(body).is_ok_and(|body| body.error.is_some());
    one || serde_json::from_slice::<Vec<Body>>(body).is_ok_and(|all| all.iter().any(|body| body.error.is_some()))
}

/// Longest wait that is believed. A header beyond it is a mistake.
const RETRY_AFTER_MAX: Duration = Duration::from_hours(24 * 31);

/// How long the headers of a refusal ask to wait: `retry-after-ms`, which is the more
/// exact, or `retry-after` in seconds or as a date. A date counts from the `date` of the
/// same answer, so that no clock of ours is involved.
pub(super) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    const RETRY_AFTER_MS: HeaderName = HeaderName::from_static("retry-after-ms");
    let text = |name: &HeaderName| headers.get(name)?.to_str().ok().map(str::trim);
    if let Some(millis) = text(&RETRY_AFTER_MS).and_then(|millis| millis.parse::<f64>().ok()) {
        return seconds(millis / 1000.0);
    }
    let after = text(&header::RETRY_AFTER)?;
    if let Ok(number) = after.parse::<f64>() {
        return seconds(number);
    }
    let until: SystemTime = httpdate::parse_http_date(after).ok()?;
    let now = httpdate::parse_http_date(text(&header::DATE)?).ok()?;
    Some(until.duration_since(now).unwrap_or_default()).filter(|wait| *wait <= RETRY_AFTER_MAX)
}

/// Whether the same may be sent again, where the headers of a refusal say it outright.
pub(super) fn should_retry(headers: &HeaderMap) -> Option<bool> {
    const X_SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");
    headers.get(X_SHOULD_RETRY)?.to_str().ok()?.trim().parse().ok()
}

/// A number of seconds, if it can be waited for.
pub(super) fn seconds(number: f64) -> Option<Duration> {
    Duration::try_from_secs_f64(number).ok().filter(|wait| *wait <= RETRY_AFTER_MAX)
}

/// Whether waiting may help at all.
pub(super) fn waiting_helps(kind: RejectionKind) -> bool {
    match kind {
        RejectionKind::RateLimited | RejectionKind::Overloaded | RejectionKind::Internal | RejectionKind::Timeout => {
            true
        }
        RejectionKind::InvalidRequest
        | RejectionKind::ContextLength
        | RejectionKind::ModelNotFound
        | RejectionKind::Key
        | RejectionKind::Permission
        | RejectionKind::Quota => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_is_read_from_the_headers() {
        let date = "Wed, 21 Oct 2015 07:28:00 GMT";
        let later = "Wed, 21 Oct 2015 07:28:42 GMT";
        for (headers, wait) in [
            (vec![], None),
            (vec![("retry-after", "17")], Some(Duration::from_secs(17))),
            (vec![("retry-after", " 1.5 ")], Some(Duration::from_millis(1500))),
            (vec![("retry-after", "0")], Some(Duration::ZERO)),
            (vec![("retry-after-ms", "250")], Some(Duration::from_millis(250))),
            (vec![("retry-after", "17"), ("retry-after-ms", "250")], Some(Duration::from_millis(250))),
            (vec![("retry-after", later), ("date", date)], Some(Duration::from_secs(42))),
            (vec![("retry-after", date), ("date", later)], Some(Duration::ZERO)),
            (vec![("retry-after", later)], None),
            (vec![("retry-after", later), ("date", "today")], None),
            (vec![("retry-after", "-1")], None),
            (vec![("retry-after", "inf")], None),
            (vec![("retry-after", "NaN")], None),
            (vec![("retry-after", "1e300")], None),
            (vec![("retry-after", "soon")], None),
        ] {
            let map: HeaderMap =
                headers.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap())).collect();
            assert_eq!(retry_after(&map), wait, "{headers:?}");
        }
    }

    #[test]
    fn whether_to_send_it_again_is_read_as_it_is_written() {
        for (value, said) in [("true", Some(true)), (" false", Some(false)), ("1", None), ("", None)] {
            let headers = HeaderMap::from_iter([(HeaderName::from_static("x-should-retry"), value.parse().unwrap())]);
            assert_eq!(should_retry(&headers), said, "{value:?}");
        }
        assert_eq!(should_retry(&HeaderMap::new()), None);
    }

    #[test]
    fn a_body_of_any_shape_says_what_it_can() {
        for (body, code, message) in [
            (r#"{"error":{"code":"c","message":"m"}}"#, "c", "m"),
            (r#"[{"error":{"code":400,"message":"m"}}]"#, "400", "m"),
            (r#"{"code":"c","message":"m"}"#, "c", "m"),
            (r#"{"error":"m"}"#, "", "m"),
            (r#"{"detail":"m"}"#, "", "m"),
            (r#"{"error":null,"message":"m"}"#, "", "m"),
            ("upstream connect error", "", "upstream connect error"),
            ("<html><body>502</body></html>", "", ""),
            ("", "", ""),
            ("[]", "", ""),
            ("7", "", ""),
        ] {
            let body = ErrorBody::parse(body.as_bytes());
            assert_eq!((body.word("code").as_str(), body.message().as_str()), (code, message), "{body:?}");
        }
        assert_eq!(ErrorBody::parse(&[0xff; 4000]).message().chars().count(), PLAIN_CHARS_MAX);
    }

    #[test]
    fn an_error_in_a_200_is_an_error() {
        assert!(is_error(br#"{"error":{"message":"no"}}"#));
        assert!(is_error(br#"[{"error":{"code":429}}]"#));
        assert!(!is_error(br#"{"id":"1","error":null}"#));
        assert!(!is_error(b"<html>"));
    }
}
