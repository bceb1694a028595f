//! Certificates for tests.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

/// A certificate authority that signs certificates and writes them to files.
#[derive(Debug)]
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

/// A certificate and its private key in PEM.
#[derive(Debug, Clone)]
pub struct Certified {
    /// The certificate.
    pub certificate: String,
    /// The key.
    pub key: String,
}

/// The files of a certificate and its private key.
#[derive(Debug, Clone)]
pub struct Pair {
    /// The certificate.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

/// The kinds of certificates that `openssl` creates for tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// A self-signed certificate with `CA:TRUE` for `localhost`, as `openssl req -x509` creates it.
    Ca,
    /// A self-signed certificate that has expired.
    Expired,
    /// A self-signed certificate of X.509 version 1, which has no names besides its subject.
    Version1,
}

impl Pair {
    /// Creates a certificate and its key with `openssl`, in files whose names start with `stem`.
    ///
    /// # Panics
    /// When `openssl` is missing or fails.
    pub fn openssl(directory: &Path, stem: &str, form: Form) -> Self {
        let pair = Self {
            certificate: directory.join(format!("{stem}.crt")),
            key: directory.join(format!("{stem}.key")),
        };
        let request = directory.join(format!("{stem}.csr"));
        let path = |path: &Path| path.display().to_string();
        let (certificate, key, request) =
            (path(&pair.certificate), path(&pair.key), path(&request));
        let subject = format!("/CN={stem}");
        let made = [
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-keyout",
            &key,
        ];
        let named = ["req", "-subj", &subject];
        let names = ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"];
        match form {
            Form::Ca => {
                openssl(&[&named[..], &made, &names, &["-x509", "-out", &certificate]]);
            }
            Form::Expired => {
                openssl(&[&named[..], &made, &["-new", "-out", &request]]);
                let extensions = directory.join(format!("{stem}.ext"));
                fs::write(
                    &extensions,
                    "subjectAltName=DNS:localhost\nbasicConstraints=critical,CA:TRUE\n",
                )
                .unwrap();
                // The certificate expires before it becomes valid.
                openssl(&[
                    &[
                        "x509", "-req", "-in", &request, "-signkey", &key, "-days", "-1",
                    ][..],
                    &["-extfile", &path(&extensions), "-out", &certificate],
                ]);
            }
            Form::Version1 => {
                openssl(&[&named[..], &made, &["-new", "-out", &request]]);
                // Without extensions, openssl creates version 1.
                openssl(&[
                    &[
                        "x509", "-req", "-in", &request, "-signkey", &key, "-days", "30",
                    ][..],
                    &["-out", &certificate],
                ]);
                let text = openssl(&[&["x509", "-noout", "-text", "-in", &certificate]]);
                assert!(text.contains("Version: 1 (0x0)"), "{text}");
            }
        }
        pair
    }
}

/// Runs `openssl` and returns its output.
fn openssl(arguments: &[&[&str]]) -> String {
    let output = Command::new("openssl").args(arguments.concat()).output();
    let output = output.unwrap_or_else(|error| panic!("openssl: {error}: run tests/setup"));
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "openssl {arguments:?}: {error}");
    String::from_utf8(output.stdout).unwrap()
}

impl Authority {
    /// Creates an authority with a new key.
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

    /// The authority's certificate in PEM.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// Writes the authority's certificate to a file.
    pub fn write(&self, path: &Path) {
        fs::write(path, &self.pem).unwrap();
    }

    /// Signs a certificate for a name, for use by servers and clients.
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

    /// Signs a certificate for names or IP addresses and writes it to files whose names start with `stem`.
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

    /// Writes the files that Kubernetes mounts for a TLS secret, `tls.crt`, `tls.key` and `ca.crt`, and replaces each file
    /// atomically.
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
