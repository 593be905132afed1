#!/usr/bin/env python3
"""A second reader of Pakt's records, written from protocol/docs/spec.md alone.

    pakt_reader.py card FILE
    pakt_reader.py agreement FILE --card CARD --card CARD
    pakt_reader.py receipt FILE --card CARD --card CARD
    pakt_reader.py reconciliation FILE --card CARD --card CARD
    pakt_reader.py image16 FILE --bytes COUNT

Prints one JSON object. Exit code 0: valid; 6: not valid, and `error` is the specification's name for why; 2: usage,
a file that cannot be read included. Times are microseconds since 1970. Numbers in brackets are sections of the
specification. Needs `cryptography` and `blake3`; the word list of the fingerprint is taken from the repository and
checked against the hash that the specification gives.
"""

import argparse
import base64
import ipaddress
import json
import re
import sys
from contextlib import contextmanager, suppress
from functools import partialmethod
from pathlib import Path
from types import SimpleNamespace as Record

from blake3 import blake3
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

WORDS = Path(__file__).resolve().parents[2] / "keys/assets/bip39-english.txt"

class Refused(Exception):
    """The input is not valid: the specification's name for why (20), and more for people."""

def want(holds, name, why):
    if not holds:
        raise Refused(name, why)

@contextmanager
def failing_as(name, why, *errors):  # whatever of `errors` happens inside
    try:
        yield
    except errors as error:
        raise Refused(name, f"{why}: {error.args[-1]}") from None

def derived(context, data):  # DK (1)
    return blake3(data, derive_key_context=context).digest()

# --- The codec (2) ---------------------------------------------------------------------------------------------------
class Cursor:
    """Takes fields one after the other; whatever does not fit is Malformed."""

    def __init__(self, data):
        self.data, self.at = data, 1  # behind the version byte

    def take(self, count):
        want(count <= len(self.data) - self.at, "Codec.Malformed", "the input ends early")
        self.at += count
        return self.data[self.at - count:self.at]

    def number(self, width):
        return int.from_bytes(self.take(width), "big")
    id = partialmethod(take, 32)
    u8, u32, u64 = partialmethod(number, 1), partialmethod(number, 4), partialmethod(number, 8)

    def bytes(self):
        return self.take(self.u64())

    def text(self):
        with failing_as("Codec.Malformed", "text", UnicodeDecodeError):
            return self.bytes().decode("utf-8")

    def list(self, element):  # an element takes a byte at least: a false count meets the end of the input
        return [element(self) for _ in range(self.u64())]

    def option(self, value):
        there = self.u8()
        want(there <= 1, "Codec.Malformed", "an option is neither there nor not")
        return value(self) if there else None

    def bool(self):
        value = self.u8()
        want(value <= 1, "Codec.Malformed", "a bool is neither true nor false")
        return value == 1

    def enum(self, names):
        index = self.u32()
        want(index < len(names), "Codec.Malformed", "unknown variant")
        return names[index]

def decode(data, limit, structure):
    """The one value that `data` is the encoding of."""
    want(len(data) <= limit, "Codec.TooLong", f"more than {limit} bytes")
    want(data, "Codec.Empty", "nothing there")
    want(data[0] <= 1, "Codec.Newer", "made by a newer version")
    want(data[0] == 1, "Codec.Older", "made by an older version")
    value = structure(cursor := Cursor(data))
    want(cursor.at == len(data), "Codec.TrailingBytes", "bytes follow the record")
    return value

# --- Keys (3) --------------------------------------------------------------------------------------------------------
P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, -1, P) % P

def is_sound_point(encoded):
    """Whether 32 bytes are the canonical encoding of a point of Edwards25519 that is not of small order."""
    y = int.from_bytes(encoded, "little") & (2**255 - 1)
    on_curve = pow((y * y - 1) * (D * y * y + 1), (P - 1) // 2, P) == 1  # x² = (y² - 1) / (dy² + 1) has a root
    small = y in (0, 1, P - 1) or (D * y**4 + 2 * y * y - 1) % P == 0  # the latter: order 8, as x² = -y²
    return y < P and on_curve and not small

def is_strictly_signed(key, signature, message):
    """Ed25519 by the strict rules; OpenSSL compares R byte by byte, so without the cofactor and canonically."""
    if len(signature) != 64 or int.from_bytes(signature[32:], "little") >= L or not is_sound_point(signature[:32]):
        return False
    with suppress(InvalidSignature):
        Ed25519PublicKey.from_public_bytes(key).verify(signature, message)
        return True
    return False

def contact_key(cursor):
    """An X-Wing public key: ML-KEM-768, then X25519."""
    key = cursor.bytes()
    want(len(key) == 1216, "Codec.Malformed", "a contact key has 1,216 bytes")
    packed = int.from_bytes(key[:1152], "little")  # 768 coefficients of 12 bits; a seed of 32 bytes follows
    canonical = all(packed >> 12 * i & 0xFFF <= 3328 for i in range(768))
    u = int.from_bytes(key[1184:], "little")
    # 0, 1, -1, and what doubles to 1, which is of order 4.
    small = u in (0, 1, P - 1) or ((u * u - 1) ** 2 - 4 * u * (u * u + 486662 * u + 1)) % P == 0
    want(canonical and u < P and not small, "Codec.Malformed", "the contact key is not usable")
    return key

# --- Entities (4) ----------------------------------------------------------------------------------------------------
def entity_text(entity):
    """Bech32m (BIP-350) with the prefix `ent`."""
    alphabet = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
    data = [int.from_bytes(entity + b"\0", "big") >> 4 + 5 * i & 31 for i in range(51, -1, -1)]
    prefix, check = [3, 3, 3, 0, 5, 14, 20], 1  # high bits of the letters, 0, low bits
    for value in prefix + data + [0] * 6:
        top, check = check >> 25, (check & 0x1FFFFFF) << 5 ^ value
        for i, term in enumerate((0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)):
            check ^= term * (top >> i & 1)
    check ^= 0x2BC830A3
    return "ent1" + "".join(alphabet[v] for v in data + [check >> 5 * i & 31 for i in range(5, -1, -1)])

def fingerprint(entity):
    """Ten words of the English list of BIP-39."""
    listed = WORDS.read_bytes()
    if blake3(listed).hexdigest() != "43afe08c75f902534cfd2a694bef11db381f4804cd3ef76cd05a8ad0d7199122":
        raise OSError(f"{WORDS} is not the list of words that the specification means")
    words = listed.decode("ascii").split()
    bits = int.from_bytes(derived("pakt fingerprint v1", entity), "big")
    return " ".join(words[bits >> (256 - 11 * (i + 1)) & 2047] for i in range(10))

# --- Signatures (5) --------------------------------------------------------------------------------------------------
def signatures(c):
    return c.list(lambda each: (each.u8(), each.bytes()))

def signed(c):  # the body stays as it came, because the signature is over these bytes
    return Record(body=c.bytes(), signatures=signatures(c))

def check_signatures(found, key, domain, body):
    suites = [suite for suite, _ in found]
    want(len(found) <= 8, "Signature.Duplicate", "more than 8 signatures")
    want(len(set(suites)) == len(suites), "Signature.Duplicate", "two signatures of one suite")
    want(1 in suites, "Signature.Missing", "no Ed25519 signature")
    want(is_sound_point(key), "Signature.BadKey", "the signing key is not a key")
    message = b"pakt signature v1\0" + len(domain).to_bytes(2, "big") + domain.encode() + body
    want(is_strictly_signed(key, dict(found)[1], message), "Signature.Invalid", f"not signed: {domain}")

# --- Armour (6) ------------------------------------------------------------------------------------------------------
BEGINS = {f"-----BEGIN PAKT {kind}-----": f"PAKT {kind}"
          for kind in ("CARD", "PROPOSAL", "AGREEMENT", "RECEIPT", "RECONCILIATION", "RECOVERY KEY")}

def unarmour(path, expected):
    with open(path, "rb") as file:
        data = file.read(1_048_577)
    want(len(data) <= 1_048_576, "Armour.TooLarge", "more than 1,048,576 bytes")
    with failing_as("Armour.NotARecord", "not text", UnicodeDecodeError):
        text = data.decode("utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    lines = "\n".join(line.rstrip(" \t\r") for line in text.split("\n")).strip("\n").split("\n")
    want(lines[0] in BEGINS, "Armour.NotARecord", "does not begin as a record does")
    label = BEGINS[lines[0]]
    if lines[-1] != f"-----END {label}-----":
        cut = len(lines) == 1 or not lines[-1].startswith("-")
        raise Refused("Armour.Truncated" if cut else "Armour.Damaged", "the last line is not the one expected")
    between = lines[1:-1]
    want(all(len(line) == 64 for line in between[:-1]) and all(1 <= len(line) <= 64 for line in between[-1:]),
         "Armour.Damaged", "a line has the wrong length")
    joined = "".join(between)
    with failing_as("Armour.Damaged", "not Base64", ValueError):
        record = base64.b64decode(joined, validate=True)
    want(base64.b64encode(record).decode() == joined, "Armour.Damaged", "not canonical Base64")
    want(label == expected, "Armour.WrongLabel", f"a {label}, not a {expected}")
    return record

# --- Certificate chain (7) -------------------------------------------------------------------------------------------
def root_link(c):
    return Record(generation=c.u32(), root=c.id(), successor=c.id())

def node_certificate(c):
    return Record(entity=c.id(), root_generation=c.u32(), serial=c.u64(), transport=c.id(), statement=c.id(),
                  contact=contact_key(c), issued_at=c.u64())

def chain(c):
    return Record(links=c.list(signed), certificate=signed(c))

def certified(found):
    """Checks a chain; gives the certified node: entity, current root, statement key, bodies of the root links."""
    want(1 <= len(found.links) <= 64, "Chain.Length", "a chain has 1 to 64 links")
    links = []
    for position, each in enumerate(found.links):
        with failing_as("Chain.Link", f"link {position}", Refused):
            link = decode(each.body, 256, root_link)
            check_signatures(each.signatures, link.root, "pakt root link v1", each.body)
        want(link.generation == position, "Chain.Order", f"link {position} has another generation")
        want(not links or derived("pakt successor v1", link.root) == links[-1].successor,
             "Chain.Uncommitted", f"the root before did not commit to that of link {position}")
        links.append(link)
    with failing_as("Chain.Certificate", "node certificate", Refused):
        check_signatures(found.certificate.signatures, link.root, "pakt node certificate v1", found.certificate.body)
        node = decode(found.certificate.body, 4096, node_certificate)
    entity = derived("pakt entity v1", links[0].root)
    want(node.entity == entity and node.root_generation == link.generation,
         "Chain.Foreign", "the node certificate belongs to another chain")
    return Record(entity=entity, root=link.root, statement=node.statement, links=[link.body for link in found.links])

def same_roots(one, other):  # as far as both go
    return all(a == b for a, b in zip(one.links, other.links))

# --- Card (8) --------------------------------------------------------------------------------------------------------
WHITE_SPACE = "[\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]"
UNCLEAR = re.compile("[\0-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]")  # Cc, and what misleads
UNTRIMMED = re.compile(rf"\A{WHITE_SPACE}|{WHITE_SPACE}\Z|\A\Z")
LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"

def check_name_and_number(name, number):
    want(len(name.encode()) <= 200 and not UNTRIMMED.search(name) and not UNCLEAR.search(name), "Field", "the name")
    want(len(number) <= 64 and re.fullmatch(r"[A-Z]{2}(?::[A-Z0-9.-]+){2}", number), "Field", "the number")

def address(c):
    text = c.text()
    host, _, port = text.rpartition(":")
    sound = len(host) <= 253 and re.fullmatch(rf"{LABEL}(?:\.{LABEL})*", host)
    if host.startswith("[") and host.endswith("]") and "%" not in host:
        with suppress(ValueError):
            sound = ipaddress.IPv6Address(host[1:-1])
    sound = sound and len(text.encode()) <= 260 and re.fullmatch(r"[1-9][0-9]{0,4}", port) and int(port) <= 65535
    want(sound, "Codec.Malformed", "not an address")
    return text

def card_body(c):
    return Record(name=c.text(), number=c.text(), chain=chain(c), addresses=c.list(address), issued_at=c.u64())

def checked_card(found):
    """Steps 2 to 5 of a card; gives the body with its certified `node`."""
    card = decode(found.body, 65_536, card_body)
    card.node = certified(card.chain)
    card.entity = card.node.entity
    check_signatures(found.signatures, card.node.statement, "pakt card v1", found.body)
    check_name_and_number(card.name, card.number)
    want(len(card.addresses) <= 8, "Field", "more than 8 addresses")
    return card

def read_card(path):
    return checked_card(decode(unarmour(path, "PAKT CARD"), 65_536, signed))

def cards_of(paths, *entities):
    """The cards among `paths` of each of `entities`, in this order."""
    cards = {card.entity: card for card in map(read_card, paths)}
    want(cards.keys() >= set(entities), "Parties", "the record is between others than these cards")
    return [cards[entity] for entity in entities]

# --- Agreement (9) ---------------------------------------------------------------------------------------------------
def party(c):
    return Record(entity=c.id(), name=c.text(), number=c.text())

def terms_fields(c):
    return Record(proposer=party(c), acceptor=party(c), version=c.u32(), previous=c.option(Cursor.id), nonce=c.id(),
                  accept_by=c.u64(), purposes=c.list(Cursor.text), legal_basis=c.text(), valid_from=c.u64(),
                  valid_until=c.u64(), message_bytes_max=c.u64(), hold_seconds=c.u32(),
                  retention_seconds=c.option(Cursor.u64), messages_per_hour=c.option(Cursor.u32),
                  controls=c.list(Cursor.text), urgent_contact=c.text(), relay=c.bool())

def agreement_file(c):
    return Record(id=c.id(), terms=c.bytes(), proposer_signatures=c.option(signatures),
                  acceptor_signatures=c.option(signatures), proposer=signed(c), acceptor=signed(c),
                  grants=c.list(signed))

def door_grant(c):
    return Record(agreement=c.id(), issuer=c.id(), holder=c.id(), counter=c.u64(), sealed=(c.bytes(), c.bytes()))

def check_clauses(terms):
    a, b = terms.proposer, terms.acceptor
    for each in (a, b):
        check_name_and_number(each.name, each.number)
    want(a.entity != b.entity and a.number != b.number, "Parties", "both parties are the same")
    want(terms.version != 0 and (terms.previous is None) == (terms.version == 1), "Field", "version and previous")
    want(terms.valid_from < terms.valid_until, "Field", "valid_from and valid_until")
    want(60 <= terms.hold_seconds <= 172_800, "Field", "hold_seconds")
    want(0 not in (terms.message_bytes_max, terms.messages_per_hour, terms.retention_seconds), "Field", "a limit of 0")
    for words in (terms.purposes, terms.controls):
        raw = [word.encode() for word in words]
        want(len(raw) <= 32 and all(x < y for x, y in zip(raw, raw[1:])), "Field", "a list is too long or unordered")
        want(not any(map(UNTRIMMED.search, words)), "Field", "an empty or untrimmed word")
    want(set(terms.controls) <= {"malware-scan", "journal", "retention"}, "Field", "a control that nobody can attest")
    for clause in (*terms.purposes, *terms.controls, terms.legal_basis, terms.urgent_contact):
        want(len(clause.encode()) <= 500 and not UNCLEAR.search(clause), "Field", "a clause")

def check_side(file, found, role, node):
    """One party's half of the record against its certified node; gives the terms."""
    terms = decode(file.terms, 65_536, terms_fields)
    check_clauses(terms)
    own_id = derived("pakt agreement v1", file.terms) if terms.version == 1 else terms.nonce
    want(file.id == own_id, "Field", "the id is not that of the terms")
    want(found is not None, "Field", f"the {role}'s signature is missing")
    want(getattr(terms, role).entity == node.entity, "Parties", f"the {role} is not the entity of its card")
    check_signatures(found, node.root, "pakt agreement terms v1", file.terms)
    return terms

def check_grants(file, nodes):
    want(len(file.grants) <= 2, "Field", "more than 2 grants")
    issuers = []
    for each in file.grants:
        grant = decode(each.body, 4096, door_grant)
        signer = nodes[0] if grant.issuer == nodes[0].entity else nodes[1]
        check_signatures(each.signatures, signer.statement, "pakt door grant v1", each.body)
        want({grant.issuer, grant.holder} == {node.entity for node in nodes} and grant.agreement == file.id,
             "Parties", "a grant between others or of another agreement")
        want(grant.issuer not in issuers, "Field", "two grants of one issuer")
        issuers.append(grant.issuer)

def agreement(path, card_paths):
    file = decode(unarmour(path, "PAKT AGREEMENT"), 327_680, agreement_file)
    proposer, acceptor = checked_card(file.proposer), checked_card(file.acceptor)
    terms = check_side(file, file.proposer_signatures, "proposer", proposer.node)
    want(terms.acceptor.entity == acceptor.entity, "Parties", "the acceptor is not the entity of its card")
    check_side(file, file.acceptor_signatures, "acceptor", acceptor.node)
    for said, card in ((terms.proposer, proposer), (terms.acceptor, acceptor)):
        want((said.name, said.number) == (card.name, card.number), "Parties", "the card has another name or number")
    check_grants(file, (proposer.node, acceptor.node))
    # Against cards from elsewhere the specification gives no steps: those of a receipt (12) are taken for both sides.
    for known, named in zip(cards_of(card_paths, proposer.entity, acceptor.entity), (proposer, acceptor)):
        want(same_roots(known.node, named.node), "Parties", "a card has other roots than the one in the agreement")
    told = vars(terms) | {"id": file.id.hex(), "hash": derived("pakt agreement terms v1", file.terms).hex()}
    del told["previous"], told["nonce"]
    return told | {role: about(vars(terms)[role]) for role in ("proposer", "acceptor")}

# --- Receipt (12) ----------------------------------------------------------------------------------------------------
TIERS = ("delivered", "released", "taken")  # people call them 1, 2, 3

def verdict(c):
    kind = c.enum(("held", "unopenable", "conflict", "purpose-not-agreed", "quarantined", "recalled", "returned",
                   "not-held"))
    return c.enum(TIERS) if kind == "held" else kind

def receipt_body(c):
    return Record(verdict=verdict(c), core=c.id(), message=c.take(16), envelope=c.take(16), sender=c.id(),
                  recipient=c.id(), agreement=c.id(), agreement_hash=c.id(), files=c.u64(), plain_bytes=c.u64(),
                  chunks=c.u64(), segments=c.u64(), sealed_bytes=c.u64(), offered_at=c.u64(), at=c.u64(),
                  log_head=c.option(Cursor.id), chain=chain(c))

def receipt(path, card_paths):
    found = decode(unarmour(path, "PAKT RECEIPT"), 40_960, signed)
    body = decode(found.body, 32_768, receipt_body)
    node = certified(body.chain)
    check_signatures(found.signatures, node.statement, "pakt receipt v1", found.body)
    want(body.recipient == node.entity and body.sender != body.recipient, "Parties", "sender and recipient")
    sender, recipient = cards_of(card_paths, body.sender, body.recipient)
    want(same_roots(recipient.node, node), "Parties", "the recipient's card has other roots than the receipt")
    told = {key: vars(body)[key] for key in ("verdict", "files", "plain_bytes", "offered_at", "at")}
    told |= {key: vars(body)[key].hex() for key in ("envelope", "message", "core", "agreement", "agreement_hash")}
    tier = TIERS.index(body.verdict) + 1 if body.verdict in TIERS else None
    return told | {"tier": tier, "from": about(sender), "to": about(recipient)}

# --- Reconciliation (12b) ---------------------------------------------------------------------------------------------
def ranges(c):
    found = c.list(lambda c: (c.u64(), c.u64()))
    ordered = all(after[0] - before[1] >= 2 for before, after in zip(found, found[1:]))
    want(len(found) <= 1_024 and ordered and all(a <= b for a, b in found), "Codec.Malformed", "ranges out of order")
    return found

def without(one, *others):
    """What of `one` is in none of the others."""
    for first, last in (taken for other in others for taken in other):
        one = [part for a, b in one for part in ((a, min(b, first - 1)), (max(a, last + 1), b)) if part[0] <= part[1]]
    return one

def both(one, other):
    return without(one, without(one, other))

def sent_statement(c):
    return Record(entity=c.id(), reader=c.id(), agreement=c.id(), round=c.u64(), at=c.u64(), given=c.u64(), first=c.u64(),
                  last=c.u64(), delivered=ranges(c), open=ranges(c), excused=ranges(c), forgotten=ranges(c))

def held_statement(c):
    return Record(entity=c.id(), reader=c.id(), agreement=c.id(), statement=c.id(), at=c.u64(), first=c.u64(), last=c.u64(),
                  held=ranges(c), named=c.list(lambda c: (c.u64(), c.take(16))))

def comparison(c):
    return Record(sent=signed(c), sender=chain(c), held=signed(c), receiver=chain(c))

def check_reach(statement, sets):
    inside = all(statement.first <= a and b <= statement.last for found in sets for a, b in found)
    want(0 < statement.first <= statement.last and inside, "Field", "a range beyond what the statement is about")

def compared(found, agreement, card_paths):
    """Checks one comparison; gives what it shows."""
    sender, receiver = certified(found.sender), certified(found.receiver)
    check_signatures(found.sent.signatures, sender.statement, "pakt sent statement v1", found.sent.body)
    sent = decode(found.sent.body, 81_920, sent_statement)
    agreement = agreement or sent.agreement
    want((sent.entity, sent.reader, sent.agreement) == (sender.entity, receiver.entity, agreement), "Parties", "sent")
    check_reach(sent, (sent.delivered, sent.open, sent.excused, sent.forgotten))
    given = max((last for found in (sent.delivered, sent.open) for _, last in found), default=0) <= sent.given
    want(sent.round and given, "Field", "a round or a number that was never given")
    check_signatures(found.held.signatures, receiver.statement, "pakt held statement v1", found.held.body)
    held = decode(found.held.body, 32_768, held_statement)
    want((held.entity, held.reader, held.agreement) == (receiver.entity, sent.entity, agreement), "Parties", "held")
    check_reach(held, (held.held,))
    answers = held.statement == derived("pakt sent statement v1", found.sent.body)
    want(answers and held.first == sent.first and held.last <= sent.last, "Field", "it answers another statement")
    within = all(held.first <= number <= held.last for number, _ in held.named)
    want(len(held.named) <= 256 and within, "Field", "it names what it is not about")
    want(sender.entity != receiver.entity, "Parties", "both are signed by one entity")
    cards = cards_of(card_paths, sender.entity, receiver.entity)
    for card, node in zip(cards, (sender, receiver)):
        want(same_roots(card.node, node), "Parties", "a signer has other roots than its card")
    reach = [(sent.first, held.last)]
    delivered, excused = both(sent.delivered, reach), both(sent.excused, reach)
    beyond = without(held.held, delivered, sent.open, excused)
    forgotten = both(beyond, sent.forgotten)
    return agreement, {"from": about(cards[0]), "to": about(cards[1]), "first": sent.first, "last": held.last,
                       "delivered": count(delivered), "held": count(held.held), "lost": without(delivered, held.held),
                       "unknown": without(beyond, forgotten), "explained": count(without(excused, held.held) + forgotten)}

def count(found):
    return sum(last - first + 1 for first, last in found)

def reconciliation(path, card_paths):
    found = decode(unarmour(path, "PAKT RECONCILIATION"), 716_800, lambda c: c.list(comparison))
    want(1 <= len(found) <= 4, "Field", "a file holds 1 to 4 comparisons")
    agreement, told = None, []
    for each in found:
        agreement, shown = compared(each, agreement, card_paths)
        told.append(shown)
    return {"agreement": agreement.hex(), "comparisons": told}

# --- The codec image16 (13.2) ----------------------------------------------------------------------------------------
def image_tables(take, number, count):
    """For each context: of every slot the token, its frequency, and the sum of those before it."""
    for _ in range(count):
        frequencies = []
        for _ in range(number(1)):
            first = number(1)
            want(first < 128 or first & 127 or take(0, 1)[0] >= 128, "Content.Image", "a frequency in two bytes")
            frequencies.append(first if first < 128 else (first & 127) << 8 | number(1))
        want(1 <= len(frequencies) <= 112 and frequencies[-1] and sum(frequencies) == 2048, "Content.Image", "a table")
        yield [(token, frequency, sum(frequencies[:token]))
               for token, frequency in enumerate(frequencies) for _ in range(frequency)]

def image16(data, plain_bytes):
    at = 0

    def take(count, ahead=0):
        nonlocal at
        want(at + count + ahead <= len(data), "Content.Image", "the encoded bytes end early")
        at += count
        return data[at - count:at + ahead]

    def number(width):
        return int.from_bytes(take(width), "little")
    stride, flags, count = number(2), number(1), number(1)
    want(32 <= stride <= 8192 and flags <= 1 and 1 <= count <= 16, "Content.Image", "the header")
    thresholds = [number(2) for _ in range(count - 1)]
    want(all(a < b for a, b in zip([0, *thresholds], [*thresholds, 32768])), "Content.Image", "the thresholds")
    predictors = take(count)
    want(max(predictors) <= 2, "Content.Image", "a predictor")
    tables = list(image_tables(take, number, count))
    length = number(4)
    want(length >= 16, "Content.Image", "the states")
    states = [number(4) for _ in range(4)]
    want(min(states) >= 65536, "Content.Image", "a state")
    words = iter(take(length - 16))
    stream = take(len(data) - at - plain_bytes % 2)
    bits, bits_used = int.from_bytes(stream, "little"), 0

    def read(context, lane):
        nonlocal bits_used
        state = states[lane]
        token, frequency, before = tables[context][state % 2048]
        state = frequency * (state // 2048) + state % 2048 - before
        if state < 65536:
            pair = [next(words, None), next(words, None)]
            want(None not in pair, "Content.Image", "the words end early")
            state = state << 16 | pair[1] << 8 | pair[0]
        states[lane] = state
        if token < 16:
            return token
        left_open = token // 8 - 1
        low = bits >> bits_used & (1 << left_open) - 1
        bits_used += left_open
        return (8 + token % 8 << left_open) + low

    def wrapped(value):
        return (value + 32768) % 65536 - 32768

    def distance(a, b):
        return min(abs(a - b), 32767)

    def predicted(predictor, w, n, nw, ne):
        edge = min(max(wrapped(w + n - nw), min(w, n)), max(w, n))
        smooth = ((w + n >> 1) + (nw + ne >> 1)) >> 1
        return (edge, edge + smooth >> 1, smooth)[predictor]
    part = -(-stride // 8)
    above = far = [0] * (stride + 2)  # one more on each side
    out = bytearray()
    for start in range(0, plain_bytes // 2, stride):
        width = min(stride, plain_bytes // 2 - start)
        row = [0] * (stride + 2)
        order = [x for c in range(part) for x in range(c, width, part)]
        numbers = {}
        for place, x in enumerate(order):
            nw, n, ne = above[x:x + 3]
            activity = min(32767, distance(n, nw) + distance(n, ne) + distance(n, far[x + 1]) + distance(nw, far[x])
                           + distance(ne, far[x + 2]))
            context = sum(threshold <= activity for threshold in thresholds)
            numbers[x] = context, read(context, place % 4)
        for x in range(width):
            context, coded = numbers[x]
            nw, n, ne = above[x:x + 3]
            w = row[x] if x % part else n
            residual = -(coded + 1 >> 1) if coded & 1 else coded >> 1
            row[x + 1] = wrapped(predicted(predictors[context], w, n, nw, ne) + residual)
            out += (row[x + 1] % 65536 ^ flags << 15).to_bytes(2, "little")
        row[0], row[stride + 1] = row[1], row[stride]
        far, above = above, row
    want(next(words, None) is None and -(-bits_used // 8) == len(stream) and bits >> bits_used == 0,
         "Content.Image", "something is left")
    want(states == [65536] * 4, "Content.Image", "the states do not end where a writer begins")
    return bytes(out + data[at:])

def image(path, plain_bytes):
    with open(path, "rb") as file:
        plain = image16(file.read(1_048_577), plain_bytes)
    return {"bytes": len(plain), "blake3": blake3(plain).hexdigest()}

# --- The command line ------------------------------------------------------------------------------------------------
def about(who):
    """A card or a party as JSON."""
    return {"entity": entity_text(who.entity), "name": who.name, "number": who.number}

def card(path, _):
    found = read_card(path)
    return about(found) | {"fingerprint": fingerprint(found.entity), "addresses": found.addresses}

def main():
    parser = argparse.ArgumentParser(description="Verifies records of Pakt from the specification alone.")
    commands = parser.add_subparsers(dest="command", required=True)
    for command in (card, agreement, receipt, reconciliation):
        sub = commands.add_parser(command.__name__, allow_abbrev=False)
        sub.add_argument("file")
        if command is not card:
            sub.add_argument("--card", action="append", required=True, dest="cards")
        sub.set_defaults(run=command, cards=None)
    sub = commands.add_parser("image16", allow_abbrev=False)
    sub.add_argument("file")
    sub.add_argument("--bytes", type=int, required=True, choices=range(1, 1_048_577), metavar="COUNT", dest="count")
    sub.set_defaults(run=lambda path, _: image(path, args.count), cards=None)
    args = parser.parse_args()
    if args.cards and len(args.cards) != 2:
        parser.error("--card is wanted twice")
    try:
        told, code = {"valid": True} | args.run(args.file, args.cards), 0
    except Refused as refused:
        told, code = {"valid": False} | dict(zip(("error", "why"), refused.args)), 6
    except OSError as error:
        parser.error(str(error))
    print(json.dumps(told, indent=2))
    return code

if __name__ == "__main__":
    sys.exit(main())
