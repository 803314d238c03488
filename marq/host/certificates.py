"""The certificate that https addresses answer with: a PEM pair, or a PKCS12 keystore that becomes one."""

import ssl
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from marq.settings import addresses
from marq.settings.fields import Settings
from marq.settings.properties import SettingsError

FILE_NAME = "tls.pem"
SOON_DAYS = 14
# TLS 1.2 with forward secrecy, and whatever TLS 1.3 has
CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
CONVERT = (
    "Convert it with: keytool -importkeystore -srckeystore FILE -destkeystore FILE.p12 -deststoretype PKCS12"
)
WANTED = (
    "needs a certificate: set private_key_file and certificate_file (PEM), or keystore, keystore_pass and "
    "keystore_type=PKCS12"
)


def uses_tls(settings: Settings) -> bool:
    """Whether any address is https, or gRPC uses TLS."""
    return bool(_users(settings))


def prepare(settings: Settings) -> Settings:
    """The settings with a PEM pair that https addresses can use, and without the keystore's password.

    A keystore wins over a PEM pair, as in TorchServe. Raises SettingsError.
    """
    if not uses_tls(settings):
        return settings
    if settings.keystore:
        pem = _converted(settings, settings.state_dir / "run" / FILE_NAME)
        unset = {"keystore": None, "keystore_pass": ""}
        settings = settings.model_copy(update={"private_key_file": pem, "certificate_file": pem, **unset})
    if not (settings.private_key_file and settings.certificate_file):
        name = _users(settings)[0]
        raise SettingsError(f"{name}: {getattr(settings, name)} {WANTED}.")
    if settings.enable_grpc and (authorities := settings.grpc_client_ca_file):
        _check_authorities(authorities)
    context(settings)
    return settings


def certificate(settings: Settings) -> str:
    """The file of the certificate that https addresses answer with; empty if none is https."""
    file = settings.certificate_file if uses_tls(settings) else None
    return str(file.resolve()) if file else ""


def days_left(settings: Settings) -> int:
    """Days until the certificate expires; negative: it has expired. Raises SettingsError."""
    from cryptography import x509

    with tempfile.TemporaryDirectory() as directory:
        prepared = prepare(settings.model_copy(update={"state_dir": Path(directory)}))
        assert prepared.certificate_file is not None  # noqa: S101 - prepared
        read = x509.load_pem_x509_certificate(prepared.certificate_file.read_bytes())
    return (read.not_valid_after_utc - datetime.now(UTC)).days


def context(settings: Settings) -> ssl.SSLContext:
    """The TLS context of a listener. Raises SettingsError."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    made.set_ciphers(CIPHERS)
    certificate, key = str(settings.certificate_file), str(settings.private_key_file)
    try:
        made.load_cert_chain(certificate, key, password="")  # it would be asked for on the terminal
    except (OSError, ssl.SSLError) as error:
        raise SettingsError(
            f"certificate_file {certificate} and private_key_file {key} cannot be used: {error}. "
            "Both must be PEM files without a password, and belong together."
        ) from None
    return made


def _users(settings: Settings) -> list[str]:
    """The settings that ask for TLS."""
    names = ["inference_address", "management_address"]
    if settings.enable_metrics_api:
        names.append("metrics_address")
    users = [name for name in names if addresses.parse(getattr(settings, name)).tls]
    return [*users, "enable_grpc_ssl"] if settings.enable_grpc and settings.enable_grpc_ssl else users


def _check_authorities(file: Path) -> None:
    """Raises SettingsError unless the file has certificates."""
    try:
        ssl.create_default_context(cafile=str(file))
    except (OSError, ssl.SSLError) as error:
        raise SettingsError(f"grpc_client_ca_file {file} cannot be used: {error}. It must be PEM.") from None


def _converted(settings: Settings, target: Path) -> Path:
    """Writes key and certificates of the keystore as PEM, readable by the user alone."""
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, pkcs12

    path, password = settings.keystore, settings.keystore_pass
    if settings.keystore_type.upper() not in ("PKCS12", "PFX"):
        raise SettingsError(
            f"keystore_type: only PKCS12 can be read, not {settings.keystore_type}. {CONVERT}"
        )
    assert path is not None  # noqa: S101 - asked by the caller
    try:
        key, certificate, chain = pkcs12.load_key_and_certificates(path.read_bytes(), password.encode())
    except (OSError, ValueError) as error:
        raise SettingsError(
            f"keystore {path} cannot be read: {error} Check keystore_pass. {CONVERT}"
        ) from None
    if key is None or certificate is None:
        raise SettingsError(f"keystore {path} has no private key with a certificate.")
    target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    target.touch(mode=0o600)
    target.chmod(0o600)
    target.write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        + b"".join(each.public_bytes(Encoding.PEM) for each in (certificate, *chain))
    )
    return target
