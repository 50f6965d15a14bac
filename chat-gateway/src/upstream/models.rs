//! The list of models: asked for to learn what a key reaches, and whether it is accepted.

use http::{HeaderValue, header};
use tokio::time::{Instant, timeout_at};
use url::form_urlencoded;

use super::{Fault, Scrubber, Upstream, body, content_type};
use crate::{
    message::{KeyMaterial, Provider as Name},
    provider::{self, Checked, ModelPage, RejectionKind, Reservation, Standing},
};

/// A list of models that a key is checked with. An account with thousands of its own has some
/// hundred KiB.
const CHECK_BYTES_MAX: usize = 1024 * 1024;

/// A page of a list of models: a thousand, of each of which a provider may say some KiB.
const PAGE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// An answer to the request for the list.
struct Answer {
    status: u16,
    content_type: String,
    /// As many bytes as are read came; there may be more.
    full: bool,
    /// The words of the provider are scrubbed of the key.
    checked: Checked,
}

impl Upstream {
    /// When a list of models that is asked for now must be there.
    pub(crate) fn list_deadline(&self, callers: Option<Instant>) -> Instant {
        let ours = Instant::now() + self.options.model_list_timeout;
        callers.map_or(ours, |callers| callers.min(ours))
    }

    /// Asks for a page of the list of models: the first, or the one after `after`.
    ///
    /// # Errors
    ///
    /// A [`Fault`] if it is not there by the deadline, or something else is.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the connection or resets the HTTP/2 stream.
    pub(crate) async fn models_page(
        &self,
        name: Name,
        key: &KeyMaterial,
        after: Option<&str>,
        deadline: Instant,
    ) -> Result<ModelPage, Fault> {
        let query = provider::of(name).models_query(after);
        let Answer { status, content_type, full, checked } =
            self.ask_for_models(name, key, &query, PAGE_BYTES_MAX, deadline).await?;
        match checked {
            Checked { page: Some(page), .. } => Ok(page),
            Checked { standing, rejection: Some(mut rejection), .. } => {
                // Of some keys it is only said in words that they are good for other things.
                if standing == Standing::AcceptedWith(Reservation::NoList) {
                    rejection.kind = RejectionKind::Permission;
                }
                Err(Fault::Rejected { status, rejection })
            }
            Checked { standing: Standing::WrongEndpoint, .. } if full => {
                Err(Fault::Malformed("a page of models that is too large"))
            }
            Checked { standing: Standing::WrongEndpoint, .. } => Err(Fault::NotAStream { status, content_type }),
            Checked { .. } if Instant::now() >= deadline => Err(Fault::TotalTimeout),
            Checked { .. } => Err(Fault::EndedEarly),
        }
    }

    /// Asks for the list of models, and judges what the answer says about the key. The words of
    /// the provider are scrubbed of the key.
    ///
    /// # Errors
    ///
    /// A [`Fault`] if no answer came in time, by `callers` deadline at the latest.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the connection or resets the HTTP/2 stream.
    pub(crate) async fn check_key(
        &self,
        name: Name,
        key: &KeyMaterial,
        callers: Option<Instant>,
    ) -> Result<(u16, Checked), Fault> {
        let ours = Instant::now() + self.options.key_check_timeout;
        let deadline = callers.map_or(ours, |callers| callers.min(ours));
        let answer = self.ask_for_models(name, key, &[], CHECK_BYTES_MAX, deadline).await?;
        Ok((answer.status, answer.checked))
    }

    async fn ask_for_models(
        &self,
        name: Name,
        key: &KeyMaterial,
        query: &[(&'static str, String)],
        bytes_max: usize,
        deadline: Instant,
    ) -> Result<Answer, Fault> {
        let provider = provider::of(name);
        let (path, mut headers) = provider.models();
        let (header, credential) = provider.credential(key).ok_or(Fault::KeyNotSendable)?;
        headers.insert(header, credential);
        headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        let mut url = self.url(name, path);
        if !query.is_empty() {
            url.push('?');
            url.push_str(&form_urlencoded::Serializer::new(String::new()).extend_pairs(query).finish());
        }
        let client = self.lease(name)?;
        let response = timeout_at(deadline, client.get(url).headers(headers).send()).await;
        let response = response.map_err(|_| Fault::TotalTimeout)?;
        let response = response.map_err(|error| Fault::Unreachable(error.without_url().into()))?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let (body, whole) = body(response, bytes_max, deadline).await;
        let mut checked = provider::judge(provider, status, &headers, &body, whole);
        checked.rejection = checked.rejection.map(|rejection| Scrubber::new(key).scrub(rejection));
        Ok(Answer { status, content_type: content_type(&headers), full: body.len() == bytes_max, checked })
    }
}
