import pytest


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "cluster: brings up hosts in namespaces; needs root on Linux, sshd and iproute2")
