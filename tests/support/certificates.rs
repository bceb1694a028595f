//! Certificates of the tests' own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

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

/// What `openssl` makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// A certificate of an authority that signed itself, for `localhost`: `openssl req -x509`.
    Ca,
    /// The same, whose time is over.
    Expired,
    /// X.509 version 1, signed by itself; it has no place for names but its subject.
    Version1,
}

impl Pair {
    /// A certificate and its key as `openssl` makes them, in files that begin with `stem`.
    ///
    /// # Panics
    /// When there is no `openssl`, or it fails.
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
                // As long ago as it is to the end: a validity of no time.
                openssl(&[
                    &[
                        "x509", "-req", "-in", &request, "-signkey", &key, "-days", "-1",
                    ][..],
                    &["-extfile", &path(&extensions), "-out", &certificate],
                ]);
            }
            Form::Version1 => {
                openssl(&[&named[..], &made, &["-new", "-out", &request]]);
                // Without extensions, that is version 1, or is made so.
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

/// What `openssl` prints, given these arguments.
fn openssl(arguments: &[&[&str]]) -> String {
    let output = Command::new("openssl").args(arguments.concat()).output();
    let output = output.unwrap_or_else(|error| panic!("openssl: {error}: run tests/setup"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "openssl {arguments:?}: {said}");
    String::from_utf8(output.stdout).unwrap()
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
