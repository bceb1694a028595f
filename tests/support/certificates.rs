//! Certificates of the tests' own.

use std::fs;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

/// An authority, which signs certificates and puts them into files.
#[derive(Debug)]
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

/// A certificate and its key, in PEM.
#[derive(Debug, Clone)]
pub struct Certified {
    /// The certificate.
    pub certificate: String,
    /// The key.
    pub key: String,
}

/// A certificate and its key, in files.
#[derive(Debug, Clone)]
pub struct Pair {
    /// The certificate.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

impl Authority {
    /// A new one that nobody knows.
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self {
            issuer: Issuer::new(params, key),
            pem,
        }
    }

    /// Its own certificate.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// Puts its own certificate into a file.
    pub fn write(&self, path: &Path) {
        fs::write(path, &self.pem).unwrap();
    }

    /// A certificate for this name, for servers and clients.
    pub fn certify(&self, name: &str) -> Certified {
        self.certify_all(name, &[name])
    }

    fn certify_all(&self, common_name: &str, names: &[&str]) -> Certified {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params
            .distinguished_name
            .push(DnType::CommonName, common_name);
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

    /// Signs a certificate for these names, or IP addresses, into files that begin with `stem`.
    pub fn sign(&self, directory: &Path, stem: &str, names: &[&str]) -> Pair {
        let certified = self.certify_all(stem, names);
        let pair = Pair {
            certificate: directory.join(format!("{stem}.crt")),
            key: directory.join(format!("{stem}.key")),
        };
        fs::write(&pair.certificate, certified.certificate).unwrap();
        fs::write(&pair.key, certified.key).unwrap();
        pair
    }

    /// Writes what Kubernetes mounts of a TLS secret: `tls.crt`, `tls.key` and `ca.crt`, each in one
    /// step.
    pub fn mount(&self, certified: &Certified, directory: &Path) {
        let files = [
            ("tls.crt", certified.certificate.as_str()),
            ("tls.key", certified.key.as_str()),
            ("ca.crt", self.pem()),
        ];
        for (name, text) in files {
            let temporary = directory.join(format!(".{name}"));
            fs::write(&temporary, text).unwrap();
            fs::rename(temporary, directory.join(name)).unwrap();
        }
    }
}
