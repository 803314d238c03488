"""The command lines of TorchServe and of its worker, as argparse parsers."""

import argparse


class ArgParser:
    @staticmethod
    def ts_parser():
        parser = argparse.ArgumentParser(prog="torchserve", description="Serve model archives")
        action = parser.add_mutually_exclusive_group()
        action.add_argument("-v", "--version", action="store_true", help="print the version")
        action.add_argument("--start", action="store_true", help="start the server")
        action.add_argument("--stop", action="store_true", help="stop the server")
        parser.add_argument("--ts-config", help="file of properties")
        parser.add_argument("--model-store", help="folder of the archives")
        parser.add_argument("--workflow-store", help="folder of the workflow archives")
        parser.add_argument("--models", nargs="+", help="`all`, files, or name=file")
        parser.add_argument("--log-config", help="log configuration")
        parser.add_argument("--cpp-log-config", help="log configuration of C++ workers")
        parser.add_argument("--foreground", action="store_true", help="do not detach")
        parser.add_argument("--no-config-snapshots", "--ncs", action="store_true", help="write no snapshots")
        parser.add_argument("--plugins-path", "--ppath", help="folder of plugins")
        parser.add_argument(
            "--disable-token-auth", "--dt", dest="token_auth", action="store_true", help="accept any caller"
        )
        parser.add_argument(
            "--enable-model-api", dest="model_mode", action="store_true", help="allow (un)registering models"
        )
        return parser

    @staticmethod
    def model_service_worker_args():
        parser = argparse.ArgumentParser(prog="model-server-worker", description="One worker of a model")
        parser.add_argument("--sock-type", required=True, choices=["unix", "tcp"])
        parser.add_argument("--sock-name", help="path of the unix socket")
        parser.add_argument("--host", help="address to listen on")
        parser.add_argument("--port", help="port to listen on")
        parser.add_argument("--metrics-config", help="metrics.yaml")
        parser.add_argument("--async", dest="async_comm", action="store_true", help="coroutine handlers")
        return parser

    @staticmethod
    def extract_args(args=None):
        return ArgParser.ts_parser().parse_args(args)
