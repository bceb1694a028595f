//! A certificate authority of the test's own.

use std::fs;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

/// Signs certificates for servers and clients.
#[derive(Debug)]
pub struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its key, in PEM.
#[derive(Debug, Clone)]
pub struct Certified {
    /// The certificate.
    pub certificate: String,
    /// The key.
    pub key: String,
}

impl Authority {
    /// A new authority; nobody trusts it yet.
    ///
    /// # Panics
    /// When a key cannot be made.
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        let issuer = Issuer::new(params, key);
        Self { pem, issuer }
    }

    /// Its own certificate, in PEM.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// A certificate for this name, for servers and clients.
    ///
    /// # Panics
    /// When a key cannot be made.
    pub fn certify(&self, name: &str) -> Certified {
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Certified {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        }
    }

    /// Writes what Kubernetes mounts of a TLS secret: `tls.crt`, `tls.key` and `ca.crt`, each in one
    /// step.
    ///
    /// # Panics
    /// When they cannot be written.
    pub fn mount(&self, certified: &Certified, directory: &Path) {
        let files = [
            ("tls.crt", certified.certificate.as_str()),
            ("tls.key", certified.key.as_str()),
            ("ca.crt", self.pem()),
        ];
        for (name, text) in files {
            let temporary: PathBuf = directory.join(format!(".{name}"));
            fs::write(&temporary, text).unwrap();
            fs::rename(temporary, directory.join(name)).unwrap();
        }
    }
}
