"""What the bits of an image depend on is one line, the same on the same machine."""

import os
import subprocess
import sys
from types import SimpleNamespace

from promptlab import machine


def test_numerics_name_the_processor_and_torch_once_it_is_loaded():
    code = (
        "import sys; from promptlab.machine import describe_numerics; "
        "print(describe_numerics('cpu')); assert 'torch' not in sys.modules; "
        "import torch; print(describe_numerics('cpu')); print(torch.__version__)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"ATEN_CPU_CAPABILITY": "default"},
    )
    before, after, version = done.stdout.splitlines()
    assert before.startswith(machine.cpu_vendor())
    assert after == f"{before}, torch {version} with DEFAULT"


def test_the_fields_of_a_processor_are_read_as_linux_writes_them(monkeypatch, tmp_path):
    text = (
        "processor\t: 0\nvendor_id\t: AuthenticAMD\nmodel name\t: EPYC: 9V74\nflags\t\t: a avx2\n"
    )
    file = tmp_path / "cpuinfo"
    file.write_text(text)
    real_open = open
    monkeypatch.setattr("builtins.open", lambda path, **kw: real_open(file, **kw))
    machine._cpu_field.cache_clear()
    try:
        assert machine.cpu_name() == "EPYC: 9V74"
        assert machine.cpu_vendor() == "AuthenticAMD"
        assert machine.cpu_flags() == {"a", "avx2"}
    finally:
        machine._cpu_field.cache_clear()


def test_of_a_service_no_numerics_are_known():
    assert machine.describe_numerics("http") == ""


def test_numerics_of_a_gpu_name_it_and_torch(monkeypatch):
    def describe(version, name, is_available=True):
        cuda = SimpleNamespace(is_available=lambda: is_available, get_device_name=lambda: name)
        torch = type("Torch", (), {"__version__": version, "cuda": cuda})
        monkeypatch.setitem(sys.modules, "torch", torch)
        machine._describe_numerics.cache_clear()
        return machine.describe_numerics("cuda")

    try:
        assert describe("2.9", "H200") == "H200, torch 2.9"
        lines = {describe("2.9", "H200"), describe("2.9", "H100"), describe("3.0", "H200")}
        assert len(lines) == 3
        assert describe("2.9", "", is_available=False) == f"{machine.cpu_name()}, torch 2.9"
    finally:
        machine._describe_numerics.cache_clear()
