"""Which certificates are trusted, and what is wrong with one that is not."""

from __future__ import annotations

import os
import ssl
from pathlib import Path

from flip_reward.errors import EngineUnavailableError

OPENSSL_VARIABLES = ("SSL_CERT_FILE", "SSL_CERT_DIR")
"""OpenSSL itself reads these, in the place of the system's certificates."""
BUNDLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
"""Variables of other programs: a file or a folder of certificates to trust instead of the system's."""
_TRUST = "if you trust it, name the certificate of who signed it in SSL_CERT_FILE or REQUESTS_CA_BUNDLE"

# OpenSSL's X509_V_ERR_ numbers
_SELF_SIGNED = frozenset({18, 19})
_UNKNOWN_ISSUER = frozenset({2, 20, 21})
_NOT_YET_VALID, _EXPIRED = 9, 10
_OTHER_NAME = frozenset({62, 63, 64})


def make_context() -> ssl.SSLContext:
    """Trust what the environment names, and where it names nothing, what the system trusts.

    Raises:
        EngineUnavailableError: One of `BUNDLES` names something that holds no certificates.
    """
    named = [(variable, Path(os.environ[variable])) for variable in BUNDLES if os.environ.get(variable)]
    if not named:
        return ssl.create_default_context()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if any(map(os.environ.get, OPENSSL_VARIABLES)):
        context.load_default_certs()
    for variable, path in named:
        try:
            if path.is_dir():
                context.load_verify_locations(capath=path)
            else:
                context.load_verify_locations(cafile=path)
        except OSError as error:
            raise EngineUnavailableError(
                f"{variable} names no certificates that can be read: {path}: {error.strerror or error}"
            ) from error
    return context


def explain_certificate(peer: str, error: ssl.SSLCertVerificationError) -> EngineUnavailableError:
    """Say why a certificate is not trusted. That concerns every request, and waiting does not mend it."""
    code, hint = error.verify_code, _TRUST
    if code in _OTHER_NAME:
        problem, hint = "is for another host", "use the name in the certificate in --base-url"
    elif code in _SELF_SIGNED:
        problem = "is self-signed, or signed by an authority that is not trusted here"
    elif code in _UNKNOWN_ISSUER:
        problem = "is signed by an authority that is not known here"
    elif code == _EXPIRED:
        problem, hint = "has expired", "renew it, or set this machine's clock"
    elif code == _NOT_YET_VALID:
        problem, hint = "is not valid yet", "set this machine's clock"
    else:
        problem = "is not trusted"
    return EngineUnavailableError(f"the certificate of {peer} {problem} ({error.verify_message})", hint=hint)


def speaks_no_tls(error: ssl.SSLError) -> bool:
    """Whether a server answered in plain text where TLS was expected."""
    return error.reason in ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE", "UNKNOWN_PROTOCOL")
