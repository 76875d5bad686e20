"""A stand-in for a CUDA device: its rules, checked on a CPU.

Tensors "on the device" are wrappers whose numbers lie in the host's memory. Every operator passes
through the stand-in, which checks what a real device would refuse or silently get wrong:

- an operator that mixes host and device tensors, or dtypes that CUDA kernels do not mix;
- a read that no event or wait orders behind the write it needs (each stream has a vector clock);
- a copy or a wait in a capture; a host buffer read before its copy has arrived.

A captured graph is a tape of operators in fixed memory: capturing changes nothing, and a replay
runs them again. Memory is counted, can be limited, and can fail at any one allocation.
"""

from __future__ import annotations

import collections
import contextlib
import itertools
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

from promptlab.models.dalle.precision import get_tf32

GIB = 2**30
CUDA, CPU = torch.device("cuda:0"), torch.device("cpu")
SAME_DTYPE = ("aten.layer_norm", "aten.native_layer_norm", "aten.group_norm", "aten.linear")
GARBAGE = 85  # what a host buffer holds before its copy has arrived


class DeviceRuleError(BaseException):
    """The code did what a CUDA device does not allow, or does not define.

    No Exception: what handles a device's failures must not handle this.
    """


class DeviceTensor(torch.Tensor):
    """A tensor that claims to be on the device; `inner` holds its numbers."""

    inner: torch.Tensor
    device = property(lambda self: CUDA)  # type: ignore[assignment]
    is_cuda = property(lambda self: True)  # type: ignore[assignment]

    @staticmethod
    def __new__(cls, inner: torch.Tensor) -> DeviceTensor:
        wrapper = torch.Tensor._make_wrapper_subclass(
            cls,
            inner.shape,
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            device="meta",  # "cuda" would ask a CPU build for its device guard
        )
        wrapper.inner = inner
        return wrapper

    @classmethod
    def __torch_dispatch__(cls, operator: Any, types: Any, args: Any = (), kwargs: Any = None):
        raise DeviceRuleError(f"{operator} outside of the stand-in")

    def record_stream(self, stream: Stream) -> None:
        """Note that a stream reads this memory."""
        StandIn.current().log.append(f"record_stream {stream.name}")


class Stream:
    """A queue of work with a vector clock: how far it has seen every other stream."""

    def __init__(self, *_: object):
        device = StandIn.current()
        self.name = f"stream {len(device.streams)}"
        self.clock: dict[Stream, int] = collections.Counter()
        self.arriving: list[tuple[torch.Tensor, torch.Tensor]] = []  # (host buffer, numbers)
        device.streams.append(self)

    def wait_event(self, event: Event) -> None:
        """Let what follows run after an event."""
        merge(self.clock, event.clock)

    def wait_stream(self, other: Stream) -> None:
        """Let what follows run after everything that is queued on another stream."""
        merge(self.clock, other.clock)

    def synchronize(self) -> None:
        """Let the host wait for this stream."""
        StandIn.current().wait(self)


class Event:
    """A moment of a stream."""

    def __init__(self, *_: object, **__: object):
        self.clock: dict[Stream, int] = {}
        self.stream: Stream | None = None

    def record(self, stream: Stream | None = None) -> None:
        """Take the current moment of the current stream."""
        self.stream = stream or StandIn.current().stream
        self.clock = dict(self.stream.clock)

    def synchronize(self) -> None:
        """Let the host wait for it; the stand-in waits for its whole stream."""
        assert self.stream is not None
        self.stream.synchronize()


@dataclass
class Call:
    """One operator of a tape, on the numbers themselves."""

    operator: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    fresh: list[tuple[torch.Tensor, int]]  # (output with memory of its own, its place)


class Graph:
    """A tape of operators in fixed memory."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.reads: set[int] = set()
        self.writes: set[int] = set()
        self.launched: dict[Stream, int] = {}  # the last replay's moment on each stream

    def pool(self) -> tuple[int, int]:
        """Return the name of its memory."""
        return 0, 1

    def replay(self) -> None:
        """Run the operators again."""
        device = StandIn.current()
        device.forbid_in_capture("a replay")
        device.count["replay"] += 1
        device.order(self.reads, self.writes)
        self.launched[device.stream] = device.stream.clock[device.stream]
        with _disable_current_modes():  # the numbers alone
            for call in self.calls:
                outputs = leaves_of(call.operator(*call.args, **call.kwargs))
                for target, place in call.fresh:
                    target.copy_(outputs[place])


@dataclass
class Capture:
    """A graph that is being captured, and the numbers from before."""

    graph: Graph
    saved: dict[int, tuple[torch.Tensor, torch.Tensor]] = field(default_factory=dict)
    peak: int = 0  # bytes


class StandIn(TorchDispatchMode):
    """The device: use it as a context manager around all that runs on it."""

    _open: StandIn | None = None

    def __init__(self, total_bytes: int = 80 * GIB, capability: tuple[int, int] = (9, 0)):
        super().__init__()
        self.total_bytes, self.capability = total_bytes, capability
        self.streams: list[Stream] = []
        self.log: list[str] = []  # events of note, in order
        self.count: collections.Counter[str] = collections.Counter()
        self.num_allocations, self.fails_at = 0, -1  # the number of the allocation that fails
        self.allocated = self.reserved = 0
        self._bytes: dict[int, int] = {}  # by address
        self._num_wrappers: collections.Counter[int] = collections.Counter()
        self._written: dict[int, tuple[Stream, int]] = {}
        self._read: dict[int, dict[Stream, int]] = {}
        self.breaks_capture = False  # whether the next capture fails at its end
        self.violations: list[str] = []  # noticed where nothing can be raised
        self._capture: Capture | None = None
        self._capture_stream: Stream | None = None
        self._num_graphs = self._pool_bytes = 0
        self._patches = contextlib.ExitStack()

    @staticmethod
    def current() -> StandIn:
        """Return the device that is in use."""
        assert StandIn._open is not None
        return StandIn._open

    def __enter__(self) -> StandIn:
        StandIn._open = self
        self.host: dict[Stream, int] = collections.Counter()
        self.stream = Stream()
        patch = mock.patch.multiple(
            torch.cuda,
            _lazy_init=lambda: None,
            is_available=lambda: True,
            Stream=Stream,
            Event=Event,
            CUDAGraph=Graph,
            graph=self._capturing,
            stream=self._on_stream,
            current_stream=lambda *_: self.stream,
            synchronize=lambda *_: self.wait(*self.streams),
            mem_get_info=lambda *_: (self.total_bytes - self.reserved, self.total_bytes),
            memory_reserved=lambda *_: self.reserved,
            memory_allocated=lambda *_: self.allocated,
            empty_cache=self._empty_cache,
            get_device_capability=lambda *_: self.capability,
            get_device_name=lambda *_: "stand-in",
            get_device_properties=lambda *_: SimpleNamespace(total_memory=self.total_bytes),
        )
        self._patches.enter_context(patch)
        self._patches.enter_context(mock.patch.object(torch.Tensor, "pin_memory", pinned))
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self._patches.close()
        StandIn._open = None
        if self.violations and error[0] is None:
            raise DeviceRuleError(self.violations[0])

    def __torch_dispatch__(self, operator: Any, types: Any, args: Any = (), kwargs: Any = None):
        kwargs = dict(kwargs or {})
        name = str(operator)
        leaves = tensors_in((args, kwargs))
        on_device = [x for x in leaves if isinstance(x, DeviceTensor)]
        target = next((x for x in args if isinstance(x, torch.device)), kwargs.get("device"))
        if name.startswith(("aten.copy_", "aten.to.", "aten._to_copy")):
            source = args[1] if name.startswith("aten.copy_") else args[0]
            goes_to = args[0].device if name.startswith("aten.copy_") else target or source.device
            if source.device.type != torch.device(goes_to).type:
                return self._copy_across(operator, args, kwargs, source, torch.device(goes_to))
        makes_host = target is not None and torch.device(target).type != "cuda"
        if makes_host or (not on_device and (target is None or torch.device(target) == CPU)):
            return self._run_on_host(operator, args, kwargs)
        self._check(name, leaves, on_device)
        return self._run(operator, name, args, kwargs)

    def _run_on_host(self, operator: Any, args: Any, kwargs: Any) -> Any:
        is_pinned = kwargs.pop("pin_memory", False)
        result = operator(*args, **kwargs)
        if is_pinned:
            result.is_page_locked = True
        return result

    def _check(self, name: str, leaves: list[torch.Tensor], on_device: list[DeviceTensor]) -> None:
        strangers = [x for x in leaves if not isinstance(x, DeviceTensor) and x.dim()]
        if strangers:
            raise DeviceRuleError(f"{name} mixes host and device tensors")
        if name.startswith(SAME_DTYPE) and len({x.dtype for x in on_device}) > 1:
            raise DeviceRuleError(f"{name} mixes {[x.dtype for x in on_device]}")
        if name.startswith(("aten.item", "aten._local_scalar", "aten.equal", "aten.nonzero")):
            self.forbid_in_capture(name)
            self.log.append(f"wait {name}")
            self.wait(self.stream)
        if name.startswith("aten.scaled_dot_product_attention"):
            check_attention(leaves, self.capability)
        if name.startswith(("aten.linear", "aten.matmul", "aten.conv2d")):
            check_precision(on_device)
        self.count["convolution"] += name.startswith("aten.conv2d")
        if name.startswith("aten.embedding_bag"):
            raise DeviceRuleError("embedding_bag is the CPU's attention")

    def _run(self, operator: Any, name: str, args: Any, kwargs: Any) -> Any:
        if name.startswith("aten.scaled_dot_product_attention"):
            operator = attention
        given = {id(x.inner): x for x in tensors_in((args, kwargs)) if isinstance(x, DeviceTensor)}
        inner_args, inner_kwargs = mapped(unwrap, (args, kwargs))
        addresses = {address(x.inner) for x in given.values()}
        written = {address(x) for x in mutated(operator, inner_args, inner_kwargs)}
        if self._capture is not None:
            self._save(inner_args, inner_kwargs, written)
        outputs = operator(*inner_args, **inner_kwargs)
        fresh: list[tuple[torch.Tensor, int]] = []

        places = itertools.count()

        def wrap(output: Any) -> Any:
            place = next(places)
            if not isinstance(output, torch.Tensor):
                return output
            if id(output) in given:
                return given[id(output)]
            if address(output) not in addresses:
                self._allocate(output)
                fresh.append((output, place))
            return self._wrapped(output)

        wrapped = mapped(wrap, outputs)
        if fresh or written:  # a view needs no kernel
            self.count["kernel"] += 1
            new = {address(output) for output, _ in fresh}
            self.order(addresses - written, written | new)
            if self._capture is not None:
                graph = self._capture.graph
                graph.calls.append(Call(operator, inner_args, inner_kwargs, fresh))
                graph.reads |= addresses
                graph.writes |= written
        return wrapped

    def _copy_across(
        self, operator: Any, args: Any, kwargs: Any, source: torch.Tensor, goes_to: torch.device
    ) -> Any:
        self.forbid_in_capture("a copy between host and device")
        is_queued = kwargs.get("non_blocking", False) or (len(args) > 2 and args[2] is True)
        if goes_to.type == "cuda":
            is_queued = is_queued and getattr(source, "is_page_locked", False)
            kwargs.pop("device", None), kwargs.pop("non_blocking", None)
            if str(operator).startswith("aten.copy_"):
                args[0].inner.copy_(source)
                self.order(set(), {address(args[0].inner)})
                result = args[0]
            else:
                dtypes = [x for x in (*args, kwargs.get("dtype")) if isinstance(x, torch.dtype)]
                dtype = dtypes[0] if dtypes else source.dtype
                result = self._wrapped(self._allocate(source.to(dtype, copy=True)))
                self.order(set(), {address(result.inner)})
            self.count["to device"] += 1
        else:
            assert isinstance(source, DeviceTensor)
            self.order({address(source.inner)}, set())
            if str(operator).startswith("aten.copy_"):
                result = args[0]
                is_queued = is_queued and getattr(result, "is_page_locked", False)
                self.stream.arriving.append((result, source.inner.clone()))
                result.fill_(GARBAGE)
            else:
                result, is_queued = source.inner.to(kwargs.get("dtype"), copy=True), False
            self.count["to host"] += 1
        if not is_queued:
            self.log.append(f"wait for a copy to the {goes_to.type}")
            self.wait(self.stream)
        return result

    def order(self, reads: set[int], writes: set[int]) -> None:
        """Check that what is read and written now was written and read before, on any stream."""
        if self._capture is not None:
            return
        stream = self.stream
        merge(stream.clock, self.host)
        stream.clock[stream] += 1
        now = stream.clock[stream]
        for place in reads | writes:
            users = [self._written[place]] if place in self._written else []
            if place in writes:
                users += self._read.get(place, {}).items()
            for other, moment in users:
                if other is not stream and stream.clock.get(other, 0) < moment:
                    raise DeviceRuleError(f"{stream.name} runs ahead of {other.name}")
        for place in writes:
            self._written[place], self._read[place] = (stream, now), {}
        for place in reads:
            self._read.setdefault(place, {})[stream] = now

    def wait(self, *streams: Stream) -> None:
        """Let the host wait for streams: their copies arrive."""
        self.forbid_in_capture("a wait")
        for stream in streams:
            merge(self.host, stream.clock)
            for buffer, numbers in stream.arriving:
                buffer.copy_(numbers)
            stream.arriving.clear()

    def forbid_in_capture(self, what: str) -> None:
        """Refuse what a capture cannot hold."""
        if self._capture is not None:
            raise DeviceRuleError(f"{what} in a capture")

    def _allocate(self, tensor: torch.Tensor) -> torch.Tensor:
        num_bytes = tensor.untyped_storage().nbytes()
        number, self.num_allocations = self.num_allocations, self.num_allocations + 1
        if number == self.fails_at or self.allocated + num_bytes > self.total_bytes:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        place = address(tensor)
        self._bytes[place] = num_bytes
        self._written.pop(place, None), self._read.pop(place, None)
        self.allocated += num_bytes
        self.reserved = max(self.reserved, self.allocated)
        if self._capture is not None:
            self._capture.peak = max(self._capture.peak, self.allocated)
        return tensor

    def _wrapped(self, inner: torch.Tensor) -> DeviceTensor:
        wrapper = DeviceTensor(inner)
        self._num_wrappers[address(inner)] += 1
        weakref.finalize(wrapper, self._release, address(inner))
        return wrapper

    def _release(self, place: int) -> None:
        self._num_wrappers[place] -= 1
        if not self._num_wrappers[place]:
            del self._num_wrappers[place]
            self.allocated -= self._bytes.pop(place, 0)

    def _empty_cache(self) -> None:
        self.reserved = self.allocated
        self.log.append("empty_cache")

    @contextlib.contextmanager
    def _on_stream(self, stream: Stream) -> Iterator[None]:
        before, self.stream = self.stream, stream
        try:
            yield
        finally:
            self.stream = before

    @contextlib.contextmanager
    def _capturing(self, graph: Graph, pool: object = None) -> Iterator[None]:
        self.wait(*self.streams)
        self._empty_cache()
        before, caller = self.allocated, self.stream
        self._capture_stream = self.stream = self._capture_stream or Stream()
        capture = self._capture = Capture(graph, peak=before)
        try:
            yield
        finally:
            self._capture = None
            for tensor, content in capture.saved.values():
                tensor.copy_(content)
            if self.breaks_capture:  # torch leaves the current stream as it is, then
                self.breaks_capture = False
                raise RuntimeError(
                    "CUDA error: operation failed due to a previous error during capture"
                )
            self.stream = caller
        self.count["capture"] += 1
        self._keep_pool(graph, capture.peak - before)

    def _keep_pool(self, graph: Graph, num_bytes: int) -> None:
        """Count the memory that all graphs share, until the last one is dropped."""
        self._num_graphs += 1
        more = max(0, num_bytes - self._pool_bytes)
        self._pool_bytes += more
        self.allocated += more
        self.reserved = max(self.reserved, self.allocated)
        weakref.finalize(graph, self._drop_graph, graph.launched)

    def _drop_graph(self, launched: dict[Stream, int]) -> None:
        if any(self.host.get(stream, 0) < moment for stream, moment in launched.items()):
            self.violations.append("a graph is freed while it may be running")
        self._num_graphs -= 1
        if not self._num_graphs:
            self.allocated -= self._pool_bytes
            self._pool_bytes = 0

    def _save(self, args: Any, kwargs: Any, written: set[int]) -> None:
        assert self._capture is not None
        for tensor in tensors_in((args, kwargs)):
            if address(tensor) in written:
                whole = torch.empty(0, dtype=tensor.dtype).set_(tensor.untyped_storage())
                self._capture.saved.setdefault(address(tensor), (whole, whole.clone()))


def check_precision(leaves: list[DeviceTensor]) -> None:
    """Refuse products and convolutions whose precision is left to torch's defaults."""
    matmul: Any = torch.backends.cuda.matmul
    if get_tf32() != ("ieee", "ieee"):
        raise DeviceRuleError("float32 is not float32")
    if (
        matmul.allow_bf16_reduced_precision_reduction
        or matmul.allow_fp16_reduced_precision_reduction
    ):
        raise DeviceRuleError("half-precision products may sum in half precision")


def check_attention(leaves: list[torch.Tensor], capability: tuple[int, int]) -> None:
    """Refuse attention that is not pinned to the memory-efficient kernel, or that it refuses."""
    enabled = [
        torch.backends.cuda.flash_sdp_enabled(),
        torch.backends.cuda.cudnn_sdp_enabled(),
        torch.backends.cuda.math_sdp_enabled(),
        torch.backends.cuda.mem_efficient_sdp_enabled(),
    ]
    if enabled != [False, False, False, True]:
        raise DeviceRuleError("attention leaves its kernel to torch")
    if len({x.dtype for x in leaves}) > 1:
        raise DeviceRuleError("attention mixes dtypes")
    if leaves[0].dtype == torch.bfloat16 and capability < (8, 0):
        raise DeviceRuleError("the memory-efficient kernel has no bfloat16 on this card")
    if any(x.stride(-1) != 1 for x in leaves[:3]):
        raise DeviceRuleError("attention reads rows with gaps")


def attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attn_mask: torch.Tensor,
    *_: object,
    scale: float,
    **__: object,
) -> torch.Tensor:
    """Compute attention as the memory-efficient kernel does: row by row, 64 keys at a time."""
    missing = -key.shape[2] % 64
    keys, values = (functional.pad(x.double(), (0, 0, 0, missing)) for x in (key, value))
    mask = functional.pad(attn_mask.double(), (0, missing), value=-torch.inf)
    scores = (query.double() * keys).sum(-1)[:, :, None] * scale + mask
    return (scores.softmax(-1)[:, :, 0, :, None] * values).sum(2, keepdim=True).to(query.dtype)


def pinned(tensor: torch.Tensor) -> torch.Tensor:
    """Return a copy in page-locked memory."""
    copy = tensor.clone()
    copy.is_page_locked = True  # type: ignore[attr-defined]
    return copy


def unwrap(value: Any) -> Any:
    """Return the numbers of a device's tensor, the host for the device."""
    if isinstance(value, DeviceTensor):
        return value.inner
    return CPU if isinstance(value, torch.device) and value.type == "cuda" else value


def leaves_of(value: Any) -> list[Any]:
    """Return what nested lists, tuples and dicts hold, in order; torch's own way is slow."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple):
        return [leaf for item in value for leaf in leaves_of(item)]
    return [value]


def tensors_in(value: Any) -> list[torch.Tensor]:
    """Return the tensors that nested lists, tuples and dicts hold."""
    return [leaf for leaf in leaves_of(value) if isinstance(leaf, torch.Tensor)]


def mapped(function: Callable[[Any], Any], value: Any) -> Any:
    """Return nested lists, tuples and dicts with a function's answers in place of their leaves."""
    if isinstance(value, dict):
        return {key: mapped(function, item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)([mapped(function, item) for item in value])
    return function(value)


def address(tensor: torch.Tensor) -> int:
    """Return where a tensor's memory begins."""
    return tensor.untyped_storage()._cdata


def mutated(operator: Any, args: Any, kwargs: Any) -> list[torch.Tensor]:
    """Return the arguments that an operator writes to."""
    schema = getattr(operator, "_schema", None)
    if schema is None:
        return []
    written: list[torch.Tensor] = []
    for index, argument in enumerate(schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            value = args[index] if index < len(args) else kwargs.get(argument.name)
            written += tensors_in(value)
    return written


def merge(clock: dict[Stream, int], other: dict[Stream, int]) -> None:
    """Let a clock have seen what another one has."""
    for stream, moment in other.items():
        clock[stream] = max(clock.get(stream, 0), moment)
