"""Makes the SSLContext of the TLS listeners from the settings. Reads the certificate and the key, so it may block."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

from starman.errors import SettingError
from starman.serving.tls.transport import reason

if TYPE_CHECKING:
    from starman.config.settings import Settings

# For TLS 1.2: forward secrecy and authenticated encryption only (RFC 9325 §4.2). All ciphers of TLS 1.3 have both.
_CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"


def server_context(settings: Settings) -> ssl.SSLContext:
    """Return the context of all TLS listeners, with the current certificate and key.

    Raises SettingError, which names the setting, if a file cannot be read, or if certificate and key do not belong
    together.
    """
    certificate, key = settings.ssl_cert, settings.ssl_key
    assert certificate is not None, "Settings requires a certificate if a listener is secure"
    _check_pem(settings, "ssl_cert", certificate, "CERTIFICATE-----", "no certificate in PEM format")
    if key is None:
        _check_pem(
            settings, "ssl_cert", certificate, "PRIVATE KEY-----", "no private key: give its file as ssl_key (--ssl-key FILE)"
        )
    else:
        _check_pem(settings, "ssl_key", key, "PRIVATE KEY-----", "no private key in PEM format")
    the_key = f"{settings.source('ssl_cert' if key is None else 'ssl_key')}: the private key in {key or certificate!r}"

    def passphrase() -> str:
        # Without this callback, OpenSSL would ask for it on the terminal, in each worker.
        raise SettingError(f"{the_key} has a passphrase: remove it")

    tls_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls_context.minimum_version = ssl.TLSVersion.TLSv1_2
    tls_context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    tls_context.set_ciphers(_CIPHERS)
    tls_context.set_alpn_protocols(["http/1.1"])
    try:
        tls_context.load_cert_chain(certificate, key, passphrase)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise SettingError(f"{the_key} does not belong to {certificate!r}") from None
        both = f"{certificate!r}" if key is None else f"{certificate!r} and {key!r}"
        raise SettingError(f"{_sources(settings)}: OpenSSL cannot use {both}: {reason(error)}") from None
    except OSError as error:  # the file was readable a moment ago
        raise SettingError(f"{_sources(settings)}: cannot be read: {error.strerror}") from None
    return tls_context


def _check_pem(settings: Settings, name: str, path: str, mark: str, lack: str) -> None:
    """Check that a file contains `mark`, else raise SettingError: OpenSSL itself reports every such error as "PEM
    lib"."""
    try:
        with open(path, encoding="latin-1") as file:
            text = file.read()
    except OSError as error:
        raise SettingError(f"{settings.source(name)}: cannot read {path!r}: {error.strerror}") from None
    if mark not in text:
        raise SettingError(f"{settings.source(name)}: {path!r} has {lack}")


def _sources(settings: Settings) -> str:
    return ", ".join(settings.source(name) for name in ("ssl_cert", "ssl_key") if settings.value(name) is not None)
