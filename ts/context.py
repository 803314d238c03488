"""The context of a handler: its model, its batch, its answers."""

import os

SEQUENCE_ID_KEY = os.environ.get("TS_REQUEST_SEQUENCE_ID", "ts_request_sequence_id")
SEQUENCE_START_KEY = os.environ.get("TS_REQUEST_SEQUENCE_START", "ts_request_sequence_start")
SEQUENCE_END_KEY = os.environ.get("TS_REQUEST_SEQUENCE_END", "ts_request_sequence_end")


class Context:
    """One per loaded model. Handlers may add attributes of their own; these stay from batch to batch."""

    def __init__(
        self,
        model_name,
        model_dir,
        manifest,
        batch_size,
        gpu,
        mms_version,
        limit_max_image_pixels=True,
        metrics=None,
        model_yaml_config=None,
    ):
        self.model_name = model_name
        self.manifest = manifest
        self.model_yaml_config = model_yaml_config
        self.request_ids = None
        self.stopping_criteria = None
        self.cl_socket = None
        self.header_key_sequence_id = SEQUENCE_ID_KEY
        self.header_key_sequence_start = SEQUENCE_START_KEY
        self.header_key_sequence_end = SEQUENCE_END_KEY
        self._system_properties = {
            "model_dir": model_dir,
            "gpu_id": gpu,
            "batch_size": batch_size,
            "server_name": "MMS",
            "server_version": mms_version,
            "limit_max_image_pixels": limit_max_image_pixels,
        }
        self._request_processor = None
        self._metrics = metrics

    @property
    def system_properties(self):
        return self._system_properties

    @property
    def model_dir(self):
        """The directory of the archive's files."""
        return self._system_properties["model_dir"]

    @property
    def request_processor(self):
        """The requests of this batch, one `RequestProcessor` each."""
        return self._request_processor

    @request_processor.setter
    def request_processor(self, request_processor):
        self._request_processor = request_processor

    @property
    def metrics(self):
        return self._metrics

    @metrics.setter
    def metrics(self, metrics):
        self._metrics = metrics

    def get_request_id(self, idx=0):
        return self.request_ids.get(idx) if self.request_ids else None

    def get_request_header(self, idx, key):
        return self._request_processor[idx].get_request_property(key)

    def get_all_request_header(self, idx):
        """The dict of all headers; changing it changes the request."""
        return self._request_processor[idx].get_request_properties()

    def get_sequence_id(self, idx):
        return self._request_processor[idx].get_request_property(self.header_key_sequence_id)

    def set_response_content_type(self, idx, value):
        self._request_processor[idx].add_response_property("content-type", value)

    def get_response_content_type(self, idx):
        return self._request_processor[idx].get_response_header("content-type")

    def set_response_status(self, code=200, phrase="", idx=0):
        """Does nothing without a request, as in unit tests of handlers."""
        if self._request_processor and self._request_processor[idx] is not None:
            self._request_processor[idx].report_status(code, phrase)

    def set_all_response_status(self, code=200, phrase=""):
        for processor in self._request_processor:
            processor.report_status(code, phrase)

    def get_response_status(self, idx):
        processor = self._request_processor[idx]
        return processor.get_response_status_code(), processor.get_response_status_phrase()

    def set_response_header(self, idx, key, value):
        self._request_processor[idx].add_response_property(key, value)

    def get_response_headers(self, idx):
        return self._request_processor[idx].get_response_headers()

    def report_progress(self, index, fraction, message=""):
        """Shows how far the job of a request is: a fraction from 0 to 1, and a text of up to 200 characters.

        A few reports a second are sent, of more the newest. Does nothing for requests that are not jobs, in
        steps of continuous batching, and in unit tests of handlers. Raises ValueError and IndexError.
        """
        if report := getattr(self.cl_socket, "report_progress", None):
            report(index, fraction, message)

    def __eq__(self, other):
        return type(self) is type(other) and self.__dict__ == other.__dict__

    __hash__ = None


class RequestProcessor:
    """One request of a batch: its headers, and the status and headers of its answer.

    `request_header` is a dict, or a function that makes it when the handler first asks.
    """

    __slots__ = ("_code", "_phrase", "_request_header", "_response_header")

    def __init__(self, request_header):
        self._request_header = request_header
        self._code = 200
        self._phrase = None
        self._response_header = None

    def get_request_property(self, key):
        """A header by its name, in any case; an exact match comes first. None if there is none."""
        headers = self.get_request_properties()
        if key in headers or not isinstance(key, str):
            return headers.get(key)
        wanted = key.lower()
        return next((value for name, value in headers.items() if name.lower() == wanted), None)

    def get_request_properties(self):
        """The dict of all headers, with the names and values that the client sent."""
        if callable(self._request_header):
            self._request_header = self._request_header()
        return self._request_header

    def report_status(self, code, reason_phrase=None):
        self._code = code
        self._phrase = reason_phrase

    def get_response_status_code(self):
        return self._code

    def get_response_status_phrase(self):
        return self._phrase

    def add_response_property(self, key, value):
        self.get_response_headers()[key] = value

    def get_response_headers(self):
        if self._response_header is None:
            self._response_header = {}
        return self._response_header

    def get_response_header(self, key):
        return self._response_header.get(key) if self._response_header else None
