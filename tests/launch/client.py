"""As a script: `client.py ADDRESS [TOKEN]` asks the Ray at ADDRESS for its nodes and prints the status of the call."""

from __future__ import annotations

import sys

import grpc
from ray.core.generated import gcs_service_pb2, gcs_service_pb2_grpc


def main(address: str, *token: str) -> None:
    metadata = [("authorization", f"Bearer {token[0]}")] if token else []
    with grpc.insecure_channel(address) as channel:
        service = gcs_service_pb2_grpc.NodeInfoGcsServiceStub(channel)
        try:
            service.GetAllNodeInfo(gcs_service_pb2.GetAllNodeInfoRequest(), timeout=30, metadata=metadata)
        except grpc.RpcError as error:
            print(error.code().name)
        else:
            print("OK")


if __name__ == "__main__":
    main(*sys.argv[1:])
