"""A bad InferenceService and what the API server and the parser each say about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from penstock.model.parse import InvalidSpec, parse_service
from penstock.sandbox.apiserver import ApiServer

SERVICES = "/apis/serving.penstock.dev/v1alpha1/namespaces/default/inferenceservices"


@dataclass(frozen=True)
class Refusal:
    """A bad resource; `where`, `value` and `rule` as the API server shows them; what the parser says."""

    body: dict[str, Any]
    where: str
    value: str
    rule: str
    parser: str

    @property
    def expected(self) -> str:
        """What the API server is to answer."""
        value = self.value if self.value.lstrip("-").isdigit() else f'"{self.value}"'
        who = f'InferenceService.serving.penstock.dev "{self.body["metadata"]["name"]}"'
        return f"{who} is invalid: {self.where}: Invalid value: {value}: {self.rule}"

    def by_api_server(self, apiserver: ApiServer) -> str:
        """The words of the API server, which must refuse."""
        status, answer = apiserver.request("POST", f"{SERVICES}?dryRun=All", self.body)
        assert status == 422, answer
        return str(answer["message"])

    def by_parser(self) -> str:
        """The words of the parser, which must refuse."""
        with pytest.raises(InvalidSpec) as refused:
            parse_service(self.body)
        return str(refused.value)
