"""The files of TLS: what is served, and what is refused before a port is opened."""

from __future__ import annotations

from pathlib import Path

import pytest
import trustme

from spear import config as configuration
from spear.config import Config
from spear.errors import InvalidArgument, PermissionDenied
from spear.security.tls import read_tls


@pytest.fixture
def files(tmp_path: Path) -> dict[str, object]:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    issued = authority.issue_cert("localhost")
    (tmp_path / "cert.pem").write_bytes(b"".join(part.bytes() for part in issued.cert_chain_pems))
    (tmp_path / "key.pem").write_bytes(issued.private_key_pem.bytes())
    (tmp_path / "key.pem").chmod(0o600)
    return {
        "grpc.enable_tls": True,
        "grpc.cert_path": str(tmp_path / "cert.pem"),
        "grpc.key_path": str(tmp_path / "key.pem"),
        "grpc.client_ca_path": str(tmp_path / "ca.pem"),
    }


def config(values: dict[str, object]) -> Config:
    return configuration.load(
        environ={}, flags={key: (key, value) for key, value in values.items()}
    )


def test_the_files_are_read(files: dict[str, object]) -> None:
    found = read_tls(config(files))
    assert found is not None
    assert b"BEGIN CERTIFICATE" in found.certificates
    assert b"PRIVATE KEY" in found.key
    assert b"BEGIN CERTIFICATE" in found.client_ca
    found = read_tls(config({**files, "grpc.client_ca_path": "off"}))
    assert found is not None
    assert found.client_ca == b""


def test_without_tls_there_is_nothing_to_read(files: dict[str, object]) -> None:
    assert read_tls(config({})) is None
    with pytest.raises(InvalidArgument, match=r"cert_path is given, but grpc.enable_tls is false"):
        read_tls(config({**files, "grpc.enable_tls": False}))


@pytest.mark.parametrize("key", ["grpc.cert_path", "grpc.key_path"])
def test_a_file_that_is_needed_is_named(files: dict[str, object], key: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match=f"needs {key}"):
        read_tls(config({**files, key: "off"}))
    with pytest.raises(InvalidArgument, match=f"{key}: cannot read .*No such file"):
        read_tls(config({**files, key: str(tmp_path / "missing.pem")}))


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("grpc.cert_path", "do not serve TLS"),
        ("grpc.key_path", "do not serve TLS"),
        ("grpc.client_ca_path", "holds no certificates"),
    ],
)
def test_what_is_no_certificate_is_refused(files: dict[str, object], key: str, said: str) -> None:
    Path(str(files[key])).write_text("nothing of the kind")
    with pytest.raises(InvalidArgument, match=said):
        read_tls(config(files))


def test_a_key_of_another_certificate_is_refused(files: dict[str, object], tmp_path: Path) -> None:
    other = trustme.CA().issue_cert("localhost")
    Path(str(files["grpc.key_path"])).write_bytes(other.private_key_pem.bytes())
    with pytest.raises(InvalidArgument, match="do not serve TLS"):
        read_tls(config(files))


def test_a_key_that_others_can_read_is_refused(files: dict[str, object]) -> None:
    Path(str(files["grpc.key_path"])).chmod(0o644)
    with pytest.raises(PermissionDenied, match=r"mode 0644.*chmod 600"):
        read_tls(config(files))


def test_a_key_under_a_passphrase_is_refused(files: dict[str, object]) -> None:
    from cryptography.hazmat.primitives import serialization

    path = Path(str(files["grpc.key_path"]))
    key = serialization.load_pem_private_key(path.read_bytes(), None)
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    with pytest.raises(InvalidArgument, match="passphrase"):
        read_tls(config(files))
