//! An overlay as an operator writes one: the production's, with versions and options of one's own.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use super::Manifests;

/// What an operator adds to the production's overlay.
#[derive(Clone, Debug)]
pub struct Overlay {
    /// The version of both images.
    pub version: String,
    /// Options of the gateway.
    pub gateway_options: Vec<String>,
    /// Whom the gateway trusts to vouch for providers: a file in its pods.
    pub providers_ca: String,
}

impl Overlay {
    /// Writes it into a folder, and renders it.
    ///
    /// # Errors
    ///
    /// As [`Manifests::render`].
    pub async fn render(&self, folder: &Path) -> Result<Manifests> {
        let folder = folder.join(format!("overlay-{}", self.version));
        fs::create_dir(&folder)?;
        fs::write(folder.join("kustomization.yaml"), self.text(&folder)?)?;
        Manifests::render(&folder).await
    }

    fn text(&self, folder: &Path) -> Result<String> {
        let production = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/kubernetes/overlays/production");
        let production = way(folder, &production)?;
        let mut text = format!(
            "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources: [{}]\nimages:\n",
            production.display()
        );
        for name in ["key-vault", "chat-gateway"] {
            writeln!(text, "  - {{ name: {name}, newTag: {} }}", self.version)?;
        }
        text += "patches:\n  - target: { kind: Deployment, name: chat-gateway }\n    patch: |-\n";
        for option in &self.gateway_options {
            writeln!(
                text,
                "      - {{ op: add, path: /spec/template/spec/containers/0/args/-, value: \"{option}\" }}"
            )?;
        }
        let variable = format!("{{ name: SSL_CERT_FILE, value: {} }}", self.providers_ca);
        writeln!(text, "      - {{ op: add, path: /spec/template/spec/containers/0/env, value: [{variable}] }}")?;
        Ok(text)
    }
}

/// The way from a folder to another. Kustomize takes no other.
fn way(from: &Path, to: &Path) -> Result<PathBuf> {
    let (from, to) = (from.canonicalize()?, to.canonicalize().context("the production's overlay")?);
    let up: PathBuf = from.components().skip(1).map(|_| "..").collect();
    Ok(up.join(to.strip_prefix("/")?))
}
