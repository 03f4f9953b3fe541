"""Attacks on the gate: addresses, hosts, origins, admission, passwords."""

from __future__ import annotations

from .target import Attack, Target


def an_address_of_the_framework(lab: Target) -> None:
    """Ask for what the framework answers and the page never does."""
    for address in (
        "/gradio_api/file=/etc/passwd",
        "/gradio_api/proxy=http://127.0.0.1:1/",
        "/gradio_api/vibe-code/",
        "/monitoring/summary",
        "/docs",
    ):
        answer = lab.visitor().send("GET", address)
        assert answer.status in (403, 404), f"{address} answered with status {answer.status}"
        assert "root:" not in answer.text


ATTACKS: tuple[Attack, ...] = (an_address_of_the_framework,)
