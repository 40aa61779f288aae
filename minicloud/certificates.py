"""The cloud's certificate authority and the certificate of its servers.

On AWS every DB instance has a certificate that one of RDS's authorities signed, and clients download the bundle of
those authorities. Here each cloud makes an authority and one certificate for all its servers when it starts.
"""

import datetime
import ipaddress
import os
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

AUTHORITY = "rds-ca-ecc384-g1"  # the name of RDS's own authority for elliptic-curve keys; the key here is another
NAMES = ("localhost", "127.0.0.1", "127.0.0.2", "::1")  # what an endpoint here can be called
VALID = datetime.timedelta(days=30)  # longer than any cloud runs


def create_authority(directory: Path) -> Path:
    """Write `ca.pem` (the authority, for clients) and `server.pem` (key and certificate) there; return `ca.pem`."""
    key, server_key = ec.generate_private_key(ec.SECP384R1()), ec.generate_private_key(ec.SECP256R1())
    authority = _certificate(AUTHORITY, key, None, key, [
        (x509.BasicConstraints(ca=True, path_length=0), True), (_usage(sign_certificates=True), True)])
    names = [x509.DNSName(name) if name[0].isalpha() else x509.IPAddress(ipaddress.ip_address(name)) for name in NAMES]
    server = _certificate(NAMES[0], server_key, authority, key, [
        (x509.SubjectAlternativeName(names), False), (x509.BasicConstraints(ca=False, path_length=None), True),
        (_usage(sign_certificates=False), True), (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False)])
    bundle, pem = directory / "ca.pem", serialization.Encoding.PEM
    bundle.write_bytes(authority.public_bytes(pem))
    with open(os.open(directory / "server.pem", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(server_key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
        file.write(server.public_bytes(pem))
    return bundle


def _certificate(name, key, issuer, issuer_key, extensions) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder(
        issuer.subject if issuer else subject, subject, key.public_key(), x509.random_serial_number(),
        now - datetime.timedelta(hours=1), now + VALID)
    extensions = [*extensions, (x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False),
                  (x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), False)]
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    return builder.sign(issuer_key, hashes.SHA384())


def _usage(*, sign_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(digital_signature=True, key_cert_sign=sign_certificates, crl_sign=sign_certificates,
                         content_commitment=False, key_encipherment=False, data_encipherment=False, key_agreement=False,
                         encipher_only=False, decipher_only=False)


def describe(bundle: Path) -> dict:
    """Return the authority in the shape of a row of DescribeCertificates."""
    authority = x509.load_pem_x509_certificate(bundle.read_bytes())
    return {"CertificateIdentifier": AUTHORITY, "CertificateType": "CA",
            "Thumbprint": authority.fingerprint(hashes.SHA1()).hex(),  # as on AWS; nothing is decided by it
            "ValidFrom": authority.not_valid_before_utc, "ValidTill": authority.not_valid_after_utc}
