"""What the bits of an image depend on is one line, the same on the same machine."""

import os
import subprocess
import sys

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
