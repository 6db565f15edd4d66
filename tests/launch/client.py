"""Script `client.py ADDRESS TOKEN`: list the nodes of a Ray cluster with TOKEN, without and with another token."""

from __future__ import annotations

import sys

import grpc
from ray.core.generated import gcs_service_pb2, gcs_service_pb2_grpc


def ask(address: str, token: str) -> str:
    """The gRPC status of the call."""
    metadata = [("authorization", f"Bearer {token}")] if token else []
    with grpc.insecure_channel(address) as channel:
        service = gcs_service_pb2_grpc.NodeInfoGcsServiceStub(channel)
        try:
            service.GetAllNodeInfo(gcs_service_pb2.GetAllNodeInfoRequest(), timeout=60, metadata=metadata)
        except grpc.RpcError as error:
            return str(error.code().name)
        return "OK"


if __name__ == "__main__":
    _, address, token = sys.argv
    print(*[ask(address, other) for other in (token, "", "x" * 64)])
