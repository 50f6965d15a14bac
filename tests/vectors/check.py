"""Opens and makes sealed values of format v1, without any code of the vault.

Written from docs/adr/0008-sealing-format.md alone, with the package `cryptography`. If this script and the vault
disagree, one of them is not what the document says.

    check.py open FILE    opens every value of a file of vectors, and seals it again: prints how many
    check.py seal         seals values with random keys, and prints them as a file of vectors

Whoever has the keyring and a copy of the database can open it with what stands here: see `open_vector`.
"""

import hmac
import json
import os
import sys
import uuid

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

FORMAT_AND_ALGORITHM = bytes([1, 1])
NONCE_BYTES = 12
WRAPPED_BYTES = 32 + 16
CANARY = b"archestra key-vault canary v1..."


def fields(label, *values):
    """Associated data: each field behind its length, as four bytes, big endian."""
    encoded = b""
    for value in (label, *values):
        value = value.encode() if isinstance(value, str) else value
        encoded += len(value).to_bytes(4, "big") + value
    return encoded


def row(v):
    return (
        uuid.UUID(v["vault_id"]).bytes,
        v["organization_id"],
        uuid.UUID(v["api_key_id"]).bytes,
        v["provider"],
        v["version"].to_bytes(8, "big"),
        FORMAT_AND_ALGORITHM,
    )


def associated_data(v):
    vault = uuid.UUID(v["vault_id"]).bytes
    return {
        "payload": fields("akv/secret/v1", *row(v)),
        "dek": fields("akv/dek/v1", *row(v), v["kek_id"]),
        "kek": fields("akv/kek/v1", vault, v["kek_id"]),
        "canary": fields("akv/canary/v1", vault, v["kek_id"]),
        "fingerprint_key": fields("akv/fingerprint-key/v1", vault, v["kek_id"]),
    }


def sha256(key, message):
    return hmac.digest(key, message, "sha256")


def fingerprint(v):
    message = fields("akv/fingerprint/v1", v["organization_id"], v["provider"], v["plaintext"])
    return sha256(bytes.fromhex(v["fingerprint_key"]), message)[:16].hex()


# What wraps what: the value, the three letters, the id and the key that wrap it. `canary` is a fixed text.
WRAPPED = {
    "kek": (b"AKR", "root_id", "root_key"),
    "canary": (b"AKD", "kek_id", "kek"),
    "fingerprint_key": (b"AKD", "kek_id", "kek"),
    "dek": (b"AKD", "kek_id", "kek"),
}


def take(blob, count):
    assert len(blob) >= count, "the value is too short"
    return blob[:count], blob[count:]


def unwrap(blob, letters, wrapping_id, wrapping_key, aad):
    header, rest = take(blob, 5)
    assert header == letters + FORMAT_AND_ALGORITHM, f"the header is {header}"
    length, rest = take(rest, 1)
    name, rest = take(rest, length[0])
    assert name.decode() == wrapping_id, f"it names the key {name}"
    nonce, sealed = take(rest, NONCE_BYTES)
    assert len(sealed) == WRAPPED_BYTES, f"{len(sealed)} bytes are wrapped"
    return nonce, AESGCM(wrapping_key).decrypt(nonce, sealed, aad)


def wrap(nonce, plain, letters, wrapping_id, wrapping_key, aad):
    name = wrapping_id.encode()
    header = letters + FORMAT_AND_ALGORITHM + bytes([len(name)]) + name
    return header + nonce + AESGCM(wrapping_key).encrypt(nonce, plain, aad)


def open_payload(blob, dek, aad):
    header, rest = take(blob, 5)
    assert header == b"AKV" + FORMAT_AND_ALGORITHM, f"the header is {header}"
    nonce, sealed = take(rest, NONCE_BYTES)
    return nonce, AESGCM(dek).decrypt(nonce, sealed, aad)


def seal_payload(nonce, plain, dek, aad):
    return b"AKV" + FORMAT_AND_ALGORITHM + nonce + AESGCM(dek).encrypt(nonce, plain, aad)


def plain_of(v, name):
    return CANARY if name == "canary" else bytes.fromhex(v[name])


def open_vector(v):
    """Opens all values of a vector from its root key on, and compares each with what the vector says it is."""
    aad = associated_data(v)
    for name, (letters, wrapping_id, wrapping_key) in WRAPPED.items():
        blob, key = bytes.fromhex(v["sealed"][name]), bytes.fromhex(v[wrapping_key])
        nonce, plain = unwrap(blob, letters, v[wrapping_id], key, aad[name])
        assert plain == plain_of(v, name), f"{name} opens to something else"
        assert nonce.hex() == v["nonces"][name], f"the nonce of {name}"
    nonce, plain = open_payload(bytes.fromhex(v["sealed"]["payload"]), bytes.fromhex(v["dek"]), aad["payload"])
    assert plain.decode() == v["plaintext"], "the payload opens to something else"
    assert nonce.hex() == v["nonces"]["payload"], "the nonce of the payload"
    assert sha256(bytes.fromhex(v["kek"]), b"akv-kcv-v1")[:8].hex() == v["check_value"], "the check value"
    assert fingerprint(v) == v["fingerprint"], "the fingerprint"


def seal_vector(v):
    """Seals all values of a vector with its nonces."""
    aad = associated_data(v)
    nonce = {name: bytes.fromhex(text) for name, text in v["nonces"].items()}
    sealed = {}
    for name, (letters, wrapping_id, wrapping_key) in WRAPPED.items():
        key = bytes.fromhex(v[wrapping_key])
        sealed[name] = wrap(nonce[name], plain_of(v, name), letters, v[wrapping_id], key, aad[name]).hex()
    dek = bytes.fromhex(v["dek"])
    sealed["payload"] = seal_payload(nonce["payload"], v["plaintext"].encode(), dek, aad["payload"]).hex()
    return sealed


# For each field, the values that are bound to it and must not open when it is another.
BOUND = {
    "vault_id": (str(uuid.UUID(int=1)), ["kek"]),
    "organization_id": ("another", ["dek", "payload"]),
    "api_key_id": (str(uuid.UUID(int=2)), ["dek", "payload"]),
    "provider": ("another", ["dek", "payload"]),
    "version": (3, ["dek", "payload"]),
}


def refuse_elsewhere(v):
    """Each field matters to each layer by itself."""
    for field, (value, names) in BOUND.items():
        aad = associated_data({**v, field: value})
        for name in names:
            try:
                if name == "payload":
                    open_payload(bytes.fromhex(v["sealed"][name]), bytes.fromhex(v["dek"]), aad[name])
                else:
                    letters, wrapping_id, wrapping_key = WRAPPED[name]
                    key = bytes.fromhex(v[wrapping_key])
                    unwrap(bytes.fromhex(v["sealed"][name]), letters, v[wrapping_id], key, aad[name])
            except InvalidTag:
                continue
            raise AssertionError(f"{name} opens with another {field}")


def new_vector(number):
    """A vector with random keys. Together they have the shortest and the longest of everything."""
    versions = [1, 2, 255, 256, 2**31, 2**32 + 1, 2**63 - 1]
    organizations = ["a", "acme", "Acme_2.eu:team@x-1", "o" * 128]
    texts = ["k", "test-key-0123456789", "".join(map(chr, range(0x21, 0x7F))), "t" * 512]
    ids = ["k", "kek-1", "kek-2026.11:a_b", "0" * 64]
    random = {name: os.urandom(32).hex() for name in ("root_key", "kek", "dek", "fingerprint_key")}
    v = {
        "made_by": "check.py",
        "vault_id": str(uuid.uuid4()),
        "organization_id": organizations[number % 4],
        "api_key_id": str(uuid.uuid4()),
        "provider": ["anthropic", "openai", "gemini"][number % 3],
        "version": versions[number % 7],
        "plaintext": texts[number // 2 % 4],
        "root_id": ["root-1", "r", "r" * 64][number % 3],
        "kek_id": ids[number // 3 % 4],
        **random,
        "nonces": {name: os.urandom(NONCE_BYTES).hex() for name in (*WRAPPED, "payload")},
    }
    v["check_value"] = sha256(bytes.fromhex(v["kek"]), b"akv-kcv-v1")[:8].hex()
    v["fingerprint"] = fingerprint(v)
    v["sealed"] = seal_vector(v)
    return v


def main(arguments):
    match arguments:
        case ["open", path]:
            with open(path, encoding="utf-8") as file:
                vectors = json.load(file)["vectors"]
            for number, v in enumerate(vectors):
                try:
                    open_vector(v)
                    assert seal_vector(v) == v["sealed"], "sealed again it is something else"
                    refuse_elsewhere(v)
                except (AssertionError, InvalidTag) as problem:
                    sys.exit(f"vector {number}: {type(problem).__name__}: {problem}")
            print(f"{len(vectors)} vectors open")
        case ["seal"]:
            json.dump({"vectors": [new_vector(number) for number in range(12)]}, sys.stdout, indent=1)
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
