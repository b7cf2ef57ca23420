"""The usage record: what one session did to a battery, told by every witness, in bytes that never change.

Everything that crosses from the bench to the ledgers is one of the frozen models below. Three rules hold for them:

* **One spelling.** A record is RFC 8785 JSON plus a newline, each number rounded at construction to the decimals that
  its unit states (energies to 0.001 Wh), each time a UTC text with milliseconds and `Z`. Reading a record back and
  writing it again must give the same bytes, or it is refused: a change cannot hide in a spelling.
* **Nothing is made up.** What was not measured is null, and the reason stands beside it. A null without a reason, or a
  reason beside a value, is refused at construction.
* **Each witness answers for itself.** A witness signs its own statement with its own key; the station signs the whole.
  A figure in the record that its witness did not sign is refused when the record is built.

Verdicts are derived, never declared: `energy_pairs` and `reconcile` compute them from the figures, and the verifier
calls the same functions again.

Sign: energies are magnitudes, their direction stands beside them; powers are positive when they charge the vehicle.
"""

from __future__ import annotations

import enum
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import combinations
from typing import Annotated, Literal, Self, TypeVar, cast

from pydantic import (
    AfterValidator,
    AliasChoices,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    model_validator,
)

from ledgers.canonical import Json, from_base64, from_canonical, sha256_hex, to_base64, to_canonical
from ledgers.errors import RecordError
from ledgers.identity import ALGORITHM, Identity, key_id, signature_holds

RECORD_SCHEMA = "v2gbench.usage-record/1.0"
STATEMENT_SCHEMA = "v2gbench.witness-statement/1.0"
RECORD_LIMIT_BYTES = 16 * 1024 * 1024

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_UNJUDGED = {"judge": False}  # validation context of a reader that judges by itself, one line per finding
_UTC_TEXT = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{3}Z", re.ASCII)


class Material(enum.StrEnum):
    """What the figures come from."""

    EMULATED = "emulated"  # at least one device is a twin
    MEASURED = "measured"  # every device is metal
    REPLAYED = "replayed"  # read from a recording of another day


class Plane(enum.StrEnum):
    """Where an energy was measured: the grid side or the vehicle side of the charger."""

    AC = "ac"
    DC = "dc"


class Direction(enum.StrEnum):
    """Which way the energy went: `import` into the vehicle, `export` out of it."""

    IMPORT = "import"
    EXPORT = "export"


class Outcome(enum.StrEnum):
    """How the session ended."""

    COMPLETED = "completed"
    ABORTED = "aborted"


class Agreement(enum.StrEnum):
    """What a comparison of two witnesses came to."""

    AGREE = "agree"
    DISAGREE = "disagree"
    NOT_JUDGED = "not_judged"


class LimitVerdict(enum.StrEnum):
    """How a quantity stood against its limit."""

    PASS = "pass"  # noqa: S105 - a verdict, not a password
    WARN = "warn"
    FAIL = "fail"
    NOT_JUDGED = "not_judged"


def utc_text(utc_s: float) -> str:
    """Seconds since 1970-01-01T00:00:00Z as the record's time text, rounded to the millisecond.

    >>> utc_text(1_600_000_000.25)
    '2020-09-13T12:26:40.250Z'
    """
    try:
        moment = _EPOCH + timedelta(milliseconds=round(utc_s * 1000))
    except (OverflowError, ValueError) as error:
        raise RecordError(f"{utc_s!r} s is not a time that a record can state: {error}") from error
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03d}Z"


def _checked_utc_text(text: str) -> str:
    if not _UTC_TEXT.fullmatch(text):
        raise ValueError(f"{text!r} is not a UTC time like 2026-03-01T12:00:00.000Z")
    datetime.fromisoformat(text)  # refuses a 30th of February
    return text


def _rounded(decimals: int) -> Callable[[float], float]:
    def to_decimals(value: float) -> float:
        return round(value, decimals) + 0.0  # the sum turns -0.0 into 0.0

    return to_decimals


Name = Annotated[str, Field(min_length=1, max_length=200)]
UtcText = Annotated[str, AfterValidator(_checked_utc_text)]
Sha256Text = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
EnergyWh = Annotated[float, Field(allow_inf_nan=False), AfterValidator(_rounded(3))]
UncertaintyWh = Annotated[float, Field(ge=0, allow_inf_nan=False), AfterValidator(_rounded(3))]
PowerW = Annotated[float, Field(allow_inf_nan=False), AfterValidator(_rounded(3))]
Percent = Annotated[float, Field(allow_inf_nan=False), AfterValidator(_rounded(4))]
Quantity = Annotated[float, Field(allow_inf_nan=False), AfterValidator(_rounded(6))]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


def _null_has_reason(value: object, reason: str | None, what: str) -> None:
    if (value is None) != (reason is not None):
        raise ValueError(f"{what}: a missing value needs a reason, and a value needs none")


class Station(_Model):
    """The station that held the session; `sha256` is that of its station file."""

    name: Name
    sha256: Sha256Text
    material: Material


class GridOrder(_Model):
    """One order of the grid operator and what became of it; powers at the AC plane, positive charges the vehicle."""

    order_id: Name
    kind: Literal["load_increase", "load_decrease"]
    begin: UtcText
    end: UtcText
    requested_power_w: PowerW
    delivered_power_w: PowerW | None  # mean over the order
    delivered_energy_wh: EnergyWh | None  # signed like the power
    measured_by: Name | None  # the witness whose figure `delivered` is
    reason: str | None  # why nothing was measured

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.end < self.begin:
            raise ValueError(f"order {self.order_id!r} ends at {self.end}, before it begins at {self.begin}")
        for value in (self.delivered_power_w, self.delivered_energy_wh, self.measured_by):
            _null_has_reason(value, self.reason, f"order {self.order_id!r}")
        return self


class Session(_Model):
    """Plug-in to plug-out."""

    session_id: Name
    plan: Name
    begin: UtcText
    end: UtcText
    outcome: Outcome
    outcome_reason: str | None  # why it was aborted
    orders: tuple[GridOrder, ...]

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.end < self.begin:
            raise ValueError(f"the session ends at {self.end}, before it begins at {self.begin}")
        if (self.outcome is Outcome.ABORTED) != (self.outcome_reason is not None):
            raise ValueError("an aborted session needs an outcome_reason, a completed one has none")
        return self


class Device(_Model):
    """A device of the station and its nameplate, as it answered when it was opened."""

    name: Name
    role: Name
    driver: Name
    material: Material
    manufacturer: str
    model: str
    serial: str
    firmware: str


class AssetField(_Model):
    """One field of the paper's informational asset, in the paper's own encoding."""

    name: Name
    value: str | None
    unit: str
    source: str | None  # the named quantity it was taken from
    data_type: str | None  # Table 2 of the paper
    channels: tuple[str, ...]
    reason: str | None

    @model_validator(mode="after")
    def _complete(self) -> Self:
        _null_has_reason(self.value, self.reason, f"asset field {self.name!r}")
        return self


class EnergyFigure(_Model):
    """What one witness says about one direction at one plane; the uncertainty is expanded with k = 2.

    `contributions` are the expanded parts whose root sum of squares is the whole (gain, offset, polling, clock …), for
    the reader; only the whole is judged.
    """

    witness: Name
    plane: Plane
    value_wh: EnergyWh | None
    expanded_uncertainty_wh: UncertaintyWh | None
    coverage_factor: Literal[2]
    contributions: dict[str, UncertaintyWh]
    reason: str | None

    @model_validator(mode="after")
    def _complete(self) -> Self:
        what = f"energy of {self.witness!r} at {self.plane.value}"
        _null_has_reason(self.value_wh, self.reason, what)
        _null_has_reason(self.expanded_uncertainty_wh, self.reason, what)
        return self


class Energy(_Model):
    """Energy figures per direction; in JSON the members are `import` and `export`."""

    imported: tuple[EnergyFigure, ...] = Field(
        validation_alias=AliasChoices("import", "imported"), serialization_alias="import"
    )
    exported: tuple[EnergyFigure, ...] = Field(
        validation_alias=AliasChoices("export", "exported"), serialization_alias="export"
    )

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        for figures in (self.imported, self.exported):
            keys = [(figure.witness, figure.plane) for figure in figures]
            if len(set(keys)) != len(keys):
                raise ValueError("a witness has two figures for one direction at one plane")
        return self

    def of(self, direction: Direction) -> tuple[EnergyFigure, ...]:
        """The figures of one direction, in their order."""
        return self.imported if direction is Direction.IMPORT else self.exported

    def figure(self, witness: str, plane: Plane, direction: Direction) -> EnergyFigure:
        """One figure; raises RecordError when the record has none."""
        for figure in self.of(direction):
            if (figure.witness, figure.plane) == (witness, plane):
                return figure
        raise RecordError(f"the record has no {direction.value} energy of {witness!r} at the {plane.value} plane")

    def by_witness(self, witness: str) -> Energy:
        """Only the figures of one witness, as it has to sign them."""
        return Energy(
            imported=tuple(figure for figure in self.imported if figure.witness == witness),
            exported=tuple(figure for figure in self.exported if figure.witness == witness),
        )


class EnergyPair(_Model):
    """Two witnesses at one plane: they agree when |a - b| does not exceed the root sum of squares of their U."""

    plane: Plane
    direction: Direction
    a: Name
    b: Name
    difference_wh: EnergyWh | None
    allowed_wh: UncertaintyWh | None
    verdict: Agreement
    reason: str | None


class TracePair(_Model):
    """Two witnesses compared over time rather than in sum: a time lag, a difference in shape.

    They agree when |value| does not exceed `allowed`.
    """

    quantity: Name  # "time_lag", "shape"
    plane: Plane
    a: Name
    b: Name
    value: Quantity | None
    unit: str
    allowed: Quantity
    verdict: Agreement
    reason: str | None

    @model_validator(mode="after")
    def _complete(self) -> Self:
        _null_has_reason(self.value, self.reason, f"{self.quantity} of {self.a!r} and {self.b!r}")
        return self


class Reconciliation(_Model):
    """All comparisons of the session's witnesses, and the one that stands alone."""

    pairs: tuple[EnergyPair, ...]
    traces: tuple[TracePair, ...]
    odd_witness: Name | None
    odd_reason: str | None  # why that one, or why none could be named although some disagree
    verdict: Agreement


class BatteryUse(_Model):
    """What the session did to the battery, from the vehicle's own readings; each null has its entry in `reasons`."""

    witness: Name
    soc_begin_percent: Percent | None
    soc_end_percent: Percent | None
    throughput_ah: Quantity | None  # charged plus discharged
    equivalent_full_cycles: Quantity | None  # throughput over twice the rated capacity
    pack_temperature_min_c: Quantity | None
    pack_temperature_max_c: Quantity | None
    soh_percent: Percent | None
    reasons: dict[str, str]

    @model_validator(mode="after")
    def _complete(self) -> Self:
        nulls = {name for name in type(self).model_fields if getattr(self, name) is None}
        if nulls != set(self.reasons):
            raise ValueError(f"battery use: missing values {sorted(nulls)} but reasons for {sorted(self.reasons)}")
        return self


class Alarm(_Model):
    """A warning that the session raised (a limit, or the contract's stress rules)."""

    name: Name
    utc: UtcText
    text: str
    value: Quantity | None
    threshold: Quantity | None
    unit: str


class LimitResult(_Model):
    """A limit of the plan or station, the worst value met, and how far it stayed inside (negative: outside)."""

    name: Name
    unit: str
    limit: str  # as an inequality, "15 <= x < 45"
    worst_value: Quantity | None
    margin: Quantity | None
    verdict: LimitVerdict
    reason: str | None

    @model_validator(mode="after")
    def _complete(self) -> Self:
        _null_has_reason(self.worst_value, self.reason, f"limit {self.name!r}")
        _null_has_reason(self.margin, self.reason, f"limit {self.name!r}")
        if (self.worst_value is None) != (self.verdict is LimitVerdict.NOT_JUDGED):
            raise ValueError(f"limit {self.name!r}: not judged exactly when there is no value")
        return self


class Samples(_Model):
    """The readings behind the record; `sha256` is that of their canonical export."""

    count: Annotated[int, Field(ge=0)]
    cycle_s: Annotated[float, Field(gt=0, allow_inf_nan=False), AfterValidator(_rounded(3))]
    sha256: Sha256Text


class SignatureBlock(_Model):
    """Who signed and how: public key as SubjectPublicKeyInfo in DER, signature in DER, both base64.

    No member may be free to change: `signer` is compared with the signed document, the rest makes the signature hold.
    """

    signer: Name
    algorithm: Literal["ECDSA-secp256r1-SHA256"]
    public_key: str
    signature: str

    @property
    def public_key_der(self) -> bytes:
        """The signer's SubjectPublicKeyInfo; raises RecordError for any but its one base64 spelling."""
        return from_base64(self.public_key, where=f"the public key of {self.signer!r}")

    @property
    def key_id(self) -> str:
        """Short name of the key, to print."""
        return key_id(self.public_key_der)

    def holds_for(self, data: bytes) -> bool:
        """Whether this signature was made over `data` by the holder of the key stated here."""
        signature = from_base64(self.signature, where=f"the signature of {self.signer!r}")
        return signature_holds(self.public_key_der, data, signature)


class WitnessStatement(_Model):
    """What one witness says and signs by itself."""

    schema_: Literal["v2gbench.witness-statement/1.0"] = Field(
        default="v2gbench.witness-statement/1.0",
        validation_alias=AliasChoices("schema", "schema_"),
        serialization_alias="schema",
    )
    witness: Name
    role: Name
    record_id: Name
    material: Material
    begin: UtcText
    end: UtcText
    energy: Energy

    @model_validator(mode="after")
    def _own_figures_only(self) -> Self:
        for direction in Direction:
            for figure in self.energy.of(direction):
                if figure.witness != self.witness:
                    raise ValueError(f"{self.witness!r} cannot state a figure of {figure.witness!r}")
        return self

    def to_bytes(self) -> bytes:
        """The bytes that the witness signs."""
        return _to_bytes(self)


class SignedStatement(_Model):
    """A witness's statement with that witness's signature."""

    statement: WitnessStatement
    signature: SignatureBlock

    def holds(self) -> bool:
        """Whether the signature is the witness's own over this statement."""
        return self.signature.signer == self.statement.witness and self.signature.holds_for(self.statement.to_bytes())


class UsageRecord(_Model):
    """What a session did to a battery. Build it with every figure already signed by its witness."""

    schema_: Literal["v2gbench.usage-record/1.0"] = Field(
        default="v2gbench.usage-record/1.0",
        validation_alias=AliasChoices("schema", "schema_"),
        serialization_alias="schema",
    )
    record_id: Annotated[str, Field(pattern=r"^urn:[A-Za-z0-9:._/-]{3,180}$")]
    station: Station
    session: Session
    devices: tuple[Device, ...]
    asset: tuple[AssetField, ...]
    energy: Energy
    reconciliation: Reconciliation
    battery_use: BatteryUse
    alarms: tuple[Alarm, ...]
    limits: tuple[LimitResult, ...]
    samples: Samples
    witnesses: tuple[SignedStatement, ...]

    @model_validator(mode="after")
    def _whole(self, info: ValidationInfo) -> Self:
        problems = record_problems(self) if info.context is not _UNJUDGED else []
        if problems:
            raise ValueError(problems[0])
        return self

    def to_bytes(self) -> bytes:
        """Canonical bytes of the record alone, as the station signs them."""
        return _to_bytes(self)


class SignedRecord(_Model):
    """A usage record with the station's signature: this is the file that is appended, proven and certified."""

    record: UsageRecord
    signature: SignatureBlock

    def to_bytes(self) -> bytes:
        """Canonical bytes of the file."""
        return _to_bytes(self)

    @property
    def sha256(self) -> str:
        """SHA-256 of the file, by which ledgers, settlement and certificate name the record."""
        return sha256_hex(self.to_bytes())

    def holds(self) -> bool:
        """Whether the station's signature is over this record."""
        return self.signature.signer == self.record.station.name and self.signature.holds_for(self.record.to_bytes())


# Signing and reading -------------------------------------------------------------------------------------------------


def sign_bytes(data: bytes, identity: Identity) -> SignatureBlock:
    """`identity`'s signature over `data`."""
    return SignatureBlock(
        signer=identity.name,
        algorithm=cast("Literal['ECDSA-secp256r1-SHA256']", ALGORITHM),
        public_key=to_base64(identity.public_key_der),
        signature=to_base64(identity.sign(data)),
    )


def sign_statement(statement: WitnessStatement, identity: Identity) -> SignedStatement:
    """The statement signed by its witness; raises RecordError when `identity` is somebody else."""
    if identity.name != statement.witness:
        raise RecordError(f"{identity.name!r} cannot sign for the witness {statement.witness!r}; use its own key")
    return SignedStatement(statement=statement, signature=sign_bytes(statement.to_bytes(), identity))


def sign_record(record: UsageRecord, station: Identity) -> SignedRecord:
    """The record signed by its station; raises RecordError when `station` is somebody else."""
    if station.name != record.station.name:
        raise RecordError(f"{station.name!r} cannot sign a record of the station {record.station.name!r}")
    return SignedRecord(record=record, signature=sign_bytes(record.to_bytes(), station))


def usage_record_from_bytes(data: bytes, *, where: str = "the usage record", judge: bool = True) -> SignedRecord:
    """The signed record in `data`; signatures are not checked here.

    Raises RecordError, in one sentence, for bytes that are not canonical, a schema of another name or an unknown major
    version, unknown members, values out of their domain, and records that contradict themselves. With `judge` False
    the last is left to the caller (`record_problems`).
    """
    if len(data) > RECORD_LIMIT_BYTES:
        raise RecordError(f"{where} has {len(data)} bytes; a usage record has at most {RECORD_LIMIT_BYTES}")
    document = from_canonical(data, where=where)
    record = document.get("record") if isinstance(document, Mapping) else None
    if not isinstance(record, Mapping):
        raise RecordError(f"{where} has no member 'record'; it is another kind of file")
    require_schema(record.get("schema"), RECORD_SCHEMA, where=where)
    signed = parse_model(SignedRecord, data, where=where, context=None if judge else _UNJUDGED)
    if signed.to_bytes() != data:
        raise RecordError(f"{where} states numbers with more decimals than its schema has; it was edited after signing")
    return signed


def require_schema(found: object, expected: str, *, where: str) -> None:
    """Refuse, in one sentence, a schema of another name or of another major version than `expected`."""
    name, _, version = expected.partition("/")
    major = version.partition(".")[0]
    if not isinstance(found, str) or not re.fullmatch(r"[a-z0-9.-]+/\d+\.\d+", found, re.ASCII):
        raise RecordError(f"{where} does not say which schema it follows; expected {expected}")
    found_name, _, found_version = found.partition("/")
    if found_name != name:
        raise RecordError(f"{where} is a {found_name}, not a {name}")
    if found_version.partition(".")[0] != major:
        raise RecordError(
            f"{where} has schema version {found_version}; this program reads version {major}.x of {name}, "
            "so take the release of v2gbench that wrote it or a newer one"
        )


ModelT = TypeVar("ModelT", bound=BaseModel)


def parse_model(model: type[ModelT], data: bytes, *, where: str, context: Mapping[str, bool] | None = None) -> ModelT:
    """`data` as `model`; what pydantic finds first becomes one sentence of RecordError."""
    try:
        return model.model_validate_json(data, context=context)
    except ValidationError as error:
        raise RecordError(f"{where}: {parse_problem(error)}") from error


def parse_problem(error: ValidationError) -> str:
    """What pydantic found first, as one sentence with the place of the member."""
    first = error.errors(include_url=False, include_input=False)[0]
    place = ".".join(str(part) for part in first["loc"])
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        message = "this member is unknown to the schema"
    return f"{place}: {message}" if place else message


# Verdicts from figures -----------------------------------------------------------------------------------------------


def energy_pairs(energy: Energy) -> tuple[EnergyPair, ...]:
    """Every pair of witnesses at the same plane, per direction, in the order of the figures.

    Two results agree when |a - b| <= sqrt(Ua² + Ub²), all with k = 2: the normalized error E_n of ISO/IEC 17043:2023
    (annex B) does not exceed 1. Planes are never compared across, for the converter's losses lie between them.
    """
    return tuple(
        _energy_pair(direction, a, b)
        for direction in Direction
        for a, b in combinations(energy.of(direction), 2)
        if a.plane is b.plane
    )


def trace_pair(
    quantity: str, plane: Plane, a: str, b: str, *, value: float | None, unit: str, allowed: float, reason: str | None
) -> TracePair:
    """A comparison over time with its verdict; `reason` is for `value` None only."""
    verdict = Agreement.NOT_JUDGED if value is None else _trace_verdict(value, allowed)
    return TracePair(
        quantity=quantity,
        plane=plane,
        a=a,
        b=b,
        value=value,
        unit=unit,
        allowed=allowed,
        verdict=verdict,
        reason=reason,
    )


def overall_verdict(pairs: Iterable[EnergyPair], traces: Iterable[TracePair]) -> Agreement:
    """Disagree when any comparison does; agree when every energy pair does (and there is one); else not judged."""
    of_energy = [pair.verdict for pair in pairs]
    if Agreement.DISAGREE in (*of_energy, *(trace.verdict for trace in traces)):
        return Agreement.DISAGREE
    if of_energy and all(verdict is Agreement.AGREE for verdict in of_energy):
        return Agreement.AGREE
    return Agreement.NOT_JUDGED


def reconcile(energy: Energy, traces: Sequence[TracePair] = ()) -> Reconciliation:
    """All energy pairs, the given traces, the overall verdict, and the odd witness where the figures single one out.

    The odd one takes part in every disagreement and in no agreement. With a charger meter at AC, a BMS at DC and an
    analyzer at both planes: only AC disagrees, then the charger; only DC, then the BMS; both, then the analyzer. Nobody
    is named when the analyzer could carry the same error unseen on the plane where it agrees (a short session).
    """
    pairs = energy_pairs(energy)
    verdict = overall_verdict(pairs, traces)
    odd, reason = _odd_witness(energy, pairs, traces) if verdict is Agreement.DISAGREE else (None, None)
    return Reconciliation(pairs=pairs, traces=tuple(traces), odd_witness=odd, odd_reason=reason, verdict=verdict)


def record_problems(record: UsageRecord) -> list[str]:
    """What in a record contradicts the rest of it, a sentence each; empty for a sound record.

    Verdicts are recomputed, figures and times compared with what each witness signed. Signatures are not part of this.
    """
    return [
        *reconciliation_problems(record.energy, record.reconciliation),
        *statement_problems(record),
        *material_problems(record),
    ]


def reconciliation_problems(energy: Energy, stated: Reconciliation) -> list[str]:
    """Where the stated reconciliation is not what the figures give."""
    problems = []
    expected = {_pair_key(pair): pair for pair in energy_pairs(energy)}
    found = {_pair_key(pair): pair for pair in stated.pairs}
    if set(expected) != set(found) or len(found) != len(stated.pairs):
        problems.append("the reconciliation does not hold every pair of witnesses at the same plane exactly once")
    for key in expected.keys() & found.keys():
        want, have = expected[key], found[key]
        if (want.difference_wh, want.allowed_wh, want.verdict) != (have.difference_wh, have.allowed_wh, have.verdict):
            problems.append(
                f"{have.a!r} against {have.b!r} ({have.direction.value}, {have.plane.value}) is stated as "
                f"{have.verdict.value}, but the figures give {want.verdict.value} "
                f"(difference {want.difference_wh} Wh, allowed {want.allowed_wh} Wh)"
            )
    for trace in stated.traces:
        want_verdict = Agreement.NOT_JUDGED if trace.value is None else _trace_verdict(trace.value, trace.allowed)
        if trace.verdict is not want_verdict:
            problems.append(f"{trace.quantity} of {trace.a!r} and {trace.b!r} is stated as {trace.verdict.value}")
    verdict = overall_verdict(stated.pairs, stated.traces)
    if stated.verdict is not verdict:
        problems.append(f"the overall verdict is stated as {stated.verdict.value}, its pairs give {verdict.value}")
    return problems + _odd_problems(stated)


def statement_problems(record: UsageRecord) -> list[str]:
    """Where the record says something else than its witnesses signed."""
    problems = []
    names = [signed.statement.witness for signed in record.witnesses]
    if len(set(names)) != len(names):
        problems.append("a witness has two statements")
    for signed in record.witnesses:
        statement = signed.statement
        if statement.energy != record.energy.by_witness(statement.witness):
            problems.append(f"the record's figures of {statement.witness!r} are not those that this witness signed")
        if statement.record_id != record.record_id:
            problems.append(f"the statement of {statement.witness!r} belongs to another record")
        if (statement.begin, statement.end) != (record.session.begin, record.session.end):
            problems.append(f"the statement of {statement.witness!r} covers another time than the session")
    stated = {figure.witness for direction in Direction for figure in record.energy.of(direction)}
    problems += [f"the figures of {name!r} are signed by no witness" for name in sorted(stated - set(names))]
    return problems


def material_problems(record: UsageRecord) -> list[str]:
    """Where the record looks better than its weakest part: one emulated or replayed part makes the whole so."""
    stated = record.station.material
    parts = {device.material for device in record.devices} | {s.statement.material for s in record.witnesses}
    if stated is Material.MEASURED and parts - {Material.MEASURED}:
        return ["the station is said to be measured, but some of its devices or witnesses are not"]
    return []


# Private ------------------------------------------------------------------------------------------------------------


def _to_bytes(model: BaseModel) -> bytes:
    return to_canonical(cast("Json", model.model_dump(mode="json", by_alias=True)))


def _energy_pair(direction: Direction, a: EnergyFigure, b: EnergyFigure) -> EnergyPair:
    reason: str | None = None
    difference: float | None = None
    allowed: float | None = None
    verdict = Agreement.NOT_JUDGED
    if a.value_wh is None or a.expanded_uncertainty_wh is None:
        reason = f"{a.witness}: {a.reason}"
    elif b.value_wh is None or b.expanded_uncertainty_wh is None:
        reason = f"{b.witness}: {b.reason}"
    else:
        difference = round(a.value_wh - b.value_wh, 3) + 0.0
        allowed = round(math.hypot(a.expanded_uncertainty_wh, b.expanded_uncertainty_wh), 3)
        verdict = Agreement.AGREE if abs(difference) <= allowed else Agreement.DISAGREE
    return EnergyPair(
        plane=a.plane,
        direction=direction,
        a=a.witness,
        b=b.witness,
        difference_wh=difference,
        allowed_wh=allowed,
        verdict=verdict,
        reason=reason,
    )


def _pair_key(pair: EnergyPair) -> tuple[Direction, Plane, str, str]:
    return pair.direction, pair.plane, pair.a, pair.b


def _trace_verdict(value: float, allowed: float) -> Agreement:
    return Agreement.AGREE if abs(value) <= allowed else Agreement.DISAGREE


def _odd_witness(
    energy: Energy, pairs: Sequence[EnergyPair], traces: Sequence[TracePair]
) -> tuple[str | None, str | None]:
    comparisons: list[EnergyPair | TracePair] = [*pairs, *traces]
    disagreeing = {frozenset((c.a, c.b)) for c in comparisons if c.verdict is Agreement.DISAGREE}
    agreeing = {frozenset((c.a, c.b)) for c in comparisons if c.verdict is Agreement.AGREE} - disagreeing
    common = frozenset.intersection(*disagreeing)
    alone = sorted(common - frozenset().union(*agreeing))
    if len(alone) != 1:
        return None, "the comparisons that disagree do not single out one witness"
    for other in sorted(common - {alone[0]}):
        if _could_carry(other, energy, pairs, traces):
            return None, (
                f"{alone[0]} or {other}: an error of {other} as large as this one would stay within its uncertainty "
                "where it agrees"
            )
    others = sorted(frozenset().union(*disagreeing) - {alone[0]})
    return alone[0], f"it disagrees with {' and '.join(others)} and agrees with nobody else"


def _could_carry(name: str, energy: Energy, pairs: Sequence[EnergyPair], traces: Sequence[TracePair]) -> bool:
    """Whether every agreement of `name` would also stand if each disagreement were its own doing.

    A gain error acts on all planes alike, and so does a wrong clock: the share (or lag) that a disagreement asks of
    `name` is expected in its other comparisons too. Where one of them refuses it, `name` is cleared.
    """
    for found in pairs:
        if found.verdict is not Agreement.DISAGREE or name not in {found.a, found.b}:
            continue
        share = _share(name, found, energy)
        for other in pairs:
            if other.verdict is Agreement.AGREE and other.direction is found.direction and name in {other.a, other.b}:
                seen = _share(name, other, energy)
                allowed = _allowed_share(name, other, energy)
                if abs(seen - share) > allowed:
                    return False
    for lag in traces:
        if lag.verdict is not Agreement.DISAGREE or name not in {lag.a, lag.b}:
            continue
        for same in traces:
            if same.verdict is Agreement.AGREE and same.quantity == lag.quantity and name in {same.a, same.b}:
                assert lag.value is not None  # judged comparisons have a value
                assert same.value is not None
                expected = lag.value if name == lag.a else -lag.value
                if abs((same.value if name == same.a else -same.value) - expected) > same.allowed:
                    return False
    return True


def _share(name: str, pair: EnergyPair, energy: Energy) -> float:
    """How much `name` is above its partner, as a share of the partner's figure."""
    assert pair.difference_wh is not None  # judged pairs have one
    above_wh = pair.difference_wh if name == pair.a else -pair.difference_wh
    return above_wh / _partner_wh(name, pair, energy)


def _allowed_share(name: str, pair: EnergyPair, energy: Energy) -> float:
    assert pair.allowed_wh is not None  # judged pairs have one
    return pair.allowed_wh / _partner_wh(name, pair, energy)


def _partner_wh(name: str, pair: EnergyPair, energy: Energy) -> float:
    partner = pair.b if name == pair.a else pair.a
    value_wh = energy.figure(partner, pair.plane, pair.direction).value_wh
    return max(abs(value_wh or 0.0), 0.001)


def _odd_problems(stated: Reconciliation) -> list[str]:
    if stated.verdict is not Agreement.DISAGREE:
        named = stated.odd_witness is not None or stated.odd_reason is not None
        return ["an odd witness is named although none disagree"] if named else []
    if stated.odd_reason is None:
        return ["witnesses disagree, and the record gives no reason for naming or not naming one"]
    comparisons: list[EnergyPair | TracePair] = [*stated.pairs, *stated.traces]
    party_to = {name for c in comparisons if c.verdict is Agreement.DISAGREE for name in (c.a, c.b)}
    if stated.odd_witness is not None and stated.odd_witness not in party_to:
        return [f"{stated.odd_witness!r} is named as the odd witness but disagrees with nobody"]
    return []
